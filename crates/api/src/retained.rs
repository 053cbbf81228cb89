//! Retained messages: page by page, one by one, and taken away.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_broker::{DeleteOutcome, RetainedInfo, RetainedQuery, TenantId, may_publish};
use martlet_codec::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::clients::anywhere;
use crate::extract::{PathOf, QueryOf};
use crate::page::{self, Page};
use crate::payload::shown;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::publish::UserProperty;
use crate::tenant::{InTenant, OfTenant};
use crate::time::at;

/// Bytes of a payload that a list shows at most.
const PAYLOAD_SHOWN_MAX: usize = 4096;
/// Topics that a preview names.
const PREVIEWED: usize = 100;

/// A retained message.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RetainedView {
    /// Topic Name.
    pub topic: String,
    /// Name of the message.
    pub message_id: String,
    /// QoS it was published with.
    pub qos: u8,
    /// When it came in.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<String>,
    /// Seconds until it expires; none is never.
    pub expires_in_secs: Option<u32>,
    /// Payload Format Indicator: the payload is UTF-8 text.
    pub payload_is_utf8: Option<bool>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data, in Base64.
    pub correlation_data_base64: Option<String>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// Length of the payload.
    pub payload_bytes: usize,
    /// The payload, or its beginning, if it was asked for.
    pub payload: Option<String>,
    /// How it stands there: `text` or `base64`.
    pub payload_encoding: Option<String>,
    /// All of it stands there.
    pub payload_is_whole: bool,
}

impl RetainedView {
    fn new(found: RetainedInfo, with_payload: bool) -> Self {
        let is_whole = found.payload.len() == found.payload_bytes;
        let shown = with_payload.then(|| shown(&found.payload, is_whole));
        let (payload, payload_encoding) = shown.unzip();
        let pairs = found.user_properties.into_iter();
        Self {
            topic: found.topic.into(),
            message_id: found.id.to_string(),
            qos: found.qos as u8,
            received_at: at(found.received_wall_ms),
            expires_in_secs: found.expires_in_secs,
            payload_is_utf8: found.payload_is_utf8,
            content_type: found.content_type.map(Into::into),
            response_topic: found.response_topic.map(Into::into),
            correlation_data_base64: found.correlation_data.map(|data| STANDARD.encode(data)),
            user_properties: pairs.map(Into::into).collect(),
            payload_bytes: found.payload_bytes,
            payload,
            payload_encoding,
            payload_is_whole: with_payload && is_whole,
        }
    }
}

/// Which retained messages: all given conditions must be true.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetainedParams {
    /// Topic Filter that they match; default `#`, which topics that begin with `$` do not match.
    #[param(example = "devices/+/state")]
    filter: Option<String>,
    /// Text that is in the topic.
    search: Option<String>,
    /// Show payloads, 4096 bytes of each at most.
    payload: Option<bool>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

/// Retained messages
///
/// The retained messages, sorted by topic.
#[utoipa::path(get, path = "/api/v1/retained", tag = "messages",
    params(RetainedParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = Page<RetainedView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(wanted): QueryOf<RetainedParams>,
) -> Result<axum::Json<Page<RetainedView>>, Problem> {
    let RetainedParams {
        filter,
        search,
        payload,
        limit,
        cursor,
        total,
    } = wanted;
    let filter = filter.unwrap_or_else(|| "#".to_owned());
    check_filter(&filter)?;
    let list = format!("retained {:?}", (tenant.0, &filter, &search));
    let with_payload = payload == Some(true);
    let after: Option<String> = api.cursors().key(&list, cursor.as_deref())?;
    let query = RetainedQuery {
        tenant,
        filter: filter.into(),
        search: search.as_deref().map(anywhere),
        after: after.map(Into::into),
        limit: page::limit(limit)?,
        payload_bytes_max: if with_payload { PAYLOAD_SHOWN_MAX } else { 0 },
        count: total == Some(true),
    };
    let found = api.control.retained(&query).await?;
    let last = found.messages.last().filter(|_| found.more);
    let next = last.map(|last| api.cursors().after_key(&list, &last.topic));
    let items = found.messages.into_iter();
    Ok(axum::Json(Page {
        items: items
            .map(|found| RetainedView::new(found, with_payload))
            .collect(),
        next,
        total: found.total,
    }))
}

