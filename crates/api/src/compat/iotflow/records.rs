//! Records of telemetry and numbers about them.
//!
//! The original kept a record for each message. Here the values of a device that have one time are
//! a record; those whose keys begin with `meta_` are its metadata.

use martlet_control::callers::Caller;
use martlet_control::telemetry::{
    Aggregate, Bucket, Fill, Function, Order, Position, Range, Row, Selection, Storage, TIME_END,
    TIME_MIN, Value as Stored, time_text,
};
use martlet_control::use_cases::ListDevicesFrom;
use martlet_registry::{Device, DeviceFilter, DeviceOrder};
use serde_json::{Map, Value, json};

use crate::api::Api;

use crate::problem::Problem;
use crate::telemetry::{json_of, telemetry_of, time_of};

/// Beginning of keys of metadata.
const METADATA: &str = "meta_";
/// Rows that are read at once, and at most for one answer.
const ROWS: usize = 5_000;
const ROWS_MAX: usize = 200_000;
/// Devices whose numbers are summed up, at most.
const DEVICES_MAX: u64 = 1_000;

/// The storage of telemetry.
///
/// # Errors
/// It is off, or cannot be opened.
pub(super) async fn storage_of(api: &Api) -> Result<Storage, Problem> {
    let telemetry = telemetry_of(api).map_err(off)?;
    Ok(telemetry.storage().await?)
}

/// Telemetry is off.
pub(super) fn off(problem: Problem) -> Problem {
    let problem = Problem::unavailable(problem.detail().to_owned());
    problem.with_heading("Telemetry is not stored")
}

/// How many values a device has; 0 while telemetry is off or cannot be read.
pub(super) async fn count_of(api: &Api, device: i64) -> u64 {
    count_since(api, vec![device], TIME_MIN).await
}

/// How many values the devices have that the caller sees, of the first thousand of them; and how
/// many of these were measured in the last day.
///
/// # Errors
/// The devices cannot be listed.
pub(super) async fn counts_of_all(api: &Api, caller: &Caller) -> Result<(u64, u64), Problem> {
    if api.telemetry().is_none() {
        return Ok((0, 0));
    }
    let devices = devices_of(api, caller, DeviceFilter::default()).await?;
    let devices: Vec<i64> = devices.iter().map(|device| device.number).collect();
    let day = time_of("from", "-24h")?;
    let all = count_since(api, devices.clone(), TIME_MIN).await;
    Ok((all, count_since(api, devices, day).await))
}

/// How many values of the same devices were measured in the last hour and day.
///
/// # Errors
/// The devices cannot be listed.
pub(super) async fn recent_counts(api: &Api, caller: &Caller) -> Result<(u64, u64), Problem> {
    if api.telemetry().is_none() {
        return Ok((0, 0));
    }
    let devices = devices_of(api, caller, DeviceFilter::default()).await?;
    let devices: Vec<i64> = devices.iter().map(|device| device.number).collect();
    let (hour, day) = (time_of("from", "-1h")?, time_of("from", "-24h")?);
    let in_hour = count_since(api, devices.clone(), hour).await;
    Ok((in_hour, count_since(api, devices, day).await))
}

/// How many values of devices were measured since a time; 0 while they cannot be read.
async fn count_since(api: &Api, devices: Vec<i64>, from: i64) -> u64 {
    let question = Aggregate {
        selection: Selection {
            devices,
            keys: None,
        },
        from,
        until: TIME_END,
        bucket: Bucket::Whole,
        functions: vec![Function::Count],
        fill: Fill::default(),
        limit: ROWS_MAX,
        after: None,
    };
    let Ok(storage) = storage_of(api).await else {
        return 0;
    };
    let Ok(found) = storage.aggregate(&question).await else {
        return 0;
    };
    let counts = found.rows.iter().flat_map(|row| row.values.first());
    let counts = counts.map(|count| match count {
        Some(Stored::Integer(count)) => u64::try_from(*count).unwrap_or(0),
        _ => 0,
    });
    counts.sum()
}

