//! The Prometheus page. Names come from the counters' field names, so they cannot drift.

use martlet_broker::{Counters, DropReason, MetricKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::authentication::LockedOut;
use crate::control::{Control, ControlError, Latencies};
use crate::feed::PushStatus;
use crate::memory::MemoryReport;
use crate::process::Process;
use crate::process::put;
use crate::store::{StoreSize, StoreState};

impl Control {
    /// All metrics of this node as text, and those that are added under its prefix.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn metrics(
        &self,
        format: MetricsFormat,
        add: impl FnOnce(&mut Registry),
    ) -> Result<String, ControlError> {
        let shards = self.snapshots().await?;
        let counters = crate::control::sum(&shards);
        let page = Page {
            memory: self.memory_report(&counters),
            counters,
            shards,
            uptime_secs: self.uptime().as_secs_f64(),
            sockets_accepted: self.sockets_accepted(),
            accept_pauses: self.accept_pauses(),
            connections_max: self.info.connections_max,
            events_dropped: self.events_dropped(),
            latencies: self.latencies(),
            feed_readers: self.feed.readers() as u64,
            push: self.push().map(|state| state.seen()),
            locked_out: self.all_locked_out(),
            version: self.info.version,
            warnings: self.health.report().warnings.len(),
            store: self.store_state(),
            store_size: tokio::task::block_in_place(|| self.store_size()),
        };
        let mut registry = Registry::with_prefix("martlet");
        registry.register_collector(Box::new(page));
        add(&mut registry);
        let mut of_process = Registry::default();
        of_process.register_collector(Box::new(Process));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &registry);
        let _ = encode_registry(&mut text, &of_process);
        let _ = encode_eof(&mut text);
        Ok(match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Text => as_text_format(&text),
        })
    }
}

/// Name of the gauge of memory by purpose.
const MEMORY: &str = "memory_bytes";

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Turns OpenMetrics into the text format of Prometheus. There a counter is described by the whole
/// name of its samples, units have no line of their own, and a build's facts are a gauge.
fn as_text_format(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let described = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '));
        let Some((name, help)) = described else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        // The type always follows.
        let prefix = format!("# TYPE {name} ");
        let kind = lines.next_if(|next| next.starts_with(&prefix));
        let kind = kind.map_or("untyped", |next| &next[prefix.len()..]);
        let (suffix, kind) = match kind {
            "counter" => ("_total", kind),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            kind => ("", kind),
        };
        // Quotes are escaped in OpenMetrics alone.
        let help = help.replace("\\\"", "\"");
        text.push_str(&format!(
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
        ));
    }
    text
}

