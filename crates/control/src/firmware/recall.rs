//! Firmware that a device requested and did not get, for `why`.

use martlet_registry::Visibility;

use super::FirmwareStore;
use super::request::native_filter;
use crate::control::Control;
use crate::text::typed;
use crate::why::facts::{Facts, RefusedFirmware};

impl FirmwareStore {
    /// Adds it. `team`: the caller sees firmware of this team alone. Where the tables cannot be
    /// read, health reports it, and the rest is shown.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        facts.own_topics.received.push(native_filter());
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
        facts.firmware_refused = Some(RefusedFirmware {
            at_ms: refused.at_ms,
            name: refused.name.clone(),
            version: refused.version.clone(),
            of_type,
            command,
        });
    }
}
