//! Telemetry: values that devices publish or send by HTTP are decoded and stored, and read again.
//!
//! * `rule`: from topics to devices and keys
//! * `store`: the storage while the node runs, which may not be reachable
//! * `sink`: the integration that takes messages
//! * `devices`: devices by the names in topics
//! * `rejected`: payloads that were not stored
//! * `rows`: rows as text
//! * `tail`: values as they are stored
//! * `kept`, `retention`: how long values are kept, and what is deleted
//! * `followed`: values that came by HTTP, for the rules
//! * `past`: values of the past, of another system
//! * `copy`: a copy for a backup
//! * `latency`: how old values are when they come, when they are synced, and when subscribers have
//!   them (`subscribers`)
//! * `off_times`: devices whose values are stored at times that are weeks off
//! * `series`: how many series there are, by tenant
//! * `metrics`: of the Prometheus page
//! * `why`: what `martlet why` reports of it

mod copy;
mod devices;
pub(crate) mod followed;
mod kept;
mod latency;
mod metrics;
mod off_times;
mod past;
mod query_memory;
mod rejected;
mod retention;
mod rows;
mod rule;
mod sink;
mod store;
mod subscribers;
mod tail;
mod why;

pub use copy::{TelemetryCopy, copy_at_rest};
pub use devices::{DeviceNumber, TelemetryDevice};
pub use kept::{TelemetryKept, TypeKept};
pub use martlet_telemetry::decode::{
    Decoded, Decoder, Format, Holder, Limits as DecodeLimits, MissingTime, Reading, Rejection,
    Skew, TimeUnit, has_valid_offset, marked_numbers, time_of_text,
};
pub use martlet_telemetry::{
    Aggregate, AggregatePosition, AggregateRow, Bucket, Fill, Function, Location, Order, Point,
    Position, QueryMemory, Range, Row, Rows, Selection, Settings, Storage, StorageError, TIME_END,
    TIME_MIN, Unit, Value, time_text,
};
pub use past::TelemetryAtRest;
pub use query_memory::QueryMemories;
pub use rejected::Rejected;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use rows::{RowFormat, csv_line, csv_value};
pub use rule::{DEVICE, KeyTemplate, REST, TelemetryRule, TopicTemplate, TopicVariables};
pub use store::{StoreError, StoredNow, Telemetry, TelemetrySettings};
pub use tail::{Tail, TailEnd};
use tokio::sync::Mutex;

/// The file of telemetry in the data directory.
pub const FILE: &str = "telemetry.db";

/// The time of receipt of what arrives now, µs since the Unix epoch.
pub fn received_now() -> i64 {
    crate::wall_clock::now_signed_ms().saturating_mul(1_000)
}

/// A value as JSON.
pub(crate) fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Number(number) => (*number).into(),
        Value::Bool(flag) => (*flag).into(),
        Value::Text(text) => (&**text).into(),
        Value::Json(json) => serde_json::from_str(json).unwrap_or_default(),
    }
}

/// Numbers of series by tenant.
pub(crate) type SeriesByTenant = Arc<BTreeMap<u32, u64>>;

/// Numbers of series as they were counted last, and when that began. They are counted for one
/// caller after the other: there may be millions.
#[derive(Debug, Default)]
struct CountedSeries(Mutex<Option<(Instant, SeriesByTenant)>>);

impl CountedSeries {
    /// Counted this long before the call at most. Callers that waited share what was counted
    /// meanwhile.
    async fn within(
        &self,
        age_max: Duration,
        storage: &Storage,
    ) -> Result<SeriesByTenant, StorageError> {
        let called_at = Instant::now();
        let mut counted = self.0.lock().await;
        if let Some((at, series)) = &*counted
            && called_at.saturating_duration_since(*at) <= age_max
        {
            return Ok(Arc::clone(series));
        }
        let at = Instant::now();
        let series = Arc::new(storage.series_by_tenant().await?);
        *counted = Some((at, Arc::clone(&series)));
        Ok(series)
    }
}
