//! Bridges to other brokers: those of the configuration are shown, others are added, changed and
//! removed here while the node runs.

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

const KIND: AddedKind = AddedKind::Bridge;

/// Settings of a bridge: the keys of a table `[[bridges]]` in the configuration but `name` and
/// `tenant`. `topics` is a list of texts or of objects with `filter`, `direction`, `qos`,
/// `local_prefix` and `remote_prefix`. `password` refers to a secret, `${secret:NAME}`. Names of
/// files need a caller that sees the whole node.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object, example = json!({
    "url": "mqtts://broker.example.com:8883",
    "topics": [{ "filter": "plant/#", "direction": "out", "qos": 1 }],
    "user": "site-1",
    "password": "${secret:broker-password}",
}))]
pub(crate) struct BridgeBody(Map<String, Value>);

/// Bridges
///
/// Those of the configuration, and then those that were added through the API.
#[utoipa::path(get, path = "/api/v1/bridges", tag = "integrations", params(OfTeam),
    responses((status = 200, description = "All that the caller sees", body = Items<AddedView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<AddedView>>, Problem> {
    added::list(&api, &caller, &of, KIND).await
}

/// A bridge
///
/// Its settings, and the caller that changed it last.
#[utoipa::path(get, path = "/api/v1/bridges/{name}", tag = "integrations",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 200, description = "The bridge", body = AddedView),
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

/// Add or change a bridge
///
/// It begins at once, and goes on after restarts of this node. All settings of one that is there
/// are replaced; messages that wait in its queue stay. The connection to the other broker is made
/// afterwards: its state shows the result.
#[utoipa::path(put, path = "/api/v1/bridges/{name}", tag = "integrations",
    request_body = BridgeBody,
    params(OfTeam, ("name" = String, Path, description = "Name: letters, digits, -, _ and .")),
    responses(
        (status = 200, description = "Changed", body = AddedView),
        (status = 201, description = "Added", body = AddedView),
        (status = 409, description = "The configuration has a bridge of this name",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(BridgeBody(settings)): JsonBody<BridgeBody>,
) -> Result<(StatusCode, Json<AddedView>), Problem> {
    added::set(&api, &caller, &of, KIND, name, settings).await
}

/// Remove a bridge
///
/// One that was added through the API. The messages in its queue are dropped. Its session at the
/// other broker stays there.
#[utoipa::path(delete, path = "/api/v1/bridges/{name}", tag = "integrations",
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
