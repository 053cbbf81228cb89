//! Random numbers for names of runs.

use std::hash::{BuildHasher, RandomState};

/// A random number; each `RandomState` has its own keys.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
