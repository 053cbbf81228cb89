//! Questions of operators to a running node, through `admin.sock`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use martlet_control::principal::{Principal, Scope};
use martlet_control::{Control, HealthAudience, ReloadOf, Reloaded, UserConfiguration};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extensions::{About, Unchanged};
use crate::extract::QueryOf;
use crate::page::Items;
use crate::problem::Problem;

/// The state of a node.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// `ready`, `starting` or `stopping`.
    pub status: String,
    /// Warnings: what operators should know.
    pub warnings: Vec<String>,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Addresses, as URLs.
    pub listeners: Vec<String>,
    /// Where the data are.
    pub data_dir: String,
    /// Where users are.
    #[serde(default)]
    pub users: UserConfiguration,
    /// Promise of an acknowledgement: `sync`, `interval` or `memory`.
    pub durability: String,
    /// With `interval`: the time between two syncs, milliseconds.
    pub interval_ms: Option<u64>,
    /// Connections that are open, those included that have not sent CONNECT or are being closed.
    pub sockets_open: u64,
    /// Connected clients.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Messages held: queued, in flight, or in an output buffer.
    pub messages_held: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// PUBLISH packets sent.
    pub publishes_sent: u64,
    /// Messages delivered.
    pub messages_delivered: u64,
    /// Messages dropped, all reasons.
    pub messages_dropped: u64,
    /// Bytes of messages and buffers.
    pub memory_bytes: u64,
    /// Bytes that count against `limits.memory_bytes`.
    #[serde(default)]
    pub memory_used_bytes: u64,
    /// `limits.memory_bytes`, or the part of the machine's memory that it stands for.
    #[serde(default)]
    pub memory_limit_bytes: u64,
    /// Bytes by what they are held for: `shards`, `journal`, `presence` and others.
    #[serde(default)]
    pub memory_held: BTreeMap<String, u64>,
}

/// A client uses a topic.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UseView {
    /// Client Identifier.
    pub client_id: String,
    /// User name by which the node knows the client.
    pub user_name: Option<String>,
    /// Topic Name.
    pub topic: String,
    /// The client publishes to the topic; else messages of the topic are sent to it.
    pub publishes: bool,
}

/// How much.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Entries to return, at most; never more than 100000.
    #[param(default = 1000)]
    limit: Option<usize>,
}

/// Uses that are listed by default, and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 100_000;

/// How the node is
#[utoipa::path(get, path = "/api/v1/status", tag = "node",
    responses((status = 200, description = "The figures of the node", body = Status)))]
pub(crate) async fn status(
    State(api): State<Api>,
    State(control): State<Arc<Control>>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Status>, Problem> {
    api.settle_unclaimed().await;
    let mut users = control.user_configuration();
    if !principal.scopes.has(Scope::UsersRead) {
        users.credential_users.clear();
    }
    let counters = control.snapshot().await?;
    let health =
        control.health_report_with(&counters, api.integrations(), HealthAudience::Operator);
    let memory = control.memory_report(&counters);
    let held = memory.held.iter();
    let held = held.map(|held| (held.held_for.to_owned(), held.bytes));
    Ok(Json(Status {
        version: control.info.version.to_owned(),
        status: health.status.to_owned(),
        warnings: health.warnings,
        uptime_secs: control.uptime().as_secs(),
        listeners: control.info.listeners.clone(),
        data_dir: control.info.data_dir.clone(),
        users,
        durability: control.info.durability.to_owned(),
        interval_ms: control.info.interval_ms,
        sockets_open: control.sockets_open(),
        connections: counters.connections,
        sessions: counters.sessions,
        subscriptions: counters.subscriptions,
        retained_messages: counters.retained_messages,
        messages_held: counters.held,
        publishes_received: counters.publishes_received,
        publishes_sent: counters.publishes_sent,
        messages_delivered: counters.delivered,
        messages_dropped: counters.lost_total(),
        memory_bytes: counters.memory_bytes,
        memory_used_bytes: memory.used,
        memory_limit_bytes: memory.limit,
        memory_held: held.collect(),
    }))
}

/// Names and versions of the node and its API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// `martlet`.
    #[schema(example = "martlet")]
    name: &'static str,
    /// Version of the program.
    #[schema(example = "1.2.3")]
    version: &'static str,
    /// Version of the API, as in its paths.
    #[schema(example = "v1")]
    api: &'static str,
}

/// Version
///
/// The versions of the program and of its API.
#[utoipa::path(get, path = "/api/v1/version", tag = "node",
    responses((status = 200, description = "The version", body = VersionView)))]
pub(crate) async fn version(State(control): State<Arc<Control>>) -> Json<VersionView> {
    Json(VersionView {
        name: "martlet",
        version: control.info.version,
        api: "v1",
    })
}

/// Topics in use
///
/// The topics in use and their users: the requested number of each shard.
#[utoipa::path(get, path = "/api/v1/traffic", tag = "clients", params(Listing),
    responses((status = 200, description = "A topic and its users for each item", body = Items<UseView>)))]
pub(crate) async fn traffic(
    State(control): State<Arc<Control>>,
    QueryOf(listing): QueryOf<Listing>,
) -> Result<Json<Items<UseView>>, Problem> {
    let limit = listing.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let uses = control.traffic(limit).await?.into_iter();
    let uses = uses.map(|found| UseView {
        client_id: found.client_id,
        user_name: found.user_name,
        topic: found.topic.to_string(),
        publishes: found.publishes,
    });
    Ok(Json(uses.collect()))
}

/// Parts that are read again.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReloadQuery {
    /// Restriction to what has changed in the tables of users and devices; everything if it is not
    /// given.
    #[param(inline)]
    only: Option<ReloadOnly>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReloadOnly {
    Tables,
}

/// Read files again
///
/// Certificates, passwords, ACLs and tables. If one cannot be read, the former settings stay in
/// force.
#[utoipa::path(post, path = "/api/v1/reload", tag = "node", params(ReloadQuery),
    responses((status = 200, description = "In force", body = Reloaded)))]
pub(crate) async fn reload(
    State(control): State<Arc<Control>>,
    QueryOf(query): QueryOf<ReloadQuery>,
) -> Result<Response, Problem> {
    let of = match query.only {
        Some(ReloadOnly::Tables) => ReloadOf::SharedRegistry,
        None => ReloadOf::Everything,
    };
    let done = control.reload(of).await.map_err(Problem::conflict)?;
    let about = json!({ "changed": done.changed });
    let is_same = done.changed.is_empty() && done.revoked == 0;
    let mut answer = Json(done).into_response();
    if is_same {
        answer.extensions_mut().insert(Unchanged);
    } else {
        answer.extensions_mut().insert(About(about));
    }
    Ok(answer)
}

/// State that the node is in now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stopping {
    /// `stopping`.
    status: &'static str,
}

/// Stop the node
///
/// In order: clients get DISCONNECT, and what they are owed is stored.
#[utoipa::path(post, path = "/api/v1/shutdown", tag = "node",
    responses((status = 202, description = "The node stops", body = Stopping)))]
pub(crate) async fn shutdown(State(control): State<Arc<Control>>) -> (StatusCode, Json<Stopping>) {
    control.request_stop();
    let status = "stopping";
    (StatusCode::ACCEPTED, Json(Stopping { status }))
}
