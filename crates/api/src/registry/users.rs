//! Users: they connect with a password, and may use the API and the panel.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::principal::Scopes;
use martlet_control::tables::Work;
use martlet_registry::{ApiRole, NO_ROLE, NewUser, Registry, USER_ROLE, User, UserChange};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asking;
use super::forms::{expected, expected_if_any, moment, page_of, page_request, version, word};
use super::rights::{self, change_within};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::{Problem, ProblemKind};
use crate::time::Moment;
use crate::words;

const ROLES: &[&str] = &["administrator", "operator", "viewer", "none"];

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    /// Its name.
    name: String,
    /// What they may do as a client of MQTT.
    role: String,
    /// What they may do with the API and the panel, of all teams.
    #[schema(schema_with = words::api_roles)]
    api_role: &'static str,
    /// Whether the user is enabled.
    enabled: bool,
    /// May be empty.
    email: String,
    /// May be empty.
    full_name: String,
    /// The id of the team in whose tenant they connect; empty: the common one.
    team: String,
    /// Raised with every change; the `ETag` is made of it.
    revision: i64,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it was last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Moment>,
    /// When it was deleted; null: it is there.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Moment>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            role: user.role,
            api_role: user.api_role.word(),
            enabled: user.enabled,
            email: user.email,
            full_name: user.full_name,
            team: user.team,
            revision: user.revision,
            created_at: moment(user.created_ms),
            updated_at: moment(user.updated_ms),
            deleted_at: moment(user.deleted_ms),
        }
    }
}

fn answer(status: StatusCode, user: User) -> Response {
    let tag = version(user.revision).header();
    (status, [tag], axum::Json(UserView::from(user))).into_response()
}

pub(super) fn api_role(pointer: &str, text: &str) -> Result<ApiRole, Problem> {
    word(pointer, text, ApiRole::from_word, ROLES)
}

/// The longest password that is taken, in characters.
const PASSWORD_MAX: usize = 1024;

/// Checks a password that a person chooses.
pub(crate) fn check_password(password: &str) -> Result<(), Problem> {
    let checked = martlet_registry::check_password(password.as_bytes());
    let checked = checked.and_then(|()| match password.chars().count() > PASSWORD_MAX {
        true => Err("a password has 1,024 characters at most".to_owned()),
        false => Ok(()),
    });
    checked.map_err(|why| {
        let problem = Problem::new(ProblemKind::Invalid, why.clone());
        problem.of_field("/password", why)
    })
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WantedUsers {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Those that were deleted, and no others.
    deleted: Option<bool>,
}

impl WantedUsers {
    pub(super) fn asked(&self) -> (Option<usize>, Option<&str>, Option<bool>) {
        (self.limit, self.cursor.as_deref(), self.total)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted == Some(true)
    }
}

/// Users
#[utoipa::path(get, path = "/api/v1/users", tag = "people", params(WantedUsers),
    responses((status = 200, description = "A page of them, by name", body = Page<UserView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(wanted): QueryOf<WantedUsers>,
) -> Result<axum::Json<Page<UserView>>, Problem> {
    let (scope, deleted) = (asking.scope(), wanted.is_deleted());
    let of = format!("users {scope:?} {deleted}");
    let request = page_request(&api, &of, wanted.asked())?;
    let page = api.tables()?.read(move |registry| {
        Box::pin(async move { registry.users_page(&scope, deleted, &request).await })
    });
    let page = page.await?;
    Ok(axum::Json(page_of(&api, &of, page, UserView::from)))
}

/// A user to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUserBody {
    /// Its name.
    #[schema(example = "ada")]
    name: String,
    /// The password, of 10 characters or more.
    #[schema(format = Password, min_length = 10, max_length = 1024)]
    password: String,
    /// What they may do as a client of MQTT. If nothing is said: `user`, and `none` for whom a team
    /// without a tenant adds and for viewers.
    role: Option<String>,
    /// What they may do with the API and the panel: `administrator`, `operator`, `viewer` or
    /// `none`, which it is if nothing is said.
    #[schema(schema_with = words::api_roles, required = false)]
    api_role: Option<String>,
    /// May be empty.
    #[serde(default)]
    email: String,
    /// May be empty.
    #[serde(default)]
    full_name: String,
    /// The team in whose tenant they connect, by id or name.
    #[serde(default)]
    team: String,
}

/// Add a user
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = NewUserBody,
    responses((status = 201, description = "They are there", body = UserView)))]
pub(crate) async fn create(
    State(api): State<Api>,
    asking: Asking,
    JsonBody(body): JsonBody<NewUserBody>,
) -> Result<Response, Problem> {
    check_password(&body.password)?;
    let role = body.api_role.as_deref().unwrap_or("none");
    let role = api_role("/api_role", role)?;
    asking.expect_within(rights::of_api_role(role))?;
    // Who may not read messages by the API does not by MQTT either, unless that is said.
    let is_viewer = role == ApiRole::Viewer && body.role.is_none();
    let of_mqtt = body.role.or_else(|| is_viewer.then(|| NO_ROLE.to_owned()));
    let default = asking.gives_topics().then_some(USER_ROLE);
    let given = of_mqtt.clone().or(default.map(str::to_owned));
    let new = NewUser {
        role: of_mqtt,
        api_role: role,
        email: body.email,
        full_name: body.full_name,
        team: body.team,
        ..NewUser::new(&body.name)
    };
    let made = change_within(
        &api,
        asking,
        move |registry, asking| {
            Box::pin(async move {
                match given {
                    Some(role) => rights::of_role(registry, asking, &role).await,
                    None => Ok(Scopes::NONE),
                }
            })
        },
        move |registry, asking| {
            Box::pin(async move {
                registry
                    .create_user(&asking.actor, new, &body.password)
                    .await
            })
        },
    );
    Ok(answer(StatusCode::CREATED, made.await?))
}