/// The first thousand devices that the caller sees.
///
/// # Errors
/// They cannot be listed.
pub(super) async fn devices_of(
    api: &Api,
    caller: &Caller,
    filter: DeviceFilter,
) -> Result<Vec<Device>, Problem> {
    let list = ListDevicesFrom {
        filter,
        order: DeviceOrder::Number,
        place: (0, DEVICES_MAX),
    };
    Ok(api.run(caller.clone(), list).await?.0)
}

/// The values of a device at one time.
pub(super) struct ValueRecord {
    pub(super) time: i64,
    pub(super) measurements: Map<String, Value>,
    metadata: Map<String, Value>,
}

/// Records as they are answered; `device` is the number of their device.
pub(super) fn views_of(records: Vec<ValueRecord>, device: i64) -> Vec<Value> {
    let views = records.into_iter().map(|record| record.view(device));
    views.collect()
}

impl ValueRecord {
    /// As it is answered; `device` is the number of its device.
    pub(super) fn view(self, device: i64) -> Value {
        json!({
            "timestamp": time_text(self.time),
            "device_id": device,
            "measurements": self.measurements,
            "metadata": self.metadata,
        })
    }

    fn is_of_type(&self, data_type: Option<&str>) -> bool {
        let own = self.metadata.get("type").and_then(Value::as_str);
        data_type.is_none_or(|data_type| own == Some(data_type))
    }
}

/// Which records of a device.
#[derive(Clone, Copy)]
pub(super) struct RecordSelection<'a> {
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) data_type: Option<&'a str>,
    pub(super) offset: usize,
    pub(super) limit: usize,
}

/// Records, the newest first, and whether there are more.
///
/// # Errors
/// They cannot be read.
pub(super) async fn records(
    storage: &Storage,
    device: i64,
    selection: RecordSelection<'_>,
) -> Result<(Vec<ValueRecord>, bool), Problem> {
    let mut found = Vec::<ValueRecord>::new();
    let mut last: Option<(i64, i64)> = None;
    let (mut after, mut rows_read): (Option<Position>, usize) = (None, 0);
    let enough = selection.offset.saturating_add(selection.limit);
    let fits = |record: &ValueRecord| record.is_of_type(selection.data_type);
    loop {
        let range = Range {
            selection: Selection::device(device),
            from: selection.from,
            until: selection.until,
            order: Order::NewestFirst,
            limit: ROWS,
            after: after.take(),
        };
        let rows = storage.range(&range).await?;
        rows_read += rows.rows.len();
        for row in rows.rows {
            if last != Some((row.time, row.origin)) {
                last = Some((row.time, row.origin));
                found.push(ValueRecord {
                    time: row.time,
                    measurements: Map::new(),
                    metadata: Map::new(),
                });
            }
            if let Some(record) = found.last_mut() {
                put(record, &row);
            }
        }
        after = rows.next;
        let is_over = after.is_none();
        // The last one may go on in the next rows.
        let complete = found.len().saturating_sub(usize::from(!is_over));
        let is_enough = found[..complete].iter().filter(|one| fits(one)).count() > enough;
        if is_over || is_enough || rows_read >= ROWS_MAX {
            found.truncate(complete);
            found.retain(fits);
            let has_more = found.len() > enough || !is_over;
            let chosen = found
                .into_iter()
                .skip(selection.offset)
                .take(selection.limit);
            return Ok((chosen.collect(), has_more));
        }
    }
}

fn put(record: &mut ValueRecord, row: &Row) {
    let value = json_of(&row.value);
    match row.key.strip_prefix(METADATA) {
        Some(name) => record.metadata.insert(name.to_owned(), value),
        None => record.measurements.insert(row.key.to_string(), value),
    };
}

/// The last records of a device, for its summary: their views and how many values it has.
pub(super) async fn recent(api: &Api, device: &Device, limit: usize) -> (Vec<Value>, u64) {
    let Ok(storage) = storage_of(api).await else {
        return (Vec::new(), 0);
    };
    let selection = RecordSelection {
        from: TIME_MIN,
        until: TIME_END,
        data_type: None,
        offset: 0,
        limit,
    };
    let found = records(&storage, device.number, selection).await;
    let found = found.map_or_else(|_| Vec::new(), |(found, _)| found);
    (
        views_of(found, device.number),
        count_of(api, device.number).await,
    )
}
