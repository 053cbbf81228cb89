//! The configuration of devices, as keys and values.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::use_cases::{ReadConfiguration, RemoveConfiguration, SetConfiguration};
use martlet_registry::{DataType, Setting};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices::OfTeam;
use super::forms::{moment, version, word};
use super::{CalledBy, within};
use crate::api::Api;
use crate::etag::expected_if_any;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::problem::Problem;
use crate::time::Moment;

/// A key of a device's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingView {
    /// The key.
    key: String,
    /// As text.
    value: String,
    /// Type of the value.
    data_type: &'static str,
    /// Whether it holds.
    is_active: bool,
    /// Raised with every change; the `ETag` is made of it.
    revision: i64,
    /// When it was last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Moment>,
}

impl From<Setting> for SettingView {
    fn from(setting: Setting) -> Self {
        Self {
            key: setting.key,
            value: setting.value,
            data_type: setting.data_type.word(),
            is_active: setting.is_active,
            revision: setting.revision,
            updated_at: moment(setting.updated_ms),
        }
    }
}

/// All keys of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settings {
    /// The settings, in the order of their keys.
    items: Vec<SettingView>,
}

/// Configuration of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/configuration", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The whole configuration", body = Settings),
        (status = 404, description = "No such device")))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<Settings>, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let read = ReadConfiguration { device: id.into() };
    let found = api.run(caller, read).await?;
    let items = found.into_iter().map(SettingView::from).collect();
    Ok(axum::Json(Settings { items }))
}

/// New state of a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingBody {
    /// As text.
    value: String,
    /// Type of the text; default: the first of the list.
    data_type: Option<String>,
    /// Whether it is active; default: true.
    is_active: Option<bool>,
}

/// Set a key of a device's configuration
///
/// With `If-Match` only if it has not been changed; `"0"` stands for a key that does not exist.
#[utoipa::path(put, path = "/api/v1/devices/{id}/configuration/{key}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("key" = String, Path, description = "The key"), OfTeam),
    request_body = SettingBody,
    responses((status = 200, description = "The current state", body = SettingView),
        (status = 404, description = "No such device"),
        (status = 412, description = "Its revision is not the one in If-Match")))]
pub(crate) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, key)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SettingBody>,
) -> Result<Response, Problem> {
    let expected = expected_if_any(&headers)?;
    let accepted_words: Vec<&str> = DataType::ALL.iter().map(|one| one.word()).collect();
    let data_type = match &body.data_type {
        None => DataType::ALL[0],
        Some(text) => word("/data_type", text, DataType::from_word, &accepted_words)?,
    };
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let set = SetConfiguration {
        device: id.into(),
        key,
        value: body.value,
        data_type,
        is_active: body.is_active.unwrap_or(true),
        expected_revision: expected,
    };
    let setting = api.run(caller, set).await?;
    let tag = version(setting.revision).header();
    Ok(([tag], axum::Json(SettingView::from(setting))).into_response())
}

/// Remove a key of a device's configuration
#[utoipa::path(delete, path = "/api/v1/devices/{id}/configuration/{key}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("key" = String, Path, description = "The key"), OfTeam),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "Not found")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, key)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<StatusCode, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let remove = RemoveConfiguration {
        device: id.into(),
        key,
    };
    api.run(caller, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
