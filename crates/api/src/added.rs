//! Integrations that are added, changed and removed while the node runs: what the routes of their
//! kinds have in common.

use axum::Json;
use axum::http::StatusCode;
use martlet_control::callers::Caller;
use martlet_control::integrations::{AddedChange, AddedError, AddedKind, VisibleIntegration};
use martlet_control::text::masked_target;
use martlet_registry::NotFound;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::integrations::started;
use crate::page::Items;
use crate::problem::{Problem, ProblemKind};
use crate::registry::{moment, team_id, within};
use crate::time::Moment;

/// An integration of the configuration, or one that was added through the API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedView {
    /// Name, which no other integration of this kind, node and team has.
    /// `/api/v1/integrations/KIND/NAME` has its state.
    #[schema(example = "site")]
    name: String,
    /// Id of the team whose messages it takes, or its name in the configuration; null: the common
    /// tenant.
    team: Option<String>,
    /// Where it is from: `configuration`, which no route changes, or `api`.
    #[schema(example = "api")]
    origin: &'static str,
    /// Settings: the keys of its table in the configuration. Null for one of the configuration,
    /// which `/api/v1/config` shows.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// State: `starting`, `running`, `retrying`, …; null: it does not run, the node's log has the
    /// reason.
    #[schema(example = "running")]
    state: Option<&'static str>,
    /// Time of its creation.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Time of its last change.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Moment>,
    /// The user or key that changed it last.
    changed_by: Option<String>,
}

impl From<VisibleIntegration> for AddedView {
    fn from(of: VisibleIntegration) -> Self {
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
            settings: added.and_then(|one| shown(&one.settings)),
        }
    }
}

/// Settings to be shown: a URL is without what is secret in it, and notes of the node's own routes
/// are left out.
fn shown(settings: &str) -> Option<Value> {
    let mut settings: Map<String, Value> = serde_json::from_str(settings).ok()?;
    if let Some(Value::String(url)) = settings.get_mut("url") {
        *url = masked_target(url);
    }
    if let Some(Value::Object(notes)) = settings.get_mut("notes") {
        notes.remove(NOTE);
    }
    Some(Value::Object(settings))
}

/// Member of the notes in which the microservice's routes keep what they need.
pub(crate) const NOTE: &str = "microservice";

impl From<AddedError> for Problem {
    fn from(error: AddedError) -> Self {
        match error {
            AddedError::Unusable(unusable) => match unusable.key {
                Some(key) => Self::of_body(&format!("/{key}"), unusable.why),
                None => Self::of_body("", unusable.why),
            },
            AddedError::Configured(why) => Self::new(ProblemKind::Conflict, why),
            AddedError::NotFound(why) => Self::new(ProblemKind::NotFound, why),
            AddedError::SharedRegistry(error) => error.into(),
        }
    }
}

/// The team whose integrations are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Team whose messages they take, by id or name. Without it, those of the caller's team; for a
    /// caller that sees all teams, a list has those of all, a new one is of the common tenant, and
    /// of several of one name that of the common tenant is meant.
    team: Option<String>,
}

/// All of a kind that the caller sees.
pub(crate) async fn list(
    api: &Api,
    caller: &Caller,
    of: &OfTeam,
    kind: AddedKind,
) -> Result<Json<Items<AddedView>>, Problem> {
    let all = seen(api, caller, of.team.as_deref(), kind).await?;
    Ok(Json(all.into_iter().map(Into::into).collect()))
}

/// One of a kind.
pub(crate) async fn show(
    api: &Api,
    caller: &Caller,
    of: &OfTeam,
    kind: AddedKind,
    name: &str,
) -> Result<Json<AddedView>, Problem> {
    let all = seen(api, caller, of.team.as_deref(), kind).await?;
    let mut named = all.into_iter().filter(|one| one.name == name);
    let found = one_of_team(&mut named, kind.name(), name, |one| &one.team)?;
    found.map(|one| Json(one.into())).ok_or_else(|| {
        let kind = kind.name();
        let detail =
            format!("there is no {kind} {name:?}: GET /api/v1/{kind}s lists those there are");
        Problem::new(ProblemKind::NotFound, detail)
    })
}

/// The one of these, which all have this name, that is meant: that of no team, or the only one.
///
/// # Errors
/// Several teams have one.
pub(crate) fn one_of_team<T>(
    named: &mut dyn Iterator<Item = T>,
    kind: &str,
    name: &str,
    team: impl Fn(&T) -> &str,
) -> Result<Option<T>, Problem> {
    let mut all: Vec<T> = named.collect();
    let of_none = all.iter().position(|one| team(one).is_empty());
    if all.len() > 1 && of_none.is_none() {
        let several = NotFound::OfSeveralTeams(kind.to_owned(), name.to_owned());
        return Err(Problem::of_error(ProblemKind::NotFound, &several));
    }
    let at = of_none.unwrap_or_default();
    Ok((at < all.len()).then(|| all.swap_remove(at)))
}

/// Adds or changes one.
pub(crate) async fn set(
    api: &Api,
    caller: &Caller,
    of: &OfTeam,
    kind: AddedKind,
    name: String,
    settings: Map<String, Value>,
) -> Result<(StatusCode, Json<AddedView>), Problem> {
    let team = owner(api, caller, of.team.as_deref()).await?;
    let change = AddedChange {
        kind,
        name: name.clone(),
        team: team.clone(),
        settings,
    };
    let all = started(api)?;
    let is_new = all.set_added(caller.actor.clone(), change).await?;
    let found = all.seen_of(kind, caller.visibility(), None).await?;
    let found = found
        .into_iter()
        .find(|one| one.name == name && one.team == team && one.added.is_some());
    // Removed by another request since.
    let found = found.ok_or_else(|| {
        Problem::conflict("it was removed again at once: add it again".to_owned())
    })?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(found.into())))
}

/// Removes one that was added.
pub(crate) async fn remove(
    api: &Api,
    caller: Caller,
    of: &OfTeam,
    kind: AddedKind,
    name: &str,
) -> Result<StatusCode, Problem> {
    let caller = within(api, caller, of.team.as_deref()).await?;
    let removed = started(api)?.remove_added(caller.actor, kind, name);
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Objects of a kind that the caller sees; with a team, those of that alone.
pub(crate) async fn seen(
    api: &Api,
    caller: &Caller,
    team: Option<&str>,
    kind: AddedKind,
) -> Result<Vec<VisibleIntegration>, Problem> {
    let caller = within(api, caller.clone(), team).await?;
    let visibility = caller.visibility();
    let tenant = match visibility.team() {
        None => None,
        Some(team) => match api.control.tenant_of_team(team) {
            Some(tenant) => Some(tenant),
            // A team without a tenant of its own has none.
            None => return Ok(Vec::new()),
        },
    };
    let all = started(api)?.seen_of(kind, visibility, tenant).await?;
    Ok(all)
}

/// Id of the team whose messages one is to take; empty: the common tenant.
pub(crate) async fn owner(
    api: &Api,
    caller: &Caller,
    team: Option<&str>,
) -> Result<String, Problem> {
    let team = match (team, caller.visibility().team()) {
        (Some(team), _) => team_id(api, caller, team).await?,
        (None, Some(own)) => own.to_owned(),
        (None, None) => return Ok(String::new()),
    };
    match api.control.tenant_of_team(&team) {
        Some(_) => Ok(team),
        None => Err(Problem::conflict(format!(
            "the team {team} has no tenant of its own, and so no messages of its own: a caller that \
             sees all teams adds one of the common tenant"
        ))),
    }
}
