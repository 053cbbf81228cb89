//! Full and failing disks, and how much space and time the store takes.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod slices;
mod space;
mod stores;
mod work;
