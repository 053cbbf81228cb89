//! The state machine of all alarms of a node.

use std::collections::{HashMap, HashSet};

use martlet_permission::Share;

use super::entries::AlarmKey;
use super::entries::RowContent;
use super::entries::{ENTRIES_MAX, Entries};
use crate::alarm::{Check, Means};
use crate::definition::Severity;

/// State of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmState {
    /// Not yet acknowledged.
    Active,
    /// Acknowledged by a user.
    Acknowledged,
    /// Silenced until its time is over.
    Shelved,
    /// Over.
    Cleared,
}

impl AlarmState {
    /// All states.
    pub const ALL: [Self; 4] = [
        Self::Active,
        Self::Acknowledged,
        Self::Shelved,
        Self::Cleared,
    ];

    /// Returns the state's name in texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Acknowledged => "acknowledged",
            Self::Shelved => "shelved",
            Self::Cleared => "cleared",
        }
    }

    /// The state with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }
}

/// An alarm that was raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Number of the alarm. A later one of the same name has a different number.
    pub id: i64,
    /// Name and subject of the alarm.
    pub key: AlarmKey,
    /// Device of the alarm.
    pub device: Option<String>,
    /// Severity of the alarm.
    pub severity: Severity,
    /// State.
    pub state: AlarmState,
    /// Text of the alarm.
    pub message: String,
    /// The value that raised it.
    pub value: Option<f64>,
    /// Milliseconds since the Unix epoch.
    pub raised_ms: i64,
    /// Time of its last change, milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// The user or key that changed it last; empty: the node.
    pub changed_by: String,
    /// End of the shelving, milliseconds since the Unix epoch.
    pub shelved_until_ms: Option<i64>,
    /// Whether it was acknowledged before it was shelved.
    pub was_acknowledged: bool,
}

/// Kind of a change of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The alarm was raised.
    Raised,
    /// The alarm was acknowledged.
    Acknowledged,
    /// The alarm was shelved.
    Shelved,
    /// The alarm's shelving has ended, and it is active again.
    Unshelved,
    /// The alarm was cleared.
    Cleared,
}

impl ChangeKind {
    /// Returns the kind's name in texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Acknowledged => "acknowledged",
            Self::Shelved => "shelved",
            Self::Unshelved => "unshelved",
            Self::Cleared => "cleared",
        }
    }
}

/// A change of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmChange {
    /// The kind.
    pub kind: ChangeKind,
    /// The alarm afterwards.
    pub alarm: Alarm,
    /// Hops of the message that caused it; 0: none did.
    pub hops: u8,
}

/// An observation.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A value.
    Value(f64, Check),
    /// Whether to raise and whether to clear the alarm.
    Condition {
        /// Raise.
        raise: bool,
        /// Clear; ignored if `raise` is set.
        clear: bool,
    },
    /// A message: the alarm is raised if no other arrives within this time, milliseconds.
    Seen {
        /// The time.
        after_ms: i64,
    },
}

/// Alarms of an earlier run.
pub type Restored = Vec<Alarm>;

/// Why an alarm cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlarmError {
    /// No open alarm has this number.
    #[error("there is no alarm {0} that is not cleared")]
    NotFound(i64),
    /// The alarm's state does not allow the change.
    #[error("the alarm {0} is {1}")]
    State(i64, &'static str),
}

/// Subject of an observation, and the alarm to raise for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    pub(crate) key: AlarmKey,
    pub(crate) device: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) for_ms: i64,
    pub(crate) inhibited_by: Vec<String>,
    /// Hops of the observed message.
    pub(crate) hops: u8,
}

#[derive(Debug)]
pub(super) struct MonitoredAlarm {
    /// The alarm, while it is raised.
    pub(super) alarm: Option<Alarm>,
    /// Since when its condition is true, while it is not raised.
    pub(super) holds_since: Option<i64>,
    /// The alarm that would be raised.
    pub(super) about: About,
    pub(super) value: Option<f64>,
    /// The last value and its time, for rates.
    pub(super) last: Option<(f64, i64)>,
    /// The time of the last message, and the silence after which the alarm is raised.
    pub(super) seen: Option<(i64, i64)>,
    /// Hops of the message that started the pending state.
    pub(super) hops: u8,
    /// Stored row of the alarm; `None`: it has no row.
    pub(super) written: Option<RowContent>,
}

impl MonitoredAlarm {
    pub(super) fn new(about: About) -> Self {
        Self {
            written: None,
            alarm: None,
            holds_since: None,
            about,
            value: None,
            last: None,
            seen: None,
            hops: 0,
        }
    }

