//! Teams and their members.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::use_cases::{
    AddTeam, ChangeTeam, DeleteTeam, FindTeam, ListMembers, ListTeams, PurgeTeam, RestoreTeam,
    SetMember,
};
use martlet_registry::{ApiRole, Member, NewTeam, Team, TeamChange};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::CalledBy;
use super::forms::{moment, page_of_all, version};
use super::users::UserParams;
use crate::api::Api;
use crate::etag::{expected, expected_if_any};
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;
use crate::time::Moment;
use crate::words;

fn answer(status: StatusCode, team: Team) -> Response {
    let tag = version(team.revision).header();
    (status, [tag], axum::Json(team)).into_response()
}

/// Teams
#[utoipa::path(get, path = "/api/v1/teams", tag = "people", params(UserParams),
    responses((status = 200, description = "A page of the list, sorted by id", body = Page<Team>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<UserParams>,
) -> Result<axum::Json<Page<Team>>, Problem> {
    let deleted = params.is_deleted();
    let found = api.run(caller, ListTeams { deleted }).await?;
    let of = format!("teams {deleted}");
    let page = page_of_all(&api, &of, found, |team| &team.id, params.paging())?;
    Ok(axum::Json(page))
}

/// Add a team
#[utoipa::path(post, path = "/api/v1/teams", tag = "people", request_body = NewTeam,
    responses((status = 201, description = "Added", body = Team)))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(team): JsonBody<NewTeam>,
) -> Result<Response, Problem> {
    let added = api.run(caller, AddTeam { team }).await?;
    Ok(answer(StatusCode::CREATED, added))
}

/// A team
#[utoipa::path(get, path = "/api/v1/teams/{id}", tag = "people",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The team", body = Team),
        (status = 404, description = "Not found")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = api.run(caller, FindTeam { team: id }).await?;
    let version = version(found.revision);
    Ok(version.unless_unchanged(&headers, axum::Json(found)))
}

/// Change a team
#[utoipa::path(patch, path = "/api/v1/teams/{id}", tag = "people",
    params(("id" = String, Path, description = "Id or name"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = TeamChange,
    responses((status = 200, description = "The current state", body = Team),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<TeamChange>,
) -> Result<Response, Problem> {
    let change = ChangeTeam {
        team: id,
        change,
        expected_revision: expected(&headers)?,
    };
    let changed = api.run(caller, change).await?;
    Ok(answer(StatusCode::OK, changed))
}

/// Delete a team
///
/// With its devices, and with what its keys open; all of it can be restored.
#[utoipa::path(delete, path = "/api/v1/teams/{id}", tag = "people",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "Not found"),
        (status = 409, description = "A user belongs to it"),
        (status = 412, description = "Its revision is not the one in If-Match")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let delete = DeleteTeam {
        team: id,
        expected_revision: expected_if_any(&headers)?,
    };
    api.run(caller, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted team
///
/// With the devices that were deleted with it.
#[utoipa::path(post, path = "/api/v1/teams/{id}/restore", tag = "people",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The current state", body = Team),
        (status = 404, description = "No such object is deleted")))]
pub(crate) async fn restore(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    let restored = api.run(caller, RestoreTeam { team: id }).await?;
    Ok(answer(StatusCode::OK, restored))
}

/// How a team is removed for good.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Purge {
    /// Remove its devices and the users that belong to it, too: the caller needs all rights for
    /// that. Without it a team that has any is not removed.
    with_members: Option<bool>,
}

/// Objects that are removed with a team.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Purged {
    /// Id of the team.
    id: String,
    /// Name of the team, which another may have now.
    name: String,
    /// Devices, deleted ones among them.
    devices: i64,
    /// Users that belonged to it, including deleted ones.
    users: i64,
    /// Groups, with their rules.
    groups: i64,
    /// API keys and provisioning keys.
    keys: i64,
}

/// Remove a team for good
///
/// Removes the team, whether it was deleted before or not, with its devices, groups, keys and bans,
/// and with deleted users that belonged to it. If it still has devices or users, nothing is removed
/// without `with_members`.
#[utoipa::path(post, path = "/api/v1/teams/{id}/purge", tag = "people",
    params(("id" = String, Path, description = "Id or name"), Purge),
    responses((status = 200, description = "The numbers of objects that were deleted", body = Purged),
        (status = 404, description = "Not found"),
        (status = 409, description = "The team has members")))]
pub(crate) async fn purge(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(how): QueryOf<Purge>,
) -> Result<axum::Json<Purged>, Problem> {
    let purge = PurgeTeam {
        team: id,
        with_members: how.with_members == Some(true),
    };
    let gone = api.run(caller, purge).await?;
    Ok(axum::Json(Purged {
        id: gone.id,
        name: gone.name,
        devices: gone.devices,
        users: gone.users,
        groups: gone.groups,
        keys: gone.keys,
    }))
}

/// A member of a team.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberView {
    /// User name.
    user: String,
    /// Role of the user, which says what they may do with the team's objects.
    #[schema(schema_with = words::member_roles)]
    role: &'static str,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Moment>,
}

/// All users in a team.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberList {
    /// The members, in the order of their names.
    items: Vec<MemberView>,
}

/// List the members of a team
#[utoipa::path(get, path = "/api/v1/teams/{id}/members", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team")),
    responses((status = 200, description = "The whole list", body = MemberList),
        (status = 404, description = "No such team")))]
pub(crate) async fn members(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<axum::Json<MemberList>, Problem> {
    let found = api.run(caller, ListMembers { team: id }).await?;
    let view = |member: Member| MemberView {
        user: member.user,
        role: member.role.word(),
        since: moment(member.created_ms),
    };
    let items = found.into_iter().map(view).collect();
    Ok(axum::Json(MemberList { items }))
}

/// Role of a member of a team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberBody {
    /// `administrator`, `operator` or `viewer`.
    #[schema(schema_with = words::member_roles)]
    role: ApiRole,
}

/// Add a user to a team
#[utoipa::path(put, path = "/api/v1/teams/{id}/members/{user}", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team"),
        ("user" = String, Path, description = "User name")),
    request_body = MemberBody,
    responses((status = 204, description = "Added to the team"),
        (status = 404, description = "No such team or user")))]
pub(crate) async fn set_member(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, user)): PathOf<(String, String)>,
    JsonBody(body): JsonBody<MemberBody>,
) -> Result<StatusCode, Problem> {
    let set = SetMember {
        team: id,
        user,
        role: Some(body.role),
    };
    api.run(caller, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a user from a team
#[utoipa::path(delete, path = "/api/v1/teams/{id}/members/{user}", tag = "people",
    params(("id" = String, Path, description = "Id or name of the team"),
        ("user" = String, Path, description = "User name")),
    responses((status = 204, description = "Removed from the team"),
        (status = 404, description = "No such team or user")))]
pub(crate) async fn remove_member(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, user)): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    let remove = SetMember {
        team: id,
        user,
        role: None,
    };
    api.run(caller, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
