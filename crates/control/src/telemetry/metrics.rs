//! Metrics of telemetry.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::Telemetry;
use super::latency::AgesPage;
use super::store::Counts;

/// Telemetry at one moment.
#[derive(Debug)]
pub struct TelemetryPage {
    counts: Counts,
    rejected: BTreeMap<&'static str, u64>,
    ages: AgesPage,
}

impl Telemetry {
    /// Metrics of telemetry, as they are now.
    pub fn metrics(&self) -> TelemetryPage {
        TelemetryPage {
            counts: self.counts(),
            rejected: self.rejected_counts(),
            ages: self.ages.page(),
        }
    }
}

impl Collector for TelemetryPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = &self.counts;
        for (name, help, count) in [
            ("telemetry_values", "Values that were stored", counts.values),
            (
                "telemetry_retimed_values",
                "Values that were stored with the time of receipt, as their own was too far off",
                counts.retimed,
            ),
            (
                "telemetry_failed_writes",
                "Batches that the telemetry storage did not accept; they are retried",
                counts.failed_writes,
            ),
            (
                "telemetry_deleted_values",
                "Values that were deleted as they were too old or too many",
                counts.forgotten,
            ),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let help = "Payloads, or values of them, that were not stored";
        let kind = ConstCounter::new(0u64).metric_type();
        let name = "telemetry_rejected";
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (reason, count) in &self.rejected {
            let label = [("reason", *reason)];
            ConstCounter::new(*count).encode(family.encode_family(&label)?)?;
        }
        self.ages.encode(&mut encoder)
    }
}
