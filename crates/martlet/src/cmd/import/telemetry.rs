//! Telemetry from the table `telemetry_data` of IoTFlow. The node stores it if it runs; else it is
//! written into the node's storage here.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use martlet_control::telemetry::{StoreError, TelemetryAtRest};
use martlet_registry::{
    DeviceRef, IotFlowRecord, Location, Scope, iotflow_record_counts, iotflow_records, wait,
};
use serde_json::{Map, Value, json};

use super::report::{Outcome, Report};
use crate::cmd::admin::{self, Refusal, ask, ask_with, encoded};
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::err;
use crate::cmd::tables;
use crate::config;

/// Records that are read at once.
const PAGE: u32 = 5_000;
/// Records that are stored at once, and bytes of them, about.
const RECORDS_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Time that a request to the node may take beside what is usual.
const LONGER: Duration = Duration::from_secs(60);

/// Imports the telemetry of the devices that the report names as there. A dry run only counts.
pub(super) fn import(
    report: &mut Report,
    node: &NodeOptions,
    from: &Location,
    dry_run: bool,
) -> anyhow::Result<()> {
    let counts = wait(iotflow_record_counts(from))?;
    let devices = report.there("device");
    let counts = counts.into_iter();
    let (there, others): (Vec<_>, Vec<_>) = counts.partition(|(id, _)| devices.contains(id));
    skip(report, &others, "the device was not imported");
    if there.is_empty() {
        return Ok(());
    }
    let target = match Target::find(node)? {
        Ok(target) => target,
        Err(why) => {
            skip(report, &there, &why);
            return Ok(());
        }
    };
    if dry_run {
        for (id, records) in there {
            report.add("telemetry", &id, Outcome::Imported, &records_text(records));
        }
        return Ok(());
    }
    let mut progress = Progress::new(there.iter().map(|(_, records)| records).sum());
    let storage = target.open(node, &there)?;
    for (at, (id, _)) in there.iter().enumerate() {
        let mut done = Done::default();
        let imported = import_device(&storage, (from, id), &mut done, &mut progress);
        done.add_to(report, id);
        if let Err(error) = imported {
            skip(report, &there[at..], &format!("{error:#}"));
            break;
        }
    }
    progress.end();
    storage.close()
}

/// None of these is imported, or not all of their records.
fn skip(report: &mut Report, counts: &[(String, i64)], why: &str) {
    for (id, records) in counts {
        let why = format!("{}: {why}", records_text(*records));
        report.add("telemetry", id, Outcome::Skipped, &why);
    }
}

/// Where telemetry is stored.
enum Target {
    /// By the node that runs with this data directory.
    Node(PathBuf),
    /// In the storage of a node that does not run.
    AtRest(Box<martlet_control::telemetry::TelemetrySettings>),
}

