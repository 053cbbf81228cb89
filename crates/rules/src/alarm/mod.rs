//! States of alarms: one for each rule and device. Observations and time come in, changes go out.
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
//! A shelved alarm is silent until its time is over. An alarm that another one inhibits is raised
//! when that one has ended, if its condition still holds.

mod kept;
mod machine;
mod row_content;
#[cfg(test)]
mod tests;

pub use kept::WatchState;
pub(crate) use machine::About;
pub use machine::{
    Alarm, AlarmChange, AlarmError, AlarmKey, AlarmMachine, AlarmState, ChangeKind, InhibitedAlarm,
    Observation, Restored, WaitingAlarm,
};

/// On which side of a limit a value is bad.
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
    /// Beyond this the alarm is raised.
    pub raise: f64,
    /// Back at this it is cleared.
    pub clear: f64,
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The alarm is to be raised.
    Raise,
    /// It stays as it is.
    Stay,
    /// It is to be cleared.
    Clear,
}

impl Limit {
    /// What a value means.
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

/// How a value is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// The value itself.
    Threshold(Limit),
    /// How much it changes in a time.
    Rate {
        /// For the change.
        limit: Limit,
        /// The time, milliseconds.
        per_ms: i64,
    },
}
