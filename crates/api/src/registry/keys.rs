//! API keys: those of the tables, beside those of the configuration.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::use_cases::{AddApiKey, ChangeApiKey, ListApiKeys, RevokeApiKey};
use martlet_registry::{ApiKey, NewApiKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CalledBy;
use super::forms::{moment, page_of_all, time, version};
use crate::api::Api;
use crate::etag::expected;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::keys::PageParams;
use crate::page::Page;
use crate::problem::Problem;
use crate::shown_once::{JsonWithSecrets, ShownOnce};
use crate::time::Moment;
use crate::words;

/// An API key, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Id of the key; of one of the configuration, its name.
    id: String,
    /// Name of the key.
    #[schema(example = "deploy")]
    name: String,
    /// Where it is kept: `configuration` or `tables`.
    source: &'static str,
    /// Rights of its holder: scopes and roles.
    scopes: Vec<String>,
    /// The id of the team whose objects it sees; empty: everybody's.
    team: String,
    /// User who owns it; empty: no owner.
    owner: String,
    /// Raised with every change; the `ETag` is made of it.
    revision: i64,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Moment>,
    /// When it was last used, as far as that is written; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Moment>,
    /// When it was revoked; null: it is not revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Moment>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            source: "tables",
            scopes: key.scopes,
            team: key.team,
            owner: key.owner,
            revision: key.revision,
            created_at: moment(key.created_ms),
            expires_at: moment(key.expires_ms),
            last_used_at: moment(key.last_used_ms),
            revoked_at: moment(key.revoked_ms),
        }
    }
}

/// API keys
///
/// Their names and rights; the keys themselves are never shown.
#[utoipa::path(get, path = "/api/v1/keys", tag = "security", params(PageParams),
    responses((status = 200, description = "A page of the list, sorted by id", body = Page<KeyView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<PageParams>,
) -> Result<axum::Json<Page<KeyView>>, Problem> {
    let mut all = Vec::new();
    if caller.sees_all() {
        all.extend(api.settings.keys.iter().map(|key| {
            KeyView {
                id: key.name().to_owned(),
                name: key.name().to_owned(),
                source: "configuration",
                scopes: key
                    .scopes()
                    .names()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                team: String::new(),
                owner: String::new(),
                revision: 0,
                created_at: None,
                expires_at: None,
                last_used_at: None,
                revoked_at: None,
            }
        }));
    }
    if let Ok(tables) = api.tables() {
        let found = tables.run(caller, ListApiKeys).await?;
        all.extend(found.into_iter().map(KeyView::from));
    }
    let page = page_of_all(&api, "keys", all, |key| &key.id, params.paging())?;
    Ok(axum::Json(page))
}

/// A key to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyBody {
    /// Name of the key.
    #[schema(example = "deploy")]
    name: String,
    /// Rights of its holder: scopes and roles, such as `viewer` and `devices:write`.
    #[schema(schema_with = words::scopes)]
    scopes: Vec<String>,
    /// The team whose objects it sees, by id or name; everybody's, if none is given.
    team: Option<String>,
    /// User who owns it: it is valid as long as the user is enabled.
    #[serde(default)]
    owner: String,
    /// When it ends; default: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A key that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeKey {
    #[serde(flatten)]
    view: KeyView,
    /// The key, shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<String>)]
    key: ShownOnce<String>,
}

/// Add an API key
///
/// It is shown only once. A caller adds keys only with scopes that it has itself, and only in the
/// name of users who have no right that it lacks.
#[utoipa::path(post, path = "/api/v1/keys", tag = "security", request_body = NewKeyBody,
    responses((status = 201, description = "Created; the secret is shown this once", body = MadeKey)))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(body): JsonBody<NewKeyBody>,
) -> Result<Response, Problem> {
    let key = NewApiKey {
        name: body.name,
        scopes: body.scopes,
        team: body.team,
        owner: body.owner,
        expires_ms: time("/expires_at", body.expires_at.as_deref())?,
    };
    let (key, secret) = api.run(caller, AddApiKey { key }).await?;
    let tag = version(key.revision).header();
    let made = MadeKey {
        view: key.into(),
        key: secret.into(),
    };
    Ok((StatusCode::CREATED, [tag], JsonWithSecrets(made)).into_response())
}

/// Changes of a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyChangeBody {
    /// Name of the key.
    name: String,
    /// Rights of its holder: scopes and roles.
    #[schema(schema_with = words::scopes)]
    scopes: Vec<String>,
}

/// Change an API key
///
/// A caller changes only keys that have no scope that it lacks, neither before nor after, and whose
/// owner has no right that it lacks.
#[utoipa::path(put, path = "/api/v1/keys/{id}", tag = "security",
    params(("id" = String, Path, description = "Id of the key"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = KeyChangeBody,
    responses((status = 200, description = "The current state", body = KeyView),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<KeyChangeBody>,
) -> Result<Response, Problem> {
    let change = ChangeApiKey {
        id,
        name: body.name,
        scopes: body.scopes,
        expected_revision: expected(&headers)?,
    };
    let key = api.run(caller, change).await?;
    let tag = version(key.revision).header();
    Ok(([tag], axum::Json(KeyView::from(key))).into_response())
}

/// Revoke an API key
///
/// It is no longer valid when the answer arrives. Keys of the configuration are revoked there. A
/// caller revokes only keys that have no scope that it lacks.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "security",
    params(("id" = String, Path, description = "Id of the key")),
    responses((status = 204, description = "Revoked"),
        (status = 404, description = "No such object is valid")))]
pub(crate) async fn revoke(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    api.run(caller, RevokeApiKey { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
