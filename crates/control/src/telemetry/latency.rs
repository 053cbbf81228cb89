//! How old values are, by the device's own time, when the node has them, when they are synced, and
//! when subscribers have them: histograms for each type of devices.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_telemetry::decode::Decoded;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::wall_clock::now_signed_ms;

/// Upper bounds of the buckets, seconds; what is older is above them.
const BOUNDS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0,
];
/// Types of devices that have histograms of their own, at most.
const TYPES_MAX: usize = 50;
/// The type of all others.
const OTHERS: &str = "other";

/// Where a value has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To the node.
    Received,
    /// To the storage, where it is synced.
    Stored,
    /// To a subscriber.
    Delivered,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Received, Self::Stored, Self::Delivered];

    fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
        }
    }
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum_secs: f64,
}

impl Histogram {
    fn add(&mut self, secs: f64) {
        // The clock of a device may be ahead.
        let secs = secs.max(0.0);
        let at = BOUNDS.iter().position(|bound| secs <= *bound);
        self.counts[at.unwrap_or(BOUNDS.len())] += 1;
        self.sum_secs += secs;
    }

    fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(self.counts).collect()
    }
}

/// The histograms of a node.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<ByType>);

type ByType = BTreeMap<Arc<str>, [Histogram; Stage::ALL.len()]>;

/// The time of the newest value of a payload that the device has given; none: it has given none.
/// The other values of the payload are no older for the node.
pub(super) fn newest_own_time(decoded: &Decoded) -> Option<i64> {
    let readings = decoded.readings.iter();
    let own = readings.filter(|reading| reading.is_own_time);
    own.map(|reading| reading.time).max()
}

impl Ages {
    /// Counts a payload of a device of this type. Times are µs since the Unix epoch; `received` is
    /// when the node has received it, and it is synced now.
    pub(super) fn note(&self, device_type: &Arc<str>, time: i64, received: i64) {
        self.note_at(device_type, time, received, now_signed_ms() * 1_000);
    }

    fn note_at(&self, device_type: &Arc<str>, time: i64, received: i64, stored: i64) {
        let secs = |at: i64| at.saturating_sub(time) as f64 / 1e6;
        let mut all = self.lock();
        let [to_node, to_storage, _] = of_type(&mut all, device_type);
        to_node.add(secs(received));
        to_storage.add(secs(stored));
    }

    /// Counts a payload that a subscriber has got at this time. Times are µs since the Unix epoch.
    pub(super) fn note_delivered(&self, device_type: &Arc<str>, time: i64, delivered: i64) {
        let mut all = self.lock();
        let [_, _, to_subscriber] = of_type(&mut all, device_type);
        to_subscriber.add(delivered.saturating_sub(time) as f64 / 1e6);
    }

    pub(super) fn page(&self) -> AgesPage {
        AgesPage(self.lock().clone())
    }

    fn lock(&self) -> MutexGuard<'_, ByType> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The histograms of a type of devices; those of all others if there are too many types.
fn of_type<'a>(
    all: &'a mut ByType,
    device_type: &Arc<str>,
) -> &'a mut [Histogram; Stage::ALL.len()] {
    let name = match all.len() < TYPES_MAX || all.contains_key(device_type) {
        true => Arc::clone(device_type),
        false => OTHERS.into(),
    };
    all.entry(name).or_default()
}

/// The histograms at one moment.
#[derive(Debug)]
pub(super) struct AgesPage(ByType);

impl AgesPage {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From the time that a device has given its newest value to its arrival at the \
                    node (stage received), to its synced write (stage stored) and, if \
                    telemetry.subscriber_latency is set, to a subscriber (stage delivered), by \
                    the type of the device";
        let (name, unit) = ("telemetry_latency", Unit::Seconds);
        let mut family =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (device_type, histograms) in &self.0 {
            for (stage, histogram) in Stage::ALL.into_iter().zip(histograms) {
                let count: u64 = histogram.counts.iter().sum();
                if count == 0 {
                    continue;
                }
                let labels = [("device_type", &**device_type), ("stage", stage.word())];
                let mut metric = family.encode_family(&labels)?;
                let (sum, buckets) = (histogram.sum_secs, histogram.buckets());
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_counted_by_type_and_stage_and_types_are_bounded() {
        let ages = Ages::default();
        let pump: Arc<str> = "pump".into();
        ages.note_at(&pump, 1_000_000, 1_020_000, 1_200_000);
        // A clock that is ahead.
        ages.note_at(&pump, 9_000_000, 1_000_000, 1_200_000);
        ages.note_at(&pump, 0, 5_000_000_000, 5_000_000_000);
        ages.note_delivered(&pump, 1_000_000, 1_030_000);
        let [received, stored, delivered] = ages.lock()["pump"].clone();
        assert_eq!(delivered.counts[..3], [0, 0, 1]);
        assert_eq!(received.counts[..3], [1, 1, 0]);
        assert_eq!(stored.counts[..4], [1, 0, 0, 1]);
        assert_eq!(received.counts[BOUNDS.len()], 1);
        assert!((received.sum_secs - 5_000.02).abs() < 1e-6);
        for at in 0..2 * TYPES_MAX {
            ages.note_at(&format!("type {at}").into(), 0, 1, 1);
        }
        let all = ages.lock();
        assert_eq!(all.len(), TYPES_MAX + 1);
        let others: u64 = all[OTHERS][0].counts.iter().sum();
        assert_eq!(others, TYPES_MAX as u64 + 1);
    }
}
