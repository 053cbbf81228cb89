//! Messages that operators and programs publish: one, or many at once.

use std::time::Duration;

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_broker::{NewMessage, Published, TenantId, may_publish};
use martlet_codec::{QoS, ReasonCode, TopicName};
use martlet_control::principal::{Principal, Scope};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::Api;
use crate::extensions::About;
use crate::extract::JsonBody;
use crate::problem::{Problem, ProblemKind};
use crate::tenant::{InTenant, OfTenant};

/// Messages of one request, at most.
const BULK_MAX: usize = 10_000;
/// Bytes of the body of such a request, at most.
const BULK_BYTES: usize = 32 * 1024 * 1024;
/// Time that such a body may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a body besides the longest message.
const BODY_OVERHEAD: usize = 64 * 1024;

/// Length limit of a body with messages on this path. One message as long as clients
/// may send it fits, also in Base64.
pub(crate) fn body_bytes_max(api: &Api, path: &str) -> Option<usize> {
    let max = match path {
        "/api/v1/publish" | "/api/v1/request" | "/api/v1/mqtt/publish" | "/publish" => {
            let message = api.control.info.limits.packet_bytes as usize;
            message.saturating_mul(2).saturating_add(BODY_OVERHEAD)
        }
        "/api/v1/publish/bulk" => BULK_BYTES,
        _ => return None,
    };
    Some(max.max(api.settings.body_bytes))
}

/// A User Property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserProperty {
    /// Name of the property.
    pub name: String,
    /// Value of the property.
    pub value: String,
}

impl From<(Box<str>, Box<str>)> for UserProperty {
    fn from((name, value): (Box<str>, Box<str>)) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// A message that is to be published. Its payload is one of `payload`, `payload_base64` and
/// `payload_json`, or empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageBody {
    /// Topic Name.
    #[schema(example = "devices/7/command")]
    pub(crate) topic: String,
    /// The payload as text.
    #[schema(example = "on")]
    pub(crate) payload: Option<String>,
    /// The payload in Base64.
    pub(crate) payload_base64: Option<String>,
    /// The payload as JSON, sent without blanks; `null` is none.
    #[schema(value_type = Value, required = false)]
    pub(crate) payload_json: Option<Value>,
    /// QoS.
    #[serde(default, deserialize_with = "qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 0)]
    pub(crate) qos: QoS,
    /// Whether it is to be retained, which needs the scope `retained:write` too; without a payload,
    /// the topic's retained message goes.
    #[serde(default)]
    pub(crate) retain: bool,
    /// Message Expiry Interval, seconds.
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295_u64)]
    pub(crate) message_expiry_secs: Option<u32>,
    /// Payload Format Indicator: the payload is UTF-8 text.
    pub(crate) payload_is_utf8: Option<bool>,
    /// Content Type.
    #[schema(example = "text/plain")]
    pub(crate) content_type: Option<String>,
    /// Response Topic.
    pub(crate) response_topic: Option<String>,
    /// Correlation Data, in Base64.
    pub(crate) correlation_data_base64: Option<String>,
    /// User Properties, in order.
    #[serde(default)]
    pub(crate) user_properties: Vec<UserProperty>,
}

pub(crate) fn qos<'de, D: Deserializer<'de>>(value: D) -> Result<QoS, D::Error> {
    let bits = u8::deserialize(value)?;
    QoS::from_bits(bits).ok_or_else(|| D::Error::custom("expected 0, 1 or 2"))
}

/// Why a message is not published.
#[derive(Debug)]
pub(crate) struct PublishRefusal {
    /// The field at fault; none if it could be published at another time.
    field: Option<&'static str>,
    detail: String,
    reason: ReasonCode,
}

impl PublishRefusal {
    pub(crate) fn of(field: &'static str, reason: ReasonCode, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            detail: detail.into(),
            reason,
        }
    }
}

impl MessageBody {
    /// A message without properties.
    pub(crate) fn plain(topic: String, payload: String, qos: QoS, retain: bool) -> Self {
        Self {
            topic,
            payload: Some(payload),
            payload_base64: None,
            payload_json: None,
            qos,
            retain,
            message_expiry_secs: None,
            payload_is_utf8: None,
            content_type: None,
            response_topic: None,
            correlation_data_base64: None,
            user_properties: Vec::new(),
        }
    }

