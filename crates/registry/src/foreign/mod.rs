//! Databases of other systems: whose tables a database has, and the devices in them. They are read
//! in one transaction, and nothing in them is changed.

pub(crate) mod columns;
pub(crate) mod microservice;
pub(crate) mod rows;
pub(crate) mod system;
pub(crate) mod telemetry;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use crate::foreign::columns::{
    IMPORTED_TABLES, IOTFLOW_DEVICES, IOTFLOW_SETTINGS, IOTFLOW_TELEMETRY, IOTFLOW_USERS,
    ImportedTable, SERVICE_MQTT_DEVICES,
};
use crate::foreign::rows::{ForeignRow, ForeignTable, Unread, UnreadableRow, read_each};
use crate::foreign::system::OtherSystem;
use crate::migrations::first_checksum;
use crate::postgres;
use crate::sql::{Engine, Fault};
use crate::sqlite_file::{is_there, sqlite_url};
use crate::{Location, Refused, RegistryError};

/// Contents of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whether it has this program's tables, or the schema for them.
    pub is_ours: bool,
    /// Whether it has tables that are not this program's.
    pub has_others: bool,
    /// The system that these belong to, if it is known.
    pub system: Option<OtherSystem>,
}

/// A device of IoTFlow.
#[derive(Clone, Default)]
pub struct IotFlowDevice {
    /// Number of the device, which is also its MQTT user name.
    pub number: i64,
    /// Name of the device.
    pub name: String,
    /// For people.
    pub description: String,
    /// Type of the device.
    pub device_type: String,
    /// Key of the device, in clear.
    pub api_key: String,
    /// `active`, `inactive` or `maintenance`.
    pub status: String,
    /// Where it stands.
    pub location: String,
    /// Version of the firmware that runs on it.
    pub firmware_version: String,
    /// Version of the hardware.
    pub hardware_version: String,
    /// User name of its owner; empty: none.
    pub owner: String,
    /// Configuration of the device.
    pub settings: Vec<ForeignSetting>,
}

/// A user of IoTFlow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotFlowUser {
    /// User name.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// The hash of the password, as Werkzeug or bcrypt writes it; empty: none.
    pub password_hash: String,
    /// May do everything.
    pub is_administrator: bool,
    /// May log in.
    pub is_active: bool,
}

/// A key of a device's configuration.
#[derive(Clone)]
pub struct ForeignSetting {
    /// The key.
    pub key: String,
    /// Value as text.
    pub value: String,
    /// `string`, `integer`, `float`, `boolean` or `json`.
    pub data_type: String,
    /// Whether it applies.
    pub is_active: bool,
}

/// A device of Service-MQTT.
#[derive(Clone)]
pub struct ServiceMqttDevice {
    /// Id of the device.
    pub id: String,
    /// Type of the device.
    pub device_type: String,
    /// MQTT user name, which is the id where the service made it.
    pub user_name: String,
    /// Password, in clear.
    pub password: String,
}

