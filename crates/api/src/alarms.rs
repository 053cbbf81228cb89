//! Alarms: listed, acknowledged, shelved and cleared.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use martlet_broker::TenantId;
use martlet_control::alarms::{
    AlarmError, AlarmFilter, AlarmOrder, AlarmRow, AlarmState, Alarms, SHELVED_MAX_SECS, Severity,
};
use martlet_control::callers::Caller;
use martlet_control::principal::Scope;
use martlet_registry::{NotFound, ObjectKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::access::Access::Scoped;
use crate::api::Api;
use crate::extensions::AboutTeam;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{CalledBy, moment, page_of, page_request};
use crate::route_list::Routes;
use crate::tenant::{InTenants, OfTenant};
use crate::time::Moment;

/// Adds these routes to the others.
pub(crate) fn add_to(routes: Routes) -> Routes {
    let (read, write) = (Scope::IntegrationsRead, Scope::IntegrationsWrite);
    routes
        .add(Scoped(read), routes!(list))
        .add(Scoped(read), routes!(show))
        .add(Scoped(write), routes!(acknowledge))
        .add(Scoped(write), routes!(shelve))
        .add(Scoped(write), routes!(unshelve))
        .add(Scoped(write), routes!(clear))
}

/// An alarm.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlarmView {
    /// Number of the alarm, which no other alarm of the node has.
    #[schema(example = "1764136800000000")]
    id: String,
    /// Name: that of its rule, or of what the node watches itself.
    #[schema(example = "hot")]
    name: String,
    /// `active`, `acknowledged`, `shelved` or `cleared`.
    state: String,
    /// `info`, `warning`, `minor`, `major` or `critical`.
    severity: String,
    /// Text of the alarm.
    message: String,
    /// The device that it is about.
    device: Option<String>,
    /// Subject: the id of a device, a topic, or a part of the node.
    subject: String,
    /// The value that has raised it.
    value: Option<f64>,
    /// Name of the node that has raised it.
    node: String,
    /// When it was raised.
    #[schema(value_type = Option<String>, format = DateTime)]
    raised_at: Option<Moment>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Moment>,
    /// The user or key that changed it last; null: the node.
    changed_by: Option<String>,
    /// Until when it is shelved.
    #[schema(value_type = Option<String>, format = DateTime)]
    shelved_until: Option<Moment>,
    /// When it was cleared.
    #[schema(value_type = Option<String>, format = DateTime)]
    cleared_at: Option<Moment>,
}

impl From<AlarmRow> for AlarmView {
    fn from(row: AlarmRow) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: row.id.to_string(),
            name: row.name,
            state: row.state,
            severity: row.severity,
            message: row.message,
            device: given(row.device),
            subject: row.subject,
            value: row.value,
            node: row.node,
            raised_at: moment(row.raised_ms),
            changed_at: moment(row.changed_ms),
            changed_by: given(row.changed_by),
            shelved_until: moment(row.shelved_until_ms),
            cleared_at: moment(row.cleared_ms),
        }
    }
}

/// Which alarms.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlarmParams {
    /// States with commas between them: `active`, `acknowledged`, `shelved`, `cleared`. Default:
    /// all but `cleared`.
    state: Option<String>,
    /// The least severity: `info`, `warning`, `minor`, `major`, `critical`.
    severity: Option<String>,
    /// Id of a device.
    device: Option<String>,
    /// Name.
    name: Option<String>,
    /// The most items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The alarms of the node.
fn alarms_of(api: &Api) -> Result<&Arc<Alarms>, Problem> {
    let alarms = api.alarms();
    alarms.ok_or_else(|| Problem::unavailable("the node is starting: try again".to_owned()))
}

impl From<AlarmError> for Problem {
    fn from(error: AlarmError) -> Self {
        let kind = match &error {
            AlarmError::NotFound(_) => ProblemKind::NotFound,
            AlarmError::State(..) => ProblemKind::Conflict,
        };
        Self::new(kind, error.to_string())
    }
}

fn states_of(text: Option<&str>) -> Result<Vec<String>, Problem> {
    let Some(text) = text else {
        let open = AlarmState::ALL.into_iter();
        let open = open.filter(|state| *state != AlarmState::Cleared);
        return Ok(open.map(|state| state.word().to_owned()).collect());
    };
    let words = text.split(',').map(str::trim);
    let states = words.map(|word| match AlarmState::from_word(word) {
        Some(state) => Ok(state.word().to_owned()),
        None => {
            let detail =
                format!("{word:?}: expected some of active, acknowledged, shelved and cleared");
            Err(Problem::of_query("state", detail))
        }
    });
    states.collect()
}

fn severities_of(text: Option<&str>) -> Result<Vec<String>, Problem> {
    let Some(word) = text else {
        return Ok(Vec::new());
    };
    let least = Severity::from_word(word).ok_or_else(|| {
        let words = Severity::ALL.map(Severity::word).join(", ");
        Problem::of_query("severity", format!("{word:?}: expected one of {words}"))
    })?;
    let all = Severity::ALL.into_iter().filter(|one| *one >= least);
    Ok(all.map(|one| one.word().to_owned()).collect())
}

