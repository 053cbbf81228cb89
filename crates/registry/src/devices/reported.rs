//! Versions of their firmware that devices report themselves.

use serde_json::{Map, Value};

use super::change::change_one;
use super::{DeviceChange, DeviceRef};
use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::{Actor, Expected, Registry, RegistryError};

/// Member of a report with the firmware version.
pub const FIRMWARE_VERSION: &str = "firmware_version";

/// The firmware version that a device reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedVersion {
    /// Tenant of the device.
    pub tenant: u32,
    /// Id of the device.
    pub device: String,
    /// The version.
    pub version: String,
}

/// The version of the firmware in a report of a device, if it has one.
pub fn reported_version(values: &Map<String, Value>) -> Option<&str> {
    values.get(FIRMWARE_VERSION).and_then(Value::as_str)
}

impl Registry {
    /// Notes the firmware versions that devices report. Unknown devices and invalid versions are
    /// left out. Returns how many devices had another version.
    ///
    /// # Errors
    /// The database cannot be changed; then nothing is.
    pub async fn note_firmware_versions(
        &mut self,
        reported: &[ReportedVersion],
    ) -> Result<usize, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut changed = 0;
            for one in reported {
                let sql = "SELECT number FROM devices WHERE tenant = $1 AND id = $2 \
                           AND deleted_ms = 0";
                let number = sqlx::query_scalar::<_, i64>(sql);
                let number = number.bind(i64::from(one.tenant)).bind(clean(&one.device));
                let number = number.fetch_optional(&mut *work.all).await?;
                if let Some(number) = number {
                    changed += usize::from(note_version(&mut work, number, &one.version).await?);
                }
            }
            Ok(changed)
        };
        let done: Result<usize, Fault> = done.await;
        work.end(done).await
    }
}

/// Notes the firmware version that a device reports. Returns whether that is another one than
/// before. A version that a device may not have is left out.
pub(crate) async fn note_version(
    work: &mut Work<'_>,
    number: i64,
    version: &str,
) -> Result<bool, Fault> {
    let sql = "SELECT firmware_version FROM devices WHERE number = $1 AND deleted_ms = 0";
    let stored = sqlx::query_scalar::<_, String>(sql).bind(number);
    let stored = stored.fetch_optional(&mut *work.all).await?;
    if version.is_empty() || stored.is_none_or(|stored| stored == clean(version)) {
        return Ok(false);
    }
    let change = DeviceChange {
        firmware_version: Some(clean(version)),
        ..DeviceChange::default()
    };
    match change_one(work, DeviceRef::Number(number), change, Expected::any()).await {
        Ok(_) => Ok(true),
        Err(Fault::Told(RegistryError::Refused(_))) => Ok(false),
        Err(fault) => Err(fault),
    }
}
