//! Imports telemetry from the table `telemetry_data` of IoTFlow. A running node stores it;
//! otherwise it is written to the node's storage directly.

use std::collections::{HashMap, HashSet};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::anyhow;
use martlet_control::telemetry::{Decoder, DeviceNumber, StoreError, TelemetryAtRest};
use martlet_control::use_cases::FindDevice;
use martlet_registry::{
    IotFlowPayload, IotFlowRecord, Location, iotflow_record_counts, iotflow_records, wait,
};
use serde_json::{Map, Value, json};

use super::report::{Outcome, Report, Skipped};
use crate::cmd::admin::{self, NodeRefusal, ask, ask_with};
use crate::cmd::errors::error_text;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{err, write_err};
use crate::cmd::query::encoded;
use crate::cmd::tables;
use crate::config;

/// Number of records read at once.
const PAGE: usize = 5_000;
/// Records stored at once, and their approximate size in bytes.
const RECORDS_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Additional time limit of a request to the node.
const LONGER: Duration = Duration::from_secs(60);

/// Imports the telemetry of the devices that exist according to the report. A dry run decodes it,
/// and stores nothing.
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
    let storage = match dry_run {
        true => target.dry_run(node)?,
        false => target.open(node, &there)?,
    };
    let mut import = Import {
        storage,
        progress: Progress::new(there.iter().map(|(_, records)| records).sum()),
        devices: HashMap::new(),
        batch: RecordBatch::default(),
    };
    let ended = import.run(from, &devices);
    for (id, records) in &there {
        let done = import.devices.remove(id).unwrap_or_default();
        let left = records - done.records - done.skipped.count();
        done.add_to(report, id);
        if let (Err(error), 1..) = (&ended, left) {
            skip(report, &[(id.clone(), left)], &error_text(error));
        }
    }
    import.progress.end();
    import.storage.close()
}

/// An import in progress.
struct Import {
    storage: Storage,
    progress: Progress,
    /// Numbers of imported and skipped records of each device.
    devices: HashMap<String, Done>,
    /// Records of one device to be stored next.
    batch: RecordBatch,
}

impl Import {
    /// Reads all records in a separate thread, and stores those of these devices in this thread.
    fn run(&mut self, from: &Location, devices: &HashSet<String>) -> anyhow::Result<()> {
        let (send, pages) = sync_channel::<Vec<IotFlowRecord>>(1);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let take = |page| send.send(page).is_ok();
                wait(iotflow_records(from, PAGE, take))
            });
            let stored = self.store_all(pages, devices);
            let read = reading.join();
            stored?;
            read.map_err(|_| anyhow!("the thread that reads the records ended"))??;
            Ok(())
        })
    }

    fn store_all(
        &mut self,
        pages: Receiver<Vec<IotFlowRecord>>,
        devices: &HashSet<String>,
    ) -> anyhow::Result<()> {
        for record in pages.into_iter().flatten() {
            if !devices.contains(&record.device) {
                continue;
            }
            if self.batch.is_full(&record) {
                self.store()?;
            }
            let IotFlowRecord {
                device,
                place,
                sent,
            } = record;
            let read = sent.and_then(|sent| Ok((payload_of(&sent)?, bytes_of(&sent))));
            match read {
                Ok((payload, bytes)) => self.batch.add(device, place, payload, bytes),
                Err(why) => {
                    self.progress.add(1);
                    let done = self.devices.entry(device).or_default();
                    done.skipped.add(format!("{place}: {why}"));
                }
            }
        }
        self.store()
    }

    fn store(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.progress.add(batch.records.len());
        let done = self.devices.entry(batch.device.clone()).or_default();
        batch.store(&self.storage, done)
    }
}

/// Reports that records of these devices were skipped.
fn skip(report: &mut Report, counts: &[(String, i64)], why: &str) {
    for (id, records) in counts {
        let why = format!("{}: {why}", records_text(*records));
        report.add("telemetry", id, Outcome::Skipped, &why);
    }
}

/// Target of the import.
enum Target {
    /// The running node with this data directory.
    Node(PathBuf),
    /// The storage of a node that does not run.
    AtRest(Box<martlet_control::telemetry::TelemetrySettings>),
}

impl Target {
    /// Finds the target, or the reason why there is none.
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
            Err(error) if NodeRefusal::of(&error).is_some() => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// A target that only checks what would be stored.
    fn dry_run(self, node: &NodeOptions) -> anyhow::Result<Storage> {
        let settings = match self {
            Self::AtRest(settings) => Some(*settings),
            Self::Node(_) => config::telemetry_settings(&node.load()?)?,
        };
        let decoder = settings.map(|settings| settings.decoder.of_past());
        Ok(Storage::DryRun(decoder.map(Box::new)))
    }

