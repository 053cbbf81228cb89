//! The result of a measurement, as text or as a line of JSON.
//!
//! Responsible for the figures and their units. Measures nothing.

use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::options::Options;
use super::process::Usage;

/// All results. Figures that a scenario does not have are absent.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: &'static str,
    version: String,
    qos: u8,
    clients: usize,
    payload_bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    /// Duration of the measurement in seconds.
    secs: f64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub(super) messages: Option<Messages>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub(super) connections: Option<Connections>,
    /// The phases of the scenarios retained and offline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) phases: Vec<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<BrokerUsage>,
    /// CPU time of the load generator during the measurement, as a share of one core.
    generator_cpu: f64,
    /// Faults; empty if there were none.
    pub(super) faults: Vec<String>,
}

/// Figures about messages. Lost, duplicated, reordered, redelivered and refused messages are
/// counted over the whole run, the others during the measurement.
#[derive(Debug, Serialize)]
pub(super) struct Messages {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) published_per_sec: f64,
    pub(super) delivered_per_sec: f64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) redelivered: u64,
    pub(super) refused: u64,
}

/// A part of a measurement with separate costs.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    phase: &'static str,
    secs: f64,
    messages: u64,
    messages_per_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<BrokerUsage>,
    /// Growth of the broker's resident memory per message.
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes_per_message: Option<f64>,
}

/// Figures about connections.
#[derive(Debug, Serialize)]
pub(super) struct Connections {
    pub(super) connected: usize,
    pub(super) failed: usize,
    pub(super) connected_per_sec: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    p99_99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct BrokerUsage {
    /// CPU time per delivered message, or per connection, in microseconds.
    cpu_us: f64,
    user_us: f64,
    system_us: f64,
    /// CPU time as a share of one core.
    cpu: f64,
    resident_bytes_before: u64,
    resident_bytes_after: u64,
    /// Growth of resident memory per connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_connection: Option<f64>,
    /// Growth, likewise, without the first eighth of the connections and the broker's one-time
    /// allocations.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_further_connection: Option<f64>,
}

/// Resource usage of the broker and of the load generator around the measurement.
pub(super) struct Usages {
    /// The broker's usage at the beginning and at the end, with `--pid`.
    pub(super) broker: Option<(Usage, Usage)>,
    /// The load generator's usage.
    pub(super) generator: Option<(Usage, Usage)>,
}

impl Report {
    /// Creates a report of the measurement; the broker's CPU time is divided by `count`.
    pub(super) fn new(
        options: &Options,
        measured: Duration,
        latencies: &Histogram,
        usages: &Usages,
        count: u64,
    ) -> Self {
        let secs = measured.as_secs_f64();
        let moves_messages = options.scenario.moves_messages();
        let closed_loop = moves_messages && options.rate.is_none();
        let has_phases = options.scenario.has_phases();
        let broker = usages.broker.as_ref();
        let generator = usages.generator.as_ref();
        Self {
            scenario: options.scenario.name(),
            version: options.version.to_string(),
            qos: options.qos().bits(),
            clients: options.clients(),
            payload_bytes: options.payload,
            window: closed_loop.then_some(options.window()),
            rate: options.rate,
            secs,
            messages: None,
            connections: None,
            phases: Vec::new(),
            latency_us: (!has_phases).then(|| Latency::new(latencies)),
            broker: broker.filter(|_| !has_phases).map(|(before, after)| {
                let per_connection = (!moves_messages).then_some(count);
                BrokerUsage::new(before, after, secs, count, per_connection)
            }),
            generator_cpu: generator.map_or(0.0, |(before, after)| {
                after.cpu_since(before).as_secs_f64() / secs.max(1e-9)
            }),
            faults: Vec::new(),
        }
    }

    /// Sets the growth of the broker's memory from after the first connections to the end, `count`
    /// connections later.
    pub(super) fn grown_since_first(&mut self, first: &Usage, after: &Usage, count: usize) {
        if let Some(broker) = &mut self.broker {
            let grown = after.resident_bytes as f64 - first.resident_bytes as f64;
            broker.bytes_per_further_connection = Some(grown / count.max(1) as f64);
        }
    }

    /// The report as one line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("a report holds nothing that JSON cannot express")
    }

