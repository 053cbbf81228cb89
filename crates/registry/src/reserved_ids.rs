//! Words of the HTTP API's paths, which are no ids of devices: such a device could not be read
//! back.

use serde_json::Value;
use sqlx::Row as _;

use crate::sql::Fault;
use crate::{Registry, RegistryError};

/// All of them. Migration 12 renames devices that had one.
const RESERVED: [&str; 12] = [
    "register",
    "status",
    "statuses",
    "telemetry",
    "config",
    "heartbeat",
    "credentials",
    "mqtt-credentials",
    "summary",
    "export",
    "import",
    "bulk",
];

/// A device that was renamed and has not been connected since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedDevice {
    /// The id that it had.
    pub old_id: String,
    /// The id that it has.
    pub new_id: String,
}

/// Rejects a reserved word as the id of a new device.
pub(crate) fn expect_not_reserved(id: &str) -> Result<(), RegistryError> {
    match RESERVED.contains(&id) {
        true => Err(RegistryError::Refused(format!(
            "{id} is a word of the API's paths and no id of a device: choose another, such as {id}-1"
        ))),
        false => Ok(()),
    }
}

impl Registry {
    /// Devices that a migration renamed because their id is reserved, as long as they have not been
    /// connected by their new id. By the new id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn renamed_devices(&mut self) -> Result<Vec<RenamedDevice>, RegistryError> {
        let on = self.connected().await?;
        let read = async {
            let sql = "SELECT audit.changed, devices.id FROM audit JOIN devices ON \
                       devices.id = audit.object_id AND devices.team = audit.team \
                       WHERE audit.object_kind = 'device' AND audit.action = 'device.rename' \
                       AND deleted_ms = 0 AND last_seen_ms < at_ms ORDER BY devices.id";
            let rows = sqlx::query(sql).fetch_all(on).await?;
            rows.iter()
                .map(|row| {
                    let changed: String = row.try_get("changed")?;
                    let changed: Value = serde_json::from_str(&changed).unwrap_or_default();
                    Ok(RenamedDevice {
                        old_id: changed["id"][0].as_str().unwrap_or_default().to_owned(),
                        new_id: row.try_get("id")?,
                    })
                })
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        read.map_err(|fault| fault.at(self.place()))
    }
}
