//! Lines of the log, and its levels, which may be changed while the node runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_broker::matches_shown;
use martlet_control::Control;
use martlet_control::log_lines::LogLine;
use martlet_control::logging::{Change, LEVELS as LEVELS_OF_LOG, Levels, Logging};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{JsonBody, QueryOf};
use crate::page;
use crate::problem::Problem;

/// Which lines of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Lines after this number: `next` of the answer before. Without it, the last lines.
    after: Option<u64>,
    /// Lines to return, at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Only lines of this level or a more severe one: `error`, `warn`, `info`, `debug` or `trace`.
    #[param(pattern = "^(error|warn|info|debug|trace)$")]
    level: Option<String>,
    /// Only lines that contain this text.
    search: Option<String>,
    /// Only lines about this client or user.
    client: Option<String>,
    /// Only lines of the levels `warn` and `error`.
    trouble: Option<bool>,
}

/// Lines of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLinesView {
    /// In order.
    items: Vec<LogLine>,
    /// Ask with it as `after` for what comes next.
    next: u64,
}

/// Levels of lines, the gravest first: `off` is none.
const LEVELS: &[&str] = LEVELS_OF_LOG.split_at(1).1;

/// The log
///
/// Its last lines, wherever else they go. What the levels leave out is not there either.
#[utoipa::path(get, path = "/api/v1/logs", tag = "node", params(LogParams),
    responses((status = 200, description = "The lines", body = LogLinesView)))]
pub(crate) async fn lines(
    State(control): State<Arc<Control>>,
    QueryOf(wanted): QueryOf<LogParams>,
) -> Result<Json<LogLinesView>, Problem> {
    let place = |level: &str| LEVELS.iter().position(|known| *known == level);
    let least = match wanted.level.as_deref().map(place) {
        None => LEVELS.len(),
        Some(Some(place)) => place,
        Some(None) => {
            let detail = format!("expected one of {}", LEVELS.join(", "));
            return Err(Problem::of_query("level", detail));
        }
    };
    let least = match (wanted.trouble, place("warn")) {
        (Some(true), Some(warn)) => least.min(warn),
        _ => least,
    };
    let is_about = |line: &LogLine, name: &str| {
        let of = ["client_id", "user_name", "claimed_user_name"].iter();
        of.filter_map(|field| line.fields.get(*field))
            .any(|value| value.as_str().is_some_and(|kept| matches_shown(kept, name)))
    };
    let is_match = |line: &LogLine| {
        place(&line.level).is_none_or(|place| place <= least)
            && wanted
                .client
                .as_deref()
                .is_none_or(|name| is_about(line, name))
            && wanted.search.as_deref().is_none_or(|text| {
                let mut fields = line.fields.values();
                line.text.contains(text) || fields.any(|value| value.to_string().contains(text))
            })
    };
    let limit = page::limit(wanted.limit)?;
    let lines = &logging(&control)?.lines;
    let (items, next) = match wanted.after {
        Some(after) => lines.after(after, limit, is_match),
        None => lines.last(limit, is_match),
    };
    Ok(Json(LogLinesView { items, next }))
}

/// Levels of the log
///
/// What is logged now: the level of everything, areas with a level of their own, traced clients.
#[utoipa::path(get, path = "/api/v1/logs/levels", tag = "node",
    responses((status = 200, description = "The current levels", body = Levels)))]
pub(crate) async fn levels(State(control): State<Arc<Control>>) -> Result<Json<Levels>, Problem> {
    Ok(Json(logging(&control)?.levels()))
}

/// Change levels of the log
///
/// The level of everything; or of one area, for some minutes if they are named; or everything that
/// one client does.
#[utoipa::path(patch, path = "/api/v1/logs/levels", tag = "node", request_body = Change,
    responses((status = 200, description = "The current levels", body = Levels)))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Levels>, Problem> {
    let logging = logging(&control)?;
    logging
        .change(&change)
        .map(Json)
        .map_err(Problem::bad_request)
}

pub(crate) fn logging(control: &Control) -> Result<&Arc<Logging>, Problem> {
    let none = || Problem::unavailable("this node has no log".to_owned());
    control.logging().ok_or_else(none)
}
