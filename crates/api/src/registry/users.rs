//! Users: they connect with a password, and may use the API and the panel.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::Control;
use martlet_control::principal::{Principal, PrincipalKind};
use martlet_control::use_cases::{
    AddUser, ChangeUser, DeleteUser, FindUser, NewPassword, PageOfUsers, PurgeUser, RestoreUser,
    SetPassword, TeamsOfUsers,
};
use martlet_registry::{ApiRole, COMMON_TENANT, Member, NewUser, User, UserChange};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::forms::{page_of, page_request, version};
use super::{CalledBy, within};
use crate::api::Api;
use crate::etag::{expected, expected_if_any};
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;
use crate::words;

/// A user, and who decides about their password.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    #[serde(flatten)]
    user: User,
    /// A source that has the name too and comes before the tables in `auth.order`, so that MQTT
    /// clients need its password; null: the tables decide.
    mqtt_decided_by: Option<String>,
}

impl UserView {
    fn of(user: User, control: &Control) -> Self {
        let policy = control.policy().filter(|_| user.tenant == COMMON_TENANT);
        Self {
            mqtt_decided_by: policy.and_then(|policy| policy.decides_before_tables(&user.name)),
            user,
        }
    }
}

/// A user in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedUser {
    #[serde(flatten)]
    view: UserView,
    /// Teams that the user is in.
    teams: Vec<RoleInTeam>,
}

/// A role in a team.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoleInTeam {
    /// The id of the team.
    team: String,
    /// Role for the team's objects in the API and the panel.
    #[schema(schema_with = words::member_roles)]
    role: &'static str,
}

impl From<Member> for RoleInTeam {
    fn from(member: Member) -> Self {
        Self {
            role: member.role.word(),
            team: member.team,
        }
    }
}

fn answer(status: StatusCode, user: User, control: &Control) -> Response {
    let tag = version(user.revision).header();
    (status, [tag], axum::Json(UserView::of(user, control))).into_response()
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Users that were deleted, and no others.
    deleted: Option<bool>,
}

impl UserParams {
    pub(super) fn paging(&self) -> (Option<usize>, Option<&str>, Option<bool>) {
        (self.limit, self.cursor.as_deref(), self.total)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted == Some(true)
    }
}

/// Selects users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserListParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Users that were deleted, and no others.
    deleted: Option<bool>,
    /// Users of this team, by id or name.
    team: Option<String>,
}

/// Users
#[utoipa::path(get, path = "/api/v1/users", tag = "people", params(UserListParams),
    responses((status = 200, description = "A page of the list, sorted by name", body = Page<ListedUser>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<UserListParams>,
) -> Result<axum::Json<Page<ListedUser>>, Problem> {
    let of_team = within(&api, caller.clone(), params.team.as_deref()).await?;
    let deleted = params.deleted == Some(true);
    let of = format!("users {:?} {deleted}", of_team.visibility());
    let paging = (params.limit, params.cursor.as_deref(), params.total);
    let page = PageOfUsers {
        deleted,
        page: page_request(&api, &of, paging)?,
    };
    let page = api.run(of_team, page).await?;
    let names = page.items.iter().map(|user| user.name.clone()).collect();
    let teams = api.run(caller, TeamsOfUsers { names }).await?;
    let mut teams = teams.into_iter();
    let listed = page_of(&api, &of, page, |user| UserView::of(user, &control));
    Ok(axum::Json(Page {
        items: listed
            .items
            .into_iter()
            .map(|view| ListedUser {
                view,
                teams: teams
                    .next()
                    .into_iter()
                    .flatten()
                    .map(RoleInTeam::from)
                    .collect(),
            })
            .collect(),
        next: listed.next,
        total: listed.total,
    }))
}

/// The password in a request. Through `admin.sock` the command has checked how strong it is.
fn password(principal: &Principal, text: String) -> Result<NewPassword, Problem> {
    match principal.kind {
        PrincipalKind::Socket => Ok(NewPassword::given(text)),
        _ => Ok(NewPassword::chosen(text)?),
    }
}

/// Add a user
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = NewUser,
    responses((status = 201, description = "Added", body = UserView)))]
pub(crate) async fn create(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    Extension(principal): Extension<Principal>,
    CalledBy(caller): CalledBy,
    JsonBody(mut user): JsonBody<NewUser>,
) -> Result<Response, Problem> {
    user.team_role = user.team_role.filter(|role| *role != ApiRole::None);
    let password = password(&principal, user.password.take())?;
    let added = api.run(caller, AddUser { user, password }).await?;
    Ok(answer(StatusCode::CREATED, added, &control))
}

/// A user
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 200, description = "The user", body = UserView),
        (status = 404, description = "Not found")))]
pub(crate) async fn show(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = api.run(caller, FindUser { name }).await?;
    let version = version(found.revision);
    Ok(version.unless_unchanged(&headers, axum::Json(UserView::of(found, &control))))
}

/// Change a user
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = UserChange,
    responses((status = 200, description = "The current state", body = UserView),
        (status = 404, description = "Not found"),
        (status = 412, description = "Their revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<UserChange>,
) -> Result<Response, Problem> {
    let change = ChangeUser {
        name,
        change,
        expected_revision: expected(&headers)?,
    };
    let changed = api.run(caller, change).await?;
    Ok(answer(StatusCode::OK, changed, &control))
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordBody {
    /// The password, of 10 characters or more.
    #[schema(format = Password, min_length = 10, max_length = 1024)]
    password: String,
}

/// Give a user another password
///
/// Connections and sessions of theirs end.
#[utoipa::path(put, path = "/api/v1/users/{name}/password", tag = "people",
    params(("name" = String, Path, description = "User name")), request_body = PasswordBody,
    responses((status = 204, description = "The password is set"),
        (status = 404, description = "No such user")))]
pub(crate) async fn set_password(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<StatusCode, Problem> {
    let password = password(&principal, body.password)?;
    api.run(caller, SetPassword { name, password }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a user
///
/// The user's connections and sessions end, and the user's API keys are no longer valid; the user
/// can be restored.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "No such user"),
        (status = 412, description = "Their revision is not the one in If-Match")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let delete = DeleteUser {
        name,
        expected_revision: expected_if_any(&headers)?,
    };
    api.run(caller, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a user for good
///
/// Removes the user, whether deleted before or not. Devices that the user owned have no owner then,
/// and the API keys of the user are deleted.
#[utoipa::path(post, path = "/api/v1/users/{name}/purge", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 204, description = "Deleted permanently"),
        (status = 404, description = "No such user")))]
pub(crate) async fn purge(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    api.run(caller, PurgeUser { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted user
#[utoipa::path(post, path = "/api/v1/users/{name}/restore", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 200, description = "The current state", body = UserView),
        (status = 404, description = "No such object is deleted")))]
pub(crate) async fn restore(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
) -> Result<Response, Problem> {
    let restored = api.run(caller, RestoreUser { name }).await?;
    Ok(answer(StatusCode::OK, restored, &control))
}
