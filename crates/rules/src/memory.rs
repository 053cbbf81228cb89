//! What rules remember between messages.

use std::collections::{HashMap, VecDeque};

use cel::Value;

use crate::fuel::{UNITS_MAX, UNITS_OF_VALUE};
use crate::value::bytes_of;

/// Values that are remembered for `previous`, at most.
const PREVIOUS_MAX: usize = 50_000;
/// Bytes of such a value, at most.
const PREVIOUS_BYTES_MAX: usize = 4 * 1024;

/// Names a remembered value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PreviousKey {
    pub(crate) tenant: u32,
    pub(crate) rule: String,
    /// Topic, or device and key.
    pub(crate) of: String,
}

/// What rules remember between messages. A new one knows nothing.
#[derive(Debug, Default)]
pub struct Memory {
    previous: HashMap<PreviousKey, Value>,
    order: VecDeque<PreviousKey>,
    /// Units that rules have used for the present message, by their places. Those of a small value
    /// are not there.
    used: HashMap<usize, u64>,
}

impl Memory {
    /// What rules look at now is of the next message. One message may be many values of telemetry:
    /// what a rule may cost is bounded for all of them together.
    pub fn next_message(&mut self) {
        self.used.clear();
    }

    /// Units that the rule at this place may use now.
    pub(crate) fn units_of(&self, rule: usize) -> u64 {
        let used = self.used.get(&rule).copied().unwrap_or_default();
        UNITS_MAX.saturating_sub(used).max(UNITS_OF_VALUE)
    }

    /// The rule at this place has used units.
    pub(crate) fn note_used(&mut self, rule: usize, units: u64) {
        if units > UNITS_OF_VALUE {
            *self.used.entry(rule).or_default() += units;
        }
    }

    /// The value before, of this key.
    pub(crate) fn previous(&self, key: &PreviousKey) -> Option<&Value> {
        self.previous.get(key)
    }

    pub(crate) fn remember(&mut self, key: PreviousKey, value: &Value) {
        if bytes_of(value) > PREVIOUS_BYTES_MAX {
            return;
        }
        if self.previous.insert(key.clone(), value.clone()).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > PREVIOUS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.previous.remove(&oldest);
            }
        }
    }
}
