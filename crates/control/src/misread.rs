//! Messages of devices that the node could not use: the last one of each device, in memory. `why`
//! shows them.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock::lock;
use crate::wall_clock::now_ms;

/// Most devices whose last message is remembered.
const DEVICES_MAX: usize = 256;

/// A message of a device that the node could not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// When it came, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Error of the payload.
    pub why: String,
}

/// The last one of each device, by tenant and id.
#[derive(Debug, Default)]
pub(crate) struct LastMisread(Mutex<VecDeque<(u32, String, Misread)>>);

impl LastMisread {
    /// A message of a device cannot be used.
    pub(crate) fn add(&self, device: (u32, &str), why: String) {
        let mut all = lock(&self.0);
        all.retain(|one| !is_of(one, device.0, device.1));
        while all.len() >= DEVICES_MAX {
            all.pop_front();
        }
        let at_ms = now_ms();
        all.push_back((device.0, device.1.to_owned(), Misread { at_ms, why }));
    }

    /// A later one was used.
    pub(crate) fn remove(&self, device: (u32, &str)) {
        lock(&self.0).retain(|one| !is_of(one, device.0, device.1));
    }

    /// That of a device.
    pub(crate) fn of(&self, device: (u32, &str)) -> Option<Misread> {
        let all = lock(&self.0);
        let found = all.iter().find(|one| is_of(one, device.0, device.1));
        found.map(|(_, _, misread)| misread.clone())
    }
}

fn is_of(one: &(u32, String, Misread), tenant: u32, device: &str) -> bool {
    one.0 == tenant && one.1 == device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_device_the_last_one_is_remembered() {
        let all = LastMisread::default();
        for number in 0..DEVICES_MAX + 1 {
            all.add((0, &number.to_string()), "first".to_owned());
        }
        all.add((0, "7"), "second".to_owned());
        all.add((1, "7"), "of another tenant".to_owned());
        let why = |device| all.of(device).map(|misread| misread.why);
        assert_eq!(why((0, "7")).as_deref(), Some("second"));
        assert_eq!(why((0, "0")), None);
        all.remove((0, "7"));
        assert_eq!(why((0, "7")), None);
        assert_eq!(why((1, "7")).as_deref(), Some("of another tenant"));
    }
}