pub(crate) fn check_filter(filter: &str) -> Result<TopicFilter<'_>, Problem> {
    if let Ok(filter) = TopicFilter::new(filter) {
        return Ok(filter);
    }
    let problem = Problem::bad_request(format!("{filter:?} is not a valid Topic Filter"));
    Err(problem.of_parameter("filter", "is not a valid Topic Filter"))
}

pub(crate) fn check_topic(topic: &str) -> Result<TopicName<'_>, Problem> {
    if let Ok(topic) = TopicName::new(topic) {
        return Ok(topic);
    }
    let problem = Problem::bad_request(format!("{topic:?} is not a valid Topic Name"));
    Err(problem.of_parameter(
        "topic",
        "is not a valid Topic Name: it has a wildcard or a null character",
    ))
}

/// A retained message
///
/// As JSON, or its payload alone, with its own Content Type, where `Accept` names that type or
/// `application/octet-stream` and not JSON before it.
#[utoipa::path(get, path = "/api/v1/retained/{*topic}", tag = "messages",
    params(OfTenant, ("topic" = String, Path,
        description = "Topic Name, percent-encoded; slashes may stand as they are")),
    responses(
        (status = 200, description = "The message", content(
            (RetainedView = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 404, description = "The topic has no retained message", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(topic): PathOf<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_topic(&topic)?;
    let found = find(&api, tenant, &topic, usize::MAX).await?;
    let content_type = found.content_type.as_deref();
    if !wants_bytes(&headers, content_type) {
        return Ok(axum::Json(RetainedView::new(found, true)).into_response());
    }
    let content_type = content_type.and_then(|text| HeaderValue::from_str(text).ok());
    let content_type = content_type.filter(|text| !text.is_empty());
    let octets = HeaderValue::from_static("application/octet-stream");
    // What a device has published is never shown as a page of this node.
    let policy = "default-src 'none'; frame-ancestors 'none'; sandbox";
    let head = [
        (header::CONTENT_TYPE, content_type.unwrap_or(octets)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(policy),
        ),
    ];
    Ok((head, Vec::from(found.payload)).into_response())
}

async fn find(
    api: &Api,
    tenant: TenantId,
    topic: &str,
    payload_bytes_max: usize,
) -> Result<RetainedInfo, Problem> {
    let query = RetainedQuery {
        tenant,
        filter: topic.into(),
        limit: 1,
        payload_bytes_max,
        ..RetainedQuery::default()
    };
    let mut found = api.control.retained(&query).await?.messages.into_iter();
    found.next().ok_or_else(|| {
        let detail = format!("the topic {topic:?} has no retained message");
        Problem::new(ProblemKind::NotFound, detail).of_parameter("topic", "no such message")
    })
}

/// Whether `Accept` asks for bytes before JSON, of the two that there are.
fn wants_bytes(headers: &HeaderMap, content_type: Option<&str>) -> bool {
    let essence = |text: &str| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    };
    let own = content_type.map(essence);
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut ranges: Vec<(f32, String)> = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|range| (weight(range), essence(range)))
        .filter(|(weight, _)| *weight > 0.0)
        .collect();
    // Those of the same weight stay in their order.
    ranges.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let known = ranges.iter().find_map(|(_, range)| match range.as_str() {
        "application/json" | "*/*" | "application/*" => Some(false),
        "application/octet-stream" => Some(true),
        range if own.as_deref() == Some(range) => Some(true),
        _ => None,
    });
    known.unwrap_or(false)
}

fn weight(range: &str) -> f32 {
    let mut parameters = range.split(';').skip(1);
    let weight = parameters.find_map(|parameter| parameter.trim().strip_prefix("q="));
    weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0))
}

/// Which of them go.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Doomed {
    /// Topic Filter that they match.
    #[param(example = "devices/7/#")]
    filter: String,
    /// Change nothing: return which would be deleted.
    preview: Option<bool>,
}

/// Messages that have gone, or would go.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// Topic Filter.
    pub filter: String,
    /// Nothing was changed.
    pub preview: bool,
    /// How many there are.
    pub count: u64,
    /// For a preview: the first hundred topics.
    pub topics: Vec<String>,
}

