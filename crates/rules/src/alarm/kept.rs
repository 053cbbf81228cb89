//! State of alarms that are not raised, kept over a restart: since when a condition is true, the
//! last value, the last message. It is stored in rows, with few writes: a condition at once, a
//! later value or message only after a while.

use serde::{Deserialize, Serialize};

use super::entries::AlarmKey;
use super::entries::RowContent;
use super::machine::{About, AlarmMachine, MonitoredAlarm};
use crate::definition::Severity;

/// A stored value is written again if it is older than this, milliseconds.
const VALUE_MS: i64 = 30_000;
/// A stored message is written again if its age exceeds the alarm's silence time divided by this,
/// or a minute.
const SEEN_PARTS: i64 = 4;
const SEEN_MAX_MS: i64 = 60_000;
/// Maximum time after a restart until silence of a device is an alarm: the stored message may not
/// have been its last one.
const AFTER_RESTART_MS: i64 = 60_000;

/// The stored state of an alarm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchState {
    /// Device of the alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Severity of the alarm, if raised.
    pub severity: Severity,
    /// Text of the alarm, if raised.
    pub message: String,
    /// Required duration of its condition before it is raised, milliseconds.
    pub for_ms: i64,
    /// Names of alarms that inhibit it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibited_by: Vec<String>,
    /// Since when its condition is true, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_since: Option<i64>,
    /// The value that would raise it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The last value and its time, for rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<(f64, i64)>,
    /// The time of the last message, and the silence after which the alarm is raised,
    /// milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<(i64, i64)>,
    /// Hops of the message that started the pending state.
    pub hops: u8,
}

impl MonitoredAlarm {
    /// The row for the current state; `None`: it needs no row.
    fn to_write(&self) -> Option<RowContent> {
        let now = RowContent {
            holds_since: self.holds_since,
            last_ms: self.last.map(|(_, at_ms)| at_ms),
            seen_ms: self.seen.map(|(at_ms, _)| at_ms),
        };
        (now != RowContent::default()).then_some(now)
    }

    /// Whether the written row is recent enough.
    fn is_written(&self, now: Option<RowContent>) -> bool {
        let (Some(now), Some(written)) = (now, self.written) else {
            return now == self.written;
        };
        let is_near = |now: Option<i64>, written: Option<i64>, most_ms: i64| match (now, written) {
            (Some(now), Some(written)) => (0..most_ms).contains(&(now - written)),
            (now, written) => now == written,
        };
        let after_ms = self.seen.map_or(0, |(_, after_ms)| after_ms);
        let seen_ms = (after_ms / SEEN_PARTS).clamp(1, SEEN_MAX_MS);
        now.holds_since == written.holds_since
            && is_near(now.last_ms, written.last_ms, VALUE_MS)
            && is_near(now.seen_ms, written.seen_ms, seen_ms)
    }

    fn watch_state(&self) -> WatchState {
        WatchState {
            device: self.about.device.clone(),
            severity: self.about.severity,
            message: self.about.message.clone(),
            for_ms: self.about.for_ms,
            inhibited_by: self.about.inhibited_by.clone(),
            holds_since: self.holds_since,
            value: self.value,
            last: self.last,
            seen: self.seen,
            hops: self.hops,
        }
    }
}

impl AlarmMachine {
    /// Changes since the last call that must be written, at most `most`: the state of an alarm, or
    /// `None` to remove its row. They count as written.
    pub fn take_changed_watches(&mut self, most: usize) -> Vec<(AlarmKey, Option<WatchState>)> {
        let mut changed = Vec::new();
        for (key, entry) in self.entries.iter_mut() {
            if changed.len() >= most {
                return changed;
            }
            let now = entry.to_write();
            if !entry.is_written(now) {
                entry.written = now;
                changed.push((key.clone(), now.map(|_| entry.watch_state())));
            }
        }
        let room = most - changed.len();
        let removed: Vec<AlarmKey> = self.removed.iter().take(room).cloned().collect();
        for key in removed {
            self.removed.remove(&key);
            let entry = self.entries.get(&key);
            // An entry that exists again has its row again.
            if entry.is_none_or(|entry| entry.written.is_none()) {
                changed.push((key, None));
            }
        }
        changed
    }

    /// Changes of conditions since the last call that must be written before what led to them may
    /// be forgotten: the state of an alarm, or `None` to remove its row. They count as written.
    pub fn take_changed_conditions(&mut self) -> Vec<(AlarmKey, Option<WatchState>)> {
        let mut changed = Vec::new();
        for key in std::mem::take(&mut self.changed_conditions) {
            let is_removed = self.removed.remove(&key);
            let Some(entry) = self.entries.get_mut(&key) else {
                if is_removed {
                    changed.push((key, None));
                }
                continue;
            };
            let now = entry.to_write();
            let since = |row: Option<RowContent>| row.and_then(|row| row.holds_since);
            if is_removed || since(now) != since(entry.written) {
                entry.written = now;
                changed.push((key, now.map(|_| entry.watch_state())));
            }
        }
        changed
    }

    /// Whether [`Self::take_changed_conditions`] may have something.
    pub fn has_changed_conditions(&self) -> bool {
        !self.changed_conditions.is_empty()
    }

    /// Restores the state of an earlier run. Observations since then are kept.
    pub fn restore_watches(
        &mut self,
        kept: impl IntoIterator<Item = (AlarmKey, WatchState)>,
        now_ms: i64,
    ) {
        for (key, state) in kept {
            if !self.entries.has_room_for(&key) {
                continue;
            }
            let written = RowContent {
                holds_since: state.holds_since,
                last_ms: state.last.map(|(_, at_ms)| at_ms),
                seen_ms: state.seen.map(|(at_ms, _)| at_ms),
            };
            let about = About {
                key: key.clone(),
                device: state.device,
                severity: state.severity,
                message: state.message,
                for_ms: state.for_ms,
                inhibited_by: state.inhibited_by,
                hops: state.hops,
            };
            if !self.entries.contains_key(&key) {
                self.entries.insert(key.clone(), MonitoredAlarm::new(about));
            }
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.alarm.is_none() && entry.holds_since.is_none() {
                entry.holds_since = state.holds_since;
                entry.hops = entry.hops.max(state.hops);
                entry.value = entry.value.or(state.value);
            }
            entry.last = entry.last.or(state.last);
            if entry.seen.is_none() {
                entry.seen = state.seen.map(|(at_ms, after_ms)| {
                    let least_ms = now_ms - after_ms + after_ms.min(AFTER_RESTART_MS);
                    (at_ms.max(least_ms).min(now_ms), after_ms)
                });
            }
            entry.written = Some(written);
        }
    }
}
