//! Databases of other systems: whose tables a database has, and the devices in them. They are read
//! in one transaction, and nothing in them is changed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use sqlx::any::{AnyRow, install_default_drivers};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use crate::database::sqlite_url;
use crate::migrations::first_checksum;
use crate::postgres;
use crate::sql::{Engine, Fault};
use crate::{Location, RegistryError};

/// A system whose database is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSystem {
    /// The MQTT microservice: messages and webhooks, no devices.
    Microservice,
    /// IoTFlow.
    IotFlow,
    /// Service-MQTT.
    ServiceMqtt,
}

impl OtherSystem {
    /// As `martlet import` names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Microservice => "seed1",
            Self::IotFlow => "seed3",
            Self::ServiceMqtt => "seed4",
        }
    }
}

impl fmt::Display for OtherSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microservice => "the MQTT microservice",
            Self::IotFlow => "IoTFlow",
            Self::ServiceMqtt => "Service-MQTT",
        })
    }
}

/// What is in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// It has this program's tables, or the schema for them.
    pub is_ours: bool,
    /// It has tables that are not this program's.
    pub has_others: bool,
    /// The system that these belong to, if it is known.
    pub system: Option<OtherSystem>,
}

/// A device of IoTFlow.
#[derive(Clone, Default)]
pub struct IotFlowDevice {
    /// Its number, which is also its MQTT user name.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it is.
    pub device_type: String,
    /// Its key, in clear.
    pub api_key: String,
    /// `active`, `inactive` or `maintenance`.
    pub status: String,
    /// Where it stands.
    pub location: String,
    /// What runs on it.
    pub firmware_version: String,
    /// What it is built as.
    pub hardware_version: String,
    /// User name of its owner; empty: nobody's.
    pub owner: String,
    /// Its configuration.
    pub settings: Vec<ForeignSetting>,
}

/// A key of a device's configuration.
#[derive(Clone)]
pub struct ForeignSetting {
    /// The key.
    pub key: String,
    /// Its value as text.
    pub value: String,
    /// `string`, `integer`, `float`, `boolean` or `json`.
    pub data_type: String,
    /// It applies.
    pub is_active: bool,
}

/// A device of Service-MQTT.
#[derive(Clone)]
pub struct ServiceMqttDevice {
    /// Its id.
    pub id: String,
    /// What it is.
    pub device_type: String,
    /// Its MQTT user name, which is the id where the service made it.
    pub user_name: String,
    /// Its password, in clear.
    pub password: String,
}

/// What was read of another system's database.
pub struct ForeignTables<D> {
    /// Its devices, by number or id.
    pub devices: Vec<D>,
    /// Devices that cannot be read: the id as it is there, and why.
    pub unreadable: Vec<(String, String)>,
    /// Tables whose rows are not read, with the number of rows; only those that have some.
    pub left: Vec<(&'static str, i64)>,
}

/// Finds out whose tables a database has. Nothing is made or changed.
///
/// # Errors
/// It cannot be reached or read.
pub async fn contents(location: &Location) -> Result<Contents, RegistryError> {
    if let Some(path) = location.file()
        && !crate::database::is_there(path)?
    {
        return Ok(Contents {
            is_ours: false,
            has_others: false,
            system: None,
        });
    }
    read_from(location, async |on, engine| {
        let is_ours = is_ours(on, engine).await?;
        let tables = Tables::read(on, engine).await?;
        Ok(Contents {
            is_ours,
            has_others: tables.has_any && !(is_ours && engine == Engine::Sqlite),
            system: tables.system(),
        })
    })
    .await
}

/// The devices of a database of IoTFlow.
///
/// # Errors
/// It cannot be read, or is no such database.
pub async fn iotflow_devices(
    location: &Location,
) -> Result<ForeignTables<IotFlowDevice>, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        tables.expect(OtherSystem::IotFlow, location)?;
        read_iotflow(on, &tables).await
    })
    .await
}

/// The devices of a database of Service-MQTT.
///
/// # Errors
/// It cannot be read, or is no such database.
pub async fn service_mqtt_devices(
    location: &Location,
) -> Result<ForeignTables<ServiceMqttDevice>, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        tables.expect(OtherSystem::ServiceMqtt, location)?;
        let sql = "SELECT CAST(id AS TEXT), COALESCE(device_type, ''), COALESCE(mqtt_user, ''), \
                   COALESCE(mqtt_password, '') FROM devices ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(on).await?;
        let devices = rows.iter().map(|row| {
            Ok(ServiceMqttDevice {
                id: row.try_get(0)?,
                device_type: row.try_get(1)?,
                user_name: row.try_get(2)?,
                password: row.try_get(3)?,
            })
        });
        Ok(ForeignTables {
            devices: devices.collect::<Result<_, Fault>>()?,
            unreadable: Vec::new(),
            left: Vec::new(),
        })
    })
    .await
}