/// Rows that were read of another system's database.
pub struct ForeignTables<D> {
    /// Devices of the system, by number or id.
    pub devices: Vec<D>,
    /// Users of the system, by name.
    pub users: Vec<IotFlowUser>,
    /// Rows that cannot be read.
    pub unreadable: Vec<UnreadableRow>,
    /// Tables whose rows are not read, with the number of rows; only those that have some.
    pub left_out: Vec<(&'static str, i64)>,
}

/// Finds out whose tables a database has. Nothing is made or changed.
///
/// # Errors
/// It cannot be reached or read.
pub async fn contents(location: &Location) -> Result<Contents, RegistryError> {
    if let Some(path) = location.file()
        && !is_there(path)?
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

/// Whether the file has users or devices of this program.
///
/// # Errors
/// It cannot be read.
pub async fn has_accounts(file: &Path) -> Result<bool, RegistryError> {
    if !is_there(file)? {
        return Ok(false);
    }
    read_from(&file.to_owned().into(), async |on, engine| {
        if !is_ours(on, engine).await? {
            return Ok(false);
        }
        let any = "SELECT CAST(EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM devices) AS INTEGER)";
        let any: i32 = sqlx::query_scalar(any).fetch_one(on).await?;
        Ok(any != 0)
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
        read_iotflow(on, engine, &tables).await
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
        let table = tables.open(&mut *on, engine, &SERVICE_MQTT_DEVICES).await?;
        let rows = sqlx::query(table.select("devices ORDER BY id"));
        let rows = rows.fetch_all(on).await?;
        let mut unreadable = Vec::new();
        let device = |row: ForeignRow<'_>| -> Result<_, Unread> {
            Ok(ServiceMqttDevice {
                id: row.text(0)?.ok_or_else(|| row.odd(0, "is NULL"))?,
                user_name: row.text_or_empty(1)?,
                password: row.text_or_empty(2)?,
                device_type: row.text_or_empty(3)?,
            })
        };
        Ok(ForeignTables {
            devices: read_each(
                &table,
                &rows,
                "device",
                |row| row.shown(0),
                &mut unreadable,
                device,
            )?,
            users: Vec::new(),
            unreadable,
            left_out: Vec::new(),
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

/// The columns of the tables by which systems are recognised.
pub(crate) struct Tables {
    columns: HashMap<&'static str, HashSet<String>>,
    /// There are tables.
    has_any: bool,
}

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
        for table in IMPORTED_TABLES.map(|table| table.name) {
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

    /// Checks that the database is one of this system, with all that an import needs.
    pub(crate) fn expect(&self, system: OtherSystem, location: &Location) -> Result<(), Fault> {
        let found = self.system();
        let other = || Refused::OtherSystem(location.to_string(), system, found);
        if found.is_some_and(|found| found != system) {
            return Err(other().into());
        }
        let mut missing = Vec::new();
        for table in IMPORTED_TABLES {
            if table.system != system || !table.is_required {
                continue;
            }
            if !self.columns.contains_key(table.name) {
                return Err(other().into());
            }
            let lacking = table.required.iter();
            let lacking = lacking.filter(|column| !self.has(table.name, &[*column]));
            missing.extend(lacking.map(|column| format!("{}.{column}", table.name)));
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Refused::MissingColumns(location.to_string(), system, missing).into()),
        }
    }

    /// Whether an optional table can be read.
    pub(crate) fn has_needed(&self, table: &ImportedTable) -> bool {
        self.has(table.name, table.required)
    }

    /// A table with its columns. Those that are missing are NULL in all rows.
    pub(crate) async fn open(
        &self,
        on: &mut AnyConnection,
        engine: Engine,
        table: &ImportedTable,
    ) -> Result<ForeignTable, Fault> {
        let columns = table.columns();
        let columns = columns.map(|column| match self.has(table.name, &[column]) {
            true => column,
            false => "NULL",
        });
        let columns: Vec<&'static str> = columns.collect();
        ForeignTable::read(on, engine, table.name, &columns).await
    }

    /// Returns those of these tables that have rows.
    async fn left_out(
        &self,
        on: &mut AnyConnection,
        tables: &[&'static str],
    ) -> Result<Vec<(&'static str, i64)>, Fault> {
        let mut left_out = Vec::new();
        for table in tables.iter().filter(|table| self.has(table, &[])) {
            let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
            if rows > 0 {
                left_out.push((*table, rows));
            }
        }
        Ok(left_out)
    }
}

async fn read_iotflow(
    on: &mut AnyConnection,
    engine: Engine,
    tables: &Tables,
) -> Result<ForeignTables<IotFlowDevice>, Fault> {
    let table = tables.open(&mut *on, engine, &IOTFLOW_DEVICES).await?;
    let rows = sqlx::query(table.select("devices ORDER BY id"));
    let rows = rows.fetch_all(&mut *on).await?;
    let mut unreadable = Vec::new();
    let devices = read_each(
        &table,
        &rows,
        "device",
        |row| row.shown(0),
        &mut unreadable,
        iotflow_device,
    )?;
    let places = devices.iter().enumerate();
    let places: HashMap<i64, usize> = places.map(|(at, device)| (device.number, at)).collect();
    let mut found = ForeignTables {
        devices,
        users: Vec::new(),
        unreadable,
        left_out: Vec::new(),
    };
    let mut left_out = Vec::new();
    if tables.has_needed(&IOTFLOW_USERS) {
        read_users(&mut *on, engine, tables, &mut found).await?;
        if tables.has("devices", &["user_id"]) && tables.has("users", &["id"]) {
            read_owners(&mut *on, engine, &places, &mut found).await?;
        }
    } else {
        left_out.push(IOTFLOW_USERS.name);
    }
    if tables.has_needed(&IOTFLOW_SETTINGS) {
        read_settings(&mut *on, engine, tables, &places, &mut found).await?;
    } else {
        left_out.push(IOTFLOW_SETTINGS.name);
    }
    if !tables.has_needed(&IOTFLOW_TELEMETRY) {
        left_out.push(IOTFLOW_TELEMETRY.name);
    }
    found.left_out = tables.left_out(on, &left_out).await?;
    Ok(found)
}

async fn read_users(
    on: &mut AnyConnection,
    engine: Engine,
    tables: &Tables,
    found: &mut ForeignTables<IotFlowDevice>,
) -> Result<(), Fault> {
    let table = tables.open(&mut *on, engine, &IOTFLOW_USERS).await?;
    let rows = sqlx::query(table.select("users ORDER BY username"));
    let rows = rows.fetch_all(on).await?;
    let user = |row: ForeignRow<'_>| -> Result<_, Unread> {
        Ok(IotFlowUser {
            name: row.text(0)?.ok_or_else(|| row.odd(0, "is NULL"))?,
            email: row.text_or_empty(1)?,
            password_hash: row.text_or_empty(2)?,
            is_administrator: row.text(3)?.is_some() && row.flag(3)?,
            is_active: row.text(4)?.is_none() || row.flag(4)?,
        })
    };
    let id = |row: ForeignRow<'_>| row.shown(0);
    found.users = read_each(&table, &rows, "user", id, &mut found.unreadable, user)?;
    Ok(())
}

async fn read_owners(
    on: &mut AnyConnection,
    engine: Engine,
    places: &HashMap<i64, usize>,
    found: &mut ForeignTables<IotFlowDevice>,
) -> Result<(), Fault> {
    let columns = ["devices.id", "users.username"];
    let table = ForeignTable::read(&mut *on, engine, "devices", &columns).await?;
    let sql = table.select("devices JOIN users ON users.id = devices.user_id");
    for row in sqlx::query(sql).fetch_all(on).await? {
        let row = table.row(&row);
        let Ok(number) = number_of(row) else {
            // The device is not read either.
            continue;
        };
        if let Some(at) = places.get(&number) {
            // A name that is no text is no user here.
            found.devices[*at].owner = row.text_or_empty(1).unwrap_or_else(|_| row.shown(1));
        }
    }
    Ok(())
}

async fn read_settings(
    on: &mut AnyConnection,
    engine: Engine,
    tables: &Tables,
    places: &HashMap<i64, usize>,
    found: &mut ForeignTables<IotFlowDevice>,
) -> Result<(), Fault> {
    let table = tables.open(&mut *on, engine, &IOTFLOW_SETTINGS).await?;
    let sql = table.select("device_configurations ORDER BY device_id, config_key");
    let rows = sqlx::query(sql).fetch_all(on).await?;
    let setting = |row: ForeignRow<'_>| -> Result<_, Unread> {
        let device = places.get(&number_of(row)?);
        let device = device.ok_or_else(|| Unread::Row("its device was not read".to_owned()))?;
        let data_type = row.text(3)?.unwrap_or_else(|| "string".to_owned());
        let setting = ForeignSetting {
            key: row.text_or_empty(1)?,
            value: row.text_or_empty(2)?,
            data_type,
            is_active: row.text(4)?.is_none() || row.flag(4)?,
        };
        Ok((*device, setting))
    };
    let id = |row: ForeignRow<'_>| format!("{}/{}", row.shown(0), row.shown(1));
    let settings = read_each(&table, &rows, "setting", id, &mut found.unreadable, setting)?;
    for (device, setting) in settings {
        found.devices[device].settings.push(setting);
    }
    Ok(())
}

/// The number of a device in the first column.
fn number_of(row: ForeignRow<'_>) -> Result<i64, Unread> {
    let text = row.text(0)?;
    // SQLite keeps any text in a column of numbers. Only what a number is written as is one.
    let number = text.as_ref().and_then(|text| text.parse::<i64>().ok());
    let number = number.filter(|number| text.as_deref() == Some(&number.to_string()));
    number.ok_or_else(|| Unread::Row("its id is not a number".to_owned()))
}

fn iotflow_device(row: ForeignRow<'_>) -> Result<IotFlowDevice, Unread> {
    let number = number_of(row)?;
    let name = row.text_or_empty(1)?;
    if name.is_empty() {
        return Err(Unread::Row("it has no name".to_owned()));
    }
    Ok(IotFlowDevice {
        number,
        name,
        device_type: row.text_or_empty(2)?,
        api_key: row.text_or_empty(3)?,
        status: row.text_or_empty(4)?,
        description: row.text_or_empty(5)?,
        location: row.text_or_empty(6)?,
        firmware_version: row.text_or_empty(7)?,
        hardware_version: row.text_or_empty(8)?,
        ..IotFlowDevice::default()
    })
}
