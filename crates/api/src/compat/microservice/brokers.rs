//! Other brokers as the microservice has them: messages for one of them, subscriptions there, and
//! their states. A broker is a bridge with `connection = true`; `internal` is the node itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use martlet_broker::TenantId;
use martlet_codec::{QoS, TopicFilter};
use martlet_control::integrations::{
    ConnectionError, Integrations, NamedConnection, PublishTo, SubscriptionError,
};
use martlet_control::principal::Principal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::form::done;
use crate::api::Api;
use crate::compat::body::CompatBody;
use crate::compat::time::Moment;
use crate::extensions::About;
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, MessageBody};
use crate::tenant::{InTenant, OfTenant};

/// The name of the node itself among the brokers.
const INTERNAL: &str = "internal";

/// A broker that a request names.
enum RequestedBroker<'a> {
    /// The node itself.
    Internal,
    /// Another one.
    Other(&'a Integrations, Arc<NamedConnection>),
}

/// The broker of this name; an empty name is the default connection.
fn broker<'a>(
    api: &'a Api,
    tenant: TenantId,
    named: Option<&str>,
) -> Result<RequestedBroker<'a>, Problem> {
    let named = named.filter(|name| !name.is_empty());
    let default = &*api.settings.default_connection;
    let name = named.unwrap_or(default);
    if name.is_empty() || name == INTERNAL {
        api.internal_use.note();
        return Ok(RequestedBroker::Internal);
    }
    let all = api.integrations();
    let found = all.and_then(|all| Some((all, all.connection(tenant, name)?)));
    found
        .map(|(all, one)| RequestedBroker::Other(all, one))
        .ok_or_else(|| {
            let detail = format!(
                "Failed to get MQTT client: broker configuration '{name}' not found: set \
             MQTT_{}_HOST, or add a bridge {name:?} with connection = true \
             (docs/seeds.md); \"broker\": \"internal\" is this node",
                name.to_uppercase()
            );
            Problem::new(ProblemKind::Internal, detail)
        })
}

/// Publishes a message at a broker. At another one it is answered when the message waits in the
/// queue of its connection; with QoS 1 and 2 it is durable there. Returns the name of the message
/// in this node; none for another broker.
pub(super) async fn publish(
    api: &Api,
    (tenant, principal): (TenantId, &Principal),
    named: Option<&str>,
    message: MessageBody,
) -> Result<(Extension<About>, Option<String>), Problem> {
    let (all, connection) = match broker(api, tenant, named)? {
        RequestedBroker::Internal => {
            let published = publish::publish_one(api, tenant, principal, message).await;
            return published
                .map(|(about, outcome)| (about, outcome.message_id))
                .map_err(failed);
        }
        RequestedBroker::Other(all, connection) => (all, connection),
    };
    let message = message.into_message(api, principal)?;
    let name = connection.name();
    let about = About(json!({ "topic": message.topic, "broker": name }));
    let limits = &api.control.info.limits;
    let topic_here = connection.topic_of(&message.topic, message.retain);
    if topic_here.len() > usize::from(limits.topic_bytes)
        || topic_here.split('/').count() > usize::from(limits.topic_levels)
    {
        let detail = "the topic is too long to wait in the queue of the connection: \
                      limits.topic_bytes or limits.topic_levels";
        return Err(Problem::bad_request(detail));
    }
    let caller = principal.to_string();
    let sent = all.publish_to(&connection, &caller, tenant, message).await;
    match &sent {
        Ok(PublishTo::Queued) => api.counts.note_messages(1, 0),
        _ => api.counts.note_messages(0, 1),
    }
    match sent.map_err(|error| not_published(&error.to_string()))? {
        PublishTo::Queued => Ok((Extension(about), None)),
        PublishTo::Refused(outcome) => Err(failed(publish::refusal_of(api, &outcome).into())),
        PublishTo::NotAttached => Err(not_published(&format!(
            "the bridge {name:?} is not attached to the node, so the message would be lost: GET \
             /api/v1/integrations/bridge/{name} shows why"
        ))),
    }
}

/// Answers 500, as that system does, where the node could not do something for now.
fn failed(problem: Problem) -> Problem {
    match problem.kind() {
        ProblemKind::Unavailable => not_published(problem.detail()),
        _ => problem,
    }
}

fn not_published(why: &str) -> Problem {
    let detail = format!("Failed to publish message: {why}");
    Problem::new(ProblemKind::Internal, detail)
}

