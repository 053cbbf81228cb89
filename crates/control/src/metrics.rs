//! The Prometheus page. Names come from the counters' field names, so they cannot drift.

use martlet_broker::{Counters, DropReason, MetricKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::{Control, ControlError};

impl Control {
    /// All metrics of this node as OpenMetrics text.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn metrics(&self) -> Result<String, ControlError> {
        let page = Page {
            counters: self.snapshot().await?,
            uptime_secs: self.uptime().as_secs_f64(),
            sockets_accepted: self.sockets_accepted(),
            events_dropped: self.events_dropped(),
            version: self.info.version,
        };
        let mut registry = Registry::with_prefix("martlet");
        registry.register_collector(Box::new(page));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        Ok(text)
    }
}

#[derive(Debug)]
struct Page {
    counters: Counters,
    uptime_secs: f64,
    sockets_accepted: u64,
    events_dropped: u64,
    version: &'static str,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut outcome = Ok(());
        self.counters.each(|metric| {
            let help = metric.meaning.trim_end_matches('.');
            let encoded = match metric.kind {
                MetricKind::Counter => put(
                    &mut encoder,
                    metric.name,
                    help,
                    &ConstCounter::new(metric.value),
                ),
                MetricKind::Gauge => put(
                    &mut encoder,
                    metric.name,
                    help,
                    &ConstGauge::new(metric.value as i64),
                ),
            };
            if outcome.is_ok() {
                outcome = encoded;
            }
        });
        outcome?;
        self.encode_drops(&mut encoder)?;
        let accepted = ConstCounter::new(self.sockets_accepted);
        put(
            &mut encoder,
            "sockets_accepted",
            "Sockets accepted by the listeners",
            &accepted,
        )?;
        let dropped = ConstCounter::new(self.events_dropped);
        put(
            &mut encoder,
            "events_dropped",
            "Events that nobody took in time",
            &dropped,
        )?;
        let uptime = ConstGauge::new(self.uptime_secs);
        put(
            &mut encoder,
            "uptime_seconds",
            "Time since the start",
            &uptime,
        )?;
        let one = ConstGauge::new(1_i64);
        let mut family =
            encoder.encode_descriptor("build_info", "The program", None, one.metric_type())?;
        one.encode(family.encode_family(&[("version", self.version)])?)
    }
}

impl Page {
    fn encode_drops(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Messages dropped, by reason";
        let mut family = encoder.encode_descriptor("messages_dropped", help, None, kind)?;
        for reason in DropReason::ALL {
            let count = ConstCounter::new(self.counters.dropped[*reason as usize]);
            count.encode(family.encode_family(&[("reason", reason.name())])?)?;
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
