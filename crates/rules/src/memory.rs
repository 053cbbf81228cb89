//! State of rules between messages.

use std::collections::{HashMap, VecDeque};

use cel::Value;

use crate::fuel::{UNITS_MAX, UNITS_OF_VALUE};
use crate::value::bytes_of;

/// Maximum number of values that are remembered for `previous`.
const PREVIOUS_MAX: usize = 50_000;
/// Maximum bytes of such a value.
const PREVIOUS_BYTES_MAX: usize = 4 * 1024;

/// Key of a remembered value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PreviousKey {
    pub(crate) tenant: u32,
    pub(crate) rule: String,
    /// Topic, or device and key.
    pub(crate) of: String,
}

/// State of rules between messages; empty at first.
#[derive(Debug, Default)]
pub struct Memory {
    previous: HashMap<PreviousKey, Value>,
    order: VecDeque<PreviousKey>,
    /// Units used by rules for the current message, by rule index. Small values are not counted.
    used: HashMap<usize, u64>,
}

impl Memory {
    /// Starts the next message. One message may have many telemetry values: the cost limit of a
    /// rule applies to all of them together.
    pub fn next_message(&mut self) {
        self.used.clear();
    }

    /// Units that the rule with this index may use now.
    pub(crate) fn units_of(&self, rule: usize) -> u64 {
        let used = self.used.get(&rule).copied().unwrap_or_default();
        UNITS_MAX.saturating_sub(used).max(UNITS_OF_VALUE)
    }

    /// Counts units used by the rule with this index.
    pub(crate) fn note_used(&mut self, rule: usize, units: u64) {
        if units > UNITS_OF_VALUE {
            *self.used.entry(rule).or_default() += units;
        }
    }

    /// The previous value with this key.
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
