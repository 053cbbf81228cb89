//! Bridges to other brokers: those of the configuration are shown, others are added, changed and
//! removed here while the node runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::integrations::{BridgeChange, BridgeError, BridgeSeen};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::integrations::started;
use crate::page::Items;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{Asking, moment};
use crate::time::Moment;

/// A bridge to another broker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BridgeView {
    /// Name, which no other bridge of the node has. `/api/v1/integrations/bridge/NAME` has its
    /// state.
    #[schema(example = "site")]
    name: String,
    /// Id of the team whose messages it carries, or its name in the configuration; null: the common
    /// tenant.
    team: Option<String>,
    /// Where it is from: `configuration`, which no route changes, or `api`.
    #[schema(example = "api")]
    origin: &'static str,
    /// Its settings: the keys of a table `[[bridges]]`. Null for one of the configuration, which
    /// `/api/v1/config` shows.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// What it does now: `starting`, `running`, `retrying`, …; null: it does not run, the node's
    /// log says why.
    #[schema(example = "running")]
    state: Option<&'static str>,
    /// Time of its creation.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Time of its last change.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Moment>,
    /// Who changed it last.
    changed_by: Option<String>,
}

impl From<BridgeSeen> for BridgeView {
    fn from(of: BridgeSeen) -> Self {
        let added = of.added;
        Self {
            name: of.name,
            team: Some(of.team).filter(|team| !team.is_empty()),
            origin: if added.is_some() {
                "api"
            } else {
                "configuration"
            },
            state: of.state,
            created_at: added.as_ref().and_then(|one| moment(one.created_ms)),
            changed_at: added.as_ref().and_then(|one| moment(one.changed_ms)),
            changed_by: added.as_ref().map(|one| one.changed_by.clone()),
            settings: added.and_then(|one| serde_json::from_str(&one.settings).ok()),
        }
    }
}

impl From<BridgeError> for Problem {
    fn from(error: BridgeError) -> Self {
        match error {
            BridgeError::Unusable(unusable) => match unusable.key {
                Some(key) => Self::of_body(&format!("/{key}"), unusable.why),
                None => Self::of_body("", unusable.why),
            },
            BridgeError::Configured(why) => Self::new(ProblemKind::Conflict, why),
            BridgeError::NotFound(why) => Self::new(ProblemKind::NotFound, why),
            BridgeError::Tables(error) => error.into(),
        }
    }
}

/// Whose bridges.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Team whose messages they carry, by id or name. Without it, those of the caller's team; for a
    /// caller that sees all teams, a list has those of all, and a new one is of the common tenant.
    team: Option<String>,
}

/// Settings of a bridge: the keys of a table `[[bridges]]` in the configuration but `name` and
/// `tenant`. `topics` is a list of texts or of objects with `filter`, `direction`, `qos`,
/// `local_prefix` and `remote_prefix`. `password` refers to a secret, `${secret:NAME}`. Names of
/// files need a caller that sees the whole node.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object, example = json!({
    "url": "mqtts://broker.example.com:8883",
    "topics": [{ "filter": "plant/#", "direction": "out", "qos": 1 }],
    "user": "site-1",
    "password": "${secret:broker-password}",
}))]
pub(crate) struct BridgeBody(Map<String, Value>);

/// Bridges
///
/// Those of the configuration, and then those that were added by the API.
#[utoipa::path(get, path = "/api/v1/bridges", tag = "integrations", params(OfTeam),
    responses((status = 200, description = "All that the caller sees", body = Items<BridgeView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<BridgeView>>, Problem> {
    let all = seen(&api, &asking, of.team.as_deref()).await?;
    Ok(Json(all.into_iter().map(Into::into).collect()))
}

/// A bridge
///
/// Its settings, and who changed it last.
#[utoipa::path(get, path = "/api/v1/bridges/{name}", tag = "integrations",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 200, description = "The bridge", body = BridgeView),
        (status = 404, description = "There is none", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
) -> Result<Json<BridgeView>, Problem> {
    let mut all = seen(&api, &asking, of.team.as_deref()).await?.into_iter();
    let found = all.find(|one| one.name == name);
    found.map(|one| Json(one.into())).ok_or_else(|| {
        let detail =
            format!("there is no bridge {name:?}: GET /api/v1/bridges lists those there are");
        Problem::new(ProblemKind::NotFound, detail)
    })
}

/// Add or change a bridge
///
/// It begins at once, and goes on after restarts of this node. All settings of one that is there
/// are replaced; messages that wait in its queue stay. The connection to the other broker is made
/// afterwards: its state says how that goes.
#[utoipa::path(put, path = "/api/v1/bridges/{name}", tag = "integrations", request_body = BridgeBody,
    params(OfTeam, ("name" = String, Path, description = "Name: letters, digits, -, _ and .")),
    responses(
        (status = 200, description = "It is changed", body = BridgeView),
        (status = 201, description = "It is new", body = BridgeView),
        (status = 409, description = "The configuration has a bridge of this name",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(BridgeBody(settings)): JsonBody<BridgeBody>,
) -> Result<(StatusCode, Json<BridgeView>), Problem> {
    let team = owner(&api, &asking, of.team.as_deref()).await?;
    let change = BridgeChange {
        name: name.clone(),
        team,
        settings,
    };
    let all = started(&api)?;
    let is_new = all.set_bridge(asking.actor.clone(), change).await?;
    let found = all.bridges(asking.scope(), None).await?;
    let found = found
        .into_iter()
        .find(|one| one.name == name && one.added.is_some());
    // Removed by another request since.
    let found = found.ok_or_else(|| {
        Problem::conflict("the bridge was removed again at once: add it again".to_owned())
    })?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(found.into())))
}

/// Remove a bridge
///
/// One that was added by the API. The messages in its queue are dropped. Its session at the other
/// broker stays there.
#[utoipa::path(delete, path = "/api/v1/bridges/{name}", tag = "integrations",
    params(("name" = String, Path, description = "Name")),
    responses(
        (status = 204, description = "It is removed"),
        (status = 404, description = "There is none that was added by the API",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    started(&api)?.remove_bridge(asking.actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bridges that the caller sees; with a team, those of that alone.
async fn seen(api: &Api, asking: &Asking, team: Option<&str>) -> Result<Vec<BridgeSeen>, Problem> {
    let asking = asking.clone().within(api, team).await?;
    let scope = asking.scope();
    let tenant = match scope.team() {
        None => None,
        Some(team) => match api.control.tenant_of_team(team) {
            Some(tenant) => Some(tenant),
            // A team without a tenant of its own has no bridges.
            None => return Ok(Vec::new()),
        },
    };
    let all = started(api)?.bridges(scope, tenant).await?;
    Ok(all)
}

/// Id of the team whose messages a bridge is to carry; empty: the common tenant.
async fn owner(api: &Api, asking: &Asking, team: Option<&str>) -> Result<String, Problem> {
    let team = match (team, asking.scope().team()) {
        (Some(team), _) => asking.team_id(api, team).await?,
        (None, Some(own)) => own.to_owned(),
        (None, None) => return Ok(String::new()),
    };
    match api.control.tenant_of_team(&team) {
        Some(_) => Ok(team),
        None => Err(Problem::conflict(format!(
            "the team {team} has no tenant of its own, and so no messages of its own: a caller that \
             sees all teams adds a bridge of the common tenant"
        ))),
    }
}
