//! Full and failing disks, and the space and time that the store needs.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod slices;
mod space;
mod stores;
mod work;