    /// As it is published, if a client could.
    pub(crate) fn into_message(
        self,
        api: &Api,
        principal: &Principal,
    ) -> Result<NewMessage, PublishRefusal> {
        let malformed = ReasonCode::MalformedPacket;
        if self.retain && !principal.scopes.has(Scope::RetainedWrite) {
            let detail = principal.lacks(Scope::RetainedWrite);
            return Err(PublishRefusal::of(
                "/retain",
                ReasonCode::NotAuthorized,
                detail,
            ));
        }
        check_topic("/topic", &self.topic, api)?;
        if !may_publish(&self.topic) {
            let detail = "no client may publish to topics of the node's own";
            return Err(PublishRefusal::of(
                "/topic",
                ReasonCode::NotAuthorized,
                detail,
            ));
        }
        let payload = payload_of(self.payload, self.payload_base64, self.payload_json)?;
        if self.payload_is_utf8 == Some(true) && std::str::from_utf8(&payload).is_err() {
            let detail = "the payload is not UTF-8";
            let reason = ReasonCode::PayloadFormatInvalid;
            return Err(PublishRefusal::of("/payload_is_utf8", reason, detail));
        }
        if let Some(topic) = &self.response_topic {
            check_topic("/response_topic", topic, api)?;
        }
        let correlation_data = self.correlation_data_base64.map(|text| {
            let decoded = STANDARD.decode(text);
            decoded.map_err(|error| {
                let detail = format!("is not Base64: {error}");
                PublishRefusal::of("/correlation_data_base64", malformed, detail)
            })
        });
        let correlation_data = correlation_data.transpose()?;
        let too_long = |len: Option<usize>| len.is_some_and(|len| len > usize::from(u16::MAX));
        if too_long(correlation_data.as_ref().map(Vec::len)) {
            let detail = "65535 bytes at most";
            return Err(PublishRefusal::of(
                "/correlation_data_base64",
                malformed,
                detail,
            ));
        }
        let content_type = self.content_type;
        check_text("/content_type", content_type.as_deref().unwrap_or_default())?;
        let properties_max = usize::from(api.control.info.limits.user_properties);
        if self.user_properties.len() > properties_max {
            let detail = format!("{properties_max} at most (limits.user_properties)");
            return Err(PublishRefusal::of("/user_properties", malformed, detail));
        }
        for UserProperty { name, value } in &self.user_properties {
            check_text("/user_properties", name)?;
            check_text("/user_properties", value)?;
        }
        let pairs = self.user_properties.into_iter();
        Ok(NewMessage {
            topic: self.topic.into(),
            payload: payload.into(),
            qos: self.qos,
            retain: self.retain,
            payload_is_utf8: self.payload_is_utf8,
            message_expiry_secs: self.message_expiry_secs,
            content_type: content_type.map(Into::into),
            response_topic: self.response_topic.map(Into::into),
            correlation_data: correlation_data.map(Into::into),
            user_properties: pairs
                .map(|pair| (pair.name.into(), pair.value.into()))
                .collect(),
            hops: 0,
        })
    }
}

fn check_topic(field: &'static str, topic: &str, api: &Api) -> Result<(), PublishRefusal> {
    let limits = &api.control.info.limits;
    let refused = |detail: String| PublishRefusal::of(field, ReasonCode::TopicNameInvalid, detail);
    if topic.contains(['+', '#']) {
        let detail = "a Topic Name has no wildcards: + and # are for subscribing";
        return Err(refused(detail.to_owned()));
    }
    if TopicName::new(topic).is_err() {
        let detail = "a Topic Name has 1 to 65535 bytes and no null character";
        return Err(refused(detail.to_owned()));
    }
    let (bytes, levels) = (topic.len(), topic.split('/').count());
    if bytes > usize::from(limits.topic_bytes) {
        let detail = format!(
            "{bytes} bytes; limits.topic_bytes is {}",
            limits.topic_bytes
        );
        return Err(refused(detail));
    }
    if levels > usize::from(limits.topic_levels) {
        let detail = format!(
            "{levels} levels; limits.topic_levels is {}",
            limits.topic_levels
        );
        return Err(refused(detail));
    }
    Ok(())
}

/// [MQTT-1.5.4-2]
fn check_text(field: &'static str, text: &str) -> Result<(), PublishRefusal> {
    let detail = match text.len() {
        len if len > usize::from(u16::MAX) => "a text has 65535 bytes at most",
        _ if text.contains('\0') => "a text has no null character",
        _ => return Ok(()),
    };
    Err(PublishRefusal::of(
        field,
        ReasonCode::MalformedPacket,
        detail,
    ))
}