    /// The report as text.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}, MQTT {}, QoS {}, {} clients, {} bytes, {}",
            self.scenario,
            self.version,
            self.qos,
            self.clients,
            self.payload_bytes,
            match (self.rate, self.window) {
                (Some(rate), _) => format!("{rate} messages/s scheduled"),
                (None, Some(window)) => format!("window {window}"),
                (None, None) => format!("{:.3} s", self.secs),
            }
        )];
        if let Some(messages) = &self.messages {
            if self.phases.is_empty() {
                lines.push(format!(
                    "delivered  {:>12.0} /s   published {:.0} /s   ({:.3} s, {} delivered)",
                    messages.delivered_per_sec,
                    messages.published_per_sec,
                    self.secs,
                    messages.delivered
                ));
            }
            lines.extend(self.phases.iter().map(Phase::text));
            lines.push(format!(
                "checked    {} lost, {} duplicated, {} reordered, {} redelivered, {} refused",
                messages.lost,
                messages.duplicated,
                messages.reordered,
                messages.redelivered,
                messages.refused
            ));
        }
        if let Some(connections) = &self.connections {
            lines.push(format!(
                "connected  {:>12.0} /s   {} connected, {} failed",
                connections.connected_per_sec, connections.connected, connections.failed
            ));
        }
        if let Some(l) = &self.latency_us {
            lines.push(format!(
                "latency    p50 {:.0} µs, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, p99.99 {:.0}, max {:.0}",
                l.p50, l.p90, l.p99, l.p99_9, l.p99_99, l.max
            ));
        }
        if let Some(broker) = &self.broker {
            lines.push(format!("broker     {}", broker.text()));
            if let Some(bytes) = broker.bytes_per_connection {
                let further = broker.bytes_per_further_connection;
                let further = further.map_or(String::new(), |bytes| {
                    format!(", {bytes:.0} for each after the first eighth")
                });
                lines.push(format!(
                    "memory     {bytes:.0} bytes per connection{further}"
                ));
            }
        }
        lines.push(format!(
            "generator  {:.0} % of a core",
            self.generator_cpu * 100.0
        ));
        lines.extend(
            self.faults
                .iter()
                .map(|fault| format!("FAULT      {fault}")),
        );
        lines.join("\n")
    }
}

impl Phase {
    /// A phase with `messages` messages; the usages may cover a longer time.
    pub(super) fn new(name: &'static str, took: Duration, usages: &Usages, messages: u64) -> Self {
        let secs = took.as_secs_f64();
        let each = |bytes: f64| bytes / messages.max(1) as f64;
        let grown = |(before, after): &(Usage, Usage)| {
            each(after.resident_bytes as f64 - before.resident_bytes as f64)
        };
        let broker = usages.broker.as_ref();
        Self {
            phase: name,
            secs,
            messages,
            messages_per_sec: messages as f64 / secs.max(1e-9),
            broker: broker
                .map(|(before, after)| BrokerUsage::new(before, after, secs, messages, None)),
            resident_bytes_per_message: broker.map(grown),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{:<11}{:>12.0} /s   ({:.3} s, {} messages)",
            self.phase, self.messages_per_sec, self.secs, self.messages
        );
        if let Some(broker) = &self.broker {
            text.push_str(&format!("\n           broker {}", broker.text()));
        }
        if let Some(bytes) = self.resident_bytes_per_message {
            let than = if bytes < 0.0 { "less" } else { "more" };
            text.push_str(&format!(
                "\n           {:.0} bytes of RSS {than} per message",
                bytes.abs()
            ));
        }
        text
    }
}

impl Latency {
    fn new(histogram: &Histogram) -> Self {
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let percentile = |percentile| us(histogram.percentile(percentile));
        Self {
            mean: us(histogram.mean()),
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p99_9: percentile(99.9),
            p99_99: percentile(99.99),
            max: us(histogram.max()),
        }
    }
}

impl BrokerUsage {
    fn new(before: &Usage, after: &Usage, secs: f64, count: u64, connections: Option<u64>) -> Self {
        let cpu = after.cpu_since(before).as_secs_f64();
        let each = |cpu: f64| cpu * 1e6 / count.max(1) as f64;
        let ticks = |before: Duration, after: Duration| (after - before).as_secs_f64();
        let grown = after.resident_bytes as f64 - before.resident_bytes as f64;
        Self {
            cpu_us: each(cpu),
            user_us: each(ticks(before.user, after.user)),
            system_us: each(ticks(before.system, after.system)),
            cpu: cpu / secs.max(1e-9),
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: after.resident_bytes,
            bytes_per_connection: connections.map(|count| grown / count.max(1) as f64),
            bytes_per_further_connection: None,
        }
    }
}

impl BrokerUsage {
    fn text(&self) -> String {
        format!(
            "{:.3} µs CPU each ({:.3} user, {:.3} system), {:.0} % of a core, RSS {:.1} MiB, \
             before {:.1}",
            self.cpu_us,
            self.user_us,
            self.system_us,
            self.cpu * 100.0,
            mib(self.resident_bytes_after),
            mib(self.resident_bytes_before)
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