#[derive(Debug)]
struct Page {
    /// The counters of all shards together.
    counters: Counters,
    /// The counters of each shard, in order.
    shards: Vec<Counters>,
    memory: MemoryReport,
    uptime_secs: f64,
    sockets_accepted: u64,
    accept_pauses: u64,
    connections_max: u64,
    events_dropped: u64,
    /// The latencies of each shard.
    latencies: Vec<Latencies>,
    feed_readers: u64,
    /// None where events are not pushed.
    push: Option<PushStatus>,
    locked_out: LockedOut,
    version: &'static str,
    /// In health.
    warnings: usize,
    /// None where all is kept in memory.
    store: Option<StoreState>,
    store_size: Option<StoreSize>,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut outcome = Ok(());
        self.counters.each(|metric| {
            let help = metric.meaning.trim_end_matches('.');
            let encoded = match metric.kind {
                // With what is held beside the shards.
                _ if metric.name == MEMORY => Ok(()),
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
        self.encode_memory(&mut encoder)?;
        self.encode_shards(&mut encoder)?;
        self.encode_drops(&mut encoder)?;
        self.encode_latencies(&mut encoder)?;
        let accepted = ConstCounter::new(self.sockets_accepted);
        put(
            &mut encoder,
            "sockets_accepted",
            "Sockets accepted by the listeners",
            &accepted,
        )?;
        let pauses = ConstCounter::new(self.accept_pauses);
        put(
            &mut encoder,
            "accept_pauses",
            "Times that accepting began to pause because too few descriptors were left",
            &pauses,
        )?;
        let most = ConstGauge::new(i64::try_from(self.connections_max).unwrap_or(i64::MAX));
        put(
            &mut encoder,
            "connections_max",
            "Maximum number of concurrent connections, by the limits and by the descriptors of the \
             process",
            &most,
        )?;
        let dropped = ConstCounter::new(self.events_dropped);
        put(
            &mut encoder,
            "events_dropped",
            "Events that were not read in time",
            &dropped,
        )?;
        let readers = ConstGauge::new(self.feed_readers as i64);
        put(
            &mut encoder,
            "events_readers",
            "Streams of events that are read, the push among them",
            &readers,
        )?;
        self.encode_push(&mut encoder)?;
        self.encode_lockouts(&mut encoder)?;
        let uptime = ConstGauge::new(self.uptime_secs);
        put(
            &mut encoder,
            "uptime_seconds",
            "Time since the start",
            &uptime,
        )?;
        let warnings = ConstGauge::new(self.warnings as i64);
        let help = "Warnings in health now: martlet health tells them";
        put(&mut encoder, "health_warnings", help, &warnings)?;
        self.encode_store(&mut encoder)?;
        let one = ConstGauge::new(1_i64);
        let mut family =
            encoder.encode_descriptor("build_info", "The program", None, one.metric_type())?;
        one.encode(family.encode_family(&[("version", self.version)])?)
    }
}

impl Page {
    fn encode_memory(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Bytes that count against limits.memory_bytes, by what they are held for";
        let mut family = encoder.encode_descriptor(MEMORY, help, None, kind)?;
        for held in &self.memory.held {
            let bytes = ConstGauge::new(held.bytes as i64);
            bytes.encode(family.encode_family(&[("held_for", held.held_for)])?)?;
        }
        let used = ConstGauge::new(self.memory.used as i64);
        let help = "Bytes that count against limits.memory_bytes, with those that shards have \
                    reserved and not used yet";
        put(encoder, "memory_used_bytes", help, &used)?;
        let limit = ConstGauge::new(i64::try_from(self.memory.limit).unwrap_or(i64::MAX));
        let help = "limits.memory_bytes, or its default, a part of the machine's memory";
        put(encoder, "memory_limit_bytes", help, &limit)
    }

    /// Writes the counters of each shard, under names of their own, so that no sum counts anything
    /// twice.
    fn encode_shards(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut metrics = Vec::new();
        self.counters.each(|metric| metrics.push(metric));
        let mut values: Vec<Vec<u64>> = Vec::new();
        for counters in &self.shards {
            let mut of_shard = Vec::new();
            counters.each(|metric| of_shard.push(metric.value));
            values.push(of_shard);
        }
        for (at, metric) in metrics.iter().enumerate() {
            let kind = match metric.kind {
                MetricKind::Counter => ConstCounter::new(0_u64).metric_type(),
                MetricKind::Gauge => ConstGauge::new(0_i64).metric_type(),
            };
            let name = format!("shard_{}", metric.name);
            let help = format!("Of one shard: {}", metric.meaning.trim_end_matches('.'));
            let mut family = encoder.encode_descriptor(&name, &help, None, kind)?;
            for (shard, values) in values.iter().enumerate() {
                let label = [("shard", shard.to_string())];
                let encoder = family.encode_family(&label)?;
                let value = values.get(at).copied().unwrap_or_default();
                match metric.kind {
                    MetricKind::Counter => ConstCounter::new(value).encode(encoder)?,
                    MetricKind::Gauge => ConstGauge::new(value as i64).encode(encoder)?,
                }
            }
        }
        Ok(())
    }

    fn encode_latencies(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "From the reading of a PUBLISH to the writing of it to a subscriber, by the \
                    shard that wrote it; without messages that waited for a client";
        let name = "delivery_latency";
        let unit = Unit::Seconds;
        let mut family =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (shard, latencies) in self.latencies.iter().enumerate() {
            let label = [("shard", shard.to_string())];
            let mut metric = family.encode_family(&label)?;
            let count = latencies.buckets.iter().map(|(_, count)| count).sum();
            let (sum, buckets) = (latencies.sum_secs, &latencies.buckets);
            metric.encode_histogram::<NoLabelSet>(sum, count, buckets, None)?;
        }
        Ok(())
    }

    fn encode_push(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(push) = &self.push else {
            return Ok(());
        };
        let connected = ConstGauge::new(i64::from(push.connected));
        let help = "1 while there is a connection to events.push_url";
        put(encoder, "events_push_connected", help, &connected)?;
        let behind = ConstGauge::new(push.behind as i64);
        let help = "Events that wait to be pushed";
        put(encoder, "events_push_behind", help, &behind)?;
        for (name, help, value) in [
            (
                "events_pushed",
                "Frames pushed to events.push_url",
                push.sent,
            ),
            (
                "events_push_lost",
                "Events that were not pushed: the server was away for too long, or too slow",
                push.lost,
            ),
            (
                "events_push_connects",
                "Connections made to events.push_url",
                push.connects,
            ),
        ] {
            put(encoder, name, help, &ConstCounter::new(value))?;
        }
        Ok(())
    }

    fn encode_lockouts(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = ConstGauge::new(self.locked_out.now as i64);
        let help = "Addresses and names that are locked out for wrong credentials, now";
        put(encoder, "locked_out", help, &now)?;
        let total = ConstCounter::new(self.locked_out.total);
        let help = "Times that an address or a name was locked out";
        put(encoder, "lockouts", help, &total)
    }

    fn encode_store(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(state) = &self.store else {
            return Ok(());
        };
        let syncs = ConstCounter::new(state.syncs);
        put(
            encoder,
            "store_syncs",
            "Groups of records written and synced",
            &syncs,
        )?;
        let records = ConstCounter::new(state.records);
        put(
            encoder,
            "store_records",
            "Records written and synced",
            &records,
        )?;
        let unreadable = ConstCounter::new(state.unreadable);
        let help =
            "Messages that could not be read back from the store though a session needed them";
        put(encoder, "store_unreadable", help, &unreadable)?;
        let failing = ConstGauge::new(i64::from(state.failing.is_some()));
        put(
            encoder,
            "store_failing",
            "1 while the store cannot write",
            &failing,
        )?;
        let held = ConstGauge::new(i64::from(state.low.is_some() || state.behind));
        let help = "1 while publishers with QoS 1 and 2 are held back for the store";
        put(encoder, "store_behind", help, &held)?;
        let Some(size) = &self.store_size else {
            return Ok(());
        };
        let sizes = [
            (
                "store_waiting_bytes",
                "Bytes of records that wait to be written",
                size.waiting_bytes,
            ),
            (
                "store_disk_bytes",
                "Bytes of the store's files",
                size.disk_bytes,
            ),
            (
                "store_live_bytes",
                "Bytes of messages and states that are needed",
                size.live_bytes,
            ),
            (
                "store_messages",
                "Messages in the store, each once",
                size.messages,
            ),
            (
                "store_entries",
                "Messages in queues and in flight in the store",
                size.entries,
            ),
        ];
        for (name, help, value) in sizes {
            put(encoder, name, help, &ConstGauge::new(value as i64))?;
        }
        Ok(())
    }

    fn encode_drops(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Messages dropped, by reason";
        let mut family = encoder.encode_descriptor("messages_dropped", help, None, kind)?;
        for reason in DropReason::ALL {
            let count = ConstCounter::new(self.counters.dropped[*reason as usize]);
            count.encode(family.encode_family(&[("reason", reason.name())])?)?;
        }
        // Before their receivers were known.
        let count = ConstCounter::new(self.counters.publishes_dropped);
        count.encode(family.encode_family(&[("reason", "rate_exceeded")])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_their_whole_name_in_the_text_format() {
        let page = "# HELP a_b Say \\\"x\\\".\n# TYPE a_b counter\na_b_total 1\n\
                    # HELP s_seconds S.\n# TYPE s_seconds histogram\n# UNIT s_seconds seconds\n\
                    s_seconds_sum 1.0\n# HELP i I.\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            as_text_format(page),
            "# HELP a_b_total Say \"x\".\n# TYPE a_b_total counter\na_b_total 1\n\
             # HELP s_seconds S.\n# TYPE s_seconds histogram\ns_seconds_sum 1.0\n\
             # HELP i_info I.\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n"
        );
    }
}
