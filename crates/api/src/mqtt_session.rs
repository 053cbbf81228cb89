//! Sessions of clients, whether connected or not: looked at and ended.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_broker::{ClientDetail, ClientInfo};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::client_ids::{clients_alone, no_session};
use crate::clients::{ClientParams, page_of};
use crate::extract::{PathOf, QueryOf};
use crate::integrations::{Instead, expect_no_integration};
use crate::page::Page;
use crate::problem::{Problem, ProblemView};
use crate::tenant::{InTenant, InTenants, OfTenant};
use crate::time::at;

/// A session, as far as it outlives connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MqttSession {
    /// Client Identifier.
    client_id: String,
    /// A connection is there.
    connected: bool,
    /// Whether it outlives its connection: what is in it is kept in the store.
    durable: bool,
    /// Session Expiry Interval, seconds; 4294967295 is never.
    session_expiry_secs: u32,
    /// When the last connection ended; none while there is one.
    #[schema(value_type = Option<String>, format = DateTime)]
    left_at: Option<String>,
    /// Number of subscriptions.
    subscriptions: usize,
    /// Messages waiting.
    queued: usize,
    /// Bytes of them.
    queued_bytes: u64,
    /// Messages sent and not acknowledged.
    in_flight: usize,
    /// QoS 2 messages of its own between PUBLISH and PUBREL.
    receipts: usize,
}

impl From<ClientDetail> for MqttSession {
    fn from(found: ClientDetail) -> Self {
        Self {
            client_id: found.info.client_id,
            connected: found.info.connected,
            durable: found.durable,
            session_expiry_secs: found.info.session_expiry_secs,
            left_at: found.left_ms.and_then(at),
            subscriptions: found.info.subscriptions,
            queued: found.info.queued,
            queued_bytes: found.queued_bytes,
            in_flight: found.info.in_flight,
            receipts: found.receipts,
        }
    }
}

/// A session of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionLine {
    /// Client Identifier.
    client_id: String,
    /// A connection is there.
    connected: bool,
    /// Session Expiry Interval, seconds; 4294967295 is never.
    session_expiry_secs: u32,
    /// Number of subscriptions.
    subscriptions: usize,
    /// Messages waiting.
    queued: usize,
    /// Messages sent and not acknowledged.
    in_flight: usize,
}

impl From<ClientInfo> for SessionLine {
    fn from(found: ClientInfo) -> Self {
        Self {
            client_id: found.client_id,
            connected: found.connected,
            session_expiry_secs: found.session_expiry_secs,
            subscriptions: found.subscriptions,
            queued: found.queued,
            in_flight: found.in_flight,
        }
    }
}

/// Sessions
///
/// The sessions of clients, sorted by Client Identifier. With `connected=false`, those whose
/// clients are not connected. Sessions of integrations are listed if `search` begins with `$`.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "clients",
    params(ClientParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = Page<SessionLine>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(params): QueryOf<ClientParams>,
) -> Result<axum::Json<Page<SessionLine>>, Problem> {
    let without = clients_alone(params.search());
    page_of(&api, tenant, params, without).await.map(axum::Json)
}

/// A session
///
/// What of a client outlives its connections.
#[utoipa::path(get, path = "/api/v1/sessions/{client_id}", tag = "clients",
    params(("client_id" = String, Path,
            description = "Client Identifier, percent-encoded; `ID@TEAM` as it connects, too"),
        OfTenant),
    responses(
        (status = 200, description = "The session", body = MqttSession),
        (status = 404, description = "No such session", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(client_id): PathOf<String>,
) -> Result<axum::Json<MqttSession>, Problem> {
    let (tenant, client_id) = api.control.resolve_client(tenant, client_id).await?;
    let found = api.control.client(tenant, &client_id, 0).await?;
    let found = found.ok_or_else(|| no_session(&client_id))?;
    Ok(axum::Json(found.into()))
}

/// End a session
///
/// With its subscriptions and all that waits for it. A connection ends before it, and a Will is
/// sent. Answered when that is durable.
#[utoipa::path(delete, path = "/api/v1/sessions/{client_id}", tag = "clients",
    params(("client_id" = String, Path,
            description = "Client Identifier, percent-encoded; `ID@TEAM` as it connects, too"),
        OfTenant),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "No such session", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "The session belongs to a configured integration",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn end(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(client_id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let (tenant, client_id) = api.control.resolve_client(tenant, client_id).await?;
    let instead = Instead::Configure(
        "it ends when the integration is removed from the configuration and the node is started \
         again",
    );
    expect_no_integration(&api, tenant, &client_id, instead)?;
    match api.control.end_session(tenant, &client_id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_session(&client_id)),
    }
}
