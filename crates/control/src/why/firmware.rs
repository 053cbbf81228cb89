//! Firmware that a device requested and did not get.

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, RECENT_MS};
use crate::cause::Cause;

/// What there is to find.
pub(super) fn refused(facts: &Facts) -> Option<(Bearing, Finding)> {
    let request = facts.firmware_refused.as_ref()?;
    let (name, version) = (&request.name, &request.version);
    let (sentence, remedy) = match &request.of_type {
        Some(of_type) => (
            format!(
                "the device requested the firmware {name} version {version}, which is for devices \
                 of the type {of_type}, and it is of another type or team"
            ),
            "have it request firmware of its own type, or correct its type",
        ),
        None => (
            format!(
                "the device requested the firmware {name} version {version}, which does not exist"
            ),
            "have it request firmware that exists, or upload it; to list the firmware, run",
        ),
    };
    let finding = Finding::new(Cause::FirmwareRefused, sentence).at(request.at_ms);
    let is_recent = facts.now_ms.saturating_sub(request.at_ms) <= RECENT_MS;
    let bearing = match (&facts.question.topic, is_recent) {
        (Some(_), _) => Bearing::Aside,
        (None, true) => Bearing::Happened,
        (None, false) => Bearing::Remark,
    };
    Some((bearing, finding.remedy(remedy).command(&request.command)))
}
