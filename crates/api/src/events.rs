//! What happens to clients: recently, page by page, or as it happens, as server-sent events or by
//! WebSocket.

pub(crate) mod places;
mod stream;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use martlet_broker::{TenantId, is_asked_for};
use martlet_control::Control;
use martlet_control::feed::{self, FeedEvent, Filter, Kinds, Panel, Sample};
use martlet_control::journal::{Entry, Page};
use martlet_control::principal::{Principal, Scope};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Api;
use crate::extract::QueryOf;
use crate::origin;
use crate::problem::{Problem, ProblemKind};
use crate::tenant::{InTenants, OfTenant};

/// Which events.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of a page: begin at the event with this number.
    from: Option<u64>,
    /// Otherwise: the last events, this number of them. Of a stream: of the events that are kept,
    /// before new ones.
    tail: Option<usize>,
    /// Of a page: events to return, at most; never more than 10000.
    #[param(default = 1000)]
    limit: Option<usize>,
    /// Of a page: seconds to wait while there is no event.
    #[param(maximum = 5)]
    wait_secs: Option<u64>,
    /// Only events of this client; on a page of this user, too.
    client: Option<String>,
    /// Only what was refused or lost.
    trouble: Option<bool>,
    /// Of a stream: kinds with commas between them, such as `connected,disconnected`, or `all`.
    /// Without it: all but `packet`.
    kinds: Option<String>,
    /// Of a stream: clients whose identifier begins with this prefix.
    client_prefix: Option<String>,
    /// Of a stream: of this user.
    user: Option<String>,
    /// Of a stream: with a topic that this Topic Filter matches.
    topic: Option<String>,
    /// Of a stream: of connections from this IP address.
    #[param(value_type = Option<String>, example = "192.0.2.1")]
    address: Option<IpAddr>,
    /// Of a stream: one in this number of events of a kind, such as `packet:100,published:10`.
    sample: Option<String>,
    /// Of a stream: bytes of each payload to include; it requires the scope `retained:read` too.
    #[param(minimum = 0, maximum = 1_048_576, default = 0)]
    payload: Option<usize>,
    /// Of a stream: `events`, or `panel` for the names and fields of the MQTT Panel.
    format: Option<Format>,
    /// Of a stream: resume after this event, as the header Last-Event-ID does.
    last_event_id: Option<String>,
}

/// In which form.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Martlet's own: [`FeedEvent`].
    #[default]
    Events,
    /// The MQTT Panel's.
    Panel,
}

/// Entries in one answer by default, and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;
/// Seconds that a caller waits, at most: no longer than HTTP clients are patient; it asks again.
const WAIT_MAX_SECS: u64 = 5;
/// Bytes of a payload that are included, at most.
const PAYLOAD_MAX: usize = 1 << 20;
/// Bytes of a payload in the panel's format, unless the caller asks for another number.
const PAYLOAD_PANEL: usize = 10_000;
/// Longest texts of a filter.
const TEXT_MAX: usize = 65_535;

/// What a stream is asked for.
#[derive(Debug)]
struct Asked {
    filter: Filter,
    format: Format,
}

impl Wanted {
    /// As what a stream passes.
    fn asked(&self, principal: &Principal, tenant: Option<TenantId>) -> Result<Asked, Problem> {
        let of_page = [
            ("from", self.from.is_some()),
            ("limit", self.limit.is_some()),
            ("wait_secs", self.wait_secs.is_some()),
        ];
        if let Some((name, _)) = of_page.iter().find(|(_, is_there)| *is_there) {
            return Err(Problem::of_query(name, "is of pages alone"));
        }
        let format = self.format.unwrap_or_default();
        let is_panel = format == Format::Panel;
        let kinds = match self.kinds.as_deref().map(Kinds::parse) {
            Some(kinds) => kinds.map_err(|error| Problem::of_query("kinds", error.to_string()))?,
            None if is_panel => Panel::kinds(),
            None => Kinds::usual(),
        };
        let samples = self.sample.as_deref().map(Sample::parse).transpose();
        if let Some(topic) = &self.topic
            && !Filter::is_topic(topic)
        {
            return Err(Problem::of_query("topic", "is no Topic Filter"));
        }
        for (name, text) in [
            ("client", &self.client),
            ("client_prefix", &self.client_prefix),
            ("user", &self.user),
            ("topic", &self.topic),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
                let detail = format!("has {TEXT_MAX} bytes at most");
                return Err(Problem::of_query(name, detail));
            }
        }
        let payload = self.payload.unwrap_or(match is_panel {
            true => PAYLOAD_PANEL,
            false => 0,
        });
        if payload > PAYLOAD_MAX {
            return Err(Problem::of_query(
                "payload",
                format!("is {PAYLOAD_MAX} at most"),
            ));
        }
        if payload > 0 && !principal.scopes.has(Scope::RetainedRead) {
            let scope = Scope::RetainedRead;
            let detail = format!("{principal} lacks the scope {scope}, so payload has to be 0");
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        Ok(Asked {
            filter: Filter {
                // The panel's frames have no room for it.
                tenant: tenant.or(is_panel.then(TenantId::default)),
                kinds,
                client: self.client.clone(),
                client_prefix: self.client_prefix.clone(),
                user: self.user.clone(),
                topic: self.topic.clone(),
                topics: Vec::new(),
                address: self.address,
                trouble: self.trouble.unwrap_or(false),
                samples: samples
                    .map_err(|why| Problem::of_query("sample", why))?
                    .unwrap_or_default(),
                payload_bytes: payload,
            },
            format,
        })
    }

