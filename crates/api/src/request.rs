//! Requests: a message is published, and the answer is the first response (MQTT 5 section 4.10).

use std::time::Duration;

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_broker::{Published, may_publish};
use martlet_codec::{QoS, ReasonCode};
use martlet_control::journal::Entry;
use martlet_control::principal::{Principal, Scope};
use martlet_control::request::{RequestError, Requested, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::Api;
use crate::extensions::About;
use crate::extract::JsonBody;
use crate::payload::shown;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::publish::{self, MessageBody, PublishRefusal, UserProperty};
use crate::tenant::{InTenant, OfTenant};

/// Time to wait for a response, milliseconds: the default and the maximum.
const TIMEOUT_MS: u64 = 10_000;
const TIMEOUT_MS_MAX: u64 = 60_000;

/// A request that is to be published. Its payload is one of `payload`, `payload_base64` and
/// `payload_json`, or empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestBody {
    /// Topic Name.
    #[schema(example = "devices/7/command")]
    topic: String,
    /// The payload as text.
    #[schema(example = "state?")]
    payload: Option<String>,
    /// The payload in Base64.
    payload_base64: Option<String>,
    /// The payload as JSON, sent without blanks; `null` is none.
    #[schema(value_type = Value, required = false)]
    payload_json: Option<Value>,
    /// QoS.
    #[serde(default, deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 0)]
    qos: QoS,
    /// Message Expiry Interval, seconds.
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295_u64)]
    message_expiry_secs: Option<u32>,
    /// Payload Format Indicator: the payload is UTF-8 text.
    payload_is_utf8: Option<bool>,
    /// Content Type.
    content_type: Option<String>,
    /// Response Topic. Clients before MQTT 5 do not get it, so for them it must be where they
    /// answer anyway. By default the node chooses one: `response/api/` and 32 random digits.
    /// Devices of the built-in type may publish there; a type or role of one's own needs the rule
    /// `topic write response/api/+`.
    #[schema(example = "devices/7/command/response")]
    response_topic: Option<String>,
    /// Correlation Data, in Base64; random by default. A message with other Correlation Data is not
    /// the response; one with none is.
    correlation_data_base64: Option<String>,
    /// User Properties, in order.
    #[serde(default)]
    user_properties: Vec<UserProperty>,
    /// Milliseconds to wait for the response.
    #[schema(minimum = 1, maximum = 60_000, default = 10_000)]
    timeout_ms: Option<u64>,
}

impl RequestBody {
    fn check(&self) -> Result<(), PublishRefusal> {
        let invalid = ReasonCode::TopicNameInvalid;
        if let Some(topic) = &self.response_topic {
            if *topic == self.topic {
                let detail = "the request itself would be the first message there";
                return Err(PublishRefusal::of("/response_topic", invalid, detail));
            }
            if !may_publish(topic) {
                let detail = "no client may publish to topics of the node's own";
                return Err(PublishRefusal::of("/response_topic", invalid, detail));
            }
        }
        let timeout_ms = self.timeout_ms.unwrap_or(TIMEOUT_MS);
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            let detail = format!("expected 1 to {TIMEOUT_MS_MAX}");
            return Err(PublishRefusal::of("/timeout_ms", invalid, detail));
        }
        Ok(())
    }
}

impl From<RequestBody> for MessageBody {
    fn from(body: RequestBody) -> Self {
        Self {
            topic: body.topic,
            payload: body.payload,
            payload_base64: body.payload_base64,
            payload_json: body.payload_json,
            qos: body.qos,
            retain: false,
            message_expiry_secs: body.message_expiry_secs,
            payload_is_utf8: body.payload_is_utf8,
            content_type: body.content_type,
            response_topic: body.response_topic,
            correlation_data_base64: body.correlation_data_base64,
            user_properties: body.user_properties,
        }
    }
}

/// A request that is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestOutcome {
    /// The request's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "68719476737")]
    message_id: Option<String>,
    /// For how many sessions and share groups the request was chosen, at least.
    matched: u64,
    /// From the request's acknowledgement to the response, milliseconds.
    after_ms: u64,
    /// The response.
    response: ResponseView,
}

