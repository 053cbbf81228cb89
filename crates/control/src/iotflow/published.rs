//! The state of the node on the topics of the system and of monitoring, as JSON.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Command, Counters, NewMessage, ShardId, TenantId};
use serde_json::{Value, json};
use tracing::warn;

use super::Catalogue;
use crate::control::{Control, ControlError};
use crate::health::{HealthAudience, HealthReport};
use crate::integrations::Integrations;
use crate::rfc3339;
use crate::wall_clock::now_ms;

/// The publisher that events show.
const PUBLISHER: &str = "$iotflow";
/// How long the messages may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes the state of the node at this interval, for as long as it runs.
pub async fn publish_state(
    control: Arc<Control>,
    integrations: Arc<Integrations>,
    catalogue: Arc<Catalogue>,
    every: Duration,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = publish(&control, &integrations, &catalogue).await {
            warn!(%error, "cannot publish the state of the node to the topics of the system");
        }
    }
}

async fn publish(
    control: &Control,
    integrations: &Integrations,
    catalogue: &Catalogue,
) -> Result<(), ControlError> {
    let counters = control.snapshot().await?;
    // Only administrators read these topics.
    let report =
        control.health_report_with(&counters, Some(integrations), HealthAudience::Operator);
    let state = State {
        counters: &counters,
        report: &report,
        uptime_secs: control.uptime().as_secs(),
        clients_maximum: control.clients_maximum(),
        memory_bytes: control.memory_report(&counters).used,
        version: control.info.version,
        at: rfc3339::text(now_ms()),
    };
    let messages = catalogue.entries().iter();
    let messages: Arc<[NewMessage]> = messages
        .filter_map(|entry| {
            let payload = state.payload(entry.name)?;
            Some(NewMessage {
                topic: catalogue.topic(entry.path).into(),
                payload: payload.to_string().into_bytes().into(),
                qos: entry.qos,
                retain: entry.retain,
                payload_is_utf8: Some(true),
                message_expiry_secs: None,
                content_type: Some("application/json".into()),
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
                hops: 0,
            })
        })
        .collect();
    let command = |request| Command::Publish {
        request,
        tenant: TenantId::default(),
        publisher: PUBLISHER.into(),
        messages: Arc::clone(&messages),
    };
    let published = control.ask_shard(ShardId(0), PATIENCE, command);
    published.await.map(drop)
}

/// State that is published.
struct State<'a> {
    counters: &'a Counters,
    report: &'a HealthReport,
    uptime_secs: u64,
    clients_maximum: u64,
    memory_bytes: u64,
    version: &'static str,
    at: String,
}

impl State<'_> {
    /// For the entry of this name; none: the node publishes nothing there.
    fn payload(&self, name: &str) -> Option<Value> {
        let mut payload = match name {
            "system_health" => self.health(),
            "system_metrics" => json!({
                "version": self.version,
                "uptime_seconds": self.uptime_secs,
                "memory_bytes": self.memory_bytes,
            }),
            "system_alerts" => json!({
                "alerts": self.report.warnings,
                "count": self.report.warnings.len(),
            }),
            "monitoring_broker" => json!({
                "connected": self.is_ready(),
                "version": self.version,
                "subscriptions": self.counters.subscriptions,
                "retained_messages": self.counters.retained_messages,
            }),
            "monitoring_clients" => json!({
                "connected": self.counters.connections,
                "sessions": self.counters.sessions,
                "maximum": self.clients_maximum,
            }),
            "monitoring_traffic" => json!({
                "messages_received": self.counters.publishes_received,
                "messages_sent": self.counters.publishes_sent,
                "messages_dropped": self.counters.lost_total(),
                "bytes_received": self.counters.bytes_received,
                "bytes_sent": self.counters.bytes_sent,
            }),
            _ => return None,
        };
        payload["timestamp"] = self.at.as_str().into();
        Some(payload)
    }

    fn is_ready(&self) -> bool {
        self.report.status == "ready"
    }

    fn health(&self) -> Value {
        let status = match (self.is_ready(), self.report.warnings.is_empty()) {
            (true, true) => "healthy",
            (true, false) => "degraded",
            (false, _) => "unhealthy",
        };
        json!({ "status": status, "node": self.report.status })
    }
}
