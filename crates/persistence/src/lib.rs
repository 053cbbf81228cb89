//! Converts the broker's records to records of the store, and restores shards from them.
//!
//! The broker defines what to store ([`martlet_broker::Record`]); the store keeps bodies, queue
//! entries, tokens and states as opaque data. This crate converts between them:
//!
//! * [`encode`]: converts records of a tick to records of the store
//! * [`restore`]: restores shards from an opened store
//! * [`locate`] and [`read_located`]: read messages of queues back into memory
//! * [`DamageWords`]: describes for operators what damage of a store costs
//! * `body`, `entry`, `state`: the bytes of each, with a version; decoding trusts no input
//!
//! It has no threads, no clock, no random source and no files.

#![forbid(unsafe_code)]

mod body;
mod bytes;
mod damage;
mod encode;
mod entry;
mod fetch;
mod restore;
mod state;

pub use body::{StoredBody, StoredPublisher, decode_body, tenant_of};
pub use bytes::DecodeError;
pub use damage::DamageWords;
pub use encode::{encode, encode_up_to};
pub use entry::decode_entry;
pub use fetch::{FetchedPage, LocatedPage, Making, PageFound, locate, read_located};
pub use restore::{Damaged, RestoreError, RestoreReport, Shards, restore};
pub use state::{
    ClockState, GroupState, decode_clock, decode_group, decode_session, decode_start,
    decode_subscription, decode_will, is_retained_owed, put_clock,
};
