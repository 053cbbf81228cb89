//! The routes of the MQTT microservice: publish by HTTP, the state of the broker, the log.
//!
//! Its answers are `{"status": "success", …}` and `{"status": "error", "message": …}`.

mod brokers;
mod form;
pub(crate) mod internal_use;
mod log;
mod messages;
pub(crate) mod metrics;
pub(crate) mod webhooks;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, StatusCode};
use martlet_codec::QoS;
use martlet_control::message_log::LoggedMessage;
use martlet_control::principal::{Principal, Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::routes;

use self::form::done;
use super::body::CompatBody;
use super::routes::CompatRoutes;
use crate::access::Access::Scoped;
use crate::access::Audited;
use crate::api::Api;
use crate::extensions::About;
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, MessageBody};
use crate::tenant::{InTenant, OfTenant};

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let read = Scoped(Scope::NodeRead);
    let write = Scoped(Scope::IntegrationsWrite);
    let publish_scope = Scoped(Scope::MessagesWrite);
    let routes = routes
        .add(publish_scope, Audited::Soon, routes!(publish))
        .add(read, Audited::Here, routes!(brokers::status))
        .add(read, Audited::Here, routes!(broker_status))
        .add(read, Audited::Here, routes!(log::show))
        .add(write, Audited::Here, routes!(brokers::subscribe))
        .add(write, Audited::Here, routes!(brokers::unsubscribe));
    webhooks::add_to(messages::add_to(routes))
}

/// Status of an error: what is wrong with a body is 400 there.
pub(super) fn status_of(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::Invalid => StatusCode::BAD_REQUEST,
        kind => kind.status(),
    }
}

/// An error in the form of the microservice, with its Content-Type.
pub(super) fn error_answer(problem: &Problem) -> (HeaderValue, String) {
    match problem.kind() {
        ProblemKind::Unauthenticated => (
            HeaderValue::from_static("text/plain; charset=utf-8"),
            "Unauthorized: invalid or missing API key\n".to_owned(),
        ),
        _ => {
            let body = json!({ "status": "error", "message": problem.detail() });
            let content_type = HeaderValue::from_static("application/json");
            (content_type, body.to_string())
        }
    }
}

/// A message that is to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = microservice::Message)]
struct PublishBody {
    /// Topic Name.
    #[serde(default)]
    #[schema(required)]
    topic: String,
    /// A text is the payload as it is, everything else as JSON.
    #[serde(default = "no_payload")]
    payload: Value,
    /// QoS.
    #[serde(default, deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 0)]
    qos: QoS,
    /// Whether it is retained.
    #[serde(default)]
    retained: bool,
    /// Name of another broker; `internal` is this node.
    broker: Option<String>,
}

fn no_payload() -> Value {
    Value::String(String::new())
}

/// A text is the payload as it is, everything else as JSON.
fn payload_of(payload: Value) -> String {
    match payload {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Publish a message
///
/// At this node, or at another broker.
#[utoipa::path(post, path = "/publish",
    params(OfTenant),
    request_body = PublishBody,
    responses((status = 200, description = "Published", body = Value)))]
async fn publish(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    Extension(principal): Extension<Principal>,
    CompatBody(body): CompatBody<PublishBody>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    if body.topic.is_empty() {
        return Err(Problem::bad_request("Topic is required"));
    }
    let payload = payload_of(body.payload);
    let logged = LoggedMessage {
        topic: body.topic.clone(),
        payload: payload.clone().into_bytes(),
        qos: body.qos.bits(),
        retain: body.retained,
        ..LoggedMessage::default()
    };
    let message = MessageBody::plain(body.topic, payload, body.qos, body.retained);
    let caller = (tenant, &principal);
    let (about, id) = brokers::publish(&api, caller, body.broker.as_deref(), message).await?;
    messages::log(&api, tenant, id.as_deref(), logged).await?;
    let done = done("Message published successfully".to_owned());
    Ok((about, done))
}

/// State of the node's own broker
#[utoipa::path(get, path = "/broker/status",
    responses((status = 200, description = "The state", body = Value)))]
async fn broker_status(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let counters = api.control.snapshot().await?;
    let is_open = !api.control.info.listeners.is_empty();
    Ok(Json(json!({
        "status": "ok",
        "broker": {
            "running": is_open,
            "enabled": is_open,
            "clients": counters.connections,
        },
    })))
}
