//! Flipped bits, cut files, arbitrary contents: what is damaged is named, costs no more than it
//! must, and is never served.

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
