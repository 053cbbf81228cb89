//! What the broker's records mean to the store, and what recovery gives back to shards.
//!
//! The broker names what is to be kept ([`martlet_broker::Record`]); the store keeps bodies, queue
//! entries, tokens and states without knowing what they are. Here one becomes the other:
//!
//! * [`encode`]: records of a tick as records of the store
//! * [`restore`]: an opened store brings shards back to where they were
//! * [`locate`] and [`read_located`]: messages that queues want to have in memory again
//! * [`DamageWords`]: what damage of a store costs, in a reader's words
//! * `body`, `entry`, `state`: the bytes of each, with a version; decoding believes nothing
//!
//! It has no threads, no clock, no random source and no files of its own.

#![forbid(unsafe_code)]

mod body;
mod bytes;
mod damage;
mod encode;
mod entry;
mod fetch;
mod restore;
mod state;

pub use body::{StoredBody, StoredPublisher, decode_body};
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
