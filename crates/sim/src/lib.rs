//! The whole broker in virtual time, from one seed: shards, store, network and clients in one
//! thread, with everything going wrong that can, and checks of every promise made to a client.
//!
//! A seed that fails prints the command that repeats it; with `--log` each fact is a line.
//!
//! # Layout
//!
//! * `scenario`: from a seed to a run
//! * `world`, `agenda`: the one loop, and what is due when
//! * `node`, `store`, `network`: the loops of the broker's shards, its records, its connections
//! * `rot`: bits that flip on its disk
//! * `topics`, `identifiers`: which filters match which topics, Subscription Identifiers
//! * `client`: what clients do, by the protocol or against it
//! * `part`: parts of the node, whose sinks settle late, refuse, hang and forget
//! * `sink`: integrations, with their real runner, a target that fails and tables that survive
//! * `facts`, `ledger`, `observer`: what clients did and saw, what they were promised, who is told
//! * `people`: users, what they may do and when that changes, and the authenticator that lets them
//!   in
//! * `check`: one check per file
#![forbid(unsafe_code)]

pub mod agenda;
pub mod check;
pub mod client;
pub mod facts;
pub mod identifiers;
pub mod ledger;
pub mod network;
pub mod node;
pub mod observer;
pub mod part;
pub mod people;
pub mod random;
pub mod rot;
pub mod scenario;
pub mod sink;
pub mod store;
pub mod topics;
pub mod world;

pub use facts::Fact;
pub use observer::{Line, Observer, Violation};
pub use scenario::{Kind, Scenario};
pub use world::Outcome;
