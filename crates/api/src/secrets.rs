//! Secrets of other systems: their names, and the callers that changed them. Values go in and never
//! out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::callers::Caller;
use martlet_control::integrations::SecretValue;
use martlet_control::secrets::{SecretError, SecretHead, SecretStore};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Items;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{CalledBy, moment, team_id, within};
use crate::time::Moment;

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretView {
    /// Name, which no other secret of the same owner has.
    #[schema(example = "crm-token")]
    name: String,
    /// Id of the team that owns it; null: the common tenant.
    team: Option<String>,
    /// Time of its creation.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Time of its last change.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Moment>,
    /// The user or key that changed it last.
    changed_by: String,
    /// Integrations that use it.
    #[schema(example = json!(["webhook/crm"]))]
    used_by: Vec<String>,
}

/// The team whose secrets are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Team that owns them, by id or name. Without it, those of the caller's team; for a caller
    /// that sees all teams, a list has those of all, and a change is one of the common tenant.
    team: Option<String>,
}

/// Which secret to remove.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Removed {
    /// Team that owns it, by id or name.
    team: Option<String>,
    /// Remove it although an integration uses it. That integration stops then.
    force: Option<bool>,
}

/// The value of a secret. It is never shown again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretBody {
    /// The value: text of 1 to 65,536 bytes.
    #[schema(write_only)]
    value: String,
}

impl std::fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBody(***)")
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::SharedRegistry(error) => error.into(),
            SecretError::Value | SecretError::Line(_) => {
                Self::new(ProblemKind::Invalid, error.to_string())
            }
            SecretError::Key(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// Secrets
///
/// Names and owners of the secrets that integrations use, and when they were changed. Values are
/// never shown.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "integrations", params(OfTeam),
    responses((status = 200, description = "All that the caller sees", body = Items<SecretView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<SecretView>>, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let all = store(&api)?.list(caller.visibility()).await?;
    Ok(Json(all.into_iter().map(|head| view(&api, head)).collect()))
}

fn view(api: &Api, head: SecretHead) -> SecretView {
    SecretView {
        used_by: users(api, &head.team, &head.name),
        name: head.name,
        team: Some(head.team).filter(|team| !team.is_empty()),
        created_at: moment(head.created_ms),
        changed_at: moment(head.changed_ms),
        changed_by: head.changed_by,
    }
}

/// Set a secret
///
/// Integrations that use it go on with the new value at once. The first secret makes the key file
/// of the node (`secrets.key_file`).
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "integrations", request_body = SecretBody,
    params(OfTeam, ("name" = String, Path, description = "Name: letters, digits, -, _ and .")),
    responses(
        (status = 200, description = "Changed", body = SecretView),
        (status = 201, description = "Added", body = SecretView),
        (status = 503, description = "The key file cannot be used", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(body): JsonBody<SecretBody>,
) -> Result<(StatusCode, Json<SecretView>), Problem> {
    let value = SecretValue::new(body.value);
    let team = owner(&api, &caller, of.team.as_deref()).await?;
    let set = store(&api)?.set(caller.actor, team, name, value).await?;
    in_force(&api).await;
    let status = match set.is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(view(&api, set.head))))
}

/// Remove a secret
///
/// One that an integration uses is removed only with `force`.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "integrations",
    params(Removed, ("name" = String, Path, description = "Name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "An integration uses it", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<Removed>,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let team = owner(&api, &caller, wanted.team.as_deref()).await?;
    let users = users(&api, &team, &name);
    if !users.is_empty() && wanted.force != Some(true) {
        let users = users.join(", ");
        let detail = format!(
            "the secret {name:?} is used by {users}: remove it from their settings first. `martlet \
             secret rm --force` (force=true) removes it anyway, and stops them"
        );
        return Err(Problem::new(ProblemKind::Conflict, detail));
    }
    store(&api)?.remove(caller.actor, team, name).await?;
    in_force(&api).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Integrations apply a change before it is answered.
pub(crate) async fn in_force(api: &Api) {
    if let Some(all) = api.integrations() {
        all.renew_secrets().await;
    }
}

pub(crate) fn store(api: &Api) -> Result<&SecretStore, Problem> {
    let all = api.integrations();
    let all = all.ok_or_else(|| Problem::unavailable("the node keeps no secrets".to_owned()))?;
    Ok(all.secrets())
}

/// Id of the team that owns what the caller means; empty: the common tenant.
async fn owner(api: &Api, caller: &Caller, team: Option<&str>) -> Result<String, Problem> {
    match (team, caller.visibility().team()) {
        (Some(team), _) => team_id(api, caller, team).await,
        (None, Some(own)) => Ok(own.to_owned()),
        (None, None) => Ok(String::new()),
    }
}

fn users(api: &Api, team: &str, name: &str) -> Vec<String> {
    let all = api.integrations();
    all.map_or_else(Vec::new, |all| all.using_secret(&api.control, team, name))
}
