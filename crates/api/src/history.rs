//! The main numbers of the node over time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_control::Control;
use martlet_control::history::{Range, Series};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::QueryOf;
use crate::problem::Problem;
use crate::telemetry::with_plus;
use crate::time::Moment;

/// Default: the last five minutes, which are kept for every second.
const RANGE_MS: u64 = 300_000;

/// The series that are asked for, and the time that they are from.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Names with commas between them. Default: all.
    #[param(example = "messages_in,latency_p99")]
    metrics: Option<String>,
    /// Begin (RFC 3339). Default: five minutes before `to`.
    #[param(example = "2026-11-21T14:00:00Z")]
    from: Option<String>,
    /// End (RFC 3339). Default: now.
    to: Option<String>,
    /// Seconds between two points. By default the node chooses them so that there are some hundreds
    /// of points.
    #[param(minimum = 1, maximum = 86_400)]
    step: Option<u64>,
}

/// The node's numbers over time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Seconds between two points.
    pub step_secs: u64,
    /// Time at which each point begins. There is no point where nothing was counted, as before the
    /// start of the node.
    #[serde(rename = "at", with = "martlet_control::rfc3339::list")]
    #[schema(value_type = Vec<String>)]
    pub at_ms: Vec<u64>,
    /// The numbers.
    pub series: Vec<SeriesView>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SeriesView {
    /// Name of the series.
    #[schema(example = "messages_in")]
    pub name: String,
    /// Unit of the values: `1/s`, `B/s`, `1`, `ms`, `cores` or `B`.
    #[schema(example = "1/s")]
    pub unit: String,
    /// Meaning of the values.
    pub meaning: String,
    /// A value for each time; none where it is not known, as a latency while nothing is sent.
    pub values: Vec<Option<f32>>,
}

/// Metrics over time
///
/// The main numbers of the last week: every ten minutes, of the last day every ten seconds, and of
/// the last five minutes every second while there are 5,000 sessions at most. A point is the mean
/// of its time, of `latency_p99` the highest. They are kept in memory only, so a restart begins
/// anew; to keep them longer, read `/metrics`.
#[utoipa::path(get, path = "/api/v1/metrics/history", tag = "node", params(HistoryParams),
    responses((status = 200, description = "The figures", body = HistoryView)))]
pub(crate) async fn history(
    State(control): State<Arc<Control>>,
    QueryOf(wanted): QueryOf<HistoryParams>,
) -> Result<Json<HistoryView>, Problem> {
    let series = match wanted.metrics.as_deref() {
        None => Series::ALL.to_vec(),
        Some(names) => names.split(',').map(named).collect::<Result<_, _>>()?,
    };
    let now = u64::try_from(Moment::now().as_ms()).unwrap_or_default();
    let to_ms = moment("to", wanted.to.as_deref())?.unwrap_or(now);
    let from_ms = moment("from", wanted.from.as_deref())?;
    let range = Range {
        from_ms: from_ms.unwrap_or(to_ms.saturating_sub(RANGE_MS)),
        to_ms,
        step_secs: wanted.step,
    };
    if wanted
        .step
        .is_some_and(|step| !(1..=86_400).contains(&step))
    {
        return Err(Problem::of_query("step", "expected 1 to 86400"));
    }
    let found = control.history.find(&series, range);
    let found = found.map_err(|why| Problem::of_query("from", why))?;
    let each = series.iter().zip(found.values);
    let views = each.map(|(series, values)| SeriesView {
        name: series.name().to_owned(),
        unit: series.unit().to_owned(),
        meaning: series.meaning().to_owned(),
        values,
    });
    Ok(Json(HistoryView {
        step_secs: found.step_secs,
        at_ms: found.at_ms,
        series: views.collect(),
    }))
}

fn named(name: &str) -> Result<Series, Problem> {
    Series::from_name(name.trim()).ok_or_else(|| {
        let known: Vec<&str> = Series::ALL.iter().map(|one| one.name()).collect();
        Problem::of_query(
            "metrics",
            format!("{name:?} is not one of {}", known.join(", ")),
        )
    })
}

fn moment(parameter: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let found = Moment::parse(&with_plus(text)).ok_or_else(|| {
        let detail = "expected a time as RFC 3339 has it, such as 2026-11-21T14:00:00Z";
        Problem::of_query(parameter, detail)
    })?;
    Ok(Some(u64::try_from(found.as_ms()).unwrap_or_default()))
}