fn payload_of(
    text: Option<String>,
    base64: Option<String>,
    json: Option<Value>,
) -> Result<Vec<u8>, PublishRefusal> {
    let malformed = ReasonCode::MalformedPacket;
    match (text, base64, json) {
        (None, None, None) => Ok(Vec::new()),
        (Some(text), None, None) => Ok(text.into_bytes()),
        (None, Some(base64), None) => STANDARD.decode(base64).map_err(|error| {
            let detail = format!("is not Base64: {error}");
            PublishRefusal::of("/payload_base64", malformed, detail)
        }),
        // What was read can be written.
        (None, None, Some(json)) => Ok(json.to_string().into_bytes()),
        _ => {
            let detail = "one of payload, payload_base64 and payload_json, or none";
            Err(PublishRefusal::of("/payload", malformed, detail))
        }
    }
}

/// Refusal of a message by a shard.
pub(crate) fn refused(api: &Api, reason: ReasonCode) -> PublishRefusal {
    use ReasonCode::{NotAuthorized, PacketTooLarge, PayloadFormatInvalid, TopicNameInvalid};
    match reason {
        TopicNameInvalid => PublishRefusal::of("/topic", reason, "it has control characters"),
        NotAuthorized => PublishRefusal::of("/topic", reason, "it may not be published to"),
        PacketTooLarge => {
            let limits = &api.control.info.limits;
            let packet = format!("limits.packet_bytes, {}", limits.packet_bytes);
            let detail = match limits.payload_bytes {
                0 => format!("with its topic and properties it is longer than {packet}"),
                payload => format!(
                    "it is longer than limits.payload_bytes, {payload}, or with its topic and \
                     properties than {packet}"
                ),
            };
            PublishRefusal::of("/payload", reason, detail)
        }
        PayloadFormatInvalid => PublishRefusal::of("/payload", reason, "it is not UTF-8"),
        reason => PublishRefusal {
            field: None,
            detail: format!("not published, or not known to be stored: {reason}"),
            reason,
        },
    }
}

/// Why a message was refused that the node has not accepted.
pub(crate) fn refusal_of(api: &Api, outcome: &Published) -> PublishRefusal {
    match outcome.is_held {
        true => PublishRefusal {
            field: None,
            detail: "not published: the queue of an integration that forwards it is full, and \
                     publishers wait for it; try again later"
                .to_owned(),
            reason: outcome.reason,
        },
        false => refused(api, outcome.reason),
    }
}

impl From<PublishRefusal> for Problem {
    fn from(refusal: PublishRefusal) -> Self {
        let PublishRefusal {
            field,
            detail,
            reason,
        } = refusal;
        match field {
            None => Self::new(ProblemKind::Unavailable, detail),
            Some("/retain") if reason == ReasonCode::NotAuthorized => {
                Self::new(ProblemKind::Forbidden, detail)
            }
            Some(field) => Self::of_body(field, detail),
        }
    }
}

/// Outcome of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishOutcome {
    /// Name of the message; none if it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "68719476737")]
    pub(crate) message_id: Option<String>,
    /// Number of sessions and share groups to which it was routed, at least: each other thread of
    /// the node with receivers counts as one.
    matched: u64,
    /// The reason code of its PUBACK.
    #[schema(example = 0)]
    reason_code: u8,
    /// Reason code in words.
    #[schema(example = "Success")]
    reason: &'static str,
    /// Why it was refused: the field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'static str>,
    /// Why it was refused, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<&Published> for PublishOutcome {
    fn from(published: &Published) -> Self {
        Self {
            message_id: published.id.map(|id| id.to_string()),
            matched: published.matched_locally + u64::from(published.other_shards),
            reason_code: published.reason as u8,
            reason: published.reason.name(),
            pointer: None,
            detail: None,
        }
    }
}

impl From<PublishRefusal> for PublishOutcome {
    fn from(refusal: PublishRefusal) -> Self {
        Self {
            message_id: None,
            matched: 0,
            reason_code: refusal.reason as u8,
            reason: refusal.reason.name(),
            pointer: refusal.field,
            detail: Some(refusal.detail),
        }
    }
}

/// Publish a message
///
/// As a client would, and answered when its PUBACK would come: what is promised by it is durable.
/// Messages of one caller stay in their order.
#[utoipa::path(post, path = "/api/v1/publish", tag = "messages",
    params(OfTenant), request_body = MessageBody,
    responses((status = 200, description = "Published", body = PublishOutcome)))]
