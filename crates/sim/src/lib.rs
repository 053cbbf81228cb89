//! The whole broker in virtual time, from one seed: shards, store, network and clients in one
//! thread, with all kinds of faults, and checks of every promise to a client.
//!
//! A failing seed prints the command that repeats it; with `--log` each fact is a line.
//!
//! # Layout
//!
//! * `scenario`: generates a run from a seed
//! * `world`, `agenda`: the main loop, and the due events
//! * `node`, `store`, `network`: the shard loops of the broker, its records, its connections
//! * `rot`: flipped bits on its disk
//! * `topics`, `identifiers`: matches of filters and topics, Subscription Identifiers
//! * `client`: clients that follow or break the protocol
//! * `part`: parts of the node, whose sinks settle late, refuse, hang and lose state
//! * `sink`: integrations: the production runner, a target that fails, and tables that survive
//! * `facts`, `ledger`, `observer`: observations of clients, promises to them, and their delivery
//!   to the checks
//! * `people`: users, their permissions and changes, and the authenticator
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
