//! What rules and the node tell the alarms.

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
    /// What the node itself watches is, or is not, as it should be. Alarms of that are about a part
    /// of the node or a device.
    pub fn of_node(
        key: AlarmKey,
        device: Option<String>,
        (severity, message): (Severity, String),
        (is_bad, for_ms): (bool, i64),
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

    /// It follows from a message with this many hops.
    #[must_use]
    pub fn after(mut self, hops: u8) -> Self {
        self.about.hops = hops;
        self
    }

    /// Gives it to the alarms.
    pub fn apply(self, machine: &mut AlarmMachine) -> Option<AlarmChange> {
        machine.take(self.about, &self.observation, self.at_ms)
    }

    /// Name of the alarm and what it is about.
    pub fn key(&self) -> &AlarmKey {
        &self.about.key
    }

    /// What is observed.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }
}
