//! Packet scripts: MQTT behaviour as text that people can read, and what runs it.
//!
//! One file per behaviour, `scripts/<chapter>/<behaviour>.mqtt`; the language is described with an
//! example of each construct in this crate's README.md. The same file runs in virtual time
//! against one shard or several ([`VirtualStage`]), and over TCP against any broker
//! ([`TcpStage`]); a broker that nobody here wrote tests the scripts that way.
//!
//! # Layout
//!
//! * `script`, `value`: the grammar; words and what they stand for
//! * `packet`: packets of scripts to and from bytes, apart from the broker's codec
//! * `play`: runs a script on a [`Stage`] and tells what differed
//! * `harness`: a whole node in one thread and virtual time, for other tests too
//! * `virtual_stage`, `tcp_stage`: the two stages; `files`: where the scripts are
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
