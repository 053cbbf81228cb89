//! When devices sent something, until that is written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use martlet_registry::MessageTimes;

/// Devices that wait to be written, or that were written shortly before, at most.
const DEVICES_MAX: usize = 200_000;
/// Time within which a device is written at most once, unless it has to be known at once.
const DEVICE_EVERY: Duration = Duration::from_secs(30);
/// Time, likewise, of devices whose messages have to be known at once.
const SOON: Duration = Duration::from_secs(5);
/// Time after which waiting times are late: the tables are out of date for some devices.
const LATE: Duration = Duration::from_secs(90);
/// Bytes of an entry without its id, about.
const ENTRY_BYTES: usize = 96;

/// Times that wait to be written, and when what was last written.
#[derive(Debug)]
pub(super) struct UnwrittenActivity {
    /// Devices by tenant and id.
    devices: HashMap<(u32, String), DeviceActivityTimes>,
    id_bytes: usize,
    /// The last time at which something was left out, or nothing was noted.
    known_since_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct DeviceActivityTimes {
    /// The last message that is yet to be written; 0: none.
    message_ms: i64,
    /// The last heartbeat that is yet to be written; 0: none.
    heartbeat_ms: i64,
    /// The last telemetry that is yet to be written; 0: none.
    telemetry_ms: i64,
    /// When it said last that it is offline, if that is yet to be written; 0: it did not.
    offline_ms: i64,
    is_soon: bool,
    written: Option<Instant>,
    /// Since when something waits.
    since: Option<Instant>,
}

impl DeviceActivityTimes {
    fn is_due(&self, now: Instant) -> bool {
        let every = if self.is_soon { SOON } else { DEVICE_EVERY };
        let is_old = self
            .written
            .is_none_or(|at| now.duration_since(at) >= every);
        self.is_waiting() && is_old
    }

    fn is_waiting(&self) -> bool {
        self.message_ms > 0 || self.offline_ms > 0
    }

