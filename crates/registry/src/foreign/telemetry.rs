//! Telemetry in a database of IoTFlow. Nothing in it is changed.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;

use crate::foreign::columns::IOTFLOW_TELEMETRY;
use crate::foreign::rows::{ForeignRow, ForeignTable, Unread};
use crate::foreign::system::OtherSystem;
use crate::foreign::{Tables, read_from};
use crate::sql::{Engine, Fault};
use crate::{Location, RegistryError};

/// Record of what a device of IoTFlow sent for one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotFlowRecord {
    /// The id of the device as it is there.
    pub device: String,
    /// Which record of the table it is: its id, and the number of its row where that is another.
    pub place: String,
    /// Payload that was sent, or why it cannot be read.
    pub sent: Result<IotFlowPayload, String>,
}

/// Payload that a device of IoTFlow sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotFlowPayload {
    /// When it was measured, as the database writes it; in UTC if there is no offset.
    pub time: String,
    /// JSON: the values by their keys.
    pub payload: String,
    /// JSON: what was sent beside the values; empty: nothing.
    pub metadata: String,
    /// Kind of these values; may be empty.
    pub data_type: String,
}

/// Number of records of each device, by the id of the device as it is there, in the order of
/// [`iotflow_records`]. Empty if there is no telemetry.
///
/// # Errors
/// It cannot be read, or is no such database.
pub async fn iotflow_record_counts(
    location: &Location,
) -> Result<Vec<(String, i64)>, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        tables.expect(OtherSystem::IotFlow, location)?;
        if !tables.has_needed(&IOTFLOW_TELEMETRY) {
            return Ok(Vec::new());
        }
        let columns = ["device_id", "COUNT(*)"];
        let table =
            ForeignTable::counting(&mut *on, engine, IOTFLOW_TELEMETRY.name, &columns).await?;
        let sql = table.select("telemetry_data GROUP BY device_id ORDER BY device_id");
        let mut counts: Vec<(String, i64)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in sqlx::query(sql).fetch_all(on).await? {
            let row = table.row(&row);
            let records = row.number(1).ok().flatten().unwrap_or_default();
            // The same id may be there as a number and as a text.
            let device = row.shown(0);
            match places.get(&device) {
                Some(at) => counts[*at].1 += records,
                None => {
                    places.insert(device.clone(), counts.len());
                    counts.push((device, records));
                }
            }
        }
        Ok(counts)
    })
    .await
}

/// Reads all records, those of a device together and in the order of their times, and hands them
/// over, that many at once. It ends early where they are not taken.
///
/// # Errors
/// They cannot be read.
pub async fn iotflow_records(
    location: &Location,
    at_once: usize,
    mut take: impl FnMut(Vec<IotFlowRecord>) -> bool + Send,
) -> Result<(), RegistryError> {
    read_from(location, async |on, engine| {
        if engine == Engine::Postgres {
            // Storing them takes as long as it takes.
            let sql = "SET LOCAL statement_timeout = 0; \
                       SET LOCAL idle_in_transaction_session_timeout = 0";
            sqlx::raw_sql(sql).execute(&mut *on).await?;
        }
        let tables = Tables::read(on, engine).await?;
        let table = tables.open(&mut *on, engine, &IOTFLOW_TELEMETRY).await?;
        let sql = table.select("telemetry_data ORDER BY device_id, timestamp, id");
        let mut rows = sqlx::query(sql).fetch(on);
        let mut records = Vec::new();
        while let Some(row) = rows.try_next().await? {
            records.push(record(table.row(&row))?);
            if records.len() >= at_once && !take(std::mem::take(&mut records)) {
                return Ok(());
            }
        }
        if !records.is_empty() {
            take(records);
        }
        Ok(())
    })
    .await
}

fn record(row: ForeignRow<'_>) -> Result<IotFlowRecord, Fault> {
    let (id, number) = (row.shown(0), row.number_in_table());
    let place = match number.is_empty() || number == id {
        true => format!("record {id}"),
        false => format!("record {id} (row {number})"),
    };
    Ok(IotFlowRecord {
        device: row.shown(1),
        place,
        sent: match payload(row) {
            Ok(payload) => Ok(payload),
            Err(Unread::Row(why)) => Err(why),
            Err(Unread::Fault(fault)) => return Err(fault),
        },
    })
}

fn payload(row: ForeignRow<'_>) -> Result<IotFlowPayload, Unread> {
    Ok(IotFlowPayload {
        time: row.text_or_empty(2)?,
        payload: row.text_or_empty(3)?,
        metadata: row.text_or_empty(4)?,
        data_type: row.text_or_empty(5)?,
    })
}