    /// Whether the entry can be removed without loss.
    fn is_idle(&self) -> bool {
        self.alarm.is_none()
            && self.holds_since.is_none()
            && self.last.is_none()
            && self.seen.is_none()
    }
}

/// An alarm that is due but inhibited by another one.
#[derive(Clone, Copy, Debug)]
pub struct InhibitedAlarm<'a> {
    /// Name and subject of the alarm.
    pub key: &'a AlarmKey,
    /// Since when its condition is true, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The inhibiting alarm.
    pub by: &'a Alarm,
}

/// An alarm that is not raised, because its condition has not been true for long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingAlarm {
    /// Subject of the alarm.
    pub subject: String,
    /// When its condition became true, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// When its condition became false again, likewise; `None`: it is true.
    pub until_ms: Option<i64>,
    /// Required duration of its condition, milliseconds.
    pub for_ms: i64,
}

/// The alarms of a node.
#[derive(Debug, Default)]
pub struct AlarmMachine {
    pub(super) entries: Entries<MonitoredAlarm>,
    /// Removed entries that still have a row.
    pub(super) removed: HashSet<AlarmKey>,
    /// Alarms whose condition has become true or is true no more, since that was last written.
    pub(super) changed_conditions: HashSet<AlarmKey>,
    by_id: HashMap<i64, AlarmKey>,
    /// Per tenant and name, the last alarm whose condition was not true for long enough.
    too_short: HashMap<(u32, String), WaitingAlarm>,
    last_id: i64,
    /// Number of observations dropped because there were too many entries.
    dropped: u64,
}

impl AlarmMachine {
    /// No alarms; one tenant may have this share of all that may be remembered.
    pub fn new(share: Share) -> Self {
        Self {
            entries: Entries::new(share),
            ..Self::default()
        }
    }

    /// Restores the alarms that were not cleared at the end of an earlier run.
    pub fn restore(&mut self, alarms: Restored) {
        for alarm in alarms {
            self.last_id = self.last_id.max(alarm.id);
            let about = About {
                key: alarm.key.clone(),
                device: alarm.device.clone(),
                severity: alarm.severity,
                message: alarm.message.clone(),
                for_ms: 0,
                inhibited_by: Vec::new(),
                hops: 0,
            };
            let mut entry = MonitoredAlarm::new(about);
            self.by_id.insert(alarm.id, alarm.key.clone());
            let key = alarm.key.clone();
            entry.alarm = Some(alarm);
            self.entries.insert(key, entry);
        }
    }

    /// Alarms that are not cleared.
    pub fn open(&self) -> impl Iterator<Item = &Alarm> {
        self.entries
            .values()
            .filter_map(|entry| entry.alarm.as_ref())
    }

    /// The alarm of this number, unless it is cleared.
    pub fn get(&self, id: i64) -> Option<&Alarm> {
        self.entries.get(self.by_id.get(&id)?)?.alarm.as_ref()
    }

    /// The last value of the alarm of this number since the start, unless it is cleared.
    pub fn last_value(&self, id: i64) -> Option<f64> {
        self.entries.get(self.by_id.get(&id)?)?.value
    }

    /// Number of entries, and number of observations dropped because there were too many.
    pub fn counts(&self) -> (usize, u64) {
        (self.entries.len(), self.dropped)
    }

    /// Maximum number of entries, and number of those of each tenant that has some.
    pub fn of_tenants(&self) -> (usize, impl Iterator<Item = (u32, usize)>) {
        (ENTRIES_MAX, self.entries.of_tenants())
    }

    /// Removes entries of rules that no longer exist, and returns their alarms, cleared.
    pub fn retain_rules(
        &mut self,
        is_there: impl Fn(&AlarmKey) -> bool,
        now_ms: i64,
    ) -> Vec<AlarmChange> {
        let gone: Vec<AlarmKey> = self
            .entries
            .keys()
            .filter(|key| !is_there(key))
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for key in gone {
            changes.extend(self.clear_key(&key, now_ms, ""));
            self.remove(&key);
        }
        self.too_short.retain(|(tenant, name), one| {
            is_there(&AlarmKey {
                tenant: *tenant,
                name: name.clone(),
                subject: one.subject.clone(),
            })
        });
        changes
    }