/// Reads in a transaction that is undone.
pub(crate) async fn read_from<T>(
    location: &Location,
    read: impl AsyncFnOnce(&mut AnyConnection, Engine) -> Result<T, Fault>,
) -> Result<T, RegistryError> {
    install_default_drivers();
    let place = location.to_string();
    let (mut connection, engine, begin) = match location {
        Location::File(path) => (open_file(path, &place).await?, Engine::Sqlite, "BEGIN"),
        Location::Url(url) => (
            postgres::connect(&place, url.whole()).await?,
            Engine::Postgres,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ),
    };
    let failed = |error| Fault::Sql(error).at(&place);
    let mut all = connection.begin_with(begin).await.map_err(failed)?;
    if engine == Engine::Postgres {
        postgres::look_elsewhere(&mut all).await.map_err(failed)?;
    }
    let done = read(&mut all, engine).await;
    // Dropping it undoes it, too.
    let _ = all.rollback().await;
    let _ = connection.close().await;
    done.map_err(|fault| fault.at(&place))
}

async fn open_file(path: &Path, place: &str) -> Result<AnyConnection, RegistryError> {
    let whole = std::path::absolute(path).map_err(|error| RegistryError::File {
        path: path.to_owned(),
        error,
    })?;
    let url = format!("{}?mode=ro", sqlite_url(&whole)?);
    let connected = AnyConnection::connect(&url).await;
    connected.map_err(|error| Fault::Sql(error).at(place))
}

async fn is_ours(on: &mut AnyConnection, engine: Engine) -> Result<bool, Fault> {
    if engine == Engine::Postgres {
        let first = first_checksum(Engine::Postgres);
        let found =
            postgres::has_schema(on).await? || postgres::old_tables(on, &first).await?.is_some();
        return Ok(found);
    }
    let sql =
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    let has_table: i64 = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
    if has_table == 0 {
        return Ok(false);
    }
    let sql = "SELECT checksum FROM _sqlx_migrations WHERE version = 1";
    let found = sqlx::query_scalar::<_, Vec<u8>>(sql);
    let found = found.fetch_optional(on).await?;
    Ok(found.is_some_and(|found| found == first_checksum(Engine::Sqlite)))
}

/// The columns of the tables by which systems are told apart.
pub(crate) struct Tables {
    columns: HashMap<&'static str, HashSet<String>>,
    /// There are tables.
    has_any: bool,
}

/// The telemetry of IoTFlow, and the columns without which it is not read.
pub(crate) const TELEMETRY: &str = "telemetry_data";
pub(crate) const TELEMETRY_COLUMNS: [&str; 4] = ["id", "device_id", "payload", "timestamp"];

/// Tables that are looked at.
const LOOKED_AT: [&str; 6] = [
    "devices",
    "users",
    "device_configurations",
    TELEMETRY,
    "webhooks",
    "messages",
];

impl Tables {
    pub(crate) async fn read(on: &mut AnyConnection, engine: Engine) -> Result<Self, Fault> {
        let columns_of = match engine {
            Engine::Sqlite => "SELECT CAST(name AS TEXT) FROM pragma_table_info($1)",
            Engine::Postgres => {
                "SELECT attname::text FROM pg_catalog.pg_attribute \
                 WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
            }
        };
        let mut columns = HashMap::new();
        for table in LOOKED_AT {
            let found = sqlx::query_scalar::<_, String>(columns_of).bind(table);
            let found: HashSet<String> = found.fetch_all(&mut *on).await?.into_iter().collect();
            if !found.is_empty() {
                columns.insert(table, found);
            }
        }
        let any = match engine {
            Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'",
            Engine::Postgres => {
                "SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE schemaname NOT IN \
                 ('martlet', 'pg_catalog', 'information_schema')"
            }
        };
        let any: i64 = sqlx::query_scalar(any).fetch_one(on).await?;
        Ok(Self {
            columns,
            has_any: any > 0,
        })
    }

    pub(crate) fn has(&self, table: &str, columns: &[&str]) -> bool {
        let found = self.columns.get(table);
        found.is_some_and(|found| columns.iter().all(|column| found.contains(*column)))
    }

    fn system(&self) -> Option<OtherSystem> {
        if self.has("devices", &["mqtt_user", "mqtt_password"]) {
            Some(OtherSystem::ServiceMqtt)
        } else if self.has("devices", &["api_key", "device_type", "status"]) {
            Some(OtherSystem::IotFlow)
        } else if self.has("webhooks", &["topic_filter"]) && self.has("messages", &["confirmed"]) {
            Some(OtherSystem::Microservice)
        } else {
            None
        }
    }