/// A user
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 200, description = "The user", body = UserView),
        (status = 404, description = "There is none")))]
pub(crate) async fn show(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = asking.scope();
    let found = api
        .tables()?
        .read(move |registry| Box::pin(async move { registry.user(&scope, &name).await }));
    let found = found.await?;
    let version = version(found.revision);
    Ok(version.unless_known(&headers, axum::Json(UserView::from(found))))
}

/// What is to be different; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChangeBody {
    /// What they may do as a client of MQTT.
    role: Option<String>,
    /// What they may do with the API and the panel.
    #[schema(schema_with = words::api_roles, required = false)]
    api_role: Option<String>,
    /// `false`: connections and sessions of theirs end.
    enabled: Option<bool>,
    /// May be empty.
    email: Option<String>,
    /// May be empty.
    full_name: Option<String>,
    /// The team in whose tenant they connect, by id or name; empty is none.
    team: Option<String>,
}

/// Change a user
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name"),
        ("If-Match" = String, Header, description = "The version that is changed, or *")),
    request_body = UserChangeBody,
    responses((status = 200, description = "As they are now", body = UserView),
        (status = 404, description = "There is none"),
        (status = 412, description = "They were changed meanwhile"),
        (status = 428, description = "`If-Match` is needed")))]
pub(crate) async fn change(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<UserChangeBody>,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let role = body.api_role.as_deref();
    let role = role.map(|text| api_role("/api_role", text)).transpose()?;
    if let Some(role) = role {
        asking.expect_within(rights::of_api_role(role))?;
    }
    let (of, given) = (name.clone(), body.role.clone());
    let change = UserChange {
        role: body.role,
        api_role: role,
        enabled: body.enabled,
        email: body.email,
        full_name: body.full_name,
        team: body.team,
    };
    let changed = change_user(&api, asking, of, given, move |registry, asking| {
        Box::pin(async move {
            registry
                .change_user(&asking.actor, &name, change, expected)
                .await
        })
    });
    Ok(answer(StatusCode::OK, changed.await?))
}

/// Makes a change of a user who has no right that the caller lacks: by a password that the caller
/// sets they would be that user.
async fn change_user<T: Send + 'static>(
    api: &Api,
    asking: Asking,
    name: String,
    role: Option<String>,
    work: impl for<'r> FnOnce(&'r mut Registry, &'r Asking) -> Work<'r, T> + Send + 'static,
) -> Result<T, Problem> {
    let changed = change_within(
        api,
        asking,
        move |registry, asking| {
            Box::pin(async move {
                let rights = rights::of_user(registry, asking, &name).await?;
                Ok(match role {
                    Some(role) => rights.or(rights::of_role(registry, asking, &role).await?),
                    None => rights,
                })
            })
        },
        work,
    );
    changed.await
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
    responses((status = 204, description = "It is theirs"),
        (status = 404, description = "There is no such user")))]
pub(crate) async fn set_password(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<StatusCode, Problem> {
    check_password(&body.password)?;
    let of = name.clone();
    let changed = change_user(&api, asking, of, None, move |registry, asking| {
        Box::pin(async move {
            registry
                .change_password(&asking.actor, &name, &body.password)
                .await
        })
    });
    changed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a user
///
/// The user's connections and sessions end, and the user's API keys are no longer valid; the user
/// can be restored.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 204, description = "They are deleted"),
        (status = 404, description = "There is no such user"),
        (status = 412, description = "They were changed meanwhile")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let expected = expected_if_any(&headers)?;
    let of = name.clone();
    let deleted = change_user(&api, asking, of, None, move |registry, asking| {
        Box::pin(async move { registry.delete_user(&asking.actor, &name, expected).await })
    });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a user for good
///
/// Removes the user, whether deleted before or not. Devices that the user owned have no owner then,
/// and the API keys of the user are deleted.
#[utoipa::path(post, path = "/api/v1/users/{name}/purge", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 204, description = "There is nothing left of them"),
        (status = 404, description = "There is no such user")))]
pub(crate) async fn purge(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let of = name.clone();
    let purged = change_user(&api, asking, of, None, move |registry, asking| {
        Box::pin(async move { registry.purge_user(&asking.actor, &name).await })
    });
    purged.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted user
#[utoipa::path(post, path = "/api/v1/users/{name}/restore", tag = "people",
    params(("name" = String, Path, description = "User name")),
    responses((status = 200, description = "As they are now", body = UserView),
        (status = 404, description = "There is none that is deleted")))]
pub(crate) async fn restore(
    State(api): State<Api>,
    asking: Asking,
    PathOf(name): PathOf<String>,
) -> Result<Response, Problem> {
    let of = name.clone();
    let restored = change_user(&api, asking, of, None, move |registry, asking| {
        Box::pin(async move { registry.restore_user(&asking.actor, &name).await })
    });
    Ok(answer(StatusCode::OK, restored.await?))
}
