//! Groups of devices, their members, and what members may do besides the rules of their type.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::callers::Caller;
use martlet_control::use_cases::{
    AddGroup, ChangeGroup, ChangeMembers, FindGroup, GroupName, ListGroups, ReadGroupRules,
    RemoveGroup, SetGroupRules,
};
use martlet_registry::{Group, GroupChange, NewGroup};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::forms::{page_of_all, version};
use super::rule_sets::{RuleLines, lines, parse};
use super::{CalledBy, within};
use crate::api::Api;
use crate::etag::{expected, expected_if_any};
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;

fn answer(status: StatusCode, group: Group) -> Response {
    let tag = version(group.revision).header();
    (status, [tag], axum::Json(group)).into_response()
}

/// Which groups.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Only groups of this team, by id or name.
    team: Option<String>,
}

/// The team in which a group is looked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Look among the groups of this team, by id or name: needed where several teams have one of
    /// the name.
    team: Option<String>,
}

impl OfTeam {
    /// The group with this id or name.
    fn group(self, text: String) -> GroupName {
        GroupName {
            text,
            team: self.team,
        }
    }
}

/// Groups
#[utoipa::path(get, path = "/api/v1/groups", tag = "devices", params(GroupParams),
    responses((status = 200, description = "A page of the list, sorted by id", body = Page<Group>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<GroupParams>,
) -> Result<axum::Json<Page<Group>>, Problem> {
    let caller = within(&api, caller, params.team.as_deref()).await?;
    let paging = (params.limit, params.cursor.as_deref(), params.total);
    let of = format!("groups {:?}", caller.visibility());
    let found = api.run(caller, ListGroups).await?;
    let page = page_of_all(&api, &of, found, |group| &group.id, paging)?;
    Ok(axum::Json(page))
}

/// Add a group
#[utoipa::path(post, path = "/api/v1/groups", tag = "devices", request_body = NewGroup,
    responses((status = 201, description = "Added", body = Group)))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(group): JsonBody<NewGroup>,
) -> Result<Response, Problem> {
    let added = api.run(caller, AddGroup { group }).await?;
    Ok(answer(StatusCode::CREATED, added))
}

/// A group
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id or name"), OfTeam),
    responses((status = 200, description = "The group", body = Group),
        (status = 404, description = "Not found")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let group = of.group(id);
    let found = api.run(caller, FindGroup { group }).await?;
    let version = version(found.revision);
    Ok(version.unless_unchanged(&headers, axum::Json(found)))
}

/// Change a group
#[utoipa::path(patch, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id or name"), OfTeam,
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = GroupChange,
    responses((status = 200, description = "The current state", body = Group),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<GroupChange>,
) -> Result<Response, Problem> {
    let change = ChangeGroup {
        group: of.group(id),
        change,
        expected_revision: expected(&headers)?,
    };
    let changed = api.run(caller, change).await?;
    Ok(answer(StatusCode::OK, changed))
}

/// Remove a group
///
/// With its rules; its devices stay.
#[utoipa::path(delete, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id or name"), OfTeam),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let remove = RemoveGroup {
        group: of.group(id),
        expected_revision: expected_if_any(&headers)?,
    };
    api.run(caller, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Devices that come into a group or leave it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Members {
    /// Ids of devices.
    #[schema(max_items = 10_000)]
    devices: Vec<String>,
}

/// Number of devices that were changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Moved {
    /// Id of the group.
    id: String,
    /// Name of the group.
    group: String,
    /// Devices whose membership has changed.
    changed: u64,
}

/// Put devices into a group
#[utoipa::path(post, path = "/api/v1/groups/{id}/devices", tag = "devices",
    params(("id" = String, Path, description = "Id or name of the group"), OfTeam), request_body = Members,
    responses((status = 200, description = "Number of devices that were added", body = Moved),
        (status = 404, description = "No such group or device")))]
pub(crate) async fn add_members(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Members>,
) -> Result<axum::Json<Moved>, Problem> {
    change_members(&api, caller, of.group(id), body, true).await
}

/// Take devices out of a group
#[utoipa::path(post, path = "/api/v1/groups/{id}/devices/remove", tag = "devices",
    params(("id" = String, Path, description = "Id or name of the group"), OfTeam), request_body = Members,
    responses((status = 200, description = "Number of devices that were removed", body = Moved),
        (status = 404, description = "No such group or device")))]
pub(crate) async fn remove_members(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Members>,
) -> Result<axum::Json<Moved>, Problem> {
    change_members(&api, caller, of.group(id), body, false).await
}

async fn change_members(
    api: &Api,
    caller: Caller,
    group: GroupName,
    members: Members,
    is_added: bool,
) -> Result<axum::Json<Moved>, Problem> {
    let change = ChangeMembers {
        group,
        devices: members.devices,
        is_added,
    };
    let (group, changed) = api.run(caller, change).await?;
    Ok(axum::Json(Moved {
        id: group.id,
        group: group.name,
        changed,
    }))
}

/// Rules of a group
#[utoipa::path(get, path = "/api/v1/groups/{id}/rules", tag = "devices",
    params(("id" = String, Path, description = "Id or name of the group"), OfTeam),
    responses((status = 200, description = "The rules, in their order", body = RuleLines,
        headers(("ETag" = String, description = "Revision of the group"))),
        (status = 404, description = "No such group")))]
pub(crate) async fn rules(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Response, Problem> {
    let group = of.group(id);
    let found = api.run(caller, ReadGroupRules { group }).await?;
    let (tag, rules) = (version(found.revision).header(), lines(&found.rules));
    Ok(([tag], axum::Json(RuleLines { rules })).into_response())
}

/// Give a group other rules
///
/// They are rules like those of types: a caller that sees all teams may change those too, by
/// `acl:write`.
#[utoipa::path(put, path = "/api/v1/groups/{id}/rules", tag = "devices",
    params(("id" = String, Path, description = "Id or name of the group"), OfTeam), request_body = RuleLines,
    responses((status = 200, description = "In force", body = RuleLines),
        (status = 404, description = "No such group"),
        (status = 412, description = "The group was changed in the meantime")))]
pub(crate) async fn set_rules(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<RuleLines>,
) -> Result<axum::Json<RuleLines>, Problem> {
    let rules = parse(&body.rules)?;
    let shown = lines(&rules);
    let set = SetGroupRules {
        group: of.group(id),
        rules,
        expected_revision: expected_if_any(&headers)?,
    };
    api.run(caller, set).await?;
    Ok(axum::Json(RuleLines { rules: shown }))
}
