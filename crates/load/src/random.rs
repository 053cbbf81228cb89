//! Names of runs.

use std::hash::{BuildHasher, RandomState};

/// A random number; each `RandomState` has keys of its own.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
