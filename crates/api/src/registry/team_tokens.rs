//! Team tokens: a key and a secret by which each device of a team logs in.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use martlet_control::use_cases::{AddTeamToken, ListTeamTokens, RestoreTeamToken, RevokeTeamToken};
use martlet_registry::{AddedTeamToken, TeamToken};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CalledBy;
use super::forms::moment;
use crate::api::Api;
use crate::extract::{JsonBody, PathOf};
use crate::problem::Problem;
use crate::shown_once::{JsonWithSecrets, ShownOnce};
use crate::time::Moment;

/// A team token, without its key and its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TeamTokenView {
    /// Id of the token.
    id: String,
    /// Number of the token, which no other token gets: `api_token_id` for other brokers.
    number: i64,
    /// The id of its team.
    team: String,
    /// For people.
    name: String,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it was revoked; null: it is valid.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Moment>,
}

impl From<TeamToken> for TeamTokenView {
    fn from(token: TeamToken) -> Self {
        Self {
            id: token.id,
            number: token.number,
            team: token.team,
            name: token.name,
            created_at: moment(token.created_ms),
            revoked_at: moment(token.revoked_ms),
        }
    }
}

/// All team tokens of a team.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TeamTokenList {
    /// Oldest first, revoked ones among them.
    items: Vec<TeamTokenView>,
}

/// List the team tokens of a team
///
/// Their keys and secrets are never shown.
#[utoipa::path(get, path = "/api/v1/teams/{id}/tokens", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team")),
    responses((status = 200, description = "The whole list", body = TeamTokenList),
        (status = 404, description = "No such team")))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<axum::Json<TeamTokenList>, Problem> {
    let found = api.run(caller, ListTeamTokens { team: id }).await?;
    let items = found.into_iter().map(TeamTokenView::from).collect();
    Ok(axum::Json(TeamTokenList { items }))
}

/// A team token to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTeamTokenBody {
    /// For people.
    #[schema(example = "panel")]
    name: String,
}

/// Credentials that devices log in with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TeamTokenCredentials {
    /// The user name: 24 letters and digits.
    key: String,
    /// The password: 32 letters and digits.
    secret: String,
}

/// A team token that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeTeamToken {
    #[serde(flatten)]
    view: TeamTokenView,
    /// Shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<TeamTokenCredentials>)]
    credentials: ShownOnce<TeamTokenCredentials>,
}

impl From<AddedTeamToken> for MadeTeamToken {
    fn from(added: AddedTeamToken) -> Self {
        Self {
            view: added.token.into(),
            credentials: ShownOnce::new(TeamTokenCredentials {
                key: added.key.text().to_owned(),
                secret: added.secret.text().to_owned(),
            }),
        }
    }
}

/// Add a team token
///
/// Each device of the team logs in with it: the key is the user name, the secret the password, and
/// the Client Identifier is the id of the device, whose rights it has. Needs `devices:write` too.
#[utoipa::path(post, path = "/api/v1/teams/{id}/tokens", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team")),
    request_body = NewTeamTokenBody,
    responses((status = 201, description = "Created; the key is shown this once", body = MadeTeamToken),
        (status = 404, description = "No such team")))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    JsonBody(body): JsonBody<NewTeamTokenBody>,
) -> Result<Response, Problem> {
    let token = AddTeamToken {
        team: id,
        name: body.name,
    };
    let made = MadeTeamToken::from(api.run(caller, token).await?);
    Ok((StatusCode::CREATED, JsonWithSecrets(made)).into_response())
}

/// Revoke a team token
///
/// Connections that came by it have ended when the answer arrives. It can be restored. Needs
/// `devices:write` too.
#[utoipa::path(delete, path = "/api/v1/teams/{id}/tokens/{token}", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team"),
        ("token" = String, Path, description = "Id of the token")),
    responses((status = 204, description = "Revoked"),
        (status = 404, description = "The team has none that is valid")))]
pub(crate) async fn revoke(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, token)): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.run(caller, RevokeTeamToken { team: id, token }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a revoked team token
///
/// Devices log in with the same key and secret again. Needs `devices:write` too.
#[utoipa::path(post, path = "/api/v1/teams/{id}/tokens/{token}/restore", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team"),
        ("token" = String, Path, description = "Id of the token")),
    responses((status = 200, description = "The current state", body = TeamTokenView),
        (status = 404, description = "The team has none that is revoked")))]
pub(crate) async fn restore(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, token)): PathOf<(String, String)>,
) -> Result<axum::Json<TeamTokenView>, Problem> {
    let restored = api.run(caller, RestoreTeamToken { team: id, token });
    Ok(axum::Json(restored.await?.into()))
}