    /// Processes an observation at a time.
    pub(crate) fn take(
        &mut self,
        mut about: About,
        observation: &Observation,
        now_ms: i64,
    ) -> Option<AlarmChange> {
        about.message = on_one_line(about.message);
        let (key, hops) = (about.key.clone(), about.hops);
        if !self.entries.contains_key(&key) {
            if !self.entries.has_room_for(&key) {
                self.dropped += 1;
                return None;
            }
            self.entries.insert(key.clone(), MonitoredAlarm::new(about));
        } else if let Some(entry) = self.entries.get_mut(&key) {
            entry.about = about;
        }
        let entry = self.entries.get_mut(&key)?;
        if entry.holds_since.is_none() || matches!(observation, Observation::Seen { .. }) {
            entry.hops = hops;
        }
        // The rule has changed: the silence that the old rule waited for no longer counts.
        if !matches!(observation, Observation::Seen { .. }) {
            entry.seen = None;
        }
        if !matches!(observation, Observation::Value(_, Check::Rate { .. })) {
            entry.last = None;
        }
        let means = match observation {
            Observation::Value(value, Check::Threshold(limit)) => {
                entry.value = Some(*value);
                limit.means(*value)
            }
            Observation::Value(value, Check::Rate { limit, per_ms }) => {
                let change = rate(entry.last, *value, now_ms, *per_ms);
                // A second value at the same time would be an infinite rate.
                if entry.last.is_none_or(|(_, at_ms)| at_ms < now_ms) {
                    entry.last = Some((*value, now_ms));
                }
                entry.value = change;
                change.map_or(Means::Stay, |change| limit.means(change))
            }
            Observation::Condition { raise: true, .. } => Means::Raise,
            Observation::Condition { clear: true, .. } => Means::Clear,
            Observation::Condition { .. } => Means::Stay,
            Observation::Seen { after_ms } => {
                entry.seen = Some((now_ms, *after_ms));
                Means::Clear
            }
        };
        let change = match means {
            Means::Raise => self.holds(&key, now_ms),
            Means::Clear => self.clear_key(&key, now_ms, ""),
            Means::Stay => None,
        };
        self.remove_if_idle(&key);
        change.map(|change| AlarmChange { hops, ..change })
    }

    fn remove_if_idle(&mut self, key: &AlarmKey) {
        if self.entries.get(key).is_some_and(MonitoredAlarm::is_idle) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &AlarmKey) {
        let removed = self.entries.remove(key);
        if removed.is_some_and(|entry| entry.written.is_some()) {
            self.removed.insert(key.clone());
        }
    }

    /// Handles a condition that is true.
    fn holds(&mut self, key: &AlarmKey, now_ms: i64) -> Option<AlarmChange> {
        let entry = self.entries.get_mut(key)?;
        if entry.alarm.is_some() {
            return None;
        }
        if entry.holds_since.is_none() {
            self.changed_conditions.insert(key.clone());
        }
        let since = *entry.holds_since.get_or_insert(now_ms);
        let is_due = now_ms.saturating_sub(since) >= entry.about.for_ms;
        match is_due && !self.is_inhibited(key) {
            true => self.raise(key, now_ms),
            false => None,
        }
    }