impl Target {
    /// Where, or why nowhere.
    fn find(node: &NodeOptions) -> anyhow::Result<Result<Self, String>> {
        let data_dir = node.data_dir()?;
        if !admin::may_ask(&data_dir)? {
            let settings = config::telemetry_settings(&node.load()?)?;
            let why = "the node stores no telemetry: set telemetry.enabled = true and import again";
            return Ok(settings
                .map(|settings| Self::AtRest(Box::new(settings)))
                .ok_or_else(|| why.to_owned()));
        }
        match ask(&data_dir, "GET", "/api/v1/telemetry/rejected?limit=1") {
            Ok(_) => Ok(Ok(Self::Node(data_dir))),
            Err(error) if Refusal::of(&error).is_some() => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn open(self, node: &NodeOptions, devices: &[(String, i64)]) -> anyhow::Result<Storage> {
        let settings = match self {
            Self::Node(data_dir) => return Ok(Storage::Node(data_dir)),
            Self::AtRest(settings) => settings,
        };
        let numbers = tables::read(node, async |registry| {
            let mut numbers = HashMap::new();
            for (id, _) in devices {
                let device = registry.device(&Scope::All, DeviceRef::Id(id)).await?;
                numbers.insert(id.clone(), device.number);
            }
            Ok(numbers)
        })?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        let telemetry = Box::new(runtime.block_on(TelemetryAtRest::open(*settings))?);
        Ok(Storage::AtRest {
            numbers,
            runtime,
            telemetry,
        })
    }
}

/// A target that is ready.
enum Storage {
    Node(PathBuf),
    AtRest {
        /// Numbers of the devices, by their ids.
        numbers: HashMap<String, i64>,
        runtime: tokio::runtime::Runtime,
        telemetry: Box<TelemetryAtRest>,
    },
}

/// Why records are not stored.
enum Failure {
    /// Something is wrong with one of them.
    Records(String),
    /// Nothing can be stored.
    Storage(anyhow::Error),
}

impl Storage {
    /// Stores records of a device, and returns the number of their values.
    fn store(&self, id: &str, records: &[Value]) -> Result<u64, Failure> {
        let body = Value::from(records).to_string();
        match self {
            Self::Node(data_dir) => {
                let route = format!("/api/v1/devices/{}/telemetry?past=true", encoded(id));
                let answer = ask_with(data_dir, ("POST", &route), &body, LONGER);
                let answer = answer.map_err(|error| {
                    let status = Refusal::of(&error).map(Refusal::status);
                    match status {
                        Some(400 | 413 | 422) => Failure::Records(error.to_string()),
                        _ => Failure::Storage(error),
                    }
                })?;
                let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                Ok(answer["stored"].as_u64().unwrap_or_default())
            }
            Self::AtRest {
                numbers,
                runtime,
                telemetry,
            } => {
                let number = numbers.get(id).copied().unwrap_or_default();
                let stored = runtime.block_on(telemetry.store(number, body.as_bytes()));
                match stored {
                    Ok(values) => Ok(values as u64),
                    Err(error @ (StoreError::Rejected(_) | StoreError::Refused { .. })) => {
                        Err(Failure::Records(error.to_string()))
                    }
                    Err(error) => Err(Failure::Storage(error.into())),
                }
            }
        }
    }

    fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Node(_) => Ok(()),
            Self::AtRest {
                runtime, telemetry, ..
            } => Ok(runtime.block_on(telemetry.close())?),
        }
    }
}

/// Numbers of the records of a device that were imported and skipped.
#[derive(Default)]
struct Done {
    records: i64,
    values: u64,
    skipped: i64,
    /// Id of the first record that was skipped, and why.
    first: Option<(i64, String)>,
}

impl Done {
    fn skip(&mut self, id: i64, why: String) {
        self.skipped += 1;
        self.first.get_or_insert((id, why));
    }

    fn add_to(self, report: &mut Report, id: &str) {
        if self.records > 0 {
            let note = format!(
                "{} with {} values; those that were there before are not there twice",
                records_text(self.records),
                self.values
            );
            report.add("telemetry", id, Outcome::Imported, &note);
        }
        if let Some((record, why)) = self.first {
            let note = match self.skipped {
                1 => format!("record {record}: {why}"),
                many => format!("{many} records, the first one is {record}: {why}"),
            };
            report.add("telemetry", id, Outcome::Skipped, &note);
        }
    }
}

fn import_device(
    storage: &Storage,
    (from, id): (&Location, &str),
    done: &mut Done,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let number = id.parse().context("its id is no number")?;
    let mut after = i64::MIN;
    loop {
        let page = wait(iotflow_records(from, (number, after), PAGE))?;
        let Some(last) = page.last().filter(|last| last.id > after) else {
            return Ok(());
        };
        after = last.id;
        let mut batch = Batch::default();
        for record in page {
            let bytes = record.payload.len() + record.metadata.len();
            if batch.is_full(bytes) {
                progress.add(batch.records.len());
                batch.store(storage, id, done)?;
            }
            match payload_of(&record) {
                Ok(payload) => batch.add(record.id, payload, bytes),
                Err(why) => {
                    progress.add(1);
                    done.skip(record.id, why);
                }
            }
        }
        progress.add(batch.records.len());
        batch.store(storage, id, done)?;
    }
}

