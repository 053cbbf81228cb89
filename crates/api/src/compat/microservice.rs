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
use axum::routing::{MethodRouter, get, post};
use martlet_codec::QoS;
use martlet_control::message_log::LoggedMessage;
use martlet_control::principal::{Principal, Scope};
use serde::Deserialize;
use serde_json::{Value, json};

use self::form::done;
use super::body::CompatBody;
use super::routes::CompatRoutes;
use crate::access::Access::Scoped;
use crate::access::Audited;
use crate::api::Api;
use crate::extensions::About;
use crate::guard::guarded;
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, MessageBody};
use crate::tenant::InTenant;

pub(super) fn add_to(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let with = |scope, methods| guarded(api, Scoped(scope), Audited::Here, methods);
    let messages = Scoped(Scope::MessagesWrite);
    let publish = guarded(api, messages, Audited::Soon, post(publish));
    let write = Scope::IntegrationsWrite;
    let routes = routes
        .route("/publish", publish)
        .route("/status", status(api))
        .route("/broker/status", with(Scope::NodeRead, get(broker_status)))
        .route("/logs", with(Scope::NodeRead, get(log::show)))
        .route("/subscribe", with(write, post(brokers::subscribe)))
        .route("/unsubscribe", with(write, post(brokers::unsubscribe)));
    webhooks::add_to(messages::add_to(routes, api), api)
}

/// `GET /status`, where the path is this system's.
fn status(api: &Api) -> MethodRouter<Api> {
    let access = Scoped(Scope::NodeRead);
    guarded(api, access, Audited::Here, get(brokers::status))
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
#[derive(Debug, Deserialize)]
struct PublishBody {
    #[serde(default)]
    topic: String,
    #[serde(default = "no_payload")]
    payload: Value,
    #[serde(default, deserialize_with = "publish::qos")]
    qos: QoS,
    #[serde(default)]
    retained: bool,
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