    fn is_done(&self, now: Instant) -> bool {
        let is_old = |at| now.duration_since(at) >= DEVICE_EVERY;
        !self.is_waiting() && self.written.is_none_or(is_old)
    }
}

impl UnwrittenActivity {
    /// Nothing is known of the time before `now_ms`, milliseconds since the Unix epoch.
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            devices: HashMap::new(),
            id_bytes: 0,
            known_since_ms: now_ms,
        }
    }

    /// A device sent a message.
    pub(super) fn note(&mut self, tenant: u32, id: &str, at_ms: i64) {
        self.change(tenant, id, at_ms, |_| {});
    }

    /// A device sent telemetry or a heartbeat, which has to be known soon.
    pub(super) fn note_at_once(&mut self, tenant: u32, id: &str, is_telemetry: bool, at_ms: i64) {
        self.change(tenant, id, at_ms, |noted| {
            noted.is_soon = true;
            // In the order in which they came, within a millisecond too.
            let at_ms = at_ms.max(noted.offline_ms + 1);
            match is_telemetry {
                true => noted.telemetry_ms = at_ms,
                false => noted.heartbeat_ms = at_ms,
            }
        });
    }

    /// Telemetry of a device is stored. It came at that time: what the device said since then, such
    /// as that it is offline, is newer.
    pub(super) fn note_stored(&mut self, tenant: u32, id: &str, at_ms: i64) {
        self.change(tenant, id, at_ms, |noted| {
            noted.is_soon = true;
            noted.telemetry_ms = noted.telemetry_ms.max(at_ms);
        });
    }

    /// A device said, or its Will, that it is offline. It does not count as its own message.
    pub(super) fn note_offline(&mut self, tenant: u32, id: &str, at_ms: i64) {
        self.change(tenant, id, 0, |noted| {
            noted.is_soon = true;
            let sent_ms = noted.heartbeat_ms.max(noted.telemetry_ms);
            noted.offline_ms = at_ms.max(sent_ms);
        });
    }

    fn change(
        &mut self,
        tenant: u32,
        id: &str,
        at_ms: i64,
        change: impl FnOnce(&mut DeviceActivityTimes),
    ) {
        let key = (tenant, id.to_owned());
        let is_known = self.devices.contains_key(&key);
        if !is_known && self.devices.len() >= DEVICES_MAX {
            self.known_since_ms = self.known_since_ms.max(at_ms);
            return;
        }
        if !is_known {
            self.id_bytes += id.len();
        }
        let noted = self.devices.entry(key).or_default();
        noted.message_ms = noted.message_ms.max(at_ms);
        noted.since.get_or_insert_with(Instant::now);
        change(noted);
    }

    /// Messages may not have been noted until then.
    pub(super) fn note_left_out(&mut self, now_ms: i64) {
        self.known_since_ms = now_ms;
    }

    /// Since when all messages are known that devices have sent, milliseconds since the Unix epoch.
    pub(super) fn known_since_ms(&self) -> i64 {
        self.known_since_ms
    }

    /// The tables are out of date: something has waited too long to be written.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        let mut all = self.devices.values();
        all.any(|noted| {
            noted
                .since
                .is_some_and(|since| now.duration_since(since) > LATE)
        })
    }

    /// Takes out up to `most` that may be written now.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<MessageTimes> {
        let mut due = Vec::new();
        let mut freed_bytes = 0;
        self.devices.retain(|(tenant, id), noted| {
            if due.len() < most && noted.is_due(now) {
                due.push(MessageTimes {
                    tenant: *tenant,
                    id: id.clone(),
                    message_ms: noted.message_ms,
                    heartbeat_ms: noted.heartbeat_ms,
                    telemetry_ms: noted.telemetry_ms,
                    offline_ms: noted.offline_ms,
                });
                *noted = DeviceActivityTimes {
                    written: Some(now),
                    ..DeviceActivityTimes::default()
                };
            }
            let is_done = noted.is_done(now);
            freed_bytes += if is_done { id.len() } else { 0 };
            !is_done
        });
        self.id_bytes -= freed_bytes;
        due
    }

    /// Puts back what could not be written: it waits again.
    pub(super) fn put_back(&mut self, rows: Vec<MessageTimes>) {
        for row in rows {
            self.change(row.tenant, &row.id, row.message_ms, |noted| {
                noted.heartbeat_ms = noted.heartbeat_ms.max(row.heartbeat_ms);
                noted.telemetry_ms = noted.telemetry_ms.max(row.telemetry_ms);
                noted.offline_ms = noted.offline_ms.max(row.offline_ms);
                noted.written = None;
            });
        }
    }

    /// Bytes that it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.devices.capacity() * ENTRY_BYTES + self.id_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(message_ms: i64, heartbeat_ms: i64, telemetry_ms: i64) -> MessageTimes {
        MessageTimes {
            tenant: 0,
            id: "a".to_owned(),
            message_ms,
            heartbeat_ms,
            telemetry_ms,
            offline_ms: 0,
        }
    }

    #[test]
    fn a_device_is_written_at_once_and_then_after_a_while() {
        let mut waiting = UnwrittenActivity::new(0);
        let begun = Instant::now();
        waiting.note_at_once(0, "a", true, 1_000);
        waiting.note(0, "a", 2_000);
        assert_eq!(waiting.take_due(begun, 10), [times(2_000, 0, 1_000)]);
        waiting.note(0, "a", 3_000);
        assert_eq!(waiting.take_due(begun + SOON, 10), []);
        waiting.note_at_once(0, "a", false, 4_000);
        assert_eq!(waiting.take_due(begun + SOON, 10), [times(4_000, 4_000, 0)]);
        waiting.note(0, "a", 5_000);
        let later = begun + SOON + DEVICE_EVERY;
        assert_eq!(waiting.take_due(later, 10), [times(5_000, 0, 0)]);
        assert_eq!(waiting.take_due(later + DEVICE_EVERY, 10), []);
        assert!(waiting.devices.is_empty());
        assert_eq!(waiting.id_bytes, 0);
    }

    #[test]
    fn the_last_word_of_a_device_counts_whether_it_is_online() {
        let mut waiting = UnwrittenActivity::new(0);
        let now = Instant::now();
        waiting.note_at_once(0, "a", false, 1_000);
        waiting.note_offline(0, "a", 1_000);
        let noted = waiting.take_due(now, 10).remove(0);
        assert!(noted.offline_ms >= noted.heartbeat_ms && noted.message_ms == 1_000);
        waiting.note_offline(0, "a", 9_000);
        waiting.note_at_once(0, "a", true, 9_000);
        let noted = waiting.take_due(now + SOON, 10).remove(0);
        assert!(noted.telemetry_ms > noted.offline_ms);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let mut waiting = UnwrittenActivity::new(0);
        let now = Instant::now();
        waiting.note_at_once(0, "a", true, 1_000);
        let rows = waiting.take_due(now, 10);
        waiting.put_back(rows);
        assert_eq!(waiting.take_due(now, 10), [times(1_000, 0, 1_000)]);
    }

    #[test]
    fn devices_without_room_are_told() {
        let mut waiting = UnwrittenActivity::new(5);
        for number in 0..=DEVICES_MAX {
            waiting.note(0, &number.to_string(), 7);
        }
        assert_eq!(waiting.known_since_ms(), 7);
        let now = Instant::now();
        assert!(!waiting.is_behind(now) && waiting.is_behind(now + 2 * LATE));
    }
}
