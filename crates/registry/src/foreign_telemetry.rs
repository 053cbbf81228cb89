//! Telemetry in a database of IoTFlow, read in pages. Nothing in it is changed.

use sqlx::Row as _;

use crate::foreign::{OtherSystem, TELEMETRY, TELEMETRY_COLUMNS, Tables, read_from};
use crate::sql::Fault;
use crate::{Location, RegistryError};

/// What a device of IoTFlow sent for one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotFlowRecord {
    /// Its id.
    pub id: i64,
    /// When it was measured, as the database writes it; in UTC if there is no offset.
    pub time: String,
    /// JSON: the values by their keys.
    pub payload: String,
    /// JSON: what was sent beside the values; empty: nothing.
    pub metadata: String,
    /// What kind of values these are; may be empty.
    pub data_type: String,
}

/// Number of records of each device, by the id of the device as it is there. Empty if there is no
/// telemetry.
///
/// # Errors
/// It cannot be read, or is no such database.
pub async fn iotflow_record_counts(
    location: &Location,
) -> Result<Vec<(String, i64)>, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        tables.expect(OtherSystem::IotFlow, location)?;
        if !tables.has(TELEMETRY, &TELEMETRY_COLUMNS) {
            return Ok(Vec::new());
        }
        let sql = "SELECT COALESCE(CAST(device_id AS TEXT), 'NULL'), COUNT(*) \
                   FROM telemetry_data GROUP BY device_id ORDER BY device_id";
        let rows = sqlx::query(sql).fetch_all(on).await?;
        let counts = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        counts.collect::<Result<_, Fault>>()
    })
    .await
}

/// Records of a device after one, in the order of their ids; `i64::MIN` for the first ones.
///
/// # Errors
/// They cannot be read.
pub async fn iotflow_records(
    location: &Location,
    (device, after): (i64, i64),
    limit: u32,
) -> Result<Vec<IotFlowRecord>, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        let (metadata, data_type) = ("device_metadata", "data_type");
        let optional = |column: &'static str| match tables.has(TELEMETRY, &[column]) {
            true => format!("COALESCE(CAST({column} AS TEXT), '')"),
            false => "''".to_owned(),
        };
        let sql = format!(
            "SELECT CAST(id AS BIGINT), COALESCE(CAST(timestamp AS TEXT), ''), \
             COALESCE(CAST(payload AS TEXT), ''), {}, {} FROM telemetry_data \
             WHERE device_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            optional(metadata),
            optional(data_type)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql));
        let query = query.bind(device).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(on).await?;
        let records = rows.iter().map(|row| {
            Ok(IotFlowRecord {
                id: row.try_get(0)?,
                time: row.try_get(1)?,
                payload: row.try_get(2)?,
                metadata: row.try_get(3)?,
                data_type: row.try_get(4)?,
            })
        });
        records.collect::<Result<_, Fault>>()
    })
    .await
}
