//! The reactors of a Martlet node: one thread per core, each with its own loop, sockets and one
//! [`martlet_broker::Shard`] that it drives.
//!
//! Here is all that the shards know nothing of: sockets, readiness, WebSocket framing, clocks,
//! random bytes, threads, mailboxes, locks. Nothing here knows what an MQTT packet is.
//!
//! A tick waits for notices once, reads each ready socket once, and writes to those that it touched
//! once each or, when they are many, in turn over the next ticks: whether messages share system
//! calls decides what they cost.

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
pub use start_error::StartError;
pub use stats::ReactorStats;
pub use store::{
    DelayedStore, DiskStore, Durability, Durable, MemoryStore, PinnedFiles, Restored, Storage,
    Store, StoreFailure, StoreHealth, StoreNotice, StoreOpenError, StoreRoom, StoreStatus, Writer,
    open_store,
};
pub use sys::port_owner;
pub use tls::TlsSettings;
