//! How many rollouts there are, for the Prometheus page.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// How many rollouts are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutCounts {
    /// They run.
    pub running: u64,
    /// Somebody has paused them.
    pub paused_by_hand: u64,
    /// Their gates have paused them.
    pub paused_by_gate: u64,
}

impl Collector for RolloutCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Rollouts that have been started and have not ended";
        let kind = MetricType::Gauge;
        let mut family = encoder.encode_descriptor("rollouts", help, None, kind)?;
        for (state, count) in [
            ("running", self.running),
            ("paused_by_hand", self.paused_by_hand),
            ("paused_by_gate", self.paused_by_gate),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}
