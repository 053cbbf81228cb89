//! Packet scripts: MQTT behaviour as readable text, and its runners.
//!
//! One file per behaviour, `scripts/<chapter>/<behaviour>.mqtt`. The README.md of this crate
//! describes the language with an example of each construct. The same file runs in virtual time on
//! one shard or several ([`VirtualStage`]), and over TCP with any broker ([`TcpStage`]). Runs with
//! an independent broker test the scripts.
//!
//! # Layout
//!
//! * `script`, `value`: the grammar; words and their values
//! * `packet`: conversion of packets to and from bytes, independent of the broker's codec
//! * `play`: runs a script on a [`Stage`] and reports differences
//! * `harness`: a whole node in one thread and virtual time, for other tests too
//! * `virtual_stage`, `tcp_stage`: the two stages; `files`: the files of scripts
#![forbid(unsafe_code)]

mod files;
mod harness;
mod packet;
mod play;
mod script;
mod tcp_stage;
mod users;
mod value;
mod virtual_stage;

pub use files::{Update, load_all, scripts_dir};
pub use harness::{Harness, Link, Wiring};
pub use packet::{Encoded, Fields, decode, encode};
pub use play::{Incoming, Mismatch, Stage, play};
pub use script::{
    Act, Expectation, Expected, Outgoing, Part, Script, Step, TextPacket, User, UserRule, Version,
};
pub use tcp_stage::{BrokerProcess, Pace, TcpStage, free_port};
pub use users::Users;
pub use value::{Kind, Value, Variables, Word};
pub use virtual_stage::{VirtualStage, configure};