/// Records that are stored together.
#[derive(Default)]
struct Batch {
    ids: Vec<i64>,
    records: Vec<Value>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self, more: usize) -> bool {
        !self.records.is_empty()
            && (self.records.len() >= RECORDS_AT_ONCE || self.bytes + more > BYTES_AT_ONCE)
    }

    fn add(&mut self, id: i64, payload: Value, bytes: usize) {
        self.ids.push(id);
        self.records.push(payload);
        self.bytes += bytes;
    }

    /// Stores the records and forgets them. If the storage rejects one of them, each half is
    /// stored by itself, down to that record.
    fn store(&mut self, storage: &Storage, device: &str, done: &mut Done) -> anyhow::Result<()> {
        let Self { ids, records, .. } = std::mem::take(self);
        let mut parts = vec![(ids.as_slice(), records.as_slice())];
        while let Some((ids, records)) = parts.pop() {
            let Some(first) = ids.first() else {
                continue;
            };
            match storage.store(device, records) {
                Ok(values) => {
                    done.records += records.len() as i64;
                    done.values += values;
                }
                Err(Failure::Records(why)) if records.len() == 1 => done.skip(*first, why),
                Err(Failure::Records(_)) => {
                    let middle = records.len() / 2;
                    parts.push((&ids[middle..], &records[middle..]));
                    parts.push((&ids[..middle], &records[..middle]));
                }
                Err(Failure::Storage(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A record as devices send it by HTTP.
fn payload_of(record: &IotFlowRecord) -> Result<Value, String> {
    let members = |column: &str, text: &str| {
        let value = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| format!("its {column}: {error}"))?,
        };
        match value {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(Map::new()),
            _ => Err(format!("its {column} is no JSON object")),
        }
    };
    let data = members("payload", &record.payload)?;
    let mut metadata = members("device_metadata", &record.metadata)?;
    if !record.data_type.is_empty() {
        metadata.insert("type".to_owned(), record.data_type.as_str().into());
    }
    if data.values().all(Value::is_null) {
        return Err("it has no values".to_owned());
    }
    if record.time.is_empty() {
        return Err("it has no time".to_owned());
    }
    Ok(json!({ "data": data, "metadata": metadata, "timestamp": record.time }))
}

fn records_text(records: i64) -> String {
    match records {
        1 => "1 record".to_owned(),
        many => format!("{many} records"),
    }
}

/// How far it is, at a terminal.
struct Progress {
    done: usize,
    all: i64,
    is_terminal: bool,
}

impl Progress {
    fn new(all: i64) -> Self {
        Self {
            done: 0,
            all,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, records: usize) {
        self.done += records;
        if self.is_terminal {
            err!("\rtelemetry: {} of {} records", self.done, self.all);
            // Only the line is late otherwise.
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.is_terminal {
            err!("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &str, metadata: &str, data_type: &str) -> IotFlowRecord {
        IotFlowRecord {
            id: 1,
            time: "2025-07-01 10:00:00".to_owned(),
            payload: payload.to_owned(),
            metadata: metadata.to_owned(),
            data_type: data_type.to_owned(),
        }
    }

    #[test]
    fn a_record_becomes_what_a_device_sends() {
        let found = payload_of(&record(r#"{"t": 1.5}"#, r#"{"fw": "2"}"#, "sensors"));
        let expected = json!({
            "data": {"t": 1.5}, "metadata": {"fw": "2", "type": "sensors"},
            "timestamp": "2025-07-01 10:00:00",
        });
        assert_eq!(found, Ok(expected));
        assert!(payload_of(&record(r#"{"t": 1}"#, "null", "")).is_ok());
        for (payload, metadata) in [("", ""), ("7", ""), ("{", ""), (r#"{"t": 1}"#, "[1]")] {
            assert!(
                payload_of(&record(payload, metadata, "")).is_err(),
                "{payload}"
            );
        }
    }
}