    fn open(self, node: &NodeOptions, devices: &[(String, i64)]) -> anyhow::Result<Storage> {
        let settings = match self {
            Self::Node(data_dir) => return Ok(Storage::Node(data_dir)),
            Self::AtRest(settings) => settings,
        };
        let numbers = tables::read(node, async |open| {
            let mut numbers = HashMap::new();
            for (id, _) in devices {
                let device = id.clone().into();
                let device = open.run(FindDevice { device }).await?;
                let number = DeviceNumber {
                    number: device.number,
                    tenant: device.tenant,
                };
                numbers.insert(id.clone(), number);
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

/// An open target.
enum Storage {
    /// Nothing is stored. Payloads are decoded, unless another node's configuration says how.
    DryRun(Option<Box<Decoder>>),
    Node(PathBuf),
    AtRest {
        /// Numbers of the devices by their ids.
        numbers: HashMap<String, DeviceNumber>,
        runtime: tokio::runtime::Runtime,
        telemetry: Box<TelemetryAtRest>,
    },
}

/// Why records are not stored.
enum Failure {
    /// One of the records is invalid.
    Records(String),
    /// The storage failed.
    Storage(anyhow::Error),
}

impl Storage {
    /// Stores records of a device. Returns the number of their values.
    fn store(&self, id: &str, records: &[Value]) -> Result<u64, Failure> {
        let body = Value::from(records).to_string();
        match self {
            Self::DryRun(None) => Ok(records.len() as u64),
            Self::DryRun(Some(decoder)) => {
                let decoded = decoder.decode_whole(body.as_bytes(), 0);
                let decoded = decoded.map_err(StoreError::from);
                let decoded = decoded.map_err(|why| Failure::Records(why.to_string()))?;
                Ok(decoded.readings.len() as u64)
            }
            Self::Node(data_dir) => {
                let route = format!("/api/v1/devices/{}/telemetry?past=true", encoded(id));
                let answer = ask_with(data_dir, "POST", &route, &body, LONGER);
                let answer = answer.map_err(|error| {
                    let status = NodeRefusal::of(&error).map(NodeRefusal::status);
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
            Self::DryRun(_) | Self::Node(_) => Ok(()),
            Self::AtRest {
                runtime, telemetry, ..
            } => Ok(runtime.block_on(telemetry.close())?),
        }
    }
}

/// Numbers of imported and skipped records of a device.
struct Done {
    records: i64,
    values: u64,
    skipped: Skipped,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            records: 0,
            values: 0,
            skipped: Skipped::new("telemetry_data"),
        }
    }
}

impl Done {
    fn add_to(self, report: &mut Report, id: &str) {
        if self.records > 0 {
            let noun = if self.values == 1 { "value" } else { "values" };
            let note = format!(
                "{} with {} {noun}; values that were stored before are not duplicated",
                records_text(self.records),
                self.values
            );
            report.add("telemetry", id, Outcome::Imported, &note);
        }
        if let Some(note) = self.skipped.note() {
            report.add("telemetry", id, Outcome::Skipped, &note);
        }
    }
}

/// Records of a device that are stored together.
#[derive(Default)]
struct RecordBatch {
    device: String,
    places: Vec<String>,
    records: Vec<Value>,
    bytes: usize,
}

impl RecordBatch {
    /// Whether this record must wait for the next batch.
    fn is_full(&self, next: &IotFlowRecord) -> bool {
        let bytes = next.sent.as_ref().map_or(0, bytes_of);
        !self.records.is_empty()
            && (self.device != next.device
                || self.records.len() >= RECORDS_AT_ONCE
                || self.bytes + bytes > BYTES_AT_ONCE)
    }

    fn add(&mut self, device: String, place: String, payload: Value, bytes: usize) {
        self.device = device;
        self.places.push(place);
        self.records.push(payload);
        self.bytes += bytes;
    }

    /// Stores the records. If the storage rejects one of them, splits the batch in halves until
    /// that record is found.
    fn store(self, storage: &Storage, done: &mut Done) -> anyhow::Result<()> {
        let mut parts = vec![(self.places.as_slice(), self.records.as_slice())];
        while let Some((places, records)) = parts.pop() {
            let Some(first) = places.first() else {
                continue;
            };
            match storage.store(&self.device, records) {
                Ok(values) => {
                    done.records += records.len() as i64;
                    done.values += values;
                }
                Err(Failure::Records(why)) if records.len() == 1 => {
                    done.skipped.add(format!("{first}: {why}"));
                }
                Err(Failure::Records(_)) => {
                    let middle = records.len() / 2;
                    parts.push((&places[middle..], &records[middle..]));
                    parts.push((&places[..middle], &records[..middle]));
                }
                Err(Failure::Storage(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Approximate size of a record in bytes.
fn bytes_of(sent: &IotFlowPayload) -> usize {
    sent.payload.len() + sent.metadata.len()
}

/// Converts a record to the form that devices send by HTTP.
fn payload_of(record: &IotFlowPayload) -> Result<Value, String> {
    let members = |column: &str, text: &str| {
        let value = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| format!("its {column}: {error}"))?,
        };
        match value {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(Map::new()),
            _ => Err(format!("its {column} is not a JSON object")),
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

/// Progress display on a terminal.
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
            write_err(&format!(
                "\rtelemetry: {} of {} records",
                self.done, self.all
            ));
            // If this fails, the line is only delayed.
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

    fn record(payload: &str, metadata: &str, data_type: &str) -> IotFlowPayload {
        IotFlowPayload {
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
