//! Configuration for a device: keys with values of a type.

use std::collections::HashMap;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::find_device;
use crate::names::check_new_name;
use crate::sql::{Fault, Sql, clean};
use crate::{
    Actor, DeviceRef, Expected, NotFound, Refused, Registry, RegistryError, Visibility, check_text,
};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Any text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Json,
}

impl DataType {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::String,
        Self::Integer,
        Self::Float,
        Self::Boolean,
        Self::Json,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Json => "json",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.word() == word)
    }

    fn reads(self, value: &str) -> bool {
        match self {
            Self::String => true,
            Self::Integer => value.parse::<i64>().is_ok(),
            Self::Float => value.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Boolean => matches!(value, "true" | "false"),
            Self::Json => serde_json::from_str::<serde_json::Value>(value).is_ok(),
        }
    }
}

/// A key of a device's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Unique in the device.
    pub key: String,
    /// As text.
    pub value: String,
    /// Type of the value.
    pub data_type: DataType,
    /// Whether it holds.
    pub is_active: bool,
    /// Raised with every change.
    pub revision: i64,
    /// When it was last changed, in milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

impl Registry {
    /// The configuration of a device, by key.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn configuration(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
    ) -> Result<Vec<Setting>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let found = find_device(&mut *on, engine, visibility, device, false).await?;
            let sql = "SELECT * FROM device_configuration WHERE device = $1 ORDER BY key";
            let rows = sqlx::query(sql).bind(found.number).fetch_all(on).await?;
            rows.iter().map(read_setting).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// How many active keys the configuration of each of these devices has, by number; devices
    /// without any are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn active_settings(
        &mut self,
        devices: &[i64],
    ) -> Result<HashMap<i64, u64>, RegistryError> {
        if devices.is_empty() {
            return Ok(HashMap::new());
        }
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(
                engine,
                "SELECT device, COUNT(*) AS many FROM device_configuration WHERE is_active = 1 AND \
                 device IN ",
            );
            sql.list(devices.iter().copied()).push(" GROUP BY device");
            let rows = sql.all(on).await?;
            rows.iter()
                .map(|row| {
                    let many = u64::try_from(row.try_get::<i64, _>("many")?).unwrap_or(0);
                    Ok((row.try_get("device")?, many))
                })
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Sets a key of a device's configuration.
    ///
    /// # Errors
    /// There is no such device, the value is not of its type, or the key has another revision than
    /// expected; 0 is of one that is not there.
    #[expect(clippy::too_many_arguments, reason = "a row has as many columns")]
    pub async fn set_configuration(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        key: &str,
        value: &str,
        data_type: DataType,
        is_active: bool,
        expected_revision: Expected,
    ) -> Result<Setting, RegistryError> {
        let mut work = self.begin(actor).await?;
        let setting = Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            data_type,
            is_active,
            revision: 1,
            updated_ms: work.now_ms,
        };
        let done = set_one(&mut work, device, setting, expected_revision).await;
        work.end(done).await
    }

    /// Removes a key of a device's configuration.
    ///
    /// # Errors
    /// There is no such device or key.
    pub async fn remove_configuration(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        key: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove_one(&mut work, device, key).await;
        work.end(done).await
    }
}

/// Checks a key and its value.
///
/// # Errors
/// The key is not a valid name, or the value is not of its type.
fn check_setting(key: &str, value: &str, data_type: DataType) -> Result<(), RegistryError> {
    check_new_name("key", key)?;
    if data_type != DataType::Json {
        check_text("value", value)?;
    }
    match data_type.reads(value) && value.len() <= 65_536 {
        true => Ok(()),
        false => Err(Refused::Setting(key.to_owned(), data_type.word()).into()),
    }
}

fn read_setting(row: &AnyRow) -> Result<Setting, Fault> {
    let data_type: String = row.try_get("data_type")?;
    Ok(Setting {
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        data_type: DataType::from_word(&data_type).unwrap_or(DataType::String),
        is_active: row.try_get::<i64, _>("is_active")? != 0,
        revision: row.try_get("revision")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

async fn find(on: &mut AnyConnection, device: i64, key: &str) -> Result<Option<Setting>, Fault> {
    let sql = "SELECT * FROM device_configuration WHERE device = $1 AND key = $2";
    let query = sqlx::query(sql).bind(device).bind(key.to_owned());
    query
        .fetch_optional(on)
        .await?
        .as_ref()
        .map(read_setting)
        .transpose()
}

async fn set_one(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    mut new: Setting,
    expected_revision: Expected,
) -> Result<Setting, Fault> {
    check_setting(&new.key, &new.value, new.data_type)?;
    let device = find_device(
        &mut work.all,
        work.engine,
        &work.actor.visibility,
        device,
        false,
    )
    .await?;
    let old = find(&mut work.all, device.number, &new.key).await?;
    let revision = old.as_ref().map_or(0, |old| old.revision);
    expected_revision.check(&new.key, revision)?;
    new.revision = revision + 1;
    let sql = "INSERT INTO device_configuration (device, key, value, data_type, is_active, \
               revision, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT (device, key) DO UPDATE SET value = excluded.value, \
               data_type = excluded.data_type, is_active = excluded.is_active, \
               revision = excluded.revision, updated_ms = excluded.updated_ms";
    let query = sqlx::query(sql).bind(device.number).bind(new.key.clone());
    let query = query.bind(new.value.clone()).bind(new.data_type.word());
    let query = query.bind(i64::from(new.is_active)).bind(new.revision);
    query.bind(new.updated_ms).execute(&mut *work.all).await?;
    // The value may be a secret of the device's.
    let changed = json!({ "key": new.key, "data_type": new.data_type.word() });
    work.audit(
        "configuration.set",
        ("device", &device.id),
        &device.team,
        changed,
    )
    .await?;
    Ok(new)
}

async fn remove_one(work: &mut Work<'_>, device: DeviceRef<'_>, key: &str) -> Result<(), Fault> {
    let device = find_device(
        &mut work.all,
        work.engine,
        &work.actor.visibility,
        device,
        false,
    )
    .await?;
    let sql = "DELETE FROM device_configuration WHERE device = $1 AND key = $2";
    let query = sqlx::query(sql).bind(device.number).bind(clean(key));
    if query.execute(&mut *work.all).await?.rows_affected() == 0 {
        return Err(NotFound::Setting(device.id, key.to_owned()).into());
    }
    let changed = json!({ "key": key });
    work.audit(
        "configuration.remove",
        ("device", &device.id),
        &device.team,
        changed,
    )
    .await
}
