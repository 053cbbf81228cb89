//! Firmware that a device requested and did not get.

use super::FirmwareStore;
use super::request::native_filter;
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError, OwnTopics};
use crate::remedy::{Command, form};
use crate::why::{Asked, Examine, Finding, Findings};

/// Firmware that a device requested and did not get.
#[derive(Debug)]
pub(crate) struct RefusedFirmware {
    /// When.
    at_ms: u64,
    name: String,
    version: String,
    /// The type of devices that it is for; none: there is no such firmware, or the caller does not
    /// see it.
    of_type: Option<String>,
    /// The command that gives the device that type, or lists the firmware that there is.
    command: Option<Command>,
}

impl Examine for FirmwareStore {
    type Facts = Option<RefusedFirmware>;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        let (tenant, device) = (asked.question.tenant, &*asked.question.name);
        let Some(refused) = self.refused.of((tenant.0, device)) else {
            return Ok(None);
        };
        let (name, version) = (refused.name.clone(), refused.version.clone());
        let found = self.show(asked.visibility(), name, version).await.ok();
        let of_type = found.map(|found| found.device_type);
        let command = match &of_type {
            Some(of_type) => {
                control.command_of_tenant(form::DEVICE_TYPE, tenant, &[device, of_type])
            }
            None => control.command(form::FIRMWARE_LS, &[]),
        };
        Ok(Some(RefusedFirmware {
            at_ms: refused.at_ms,
            name: refused.name.clone(),
            version: refused.version.clone(),
            of_type,
            command,
        }))
    }

    fn judge(facts: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        let Some(request) = facts else { return };
        let RefusedFirmware { name, version, .. } = request;
        let (sentence, remedy) = match &request.of_type {
            Some(of_type) => (
                format!(
                    "the device requested the firmware {name} version {version}, which is for \
                     devices of the type {of_type}, and it is of another type or team"
                ),
                "have it request firmware of its own type, or correct its type",
            ),
            None => (
                format!(
                    "the device requested the firmware {name} version {version}, which does not \
                     exist"
                ),
                "have it request firmware that exists, or upload it; to list the firmware, run",
            ),
        };
        let finding = Finding::new(Cause::FirmwareRefused, sentence).at(request.at_ms);
        let bearing = match (&asked.question.topic, asked.is_recent(request.at_ms)) {
            (Some(_), _) => Bearing::Aside,
            (None, true) => Bearing::Present,
            (None, false) => Bearing::Remark,
        };
        findings.add_as(bearing, finding.remedy(remedy).command(&request.command));
    }

    fn own_topics(&self, own: &mut OwnTopics) {
        own.received.push(native_filter());
    }
}
