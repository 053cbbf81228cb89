//! Events of clients: recent ones, page by page, or as they happen, as server-sent events or by
//! WebSocket.

pub(crate) mod open_streams;
mod params;
mod stream;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use martlet_broker::{TenantId, matches_shown};
use martlet_control::Control;
use martlet_control::feed::FeedEvent;
use martlet_control::journal::{Entry, Page};
use martlet_control::principal::Principal;

use crate::api::Api;
use crate::extract::QueryOf;
use crate::origin;
use crate::problem::Problem;
use crate::tenant::{InTenants, OfTenant};
use params::EventParams;
pub(crate) use params::Format;

/// Entries in one answer by default, and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;
/// Seconds that a caller waits, at most: no longer than HTTP clients are patient; it asks again.
const WAIT_MAX_SECS: u64 = 5;

/// Events
///
/// What happened to clients recently, with remedies; a request may wait for more.
///
/// With `Accept: text/event-stream` it is a stream of what happens from now on, with more kinds and
/// filters: each event's `data` is a FeedEvent, its id is `run-seq`, and a stream that asks with
/// that id as Last-Event-ID goes on behind it. An event `gone` means that some are no longer kept.
/// As a WebSocket (`Upgrade: websocket`) the same are text frames; a text frame from the client
/// with parameters of this query as a JSON object puts another filter in place.
#[utoipa::path(get, path = "/api/v1/events", tag = "clients",
    params(EventParams, OfTenant),
    responses((status = 200, description = "A page of the list in order, or a stream",
        content((Page = "application/json"), (FeedEvent = "text/event-stream")))))]
pub(crate) async fn events(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(params): QueryOf<EventParams>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let is_stream = accepts_stream(&parts);
    if !is_stream && !origin::is_websocket(&parts.headers) {
        params.check_page()?;
        return page(&api.control, tenant, &params)
            .await
            .map(|page| page.into_response());
    }
    let principal = parts.extensions.get::<Principal>().cloned();
    let principal = principal.ok_or_else(|| Problem::bad_request("the request has no caller"))?;
    let request = params.request(&principal, tenant)?;
    let place = api.streams.open(&principal)?;
    let reader = api.control.feed.read(request.filter, &params.start(&parts));
    let reader = reader.map_err(|error| Problem::unavailable(error.to_string()))?;
    match is_stream {
        true => Ok(stream::answer(api, reader, place, request.format, parts)),
        false => websocket::answer(api, reader, place, request.format, parts, tenant),
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
    params: &EventParams,
) -> Result<Json<Page>, Problem> {
    let journal = &control.journal;
    let is_match = |entry: &Entry| {
        let client = params.client.as_deref();
        let is_seen = tenant.is_none_or(|tenant| tenant.0 == entry.tenant);
        is_seen
            && client.is_none_or(|client| {
                let user = entry.user_name.as_deref();
                matches_shown(&entry.client_id, client)
                    || user.is_some_and(|user| matches_shown(user, client))
            })
            && (params.trouble != Some(true) || entry.is_trouble())
    };
    control.settle_events().await;
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let mut from = match (params.from, params.tail) {
        (Some(from), _) => from,
        (None, tail) => journal.tail(tail.unwrap_or(limit), is_match),
    };
    let wait_secs = params.wait_secs.unwrap_or(0);
    if wait_secs > WAIT_MAX_SECS {
        let detail = format!("is {WAIT_MAX_SECS} at most");
        return Err(Problem::of_query("wait_secs", detail));
    }
    let wait = Duration::from_secs(wait_secs);
    let until = tokio::time::Instant::now() + wait;
    let mut removed = 0;
    loop {
        let mut page = journal.page(from, limit, is_match);
        removed += page.gone;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if !page.items.is_empty() || left.is_zero() {
            page.gone = removed;
            return Ok(Json(page));
        }
        from = page.next;
        journal.wait(from, left).await;
    }
}