    fn start(&self, parts: &Parts) -> feed::From {
        let header = parts.headers.get("last-event-id");
        let header = header.and_then(|id| id.to_str().ok()).map(str::to_owned);
        match (header.or_else(|| self.last_event_id.clone()), self.tail) {
            (Some(id), _) => feed::From::After(id),
            (None, Some(tail)) => feed::From::Tail(tail),
            (None, None) => feed::From::Now,
        }
    }

    /// A page has no such parameters.
    fn check_page(&self) -> Result<(), Problem> {
        let of_stream = [
            ("kinds", self.kinds.is_some()),
            ("client_prefix", self.client_prefix.is_some()),
            ("user", self.user.is_some()),
            ("topic", self.topic.is_some()),
            ("address", self.address.is_some()),
            ("sample", self.sample.is_some()),
            ("payload", self.payload.is_some()),
            ("format", self.format.is_some()),
            ("last_event_id", self.last_event_id.is_some()),
        ];
        let wrong_one = of_stream.iter().find(|(_, is_there)| *is_there);
        wrong_one.map_or(Ok(()), |(name, _)| {
            let detail = format!(
                "`{name}` applies to streams only: send Accept: text/event-stream, or use a WebSocket"
            );
            Err(Problem::of_query(name, detail))
        })
    }
}

/// Events
///
/// What happened to clients recently, with remedies; a request may wait for more.
///
/// With `Accept: text/event-stream` it is a stream of what happens from now on, with more kinds and
/// filters: each event's `data` is a FeedEvent, its id is `run-seq`, and a stream that asks with
/// that id as Last-Event-ID goes on behind it. An event `gone` says that some are not there any
/// more. As a WebSocket (`Upgrade: websocket`) the same are text frames; a text frame from the
/// client with parameters of this query as a JSON object puts another filter in place.
#[utoipa::path(get, path = "/api/v1/events", tag = "clients",
    params(Wanted, OfTenant),
    responses((status = 200, description = "A page of them, in order, or a stream",
        content((Page = "application/json"), (FeedEvent = "text/event-stream")))))]
pub(crate) async fn events(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<Wanted>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let is_stream = accepts_stream(&parts);
    if !is_stream && !origin::is_websocket(&parts.headers) {
        wanted.check_page()?;
        return page(&api.control, tenant, &wanted)
            .await
            .map(|page| page.into_response());
    }
    let principal = parts.extensions.get::<Principal>().cloned();
    let principal = principal.ok_or_else(|| Problem::bad_request("the request has no caller"))?;
    let asked = wanted.asked(&principal, tenant)?;
    let place = api.streams.open(&principal)?;
    let reader = api.control.feed.read(asked.filter, &wanted.start(&parts));
    let reader = reader.map_err(|error| Problem::unavailable(error.to_string()))?;
    match is_stream {
        true => Ok(stream::answer(api, (reader, place), asked.format, parts)),
        false => websocket::answer(api, (reader, place), asked.format, parts, tenant),
    }
}

fn accepts_stream(parts: &Parts) -> bool {
    let mut all = parts.headers.get_all(header::ACCEPT).iter();
    all.any(|accept| {
        let accept = accept.to_str().unwrap_or_default();
        accept
            .split(',')
            .any(|one| one.trim().starts_with("text/event-stream"))
    })
}

async fn page(
    control: &Arc<Control>,
    tenant: Option<TenantId>,
    wanted: &Wanted,
) -> Result<Json<Page>, Problem> {
    let journal = &control.journal;
    let is_wanted = |entry: &Entry| {
        let client = wanted.client.as_deref();
        let is_seen = tenant.is_none_or(|tenant| tenant.0 == entry.tenant);
        is_seen
            && client.is_none_or(|client| {
                let user = entry.user_name.as_deref();
                is_asked_for(&entry.client_id, client)
                    || user.is_some_and(|user| is_asked_for(user, client))
            })
            && (wanted.trouble != Some(true) || entry.is_trouble())
    };
    control.settle_events().await;
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let mut from = match (wanted.from, wanted.tail) {
        (Some(from), _) => from,
        (None, tail) => journal.tail(tail.unwrap_or(limit), is_wanted),
    };
    let wait_secs = wanted.wait_secs.unwrap_or(0);
    if wait_secs > WAIT_MAX_SECS {
        let told = format!("is {WAIT_MAX_SECS} at most");
        return Err(Problem::of_query("wait_secs", told));
    }
    let wait = Duration::from_secs(wait_secs);
    let until = tokio::time::Instant::now() + wait;
    let mut gone = 0;
    loop {
        let mut page = journal.page(from, limit, is_wanted);
        gone += page.gone;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if !page.items.is_empty() || left.is_zero() {
            page.gone = gone;
            return Ok(Json(page));
        }
        from = page.next;
        journal.wait(from, left).await;
    }
}
