//! Flipped bits, truncated files, arbitrary contents: damage is reported, costs no more than
//! necessary, and damaged data is never returned.

mod checkpoint;
mod contents;
mod files;
mod flips;
mod stores;
mod unreadable;
