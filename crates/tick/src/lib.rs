//! The loop of one shard, without I/O. A tick takes the items of the mailboxes, accepts
//! connections, reads, runs the shard's timers and deferred work, and carries out its effects.
//!
//! [`Driver`] owns the shard, its sockets with their turns, closing sockets, and messages that
//! could not yet be sent to other shards. It decides the order of the steps and how much of each a
//! tick does. This order exists only here: the reactor, the simulator, the script harness, the
//! fuzzer and the benchmarks all run this loop, so they test the code that ships.
//!
//! All reads, writes, messages and records go through the traits of `outside.rs`. Their
//! implementation is passed in with each tick and dispatched statically. A driver does not own its
//! environment, so a simulator can keep all drivers of a node in one place and run another one in
//! the middle of a tick.
//!
//! Not in this crate: sockets, waiting, clocks, threads, disks, random bytes, listeners, TLS,
//! WebSocket. No code here inspects packets.

#![forbid(unsafe_code)]

mod deadline;
mod driver;
mod ending;
mod input;
pub mod local;
mod local_node;
mod outbox;
mod output;
mod outside;
mod read_sockets;
mod socket;
mod socket_key;
mod time_limits;

pub use driver::{CROWD, Driver};
pub use local_node::LocalNode;
pub use outside::{
    Arrival, Batch, Control, Layers, Mail, Newcomer, NoLayers, Notice, Outside, Read, Received,
    SocketWrite, Storage, Stream, Transport,
};
pub use socket_key::SocketKey;
pub use time_limits::TimeLimits;
