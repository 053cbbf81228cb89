//! Webhooks: those of the configuration are shown, others are added, changed and removed
//! here while the node runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::integrations::AddedKind;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::added::{self, AddedView, OfTeam};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Items;
use crate::problem::{Problem, ProblemView};
use crate::registry::CalledBy;

const KIND: AddedKind = AddedKind::Webhook;

/// Settings of a webhook: the keys of a table `[[sinks.webhook]]` in the configuration but `name`
/// and `tenant`; `enabled`; and `notes`, which the node keeps and does not read. `signing_key`, and
/// values of headers with the name of a secret, refer to secrets, `${secret:NAME}`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object, example = json!({
    "url": "https://example.com/martlet",
    "filters": ["plant/#"],
    "headers": ["Authorization: Bearer ${secret:crm-token}"],
}))]
pub(crate) struct WebhookBody(Map<String, Value>);

/// Webhooks
///
/// Those of the configuration, and then those that were added through the API.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "integrations", params(OfTeam),
    responses((status = 200, description = "All that the caller sees", body = Items<AddedView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<AddedView>>, Problem> {
    added::list(&api, &caller, &of, KIND).await
}

/// A webhook
///
/// Its settings, and the caller that changed it last.
#[utoipa::path(get, path = "/api/v1/webhooks/{name}", tag = "integrations",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 200, description = "The webhook", body = AddedView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
) -> Result<Json<AddedView>, Problem> {
    added::show(&api, &caller, &of, KIND, &name).await
}

/// Add or change a webhook
///
/// It begins at once, and goes on after restarts of this node. All settings of one that is there
/// are replaced; messages that wait in its queue stay.
#[utoipa::path(put, path = "/api/v1/webhooks/{name}", tag = "integrations",
    request_body = WebhookBody,
    params(OfTeam, ("name" = String, Path, description = "Name: letters, digits, -, _ and .")),
    responses(
        (status = 200, description = "Changed", body = AddedView),
        (status = 201, description = "Added", body = AddedView),
        (status = 409, description = "The configuration has a webhook of this name",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(WebhookBody(settings)): JsonBody<WebhookBody>,
) -> Result<(StatusCode, Json<AddedView>), Problem> {
    added::set(&api, &caller, &of, KIND, name, settings).await
}

/// Remove a webhook
///
/// One that was added through the API. The messages in its queue are dropped.
#[utoipa::path(delete, path = "/api/v1/webhooks/{name}", tag = "integrations",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such object, or the configuration has it",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    added::remove(&api, caller, &of, KIND, &name).await
}
