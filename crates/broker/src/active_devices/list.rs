//! The list of devices that have published.

use std::sync::Arc;

use martlet_permission::TenantId;

use crate::report::ActiveDevices;
use crate::session::permit::Permit;

/// Devices in the list, at most.
const DEVICES_MAX: usize = 65_536;
/// Logarithm of a unit of time, milliseconds. A round has two of them: about 8 seconds.
const UNIT_BITS: u32 = 12;

/// The devices that have published since the last request of the list.
#[derive(Debug, Default)]
pub(crate) struct ActiveDeviceList {
    /// The list is requested.
    is_enabled: bool,
    listed: ActiveDevices,
}

/// The round of a time; never 0, which is the round of a device that has not been listed yet.
/// Rounds repeat after 17 minutes: a device that was silent just as long is listed a round late.
pub(crate) fn round(mono_ms: u64) -> u8 {
    (mono_ms >> UNIT_BITS) as u8 | 1
}

impl ActiveDeviceList {
    /// Whether the list is requested.
    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Whether a device has published since it logged in; none: it is no device, or the list is not
    /// requested.
    pub(crate) fn has_published(&self, permit: &Permit) -> Option<bool> {
        let is_listed = self.is_enabled && permit.identity.is_device;
        is_listed.then_some(permit.listed_in_round != 0)
    }

    /// Adds a device; answers whether there was room.
    pub(crate) fn add(&mut self, tenant: TenantId, device: &Arc<str>) -> bool {
        let has_room = self.listed.devices.len() < DEVICES_MAX;
        match has_room {
            true => self.listed.devices.push((tenant, Arc::clone(device))),
            false => self.listed.is_cut = true,
        }
        has_room
    }

    /// Takes the devices out. From the first call on they are listed.
    pub(crate) fn take(&mut self) -> ActiveDevices {
        self.is_enabled = true;
        core::mem::take(&mut self.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_not_zero_and_ends_after_seconds() {
        let rounds: Vec<u8> = (0..2_000).map(|secs| round(secs * 1_000)).collect();
        assert!(!rounds.contains(&0));
        let (longest, _) = rounds
            .iter()
            .fold((0, (0, 0)), |(longest, (last, run)), &now| {
                let run = if now == last { run + 1 } else { 1 };
                (run.max(longest), (now, run))
            });
        assert!((8..=9).contains(&longest), "{longest}");
    }
}
