//! The broker as the system's MQTT client sees it, and messages by HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use martlet_broker::Counters;
use martlet_codec::QoS;
use martlet_control::principal::Principal;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Body, missing_field};
use super::topics;
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::extensions::{About, Unchanged};
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, MessageBody};
use crate::tenant::{InTenant, OfTenant};

const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Where clients reach the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerLocation {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) uses_tls: bool,
    /// There is a listener for MQTT.
    pub(super) is_there: bool,
}

impl BrokerLocation {
    /// The address of the first listener without TLS, or else of one with TLS. If it listens at all
    /// addresses, the host is the one that the request was sent to.
    pub(super) fn of(api: &Api, host_header: Option<&str>) -> Self {
        Self::among(&api.control.info.listeners, host_header)
    }

    fn among(listeners: &[String], host_header: Option<&str>) -> Self {
        let of_scheme = |scheme| listeners.iter().find_map(|url| url.strip_prefix(scheme));
        let (place, uses_tls) = match (of_scheme("mqtt://"), of_scheme("mqtts://")) {
            (Some(place), _) => (Some(place), false),
            (None, Some(place)) => (Some(place), true),
            (None, None) => (None, false),
        };
        let usual = if uses_tls { MQTTS_PORT } else { MQTT_PORT };
        let (host, port) = host_and_port(place.unwrap_or_default());
        let is_any = ["", "0.0.0.0", "::"].contains(&host);
        let host = match host_header.map(|host_header| host_and_port(host_header).0) {
            Some(host) if is_any && !host.is_empty() => host,
            None | Some(_) if is_any => "localhost",
            _ => host,
        };
        Self {
            host: host.to_owned(),
            port: port.unwrap_or(usual),
            uses_tls,
            is_there: place.is_some(),
        }
    }

    fn expect(self) -> Result<Self, Problem> {
        match self.is_there {
            true => Ok(self),
            false => {
                let detail = "the node has no listener for MQTT";
                let problem = Problem::new(ProblemKind::Unavailable, detail);
                let problem = problem.with_heading("MQTT service not initialized");
                Err(problem.with_member("status", "unavailable"))
            }
        }
    }

    fn status(&self, counters: &Counters) -> Value {
        json!({
            "connected": self.is_there,
            "host": self.host,
            "port": self.port,
            "client_id": "martlet",
            "use_tls": self.uses_tls,
            "handlers_count": 0,
            "subscriptions_count": counters.subscriptions,
        })
    }
}

/// Host and port of an authority; IPv6 addresses without their brackets.
fn host_and_port(place: &str) -> (&str, Option<u16>) {
    let place = place.split('/').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (place, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// Where clients reach the broker
#[utoipa::path(get, path = "/api/v1/mqtt/status",
    responses((status = 200, description = "The address, and whether it is open", body = Value)))]
pub(super) async fn status(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let broker = BrokerLocation::of(&api, host_of(&headers)).expect()?;
    let counters = api.control.snapshot().await?;
    Ok(Json(json!({
        "status": "success",
        "mqtt_status": broker.status(&counters),
        "broker_info": {
            "host": broker.host,
            "port": broker.port,
            "connected": broker.is_there,
            "tls_enabled": broker.uses_tls,
        },
    })))
}

fn host_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Numbers about the broker
#[utoipa::path(get, path = "/api/v1/mqtt/monitoring/metrics",
    responses((status = 200, description = "The numbers", body = Value)))]
pub(super) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let broker = BrokerLocation::of(&api, host_of(&headers)).expect()?;
    let counters = api.control.snapshot().await?;
    let catalogue = &api.settings.iotflow;
    Ok(Json(json!({
        "status": "success",
        "metrics": {
            "connection_status": broker.status(&counters),
            "topics": {
                "total_structures": catalogue.entries().len(),
                "base_topic": catalogue.base(),
            },
            "handlers": { "message_handlers": 0, "subscription_callbacks": 0 },
            "clients": { "connected": counters.connections, "sessions": counters.sessions },
            "messages": {
                "received": counters.publishes_received,
                "sent": counters.publishes_sent,
                "dropped": counters.lost_total(),
                "retained": counters.retained_messages,
            },
        },
        "timestamp": MomentUs::now(),
    })))
}

