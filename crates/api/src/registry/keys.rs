//! API keys: those of the tables, beside those of the configuration.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::use_cases::{AddApiKey, ChangeApiKey, ListApiKeys, RevokeApiKey};
use martlet_registry::{ApiKey, ApiKeyChange, NewApiKey};
use serde::Serialize;
use utoipa::ToSchema;

use super::CalledBy;
use super::forms::{page_of_all, version};
use crate::api::Api;
use crate::etag::expected;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::keys::PageParams;
use crate::page::Page;
use crate::problem::Problem;
use crate::shown_once::{JsonWithSecrets, ShownOnce};

/// An API key, and where it is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    #[serde(flatten)]
    key: ApiKey,
    /// Where it is kept: `configuration` or `tables`.
    source: &'static str,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            key,
            source: "tables",
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
            let scopes = key.scopes().names().into_iter().map(str::to_owned);
            KeyView {
                key: ApiKey::of_configuration(key.name(), scopes.collect()),
                source: "configuration",
            }
        }));
    }
    if let Ok(tables) = api.tables() {
        let found = tables.run(caller, ListApiKeys).await?;
        all.extend(found.into_iter().map(KeyView::from));
    }
    let page = page_of_all(&api, "keys", all, |view| &view.key.id, params.paging())?;
    Ok(axum::Json(page))
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
#[utoipa::path(post, path = "/api/v1/keys", tag = "security", request_body = NewApiKey,
    responses((status = 201, description = "Created; the secret is shown this once", body = MadeKey)))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(key): JsonBody<NewApiKey>,
) -> Result<Response, Problem> {
    let (key, secret) = api.run(caller, AddApiKey { key }).await?;
    let tag = version(key.revision).header();
    let made = MadeKey {
        view: key.into(),
        key: secret.into(),
    };
    Ok((StatusCode::CREATED, [tag], JsonWithSecrets(made)).into_response())
}

/// Change an API key
///
/// A caller changes only keys that have no scope that it lacks, neither before nor after, and whose
/// owner has no right that it lacks.
#[utoipa::path(put, path = "/api/v1/keys/{id}", tag = "security",
    params(("id" = String, Path, description = "Id of the key"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = ApiKeyChange,
    responses((status = 200, description = "The current state", body = KeyView),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<ApiKeyChange>,
) -> Result<Response, Problem> {
    let change = ChangeApiKey {
        id,
        change,
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
