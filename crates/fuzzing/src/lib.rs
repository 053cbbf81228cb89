//! Functions that the fuzz targets run, and that any test can call: each takes arbitrary bytes and
//! panics if something is found.
//!
//! The targets in `fuzz/` need a nightly toolchain and run as long as one likes; `tests/short.rs`
//! runs the same functions for some seconds with each test run, and `tests/allocation.rs` counts
//! what shards allocate on the same node.
//!
//! # Layout
//!
//! * `codec`: bytes into packets and back
//! * `choices`: arbitrary bytes as a sequence of choices
//! * `packets`: well-formed packets with fields that were chosen
//! * `client`: a client's end of a connection, which checks what the broker sends
//! * `node`: a whole node in memory and virtual time, with such clients
//! * `rules_evaluate`: expressions of rules, and payloads
//! * `shard_steps`: steps on such a node
//! * `store_recover`: a store whose files were changed from outside
#![forbid(unsafe_code)]

mod choices;
mod client;
mod codec;
mod node;
mod packets;
mod random;
mod rules_evaluate;
mod shard_steps;
mod store_recover;
mod who;

pub use client::Client;
pub use codec::{codec_decode, codec_roundtrip};
pub use node::{Link, Node};
pub use random::Random;
pub use rules_evaluate::rules_evaluate;
pub use shard_steps::{shard_steps, shard_steps_counted};
pub use store_recover::store_recover;