    /// The alarm of this name and tenant that has been due for the longest time and is not raised,
    /// because another one inhibits it.
    pub fn inhibited(&self, tenant: u32, name: &str) -> Option<InhibitedAlarm<'_>> {
        let due = self.entries.iter().filter_map(|(key, entry)| {
            let since_ms = entry.holds_since?;
            if key.tenant != tenant || key.name != name || entry.alarm.is_some() {
                return None;
            }
            Some(InhibitedAlarm {
                key,
                since_ms,
                by: self.inhibiting(key)?,
            })
        });
        due.min_by_key(|one| one.since_ms)
    }

    /// The alarm of this name and tenant whose condition is true, but not yet for long enough;
    /// else the last one whose condition became false before that.
    pub fn waiting(&self, tenant: u32, name: &str) -> Option<WaitingAlarm> {
        let waiting = self.entries.iter().filter_map(|(key, entry)| {
            let since_ms = entry.holds_since?;
            let is_it = key.tenant == tenant && key.name == name && entry.alarm.is_none();
            is_it.then(|| WaitingAlarm {
                subject: key.subject.clone(),
                since_ms,
                until_ms: None,
                for_ms: entry.about.for_ms,
            })
        });
        let waiting = waiting.min_by_key(|one| one.since_ms);
        waiting.or_else(|| self.too_short.get(&(tenant, name.to_owned())).cloned())
    }

    /// Whether an open alarm inhibits this one.
    fn is_inhibited(&self, key: &AlarmKey) -> bool {
        self.inhibiting(key).is_some()
    }

    /// The open alarm that inhibits this one.
    fn inhibiting(&self, key: &AlarmKey) -> Option<&Alarm> {
        let about = &self.entries.get(key)?.about;
        about.inhibited_by.iter().find_map(|name| {
            // On the same device, or on the whole node.
            [key.subject.as_str(), ""].into_iter().find_map(|subject| {
                let other = AlarmKey {
                    tenant: key.tenant,
                    name: name.clone(),
                    subject: subject.to_owned(),
                };
                let found = self.entries.get(&other).filter(|_| other != *key);
                found.and_then(|entry| entry.alarm.as_ref())
            })
        })
    }

    fn raise(&mut self, key: &AlarmKey, now_ms: i64) -> Option<AlarmChange> {
        // Numbers of alarms grow with time, so that those of earlier runs are smaller.
        self.last_id = now_ms.saturating_mul(1_000).max(self.last_id + 1);
        let id = self.last_id;
        self.too_short.remove(&(key.tenant, key.name.clone()));
        let entry = self.entries.get_mut(key)?;
        if entry.holds_since.take().is_some() {
            self.changed_conditions.insert(key.clone());
        }
        let alarm = Alarm {
            id,
            key: key.clone(),
            device: entry.about.device.clone(),
            severity: entry.about.severity,
            state: AlarmState::Active,
            message: entry.about.message.clone(),
            value: entry.value,
            raised_ms: now_ms,
            changed_ms: now_ms,
            changed_by: String::new(),
            shelved_until_ms: None,
            was_acknowledged: false,
        };
        entry.alarm = Some(alarm.clone());
        self.by_id.insert(id, key.clone());
        Some(AlarmChange {
            kind: ChangeKind::Raised,
            alarm,
            hops: 0,
        })
    }

    fn clear_key(&mut self, key: &AlarmKey, now_ms: i64, by: &str) -> Option<AlarmChange> {
        let entry = self.entries.get_mut(key)?;
        let held = entry.holds_since.take();
        if held.is_some() {
            self.changed_conditions.insert(key.clone());
        }
        if let Some(since_ms) = held.filter(|since| now_ms - since < entry.about.for_ms) {
            let too_short = WaitingAlarm {
                subject: key.subject.clone(),
                since_ms,
                until_ms: Some(now_ms),
                for_ms: entry.about.for_ms,
            };
            let of = (key.tenant, key.name.clone());
            self.too_short.insert(of, too_short);
        }
        let mut alarm = entry.alarm.take()?;
        self.by_id.remove(&alarm.id);
        alarm.state = AlarmState::Cleared;
        alarm.changed_ms = now_ms;
        alarm.shelved_until_ms = None;
        by.clone_into(&mut alarm.changed_by);
        Some(AlarmChange {
            kind: ChangeKind::Cleared,
            alarm,
            hops: 0,
        })
    }

    /// The wall clock was set forward by this time, or back: what is waited for takes as long as if
    /// it had not been set.
    pub fn clock_was_set(&mut self, by_ms: i64) {
        let shift = |at_ms: &mut i64| *at_ms = at_ms.saturating_add(by_ms);
        for (key, entry) in self.entries.iter_mut() {
            if let Some(since_ms) = &mut entry.holds_since {
                shift(since_ms);
                self.changed_conditions.insert(key.clone());
            }
            if let Some((_, at_ms)) = &mut entry.last {
                shift(at_ms);
            }
            if let Some((at_ms, _)) = &mut entry.seen {
                shift(at_ms);
            }
        }
    }

    /// Handles the passing of time: raises due alarms, and reactivates alarms whose shelving is
    /// over.
    pub fn tick(&mut self, now_ms: i64) -> Vec<AlarmChange> {
        let mut due = Vec::new();
        for (key, entry) in self.entries.iter() {
            let is_silent = entry
                .seen
                .is_some_and(|(last_ms, after_ms)| now_ms - last_ms >= after_ms);
            let holds = entry
                .holds_since
                .is_some_and(|since| now_ms - since >= entry.about.for_ms);
            let alarm = entry.alarm.as_ref();
            let is_over = alarm
                .and_then(|alarm| alarm.shelved_until_ms)
                .is_some_and(|until| until <= now_ms);
            if (alarm.is_none() && (is_silent || holds)) || is_over {
                due.push(key.clone());
            }
        }
        due.sort_unstable();
        let mut changes = Vec::new();
        for key in due {
            let entry = self.entries.get(&key);
            let is_raised = entry.is_some_and(|entry| entry.alarm.is_some());
            let hops = entry.map_or(0, |entry| entry.hops);
            let change = match is_raised {
                true => self.end_shelving(&key, now_ms, ""),
                false => self.holds(&key, now_ms),
            };
            changes.extend(change.map(|change| AlarmChange { hops, ..change }));
        }
        changes
    }

    fn end_shelving(&mut self, key: &AlarmKey, now_ms: i64, by: &str) -> Option<AlarmChange> {
        let alarm = self.entries.get_mut(key)?.alarm.as_mut()?;
        alarm.state = match alarm.was_acknowledged {
            true => AlarmState::Acknowledged,
            false => AlarmState::Active,
        };
        alarm.shelved_until_ms = None;
        alarm.changed_ms = now_ms;
        by.clone_into(&mut alarm.changed_by);
        Some(AlarmChange {
            kind: ChangeKind::Unshelved,
            alarm: alarm.clone(),
            hops: 0,
        })
    }

    fn open_mut(&mut self, id: i64) -> Result<&mut Alarm, AlarmError> {
        let key = self.by_id.get(&id).ok_or(AlarmError::NotFound(id))?;
        let entry = self.entries.get_mut(key);
        let alarm = entry.and_then(|entry| entry.alarm.as_mut());
        alarm.ok_or(AlarmError::NotFound(id))
    }

    /// Acknowledges an alarm.
    ///
    /// # Errors
    /// No alarm has this number, or it is acknowledged already.
    pub fn acknowledge(
        &mut self,
        id: i64,
        by: &str,
        now_ms: i64,
    ) -> Result<AlarmChange, AlarmError> {
        let alarm = self.open_mut(id)?;
        if alarm.state == AlarmState::Acknowledged {
            return Err(AlarmError::State(id, "acknowledged already"));
        }
        alarm.was_acknowledged = true;
        if alarm.state == AlarmState::Active {
            alarm.state = AlarmState::Acknowledged;
        }
        alarm.changed_ms = now_ms;
        by.clone_into(&mut alarm.changed_by);
        Ok(AlarmChange {
            kind: ChangeKind::Acknowledged,
            alarm: alarm.clone(),
            hops: 0,
        })
    }

    /// Shelves an alarm until a time.
    ///
    /// # Errors
    /// No alarm has this number.
    pub fn shelve(
        &mut self,
        id: i64,
        until_ms: i64,
        by: &str,
        now_ms: i64,
    ) -> Result<AlarmChange, AlarmError> {
        let alarm = self.open_mut(id)?;
        alarm.state = AlarmState::Shelved;
        alarm.shelved_until_ms = Some(until_ms);
        alarm.changed_ms = now_ms;
        by.clone_into(&mut alarm.changed_by);
        Ok(AlarmChange {
            kind: ChangeKind::Shelved,
            alarm: alarm.clone(),
            hops: 0,
        })
    }

    /// Ends the shelving of an alarm.
    ///
    /// # Errors
    /// No alarm has this number, or it is not shelved.
    pub fn unshelve(&mut self, id: i64, by: &str, now_ms: i64) -> Result<AlarmChange, AlarmError> {
        if self.open_mut(id)?.state != AlarmState::Shelved {
            return Err(AlarmError::State(id, "not shelved"));
        }
        let key = self
            .by_id
            .get(&id)
            .cloned()
            .ok_or(AlarmError::NotFound(id))?;
        let change = self.end_shelving(&key, now_ms, by);
        change.ok_or(AlarmError::NotFound(id))
    }

    /// Clears an alarm by hand. It is raised again if its condition is observed again.
    ///
    /// # Errors
    /// No alarm has this number.
    pub fn clear(&mut self, id: i64, by: &str, now_ms: i64) -> Result<AlarmChange, AlarmError> {
        let key = self
            .by_id
            .get(&id)
            .cloned()
            .ok_or(AlarmError::NotFound(id))?;
        let change = self.clear_key(&key, now_ms, by);
        if let Some(entry) = self.entries.get_mut(&key) {
            // The silence continues: the alarm is raised again after the next missing message.
            entry.seen = None;
        }
        self.remove_if_idle(&key);
        change.ok_or(AlarmError::NotFound(id))
    }
}

/// Replaces control characters by spaces: a message may contain parts of a payload, and a terminal
/// or a mail could interpret them as commands.
fn on_one_line(message: String) -> String {
    match message.contains(char::is_control) {
        true => message.replace(char::is_control, " "),
        false => message,
    }
}

/// Change of a value per time; `None` without an earlier value.
fn rate(last: Option<(f64, i64)>, value: f64, now_ms: i64, per_ms: i64) -> Option<f64> {
    let (before, at_ms) = last?;
    let elapsed_ms = now_ms - at_ms;
    if elapsed_ms <= 0 {
        return None;
    }
    let change = (value - before) * per_ms as f64 / elapsed_ms as f64;
    // The difference of two values may exceed the range of numbers.
    Some(change.clamp(f64::MIN, f64::MAX))
}
