//! The loop of one shard, without I/O. A tick takes what has come by mailbox, accepts, reads, lets
//! the shard's timers and deferred work go on, and carries out its effects.
//!
//! [`Driver`] owns the shard, its sockets with their turns, the sockets that end, and what could
//! not be sent to other shards yet. It decides in which order things happen and how much of each a
//! tick does. This order exists here and nowhere else: the reactor, the simulator, the script
//! harness, the fuzzer and the benchmarks all run this loop, so what they test is what ships.
//!
//! All it reads, writes, sends and stores goes through the traits of `outside.rs`, which are passed
//! in with each tick and dispatched statically. A driver does not own what is outside, so that a
//! simulator can keep all drivers of a node in one place and run another one in the middle of a
//! tick.
//!
//! Not here: sockets, waiting, clocks, threads, disks, random bytes, listeners, TLS, WebSocket.
//! Nothing here knows what a packet is.

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
