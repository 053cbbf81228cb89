//! Firmware that devices requested, by MQTT or HTTP, and did not get: of each device the last one,
//! in memory.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock::lock;
use crate::wall_clock::now_ms;

/// Most devices whose last request is remembered.
const DEVICES_MAX: usize = 256;

/// A request for firmware that is not for the device, or that there is not.
#[derive(Clone, Debug)]
pub(super) struct RefusedRequest {
    tenant: u32,
    device: String,
    /// When, milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// Name and version of the firmware.
    pub(super) name: String,
    pub(super) version: String,
}

/// The last one of each device.
#[derive(Debug, Default)]
pub(super) struct LastRefused(Mutex<VecDeque<RefusedRequest>>);

impl LastRefused {
    /// There is no such firmware for the device.
    pub(super) fn add(&self, tenant: u32, device: &str, name: &str, version: &str) {
        let mut all = lock(&self.0);
        all.retain(|one| !is_of(one, tenant, device));
        while all.len() >= DEVICES_MAX {
            all.pop_front();
        }
        all.push_back(RefusedRequest {
            tenant,
            device: device.to_owned(),
            at_ms: now_ms(),
            name: name.to_owned(),
            version: version.to_owned(),
        });
    }

    /// The device got what it asked for.
    pub(super) fn remove(&self, device: (u32, &str)) {
        lock(&self.0).retain(|one| !is_of(one, device.0, device.1));
    }

    /// That of a device.
    pub(super) fn of(&self, device: (u32, &str)) -> Option<RefusedRequest> {
        let all = lock(&self.0);
        all.iter()
            .find(|one| is_of(one, device.0, device.1))
            .cloned()
    }
}

fn is_of(one: &RefusedRequest, tenant: u32, device: &str) -> bool {
    one.tenant == tenant && one.device == device
}
