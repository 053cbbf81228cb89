//! States of alarms: one per rule and device. The input is observations and time, the output is
//! changes.
//!
//! ```text
//!            condition holds for the given time
//!   (none) ───────────────────────────────────► active ──acknowledge──► acknowledged
//!      ▲                                          │ ▲                        │
//!      │            condition ends, or clear      │ │ its time is over       │
//!      └────────────── cleared ◄──────────────────┤ └─────── shelved ◄───────┤
//!                         ▲                       └─────────────┘            │
//!                         └──────────────────────────────────────────────────┘
//! ```
//!
//! A shelved alarm is silent until its time is over. An inhibited alarm is raised when the
//! inhibiting one has ended, if its condition is still true.

mod entries;
mod kept;
mod machine;
#[cfg(test)]
mod tests;

pub use entries::AlarmKey;
pub use kept::WatchState;
pub(crate) use machine::About;
pub use machine::{
    Alarm, AlarmChange, AlarmError, AlarmMachine, AlarmState, ChangeKind, InhibitedAlarm,
    Observation, Restored, WaitingAlarm,
};

/// The side of a limit on which values are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSide {
    /// Above it.
    Above,
    /// Below it.
    Below,
}

/// A limit with hysteresis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Which side is bad.
    pub side: LimitSide,
    /// The alarm is raised beyond this value.
    pub raise: f64,
    /// The alarm is cleared at this value.
    pub clear: f64,
}

/// Meaning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Raise the alarm.
    Raise,
    /// Keep its state.
    Stay,
    /// Clear the alarm.
    Clear,
}

impl Limit {
    /// Meaning of a value.
    pub fn means(&self, value: f64) -> Means {
        let (is_bad, is_good) = match self.side {
            LimitSide::Above => (value > self.raise, value <= self.clear),
            LimitSide::Below => (value < self.raise, value >= self.clear),
        };
        match (is_bad, is_good) {
            (true, _) => Means::Raise,
            (false, true) => Means::Clear,
            (false, false) => Means::Stay,
        }
    }
}

/// How a value is checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// The value itself.
    Threshold(Limit),
    /// Rate of change of the value.
    Rate {
        /// Limit of the change.
        limit: Limit,
        /// Time to which the limit applies, milliseconds.
        per_ms: i64,
    },
}
