//! Protection against guessed passwords: failed logins are counted, delayed and at last locked out.
//!
//! It knows no clock, no thread and no source of credentials: the moment comes in with every call,
//! and so does what a source has found. So the gate of a node and the simulator use the same.
//!
//! * `failures`: what is counted and what is locked
//! * `judge`: what that does to an answer
//! * `aging`: a map whose oldest entries go where there is no room
#![forbid(unsafe_code)]

mod aging;
mod failures;
mod judge;

pub use aging::Aging;
pub use failures::{Failures, LockedOut, Lockout, LockoutEntry, LockoutTarget, LoginAttempt};
pub use judge::refused_for;