/// A subscription at a broker.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = microservice::Subscription)]
pub(super) struct SubscriptionBody {
    /// Topic Filter.
    #[serde(default)]
    #[schema(required)]
    topic: String,
    /// QoS.
    #[serde(default, deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 0)]
    qos: QoS,
    /// Name of another broker; `internal` is this node.
    broker: Option<String>,
}

impl SubscriptionBody {
    fn check(&self) -> Result<(), Problem> {
        if self.topic.is_empty() {
            return Err(Problem::bad_request("Topic is required"));
        }
        let filter = TopicFilter::new(&self.topic);
        filter.map(drop).map_err(|error| {
            Problem::bad_request(format!(
                "{:?} is not a valid Topic Filter: {error}",
                self.topic
            ))
        })
    }

    fn about(&self) -> Extension<About> {
        Extension(About(json!({ "topic": self.topic, "broker": self.broker })))
    }
}

/// Subscribe at another broker
#[utoipa::path(post, path = "/subscribe",
    params(OfTenant),
    request_body = SubscriptionBody,
    responses((status = 200, description = "Subscribed", body = Value)))]
pub(super) async fn subscribe(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    CompatBody(body): CompatBody<SubscriptionBody>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    body.check()?;
    if let RequestedBroker::Other(all, connection) = broker(&api, tenant, body.broker.as_deref())? {
        let done = all.subscribe_at(&connection, &body.topic, body.qos).await;
        done.map_err(|error| unchanged(error, "subscribe to"))?;
    }
    let done = done(format!("Subscribed to topic {}", body.topic));
    Ok((body.about(), done))
}

/// Unsubscribe at another broker
#[utoipa::path(post, path = "/unsubscribe",
    params(OfTenant),
    request_body = SubscriptionBody,
    responses((status = 200, description = "Unsubscribed", body = Value)))]
pub(super) async fn unsubscribe(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    CompatBody(body): CompatBody<SubscriptionBody>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    body.check()?;
    if let RequestedBroker::Other(all, connection) = broker(&api, tenant, body.broker.as_deref())? {
        let done = all.unsubscribe_at(&connection, &body.topic).await;
        done.map_err(|error| unchanged(error, "unsubscribe from"))?;
    }
    let done = done(format!("Unsubscribed from topic {}", body.topic));
    Ok((body.about(), done))
}

/// Why subscriptions have not changed: 500 there.
fn unchanged(error: SubscriptionError, what: &str) -> Problem {
    let detail = match error {
        SubscriptionError::Connection(ConnectionError::NotConnected(why))
            if why == NamedConnection::NOT_CONNECTED =>
        {
            why
        }
        SubscriptionError::Connection(ConnectionError::NotConnected(why)) => {
            format!("Failed to connect to MQTT broker: {why}")
        }
        SubscriptionError::Connection(ConnectionError::Refused(why)) => {
            format!("Failed to {what} topic: {why}")
        }
        SubscriptionError::SharedRegistry(error) => {
            format!("Failed to {what} topic: {}", error.caller_text())
        }
    };
    Problem::new(ProblemKind::Internal, detail)
}

/// State of the brokers
///
/// Those that were used since the start, or have subscriptions.
#[utoipa::path(get, path = "/status",
    params(OfTenant),
    responses((status = 200, description = "The brokers by name", body = Value)))]
pub(super) async fn status(State(api): State<Api>, InTenant(tenant): InTenant) -> Json<Value> {
    let mut brokers = Map::new();
    let mut are_connected = true;
    if api.internal_use.was() {
        let is_open = !api.control.info.listeners.is_empty();
        are_connected &= is_open;
        let state = json!({ "connected": is_open, "subscriptions": [] });
        brokers.insert(INTERNAL.to_owned(), state);
    }
    let all = api.integrations();
    let all = all.map_or_else(Vec::new, |all| all.connections(tenant));
    for one in all.iter().filter(|one| one.is_used()) {
        let is_connected = one.is_connected();
        are_connected &= is_connected;
        let state = json!({ "connected": is_connected, "subscriptions": one.subscriptions() });
        brokers.insert(one.name().to_owned(), state);
    }
    let status = match (brokers.is_empty(), are_connected) {
        (true, _) => "no_clients",
        (false, true) => "ok",
        (false, false) => "partial",
    };
    Json(json!({ "status": status, "brokers": brokers, "timestamp": Moment::now() }))
}