/// Delete retained messages
///
/// Deletes all that match a Topic Filter; with `preview=true` it only returns which those are.
/// Subscribers get the same as when a client clears the message. Answered when that is durable.
#[utoipa::path(delete, path = "/api/v1/retained", tag = "messages",
    params(Doomed, OfTenant),
    responses((status = 200, description = "The messages that are deleted, or would be", body = Deleted)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(doomed): QueryOf<Doomed>,
) -> Result<axum::Json<Deleted>, Problem> {
    let Doomed { filter, preview } = doomed;
    check_filter(&filter)?;
    if !may_publish(&filter) {
        let problem = Problem::bad_request("these topics are the node's own");
        return Err(problem.of_parameter("filter", "topics of the node's own"));
    }
    let preview = preview == Some(true);
    if !preview {
        let count = take_away(&api, tenant, &filter).await?;
        let topics = Vec::new();
        return Ok(axum::Json(Deleted {
            filter,
            preview,
            count,
            topics,
        }));
    }
    let query = RetainedQuery {
        tenant,
        filter: filter.as_str().into(),
        limit: PREVIEWED,
        count: true,
        ..RetainedQuery::default()
    };
    let found = api.control.retained(&query).await?;
    let topics = found.messages.into_iter();
    Ok(axum::Json(Deleted {
        filter,
        preview,
        count: found.total.unwrap_or_default(),
        topics: topics.map(|message| message.topic.into()).collect(),
    }))
}

/// Take a retained message away
///
/// That of one topic. Answered when that is durable.
#[utoipa::path(delete, path = "/api/v1/retained/{*topic}", tag = "messages",
    params(OfTenant, ("topic" = String, Path,
        description = "Topic Name, percent-encoded; slashes may stand as they are")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "The topic has no retained message", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn delete_one(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(topic): PathOf<String>,
) -> Result<StatusCode, Problem> {
    check_topic(&topic)?;
    if !may_publish(&topic) {
        let problem = Problem::bad_request("this topic is the node's own");
        return Err(problem.of_parameter("topic", "a topic of the node's own"));
    }
    find(&api, tenant, &topic, 0).await?;
    take_away(&api, tenant, &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_away(api: &Api, tenant: TenantId, filter: &str) -> Result<u64, Problem> {
    let (deleted, outcome) = api.control.delete_retained(tenant, filter).await?;
    not_deleted(deleted, outcome).map_or(Ok(deleted), Err)
}

/// The problem of a deletion that has not deleted all.
fn not_deleted(deleted: u64, outcome: DeleteOutcome) -> Option<Problem> {
    Some(match outcome {
        DeleteOutcome::Deleted => return None,
        DeleteOutcome::StoreFull => Problem::unavailable(format!(
            "the message store has no room: {deleted} are deleted, the others not"
        )),
        DeleteOutcome::StoreSilent => Problem::unavailable(format!(
            "the message store did not answer in time: {deleted} are deleted, and may come back \
             after a crash; the others may remain"
        )),
        DeleteOutcome::Refused(reason) => {
            Problem::conflict(format!("{deleted} are deleted, the others not: {reason}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_where_it_can_be() {
        let of = |payload: &[u8], is_whole| shown(payload, is_whole);
        let text = |text: &str| (text.to_owned(), "text".to_owned());
        let base64 = |text: &str| (text.to_owned(), "base64".to_owned());
        assert_eq!(of("é".as_bytes(), true), text("é"));
        assert_eq!(of(b"\xc3", true), base64("ww=="));
        // A letter whose end is not shown.
        assert_eq!(of(b"a\xc3", false), text("a"));
        assert_eq!(of(b"\xff\xc3", false), base64("/8M="));
    }

    #[test]
    fn a_deletion_that_is_not_complete_says_why() {
        let of = |outcome| not_deleted(3, outcome);
        assert!(of(DeleteOutcome::Deleted).is_none());
        let words = |outcome| format!("{:?}", of(outcome));
        assert!(words(DeleteOutcome::StoreFull).contains("has no room: 3 are deleted"));
        assert!(words(DeleteOutcome::StoreSilent).contains("did not answer in time"));
    }

    #[test]
    fn accept_says_what_is_sent() {
        let asks = |accept: &'static str, own: Option<&str>| {
            let header = (header::ACCEPT, HeaderValue::from_static(accept));
            wants_bytes(&HeaderMap::from_iter([header]), own)
        };
        assert!(!wants_bytes(&HeaderMap::new(), Some("text/plain")));
        assert!(!asks("*/*", None) && !asks("text/html, */*;q=0.8", Some("text/plain")));
        assert!(asks("application/octet-stream", None));
        assert!(asks("text/plain", Some("Text/Plain; charset=utf-8")));
        assert!(!asks("text/plain", None));
        assert!(asks(
            "application/json;q=0.5, application/octet-stream",
            None
        ));
        assert!(!asks("application/octet-stream;q=0, */*", None));
    }
}
