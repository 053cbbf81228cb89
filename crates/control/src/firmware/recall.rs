//! What devices asked for by MQTT and did not get, for who asks why: of each device the last one, in
//! memory.

use std::collections::VecDeque;
use std::sync::Mutex;

use martlet_registry::Visibility;

use super::FirmwareStore;
use crate::control::Control;
use crate::lock::lock;
use crate::text::typed;
use crate::wall_clock::now_ms;
use crate::why::facts::{Facts, FirmwareAsked};

/// Most devices whose last request is remembered.
const DEVICES_MAX: usize = 256;

/// A request for firmware that is not for the device, or that there is not.
#[derive(Clone, Debug)]
struct Refused {
    tenant: u32,
    device: String,
    at_ms: u64,
    name: String,
    version: String,
}

/// The last one of each device.
#[derive(Debug, Default)]
pub(super) struct LastRefused(Mutex<VecDeque<Refused>>);

impl LastRefused {
    /// There is no such firmware for the device.
    pub(super) fn add(&self, (tenant, device): (u32, &str), name: &str, version: &str) {
        let mut all = lock(&self.0);
        all.retain(|one| !is_of(one, (tenant, device)));
        while all.len() >= DEVICES_MAX {
            all.pop_front();
        }
        all.push_back(Refused {
            tenant,
            device: device.to_owned(),
            at_ms: now_ms(),
            name: name.to_owned(),
            version: version.to_owned(),
        });
    }

    /// The device got what it asked for.
    pub(super) fn remove(&self, device: (u32, &str)) {
        lock(&self.0).retain(|one| !is_of(one, device));
    }

    fn of(&self, device: (u32, &str)) -> Option<Refused> {
        let all = lock(&self.0);
        all.iter().find(|one| is_of(one, device)).cloned()
    }
}

fn is_of(one: &Refused, (tenant, device): (u32, &str)) -> bool {
    one.tenant == tenant && one.device == device
}

impl FirmwareStore {
    /// Adds it. `team`: the caller sees firmware of this team alone. Where the tables cannot be
    /// read, health says so, and the rest is told.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        let (tenant, device) = (facts.question.tenant, &*facts.question.name);
        let Some(refused) = self.refused.of((tenant.0, device)) else {
            return;
        };
        let (name, version) = (refused.name.clone(), refused.version.clone());
        let found = self.show(Visibility::of(team), name, version).await.ok();
        let of_type = found.map(|found| found.device_type);
        let command = match &of_type {
            Some(of_type) => {
                let arguments = format!("--type {} {}", typed(of_type), typed(device));
                control.command_of_tenant("device set", tenant, &arguments)
            }
            None => {
                let list = control.command_with_options("firmware ls", "");
                list.trim_end().to_owned()
            }
        };
        facts.firmware_asked = Some(FirmwareAsked {
            at_ms: refused.at_ms,
            firmware: format!("{} {}", refused.name, refused.version),
            of_type,
            command,
        });
    }
}
