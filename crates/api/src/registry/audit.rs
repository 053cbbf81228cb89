//! The audit log: which caller changed what.

use axum::extract::State;
use martlet_control::use_cases::ReadAuditLog;
use martlet_registry::{AuditEntry, AuditFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::CalledBy;
use super::forms::{moment, page_of, page_request, time};
use crate::api::Api;
use crate::extract::QueryOf;
use crate::page::Page;
use crate::problem::Problem;
use crate::telemetry::times::with_plus;
use crate::time::Moment;

/// A line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Rises, and is never used again.
    number: i64,
    /// When it was done.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Moment>,
    /// The caller.
    #[schema(example = "user:ada")]
    who: String,
    /// How: by a session, an API key or the command line.
    by: String,
    /// From where; empty: from this machine.
    address: String,
    /// The request, as in the log.
    request_id: String,
    /// Action that was done.
    #[schema(example = "device.add")]
    action: String,
    /// Kind of the object.
    object_kind: String,
    /// Which object.
    object_id: String,
    /// Changes, without secrets.
    changed: serde_json::Value,
    /// `done`, or why not.
    outcome: String,
}

impl From<AuditEntry> for AuditView {
    fn from(line: AuditEntry) -> Self {
        let changed = serde_json::from_str(&line.entry.changed);
        Self {
            number: line.number,
            at: moment(line.at_ms),
            who: line.who,
            by: line.by,
            address: line.address,
            request_id: line.request_id,
            action: line.entry.action,
            object_kind: line.entry.object_kind,
            object_id: line.entry.object_id,
            changed: changed.unwrap_or(serde_json::Value::String(line.entry.changed)),
            outcome: line.entry.outcome,
        }
    }
}

/// Which lines; missing conditions match any.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Only entries of this caller, as a line names it or without its kind: `ada` is `user:ada`,
    /// `key:ada` and `device:ada`.
    who: Option<String>,
    /// Action that was done; `device.` is all whose name begins so.
    action: Option<String>,
    /// Only entries about objects of this kind.
    object_kind: Option<String>,
    /// Which object.
    object_id: Option<String>,
    /// At this time or later (RFC 3339).
    from: Option<String>,
    /// Before this time.
    before: Option<String>,
}

/// Who changed what
#[utoipa::path(get, path = "/api/v1/audit", tag = "security", params(AuditParams),
    responses((status = 200, description = "A page of the log, newest first", body = Page<AuditView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<AuditParams>,
) -> Result<axum::Json<Page<AuditView>>, Problem> {
    let visibility = caller.visibility();
    let at = |name: &str, text: &Option<String>| -> Result<Option<i64>, Problem> {
        match text.as_deref() {
            None => Ok(None),
            Some(text) => time(name, Some(&with_plus(text))).map(Some).map_err(|_| {
                let detail =
                    format!("{text:?} is not a valid time, expected such as 2030-01-31T12:00:00Z");
                Problem::bad_request(format!("{name}: {detail}")).of_parameter(name, detail)
            }),
        }
    };
    let filter = AuditFilter {
        who: params.who.clone(),
        action: params.action.clone(),
        object_kind: params.object_kind.clone(),
        object_id: params.object_id.clone(),
        from_ms: at("from", &params.from)?,
        before_ms: at("before", &params.before)?,
    };
    let of = format!("audit {visibility:?} {filter:?}");
    let paging = (params.limit, params.cursor.as_deref(), params.total);
    let page = page_request(&api, &of, paging)?;
    let page = api.run(caller, ReadAuditLog { filter, page }).await?;
    Ok(axum::Json(page_of(&api, &of, page, AuditView::from)))
}
