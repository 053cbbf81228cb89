//! Flipped bits, truncated files, arbitrary contents: damage is reported, costs no more than
//! necessary, and damaged data is never returned.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod contents;
mod files;
mod flips;
mod stores;
mod unreadable;
