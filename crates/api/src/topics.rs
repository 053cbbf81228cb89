//! Messages that were published last, by topic.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_control::topic_memory::{RememberedMessage, RememberedTopic, TopicMemory, TopicQuery};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extract::{PathOf, QueryOf};
use crate::page::{self, Items, Page};
use crate::payload::shown;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::retained::{check_filter, check_topic};
use crate::tenant::{InTenant, OfTenant};
use crate::time::at;

/// Longest text that is searched for, bytes.
const SEARCH_MAX: usize = 256;

/// A topic that the node remembers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TopicView {
    /// Topic Name.
    pub topic: String,
    /// Messages since the topic is remembered.
    pub messages: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Messages per second in the last minute; what is longer ago counts less and less.
    pub rate: f64,
    /// Payloads that are remembered.
    pub remembered: usize,
    /// The last message.
    pub last: RememberedView,
}

/// A message that the node remembers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RememberedView {
    /// Name of the message.
    pub message_id: String,
    /// When it came in.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<String>,
    /// QoS it was published with.
    pub qos: u8,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// The publisher; null for the node itself and for operators.
    pub publisher: Option<PublisherView>,
    /// Length of the payload.
    pub payload_bytes: usize,
    /// The payload, or its beginning.
    pub payload: String,
    /// How it is written here: `text` or `base64`.
    pub payload_encoding: String,
    /// All of it is here.
    pub payload_is_whole: bool,
}

/// The publisher of a message.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PublisherView {
    /// Client Identifier.
    pub client_id: String,
    /// User name.
    pub user_name: Option<String>,
    /// The user is a device.
    pub is_device: bool,
}

impl From<RememberedMessage> for RememberedView {
    fn from(seen: RememberedMessage) -> Self {
        let is_whole = seen.payload.len() == seen.payload_bytes;
        let (payload, payload_encoding) = shown(&seen.payload, is_whole);
        Self {
            message_id: seen.id.to_string(),
            received_at: at(seen.received_wall_ms),
            qos: seen.qos as u8,
            retain: seen.retain,
            publisher: seen.publisher.map(|publisher| PublisherView {
                client_id: publisher.client_id.to_string(),
                user_name: publisher.user_name.as_deref().map(str::to_owned),
                is_device: publisher.is_device,
            }),
            payload_bytes: seen.payload_bytes,
            payload,
            payload_encoding,
            payload_is_whole: is_whole,
        }
    }
}

impl From<RememberedTopic> for TopicView {
    fn from(seen: RememberedTopic) -> Self {
        Self {
            topic: seen.topic.to_string(),
            messages: seen.messages,
            payload_bytes: seen.payload_bytes,
            // Digits beyond these are noise.
            rate: (seen.rate * 1_000.0).round() / 1_000.0,
            remembered: seen.kept,
            last: seen.last.into(),
        }
    }
}

/// Which topics: all given conditions must be true.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TopicParams {
    /// Topic Filter that they match; default `#`, which topics that begin with `$` do not match.
    #[param(example = "devices/+/state")]
    filter: Option<String>,
    /// Words with blanks between them that are all in the topic, in any order and in letters of any
    /// case. In a word, `*` is any text and `?` any character.
    #[param(example = "hall temp*")]
    search: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

/// Topics
///
/// Topics that `topic_memory.filters` names, by name: with the last message, the rate and the
/// number of messages since they are remembered. They are kept in memory: a restart begins anew,
/// and the topics on which nothing was published for longest make room for others.
#[utoipa::path(get, path = "/api/v1/topics", tag = "messages", params(TopicParams, OfTenant),
    responses(
        (status = 200, description = "A page of the list", body = Page<TopicView>),
        (status = 409, description = "The node remembers no topics", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(wanted): QueryOf<TopicParams>,
) -> Result<Json<Page<TopicView>>, Problem> {
    let memory = memory_of(&api)?;
    let filter = wanted.filter.unwrap_or_else(|| "#".to_owned());
    let checked = check_filter(&filter)?;
    let words = wanted.search.unwrap_or_default();
    if words.len() > SEARCH_MAX {
        let detail = format!("expected {SEARCH_MAX} bytes at most");
        return Err(Problem::of_query("search", detail));
    }
    let list = format!("topics {:?}", (tenant.0, &filter, &words));
    let after: Option<String> = api.cursors().key(&list, wanted.cursor.as_deref())?;
    // All pages together are counted from the first topic on.
    let is_counted = wanted.total == Some(true);
    let query = TopicQuery {
        tenant,
        filter: checked,
        words: &words,
        after: after.as_deref(),
        limit: page::limit(wanted.limit)?,
        count: is_counted && after.is_none(),
    };
    let found = memory.find(&query).await;
    let total = match (is_counted, query.count) {
        (false, _) => None,
        (true, true) => Some(found.count),
        (true, false) => {
            let (after, count) = (None, true);
            let whole = TopicQuery {
                after,
                count,
                ..query
            };
            Some(memory.find(&whole).await.count)
        }
    };
    let last = found.topics.last().filter(|_| found.more);
    let next = last.map(|last| api.cursors().after_key(&list, &&*last.topic));
    Ok(Json(Page {
        items: found.topics.into_iter().map(Into::into).collect(),
        next,
        total,
    }))
}

/// How much of a history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryLimits {
    /// The most messages.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Last messages of a topic
///
/// What the node remembers of a topic, the newest message first: `topic_memory` in the
/// configuration sets the number of payloads and their length.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/history", tag = "messages",
    params(("topic" = String, Path,
        description = "Topic Name, percent-encoded: / is %2F"), HistoryLimits, OfTenant),
    responses(
        (status = 200, description = "The messages", body = Items<RememberedView>),
        (status = 404, description = "The node remembers nothing of that topic",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 409, description = "The node remembers no topics", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn history(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(topic): PathOf<String>,
    QueryOf(limits): QueryOf<HistoryLimits>,
) -> Result<Json<Items<RememberedView>>, Problem> {
    let memory = memory_of(&api)?;
    let name = check_topic(&topic)?;
    let Some(found) = memory.history(tenant, &topic, page::limit(limits.limit)?) else {
        let mut filters = memory.filters().iter();
        let is_named =
            filters.any(|filter| check_filter(filter).is_ok_and(|one| one.matches(name)));
        let why = match is_named {
            true => "nothing was published on it since the node has started, or it is too long ago",
            false => "topic_memory.filters in the configuration does not match it",
        };
        let detail = format!("nothing is remembered of the topic {topic:?}: {why}");
        let problem = Problem::new(ProblemKind::NotFound, detail);
        return Err(problem.of_parameter("topic", "not remembered"));
    };
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

fn memory_of(api: &Api) -> Result<&Arc<TopicMemory>, Problem> {
    api.settings.topic_memory.as_ref().ok_or_else(|| {
        Problem::conflict(
            "the node remembers no topics: name some in topic_memory.filters, such as # for all, \
             and start it again"
                .to_owned(),
        )
    })
}