/// A message that is to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Message)]
pub(super) struct MqttMessageBody {
    /// Topic Name.
    #[schema(value_type = String)]
    topic: Option<String>,
    /// A text is the payload as it is, everything else as JSON.
    #[schema(value_type = Value)]
    payload: Option<Value>,
    /// QoS.
    #[serde(default = "at_least_once", deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 1)]
    qos: QoS,
    /// Whether it is retained; also as `retained`.
    #[serde(default, alias = "retained")]
    retain: bool,
}

fn at_least_once() -> QoS {
    QoS::AtLeastOnce
}

/// Publish a message
///
/// To a topic of the system.
#[utoipa::path(post, path = "/api/v1/mqtt/publish",
    params(OfTenant),
    request_body = MqttMessageBody,
    responses((status = 200, description = "Published", body = Value)))]
pub(super) async fn publish(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    Extension(principal): Extension<Principal>,
    Body(body): Body<MqttMessageBody>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    let topic = body.topic;
    let topic = topic.ok_or_else(|| missing_field("Missing required field: topic"))?;
    let payload = body.payload;
    let payload = payload.ok_or_else(|| missing_field("Missing required field: payload"))?;
    if let Some(error) = topics::errors_of(&api.settings.iotflow, &topic).first() {
        let problem = Problem::bad_request(error.clone()).with_heading("Invalid topic format");
        return Err(problem.with_member("topic", topic));
    }
    let payload = match payload {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let (qos, retain) = (body.qos, body.retain);
    let message = MessageBody::plain(topic.clone(), payload, qos, retain);
    let (about, _) = publish::publish_one(&api, tenant, &principal, message).await?;
    let answer = json!({
        "status": "success",
        "message": "Message published successfully",
        "topic": topic,
        "qos": qos as u8,
        "retain": retain,
    });
    Ok((about, Json(answer)))
}

/// A subscription that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Subscription)]
pub(super) struct Subscription {
    /// Topic Filter.
    #[schema(value_type = String)]
    topic: Option<String>,
    /// QoS.
    #[serde(default = "at_least_once", deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 1)]
    qos: QoS,
}

/// Subscribe the system's own client
///
/// That client is the node itself, which sees every message, so nothing changes.
#[utoipa::path(post, path = "/api/v1/mqtt/subscribe",
    request_body = Subscription,
    responses((status = 200, description = "Accepted", body = Value)))]
pub(super) async fn subscribe(
    State(api): State<Api>,
    Body(body): Body<Subscription>,
) -> Result<(Extension<Unchanged>, Json<Value>), Problem> {
    let topic = body.topic;
    let topic = topic.ok_or_else(|| missing_field("Missing required field: topic"))?;
    if let Some(error) = topics::error_of_filter(&api.settings.iotflow, &topic) {
        let problem = Problem::bad_request(error).with_heading("Invalid topic format");
        return Err(problem.with_member("topic", topic));
    }
    let answer = json!({
        "status": "success",
        "message": "Subscribed successfully",
        "topic": topic,
        "qos": body.qos as u8,
    });
    Ok((Extension(Unchanged), Json(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_led_to_a_listener_that_they_reach() {
        let of = |listeners: &[&str], host_header| {
            let listeners: Vec<String> = listeners.iter().map(|&url| url.to_owned()).collect();
            let broker = BrokerLocation::among(&listeners, host_header);
            (broker.host, broker.port, broker.uses_tls, broker.is_there)
        };
        let found = |host: &str, port, uses_tls| (host.to_owned(), port, uses_tls, true);
        let both = ["mqtts://10.0.0.1:8883", "mqtt://127.0.0.1:2883"];
        assert_eq!(of(&both, Some("x")), found("127.0.0.1", 2883, false));
        assert_eq!(of(&both[..1], None), found("10.0.0.1", 8883, true));
        let any = ["mqtt://0.0.0.0:1883"];
        assert_eq!(
            of(&any, Some("iot.example:5000")),
            found("iot.example", 1883, false)
        );
        assert_eq!(
            of(&any, Some("[2001:db8::1]:80")),
            found("2001:db8::1", 1883, false)
        );
        assert_eq!(of(&any, None), found("localhost", 1883, false));
        assert!(!of(&["ws://0.0.0.0:9001/mqtt"], None).3);
    }
}