/// Alarms
///
/// The newest one first; without `state`, those that are not cleared.
#[utoipa::path(get, path = "/api/v1/alarms", tag = "alarms", params(AlarmParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = Page<AlarmView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<AlarmParams>,
) -> Result<Json<Page<AlarmView>>, Problem> {
    const OF: &str = "alarms";
    let page = page_request(&api, OF, (wanted.limit, wanted.cursor.as_deref(), None))?;
    let filter = AlarmFilter {
        tenant: tenant.map(|tenant| tenant.0),
        states: states_of(wanted.state.as_deref())?,
        severities: severities_of(wanted.severity.as_deref())?,
        device: wanted.device,
        name: wanted.name,
        id: None,
    };
    let found = alarms_of(&api)?.list(filter, page).await?;
    Ok(Json(page_of(&api, OF, found, Into::into)))
}

fn number_of(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| no_alarm(id))
}

fn no_alarm(id: &str) -> Problem {
    let missing = NotFound::Object(ObjectKind::Alarm, id.to_owned());
    Problem::of_error(ProblemKind::NotFound, &missing)
}

/// An alarm
///
/// Also one that was cleared, for as long as it is kept.
#[utoipa::path(get, path = "/api/v1/alarms/{id}", tag = "alarms",
    params(OfTenant, ("id" = String, Path, description = "Number of the alarm")),
    responses(
        (status = 200, description = "The alarm", body = AlarmView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(id): PathOf<String>,
) -> Result<Json<AlarmView>, Problem> {
    let filter = AlarmFilter {
        tenant: tenant.map(|tenant| tenant.0),
        id: Some(number_of(&id)?),
        ..AlarmFilter::default()
    };
    let page = page_request(&api, "alarm", (Some(1), None, None))?;
    let found = alarms_of(&api)?.list(filter, page).await?.items;
    let found = found.into_iter().next().ok_or_else(|| no_alarm(&id))?;
    Ok(Json(found.into()))
}

/// The alarm as it is now, and the team that it belongs to.
type Changed = (Option<Extension<AboutTeam>>, Json<AlarmView>);

async fn order(
    api: &Api,
    caller: &Caller,
    id: &str,
    tenant: InTenants,
    order: AlarmOrder,
) -> Result<Changed, Problem> {
    let InTenants(tenant) = tenant;
    let id = number_of(id)?;
    let changed = alarms_of(api)?.order(id, tenant, &caller.actor.who, order);
    let changed = changed.await?;
    let team = api.control.team_of_tenant(TenantId(changed.tenant));
    Ok((team.map(AboutTeam).map(Extension), Json(changed.into())))
}

/// Acknowledge an alarm
///
/// Marks it as acknowledged. It stays until its condition is over.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/acknowledge", tag = "alarms",
    params(OfTenant, ("id" = String, Path, description = "Number of the alarm")),
    responses(
        (status = 200, description = "The alarm", body = AlarmView),
        (status = 404, description = "No such alarm, or it is cleared", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "Already acknowledged", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    tenant: InTenants,
    PathOf(id): PathOf<String>,
) -> Result<Changed, Problem> {
    order(&api, &caller, &id, tenant, AlarmOrder::Acknowledge).await
}

/// For how long an alarm is silent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShelveBody {
    /// Seconds, up to 30 days.
    #[schema(minimum = 1, maximum = 2_592_000)]
    secs: u32,
}

/// Shelve an alarm
///
/// It is silent for a time, and active again then unless its condition is over.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/shelve", tag = "alarms",
    request_body = ShelveBody,
    params(OfTenant, ("id" = String, Path, description = "Number of the alarm")),
    responses(
        (status = 200, description = "The alarm", body = AlarmView),
        (status = 404, description = "No such alarm, or it is cleared", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn shelve(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    tenant: InTenants,
    PathOf(id): PathOf<String>,
    JsonBody(body): JsonBody<ShelveBody>,
) -> Result<Changed, Problem> {
    if !(1..=SHELVED_MAX_SECS).contains(&body.secs) {
        let detail = format!("expected seconds, from 1 to {SHELVED_MAX_SECS}");
        return Err(Problem::of_body("/secs", detail));
    }
    order(&api, &caller, &id, tenant, AlarmOrder::Shelve(body.secs)).await
}

/// End the shelving of an alarm
///
/// It is active again, or acknowledged if it was so before.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/unshelve", tag = "alarms",
    params(OfTenant, ("id" = String, Path, description = "Number of the alarm")),
    responses(
        (status = 200, description = "The alarm", body = AlarmView),
        (status = 404, description = "No such alarm, or it is cleared", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "The alarm is not shelved", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn unshelve(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    tenant: InTenants,
    PathOf(id): PathOf<String>,
) -> Result<Changed, Problem> {
    order(&api, &caller, &id, tenant, AlarmOrder::Unshelve).await
}

/// Clear an alarm
///
/// It is raised again if its condition is observed once more.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/clear", tag = "alarms",
    params(OfTenant, ("id" = String, Path, description = "Number of the alarm")),
    responses(
        (status = 200, description = "The alarm", body = AlarmView),
        (status = 404, description = "No such alarm, or it is cleared", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn clear(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    tenant: InTenants,
    PathOf(id): PathOf<String>,
) -> Result<Changed, Problem> {
    order(&api, &caller, &id, tenant, AlarmOrder::Clear).await
}
