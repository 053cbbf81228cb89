//! Devices whose last values are stored at times that are weeks off, by the devices' own clocks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::remembered::Name;

/// Difference from which on the clock is taken to be wrong: values of the past may come late.
const OFF_BY_SECS: i64 = 30 * 24 * 60 * 60;
/// Devices that are remembered, at most.
const DEVICES_MAX: usize = 500;
/// Bytes of memory that one takes, about.
const BYTES: usize = 200;

/// Payloads of a device whose values are stored at times that are weeks off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffTime {
    /// The newest time in the last one, seconds since the Unix epoch.
    pub(crate) time_secs: i64,
    /// When it was received, likewise.
    pub(crate) received_secs: i64,
    /// When the first one was, likewise.
    pub(crate) since_secs: i64,
    /// How many there were without one between them that is not off.
    pub(crate) count: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct OffTimes(Mutex<HashMap<Name, OffTime>>);

impl OffTimes {
    /// Notes payloads that are stored: the device, the newest time that it has given, and when the
    /// payload was received, µs since the Unix epoch.
    pub(super) fn note(&self, payloads: impl IntoIterator<Item = (Name, i64, i64)>) {
        let mut all = self.lock();
        for (device, time, received) in payloads {
            if !is_off(time, received) {
                all.remove(&device);
                continue;
            }
            let (time_secs, received_secs) = (time / 1_000_000, received / 1_000_000);
            if all.len() >= DEVICES_MAX && !all.contains_key(&device) {
                continue;
            }
            let one = all.entry(device).or_insert(OffTime {
                time_secs,
                received_secs,
                since_secs: received_secs,
                count: 0,
            });
            (one.time_secs, one.received_secs) = (time_secs, received_secs);
            one.count += 1;
        }
    }

    /// Whether any device is remembered: without one, only a time that is off needs to be noted.
    pub(super) fn holds_any(&self) -> bool {
        !self.lock().is_empty()
    }

    pub(super) fn of(&self, device: &Name) -> Option<OffTime> {
        self.lock().get(device).cloned()
    }

    /// Bytes of memory that they take, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.lock().len() * BYTES
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, OffTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a time is weeks off, beside the time of receipt; both in µs since the Unix epoch.
pub(super) fn is_off(time: i64, received: i64) -> bool {
    let off_secs = (time / 1_000_000).saturating_sub(received / 1_000_000);
    off_secs.saturating_abs() >= OFF_BY_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_remembered_until_its_times_are_right() {
        const NOW: i64 = 1_780_000_000_000_000;
        let (device, all) = ((0, "d1".to_owned()), OffTimes::default());
        all.note([(device.clone(), 5_000_000, NOW)]);
        all.note([(device.clone(), 6_000_000, NOW + 1_000_000)]);
        let off = all.of(&device).unwrap();
        assert_eq!((off.time_secs, off.count), (6, 2));
        assert_eq!(off.since_secs + 1, off.received_secs);
        // A day late is no wonder.
        all.note([(device.clone(), NOW - 86_400_000_000, NOW)]);
        assert_eq!(all.of(&device), None);
    }
}
