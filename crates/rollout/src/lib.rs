//! Rollouts of firmware: which devices are next, when a rollout pauses, and how it ends.
//!
//! Everything here is pure. Times are arguments, in milliseconds since the Unix epoch. What has to
//! be done is returned. The caller keeps the states and carries the effects out.
//!
//! * `plan`: waves, and the gate between them
//! * `device`: the states of a device, and what leads from one to the next
//! * `rollout`: the states of a rollout
#![forbid(unsafe_code)]

mod device;
mod plan;
mod rollout;
#[cfg(test)]
mod tests;

pub use device::{Device, DeviceEvent, DeviceReason, DeviceState};
pub use plan::{Plan, PlanError, WAVES_MAX, Wave, WaveGate};
pub use rollout::{
    NotPermitted, PauseReason, Rollout, RolloutEffect, RolloutState, WaveCounts, percent_of,
};
