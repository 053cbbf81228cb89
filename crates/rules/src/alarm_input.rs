//! Observations of rules and of the node for alarms.

use crate::alarm::{About, AlarmChange, AlarmKey, AlarmMachine, Observation};
use crate::definition::Severity;

/// An observation for the alarms.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmInput {
    pub(crate) about: About,
    pub(crate) observation: Observation,
    pub(crate) at_ms: i64,
}

impl AlarmInput {
    /// An observation of the node itself: a monitored condition is good or bad. Its subject is a
    /// part of the node or a device.
    pub fn of_node(
        key: AlarmKey,
        device: Option<String>,
        severity: Severity,
        message: String,
        is_bad: bool,
        for_ms: i64,
        at_ms: i64,
    ) -> Self {
        Self {
            about: About {
                key,
                device,
                severity,
                message,
                for_ms,
                inhibited_by: Vec::new(),
                hops: 0,
            },
            observation: Observation::Condition {
                raise: is_bad,
                clear: !is_bad,
            },
            at_ms,
        }
    }

    /// Sets the hops of the message that caused it.
    #[must_use]
    pub fn after(mut self, hops: u8) -> Self {
        self.about.hops = hops;
        self
    }

    /// Passes it to the alarms.
    pub fn apply(self, machine: &mut AlarmMachine) -> Option<AlarmChange> {
        machine.take(self.about, &self.observation, self.at_ms)
    }

    /// Name and subject of the alarm.
    pub fn key(&self) -> &AlarmKey {
        &self.about.key
    }

    /// The observation.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }
}