pub(crate) async fn publish(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    Extension(principal): Extension<Principal>,
    JsonBody(body): JsonBody<MessageBody>,
) -> Result<(Extension<About>, axum::Json<PublishOutcome>), Problem> {
    let (about, outcome) = publish_one(&api, tenant, &principal, body).await?;
    Ok((about, axum::Json(outcome)))
}

/// Publishes a message; answered when its PUBACK would come.
pub(crate) async fn publish_one(
    api: &Api,
    tenant: TenantId,
    principal: &Principal,
    body: MessageBody,
) -> Result<(Extension<About>, PublishOutcome), Problem> {
    let message = body.into_message(api, principal)?;
    let about = Extension(About(json!({ "topic": message.topic })));
    let caller = principal.to_string();
    let outcomes = api.control.publish(&caller, tenant, vec![message]).await?;
    let is_published = |outcome: &&Published| !outcome.reason.is_error();
    let published = outcomes.iter().filter(is_published).count();
    api.counts.note_messages(published, 1 - published.min(1));
    match outcomes.first() {
        Some(outcome) if !outcome.reason.is_error() => Ok((about, outcome.into())),
        Some(outcome) => Err(refusal_of(api, outcome).into()),
        None => Err(refused(api, ReasonCode::UnspecifiedError).into()),
    }
}

/// Messages that are to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody {
    /// In order.
    #[schema(min_items = 1, max_items = 10_000)]
    messages: Vec<MessageBody>,
}

/// Outcomes of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishOutcomes {
    /// How many are published.
    published: usize,
    /// How many are not.
    refused: usize,
    /// Outcome of each message, in order.
    outcomes: Vec<PublishOutcome>,
}

/// Publish messages
///
/// Up to 10,000, in order, in a body of 32 MiB at most. Each is published or refused as a whole;
/// that one is refused does not keep the others back. Answered when the last PUBACK would come.
#[utoipa::path(post, path = "/api/v1/publish/bulk", tag = "messages",
    params(OfTenant), request_body = BulkBody,
    responses((status = 200, description = "The result for each item", body = PublishOutcomes)))]
pub(crate) async fn publish_bulk(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    Extension(principal): Extension<Principal>,
    JsonBody(body): JsonBody<BulkBody>,
) -> Result<(Extension<About>, axum::Json<PublishOutcomes>), Problem> {
    if !(1..=BULK_MAX).contains(&body.messages.len()) {
        let detail = format!("expected 1 to {BULK_MAX} messages");
        return Err(Problem::of_body("/messages", detail));
    }
    let mut messages = Vec::with_capacity(body.messages.len());
    let mut early = Vec::with_capacity(body.messages.len());
    for body in body.messages {
        match body.into_message(&api, &principal) {
            Ok(message) => {
                messages.push(message);
                early.push(None);
            }
            Err(refusal) => early.push(Some(refusal)),
        }
    }
    let about = Extension(about_many(&messages));
    let mut late = Vec::new();
    if !messages.is_empty() {
        let caller = principal.to_string();
        late = api.control.publish(&caller, tenant, messages).await?;
    }
    let mut late = late.iter();
    let outcomes = early.into_iter().map(|early| match (early, &mut late) {
        (Some(refusal), _) => PublishOutcome::from(refusal),
        (None, late) => match late.next() {
            Some(outcome) if !outcome.reason.is_error() => outcome.into(),
            Some(outcome) => refusal_of(&api, outcome).into(),
            // There are as many as there were messages.
            None => refused(&api, ReasonCode::UnspecifiedError).into(),
        },
    });
    let outcomes: Vec<PublishOutcome> = outcomes.collect();
    let is_published = |outcome: &&PublishOutcome| outcome.detail.is_none();
    let published = outcomes.iter().filter(is_published).count();
    api.counts
        .note_messages(published, outcomes.len() - published);
    let outcomes = PublishOutcomes {
        published,
        refused: outcomes.len() - published,
        outcomes,
    };
    Ok((about, axum::Json(outcomes)))
}

/// Topics of one request that the audit log names, at most.
const TOPICS_TOLD: usize = 20;

/// How many messages, and to which topics: the first of them.
fn about_many(messages: &[NewMessage]) -> About {
    let mut topics: Vec<&str> = Vec::new();
    for message in messages {
        if topics.len() == TOPICS_TOLD {
            break;
        }
        if !topics.contains(&&*message.topic) {
            topics.push(&message.topic);
        }
    }
    About(json!({ "messages": messages.len(), "topics": topics }))
}