/// A response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseView {
    /// Topic Name.
    topic: String,
    /// QoS it came with.
    qos: u8,
    /// The payload.
    payload: String,
    /// How it stands there: `text` or `base64`.
    payload_encoding: String,
    /// Length of the payload.
    payload_bytes: usize,
    /// Payload Format Indicator: the payload is UTF-8 text.
    payload_is_utf8: Option<bool>,
    /// Content Type.
    content_type: Option<String>,
    /// Correlation Data, in Base64; none from clients before MQTT 5.
    correlation_data_base64: Option<String>,
    /// User Properties, in order.
    user_properties: Vec<UserProperty>,
}

impl RequestOutcome {
    fn new(published: &Published, response: Response) -> Self {
        let (payload, payload_encoding) = shown(&response.payload, true);
        let pairs = response.user_properties.into_iter();
        Self {
            message_id: published.id.map(|id| id.to_string()),
            matched: published.subscribers(),
            after_ms: response.after.as_millis() as u64,
            response: ResponseView {
                topic: response.topic,
                qos: response.qos as u8,
                payload,
                payload_encoding,
                payload_bytes: response.payload.len(),
                payload_is_utf8: response.payload_is_utf8,
                content_type: response.content_type,
                correlation_data_base64: response
                    .correlation_data
                    .map(|data| STANDARD.encode(data)),
                user_properties: pairs.map(Into::into).collect(),
            },
        }
    }
}

/// Words for an answer to a command that its sender was not permitted to give.
fn refused_text(refused: &Entry) -> String {
    let (topic, why) = (&refused.topic, refused.why.as_deref());
    let mut text = format!(
        "the client {:?} answered on {:?}, which was refused: {}",
        refused.client_id,
        topic.as_deref().unwrap_or_default(),
        why.unwrap_or("it is not permitted to")
    );
    if let Some(remedy) = &refused.remedy {
        text.push_str(&format!("; {remedy}"));
    }
    text
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Publish a request, and wait for its response
///
/// The answer is the first message on the Response Topic, on which the node listens before it
/// publishes the request. It needs the scope `messages:read` too. At most 64 requests wait at once.
/// The client that answers needs the right to publish to the Response Topic; if it lacks that
/// right, the error names the client and the reason.
#[utoipa::path(post, path = "/api/v1/request", tag = "messages",
    params(OfTenant), request_body = RequestBody,
    responses(
        (status = 200, description = "The response", body = RequestOutcome),
        (status = 404, description = "No client is subscribed to the topic", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer was received in time, or no client may answer", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn request(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    Extension(principal): Extension<Principal>,
    JsonBody(body): JsonBody<RequestBody>,
) -> Result<(Extension<About>, axum::Json<RequestOutcome>), Problem> {
    if !principal.scopes.has(Scope::MessagesRead) {
        let detail = principal.lacks(Scope::MessagesRead);
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    body.check()?;
    let timeout_ms = body.timeout_ms.unwrap_or(TIMEOUT_MS);
    let message = MessageBody::from(body).into_message(&api, &principal)?;
    let topic = message.topic.clone();
    let timeout = Duration::from_millis(timeout_ms);
    let caller = principal.to_string();
    let done = api.control.request(&caller, tenant, message, timeout);
    match done.await? {
        Requested::Answered(published, response) => {
            let about = Extension(About(json!({ "topic": topic })));
            let outcome = RequestOutcome::new(&published, *response);
            Ok((about, axum::Json(outcome)))
        }
        Requested::Refused(reason) => Err(publish::refused(&api, reason).into()),
        Requested::NoSubscriber(_) => {
            let detail = format!("nobody is subscribed to {topic:?}, so nobody can answer");
            Err(Problem::new(ProblemKind::NoSubscriber, detail))
        }
        Requested::Silent(published, silence) => {
            let response_topic = &silence.topic;
            let whom = match published.subscribers() {
                1 => "1 subscriber".to_owned(),
                count => format!("{count} subscribers"),
            };
            let context = format!("the request was for {whom} of {topic:?}, and ");
            let detail = match &silence.refused {
                Some(refused) => format!("{context}{}", refused_text(refused)),
                None => format!(
                    "{context}no response on {response_topic:?} within {timeout_ms} ms; GET \
                     /api/v1/subscriptions?topic= lists the subscribers, GET /api/v1/why?name= \
                     shows whether one of them has a problem"
                ),
            };
            Err(Problem::new(ProblemKind::NoResponse, detail))
        }
    }
}
