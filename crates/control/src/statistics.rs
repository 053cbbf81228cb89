//! `$SYS/broker/…`: statistics as retained messages, under the names that Mosquitto's users know.

use std::time::Duration;

use martlet_broker::{Command, Counters, SysTopic};

use crate::control::{Control, ControlError};

/// Publishes the statistics again and again; remembers what averages need.
#[derive(Debug, Default)]
pub struct SysStatistics {
    previous: Option<Totals>,
    loads: Vec<Load>,
    /// Values that were published last: values that have not changed are not published again.
    published: std::collections::HashMap<String, String>,
}

/// Totals that load averages are made of.
#[derive(Clone, Copy, Debug)]
struct Totals([u64; LOADS.len()]);

/// Exponentially weighted averages per minute, over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Load([f64; 3]);

const LOADS: [&str; 8] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "connections",
];

impl SysStatistics {
    /// Publishes the statistics as of now. `interval` is the time since the last call.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn publish(
        &mut self,
        control: &Control,
        interval: Duration,
    ) -> Result<(), ControlError> {
        let counters = control.snapshot().await?;
        self.update_loads(&counters, interval);
        let topics = self.topics(&counters, control);
        let changed: Vec<SysTopic> = topics
            .into_iter()
            .filter(|(topic, value)| {
                self.published.insert(topic.clone(), value.clone()).as_ref() != Some(value)
            })
            .map(|(topic, payload)| SysTopic { topic, payload })
            .collect();
        control.send_to_first_shard(Command::PublishSys(changed));
        Ok(())
    }

    fn update_loads(&mut self, counters: &Counters, interval: Duration) {
        let now = Totals([
            counters.packets_received,
            counters.packets_sent,
            counters.publishes_received,
            counters.publishes_sent,
            counters.lost_total(),
            counters.bytes_received,
            counters.bytes_sent,
            counters.connects_accepted,
        ]);
        let before = self
            .previous
            .replace(now)
            .unwrap_or(Totals([0; LOADS.len()]));
        self.loads.resize(LOADS.len(), Load::default());
        let minutes = interval.as_secs_f64().max(0.001) / 60.0;
        for (place, load) in self.loads.iter_mut().enumerate() {
            let per_minute = now.0[place].saturating_sub(before.0[place]) as f64 / minutes;
            for (value, window) in load.0.iter_mut().zip([1.0, 5.0, 15.0]) {
                let weight = 1.0 - (-minutes / window).exp();
                *value += (per_minute - *value) * weight;
            }
        }
    }

    fn topics(&mut self, counters: &Counters, control: &Control) -> Vec<(String, String)> {
        let mut topics = Vec::new();
        let mut put =
            |name: &str, value: String| topics.push((format!("$SYS/broker/{name}"), value));
        put(
            "version",
            format!("martlet version {}", control.info.version),
        );
        put("uptime", format!("{} seconds", control.uptime().as_secs()));
        let disconnected = counters.sessions.saturating_sub(counters.connections);
        put("clients/total", counters.sessions.to_string());
        put("clients/connected", counters.connections.to_string());
        put("clients/active", counters.connections.to_string());
        put("clients/disconnected", disconnected.to_string());
        put("clients/inactive", disconnected.to_string());
        put("clients/expired", counters.sessions_expired.to_string());
        put("clients/maximum", control.clients_maximum().to_string());
        put("messages/received", counters.packets_received.to_string());
        put("messages/sent", counters.packets_sent.to_string());
        put(
            "messages/stored",
            (counters.held + counters.retained_messages).to_string(),
        );
        put(
            "store/messages/count",
            (counters.held + counters.retained_messages).to_string(),
        );
        put("store/messages/bytes", counters.memory_bytes.to_string());
        put(
            "retained messages/count",
            counters.retained_messages.to_string(),
        );
        put("subscriptions/count", counters.subscriptions.to_string());
        put(
            "shared_subscriptions/count",
            counters.share_groups.to_string(),
        );
        put(
            "publish/messages/received",
            counters.publishes_received.to_string(),
        );
        put("publish/messages/sent", counters.publishes_sent.to_string());
        put(
            "publish/messages/dropped",
            counters.lost_total().to_string(),
        );
        put(
            "publish/bytes/received",
            counters.publish_bytes_received.to_string(),
        );
        put(
            "publish/bytes/sent",
            counters.publish_bytes_sent.to_string(),
        );
        put("bytes/received", counters.bytes_received.to_string());
        put("bytes/sent", counters.bytes_sent.to_string());
        let memory = control.memory_report(counters);
        put("heap/current", memory.used.to_string());
        for (name, load) in LOADS.iter().zip(&self.loads) {
            for (value, window) in load.0.iter().zip(["1min", "5min", "15min"]) {
                put(&format!("load/{name}/{window}"), format!("{value:.2}"));
            }
        }
        topics
    }
}
