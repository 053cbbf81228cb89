//! The reactors of a Martlet node: one thread per core, each with its own loop, sockets and one
//! [`martlet_broker::Shard`] that it drives.
//!
//! This crate has everything that shards do not have: sockets, readiness, WebSocket framing,
//! clocks, random bytes, threads, mailboxes, locks. No code here inspects MQTT packets.
//!
//! A tick waits for notices once and reads each ready socket once. It writes once to each socket
//! that it touched or, if these are many, to some of them per tick in turn. The cost of messages
//! depends on how many share a system call.

#![forbid(unsafe_code)]

mod authenticate;
mod clock;
mod config;
mod contention;
mod descriptors;
mod events;
mod latency;
mod layers;
mod listen;
mod listeners;
mod mailbox;
mod node;
mod part;
mod poll;
mod proxy;
mod reactor;
mod start;
mod start_error;
mod stats;
mod store;
mod sys;
mod tls;
mod websocket;

pub use authenticate::{Authenticator, LoginAnswer, NoAuthenticator, ScreenedAnswer};
pub use config::{ANY_PATH, ListenAddress, ListenerConfig, Origins, ReactorConfig, Transport};
pub use descriptors::Descriptors;
pub use events::Events;
pub use latency::{LATENCY_BOUNDS_US, LatencyHistogram};
pub use node::SharedNode;
pub use start::{Running, start};
pub use start_error::{StartError, low_port};
pub use stats::ReactorStats;
pub use store::{
    DelayedStore, DiskStore, Durability, Durable, MemoryStore, PinnedFiles, Restored, Storage,
    Store, StoreFailure, StoreHealth, StoreNotice, StoreOpenError, StoreRoom, StoreStatus, Writer,
    open_store,
};
pub use sys::port_owner;
pub use tls::TlsSettings;
