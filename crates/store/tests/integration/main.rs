//! A store on disks that fill up, fail, lose power and are changed by others. One program, so that
//! the store is compiled for tests once.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;
mod damage;
mod disk;
mod meddled;
mod model;
