//! What happened of late, page by page; who asks may wait for more.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use martlet_control::Control;
use martlet_control::journal::{Entry, Page};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::extract::QueryOf;
use crate::problem::Problem;

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// From this number on.
    from: Option<u64>,
    /// Else the last so many.
    tail: Option<usize>,
    /// At most so many; 10000 whatever is asked for.
    #[param(default = 1000)]
    limit: Option<usize>,
    /// While there is none, wait so long; 60 at most.
    wait_secs: Option<u64>,
    /// Of this client alone.
    client: Option<String>,
    /// What was refused or lost alone.
    trouble: Option<bool>,
}

/// Entries in one answer unless the caller says otherwise, and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;
const WAIT_MAX_SECS: u64 = 60;

/// Events
///
/// What happened to clients of late, with the way to mend it; who asks may wait for more.
#[utoipa::path(get, path = "/api/v1/events", tag = "clients", params(Wanted),
    responses((status = 200, description = "A page of them, in order", body = Page)))]
pub(crate) async fn events(
    State(control): State<Arc<Control>>,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Json<Page>, Problem> {
    let journal = &control.journal;
    let is_wanted = |entry: &Entry| {
        let client = wanted.client.as_deref();
        client.is_none_or(|client| {
            entry.client_id == client || entry.user_name.as_deref() == Some(client)
        }) && (wanted.trouble != Some(true) || entry.is_trouble())
    };
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let mut from = match (wanted.from, wanted.tail) {
        (Some(from), _) => from,
        (None, tail) => journal.tail(tail.unwrap_or(limit), is_wanted),
    };
    let wait = Duration::from_secs(wanted.wait_secs.unwrap_or(0).min(WAIT_MAX_SECS));
    let until = tokio::time::Instant::now() + wait;
    let mut gone = 0;
    loop {
        let mut page = journal.page(from, limit, is_wanted);
        gone += page.gone;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if !page.events.is_empty() || left.is_zero() {
            page.gone = gone;
            return Ok(Json(page));
        }
        from = page.next;
        journal.wait(from, left).await;
    }
}