    pub(crate) fn expect(&self, system: OtherSystem, location: &Location) -> Result<(), Fault> {
        let found = self.system();
        if found == Some(system) {
            return Ok(());
        }
        let instead = found.map_or_else(
            || "it has no tables of that system".to_owned(),
            |found| {
                let word = found.word();
                format!("its tables are those of {found}: martlet import {word} imports them")
            },
        );
        let why = format!("{location} is no database of {system}: {instead}");
        Err(RegistryError::Refused(why).into())
    }

    /// Those of these tables that have rows.
    async fn left(
        &self,
        on: &mut AnyConnection,
        tables: &[&'static str],
    ) -> Result<Vec<(&'static str, i64)>, Fault> {
        let mut left = Vec::new();
        for table in tables.iter().filter(|table| self.has(table, &[])) {
            let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
            if rows > 0 {
                left.push((*table, rows));
            }
        }
        Ok(left)
    }
}

async fn read_iotflow(
    on: &mut AnyConnection,
    tables: &Tables,
) -> Result<ForeignTables<IotFlowDevice>, Fault> {
    let sql = "SELECT CAST(id AS TEXT), COALESCE(name, ''), COALESCE(description, ''), \
               COALESCE(device_type, ''), COALESCE(api_key, ''), COALESCE(status, ''), \
               COALESCE(location, ''), COALESCE(firmware_version, ''), \
               COALESCE(hardware_version, '') FROM devices ORDER BY id";
    let rows = sqlx::query(sql).fetch_all(&mut *on).await?;
    let (mut devices, mut unreadable) = (Vec::new(), Vec::new());
    for row in &rows {
        match iotflow_device(row)? {
            Ok(device) => devices.push(device),
            Err(found) => unreadable.push(found),
        }
    }
    let places = devices.iter().enumerate();
    let places: HashMap<i64, usize> = places.map(|(at, device)| (device.number, at)).collect();
    if tables.has("devices", &["user_id"]) && tables.has("users", &["username"]) {
        let sql = "SELECT CAST(devices.id AS TEXT), users.username FROM devices \
                   JOIN users ON users.id = devices.user_id";
        for row in sqlx::query(sql).fetch_all(&mut *on).await? {
            if let Some(at) = number_of(&row)?.and_then(|number| places.get(&number)) {
                devices[*at].owner = row.try_get(1)?;
            }
        }
    }
    if tables.has("device_configurations", &["config_key"]) {
        let sql = "SELECT CAST(device_id AS TEXT), config_key, COALESCE(config_value, ''), \
                   COALESCE(data_type, 'string'), \
                   CASE WHEN COALESCE(is_active, TRUE) THEN 'yes' ELSE 'no' END \
                   FROM device_configurations ORDER BY device_id, config_key";
        for row in sqlx::query(sql).fetch_all(&mut *on).await? {
            if let Some(at) = number_of(&row)?.and_then(|number| places.get(&number)) {
                devices[*at].settings.push(ForeignSetting {
                    key: row.try_get(1)?,
                    value: row.try_get(2)?,
                    data_type: row.try_get(3)?,
                    is_active: row.try_get::<String, _>(4)? == "yes",
                });
            }
        }
    }
    let mut left = vec!["users"];
    if !tables.has(TELEMETRY, &TELEMETRY_COLUMNS) {
        left.push(TELEMETRY);
    }
    let left = tables.left(on, &left).await?;
    Ok(ForeignTables {
        devices,
        unreadable,
        left,
    })
}

/// The number of a device in the first column; none: it is no number.
fn number_of(row: &AnyRow) -> Result<Option<i64>, sqlx::Error> {
    let text: Option<String> = row.try_get(0)?;
    // SQLite keeps any text in a column of numbers. Only what a number is written as is one.
    let number = text.as_ref().and_then(|text| text.parse::<i64>().ok());
    Ok(number.filter(|number| text.as_deref() == Some(&number.to_string())))
}

/// A device, or its id as it is there and why it cannot be read.
fn iotflow_device(row: &AnyRow) -> Result<Result<IotFlowDevice, (String, String)>, Fault> {
    let Some(number) = number_of(row)? else {
        let id: Option<String> = row.try_get(0)?;
        let why = "its id is no number".to_owned();
        return Ok(Err((id.unwrap_or_else(|| "NULL".to_owned()), why)));
    };
    let name: String = row.try_get(1)?;
    if name.is_empty() {
        return Ok(Err((number.to_string(), "it has no name".to_owned())));
    }
    Ok(Ok(IotFlowDevice {
        number,
        name,
        description: row.try_get(2)?,
        device_type: row.try_get(3)?,
        api_key: row.try_get(4)?,
        status: row.try_get(5)?,
        location: row.try_get(6)?,
        firmware_version: row.try_get(7)?,
        hardware_version: row.try_get(8)?,
        ..IotFlowDevice::default()
    }))
}
