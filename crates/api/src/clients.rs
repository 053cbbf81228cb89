//! Clients: their sessions and connections, one by one and page by page; ending either.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use martlet_broker::{
    ClientDetail, ClientInfo, ClientQuery, ConnectionDetail, InFlightMessage, MessageHead,
    QueuedMessage, Search, TenantId, UserName, WillInfo,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::client_ids::{clients_alone, no_session};
use crate::extract::{PathOf, QueryOf};
use crate::integrations::{Instead, expect_no_integration};
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::subscriptions::SubscriptionView;
use crate::tenant::{InTenant, InTenants, OfTenant};
use crate::time::at;

/// A session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClientView {
    /// Client Identifier.
    pub client_id: String,
    /// A connection is there.
    pub connected: bool,
    /// User name of the last CONNECT.
    pub user_name: Option<String>,
    /// Protocol version of the last CONNECT.
    pub protocol: String,
    /// Peer; none while away.
    pub address: Option<String>,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval, seconds; 4294967295 is never.
    pub session_expiry_secs: u32,
    /// Time of its last CONNECT; null if it has not connected since the start of the node.
    #[serde(rename = "connected_at", with = "martlet_control::rfc3339::optional")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub connected_at_ms: Option<u64>,
    /// Number of subscriptions.
    pub subscriptions: usize,
    /// Messages waiting.
    pub queued: usize,
    /// Messages sent and not acknowledged.
    pub in_flight: usize,
    /// Messages chosen for it.
    pub matched: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages dropped.
    pub dropped: u64,
    /// Messages expired.
    pub expired: u64,
}

impl From<ClientInfo> for ClientView {
    fn from(client: ClientInfo) -> Self {
        let address = client.address;
        Self {
            client_id: client.client_id,
            connected: client.connected,
            user_name: client.user_name,
            protocol: client.version.to_string(),
            address: address.map(|(ip, port)| SocketAddr::new(ip, port).to_string()),
            keep_alive_secs: client.keep_alive_secs,
            session_expiry_secs: client.session_expiry_secs,
            connected_at_ms: Some(client.connected_at_ms).filter(|ms| *ms > 0),
            subscriptions: client.subscriptions,
            queued: client.queued,
            in_flight: client.in_flight,
            matched: client.matched,
            delivered: client.delivered,
            dropped: client.dropped,
            expired: client.expired,
        }
    }
}

/// Which clients: all given conditions must be true.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientParams {
    /// Text that is in the Client Identifier, the user name or the address.
    #[param(example = "sensor")]
    search: Option<String>,
    /// With a connection, or without.
    connected: Option<bool>,
    /// Only clients of exactly this user.
    user: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

impl ClientParams {
    /// The text that is searched for.
    pub(crate) fn search(&self) -> Option<&str> {
        self.search.as_deref()
    }
}

/// Clients
///
/// Sessions, connected or not, by Client Identifier. Integrations are listed if `search` begins
/// with `$`.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients",
    params(ClientParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = Page<ClientView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(params): QueryOf<ClientParams>,
) -> Result<axum::Json<Page<ClientView>>, Problem> {
    let without = clients_alone(params.search());
    page_of(&api, tenant, params, without).await.map(axum::Json)
}

/// A page of sessions, each as its line of the list. It leaves out those whose Client Identifiers
/// begin with one of `without`.
pub(crate) async fn page_of<T: From<ClientInfo>>(
    api: &Api,
    tenant: TenantId,
    params: ClientParams,
    without: &'static [&'static str],
) -> Result<Page<T>, Problem> {
    let ClientParams {
        search,
        connected,
        user,
        limit,
        cursor,
        total,
    } = params;
    let list = format!("clients {:?}", (tenant.0, &search, connected, &user));
    let after: Option<(String, u32)> = api.cursors().key(&list, cursor.as_deref())?;
    let query = ClientQuery {
        tenant: Some(tenant),
        without,
        search: search.as_deref().map(anywhere),
        user: user.map(Into::into),
        connected,
        after: after.map(|(client_id, tenant)| (client_id.into(), TenantId(tenant))),
        limit: page::limit(limit)?,
    };
    let found = api.control.clients(&query).await?;
    let next = found.end.map(|(client_id, tenant)| {
        let key: (&str, u32) = (&client_id, tenant.0);
        api.cursors().after_key(&list, &key)
    });
    Ok(Page {
        items: found.clients.into_iter().map(Into::into).collect(),
        next,
        total: (total == Some(true)).then_some(found.total as u64),
    })
}

pub(crate) fn anywhere(text: &str) -> Search {
    Search {
        text: text.into(),
        anywhere: true,
    }
}

/// How much of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DetailLimits {
    /// Subscriptions, messages of the queue and messages in flight to return, at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A client
///
/// Its session, its connection, its Will, its subscriptions, and the first messages that wait for
/// it or are in flight, without their payloads.
#[utoipa::path(get, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path,
            description = "Client Identifier, percent-encoded; `ID@TEAM` as it connects, too"), DetailLimits,
        OfTenant),
    responses(
        (status = 200, description = "All details of the client", body = ClientDetailView),
        (status = 404, description = "The client has no session", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(client_id): PathOf<String>,
    QueryOf(limits): QueryOf<DetailLimits>,
) -> Result<axum::Json<ClientDetailView>, Problem> {
    let limit = page::limit(limits.limit)?;
    let (tenant, client_id) = api.control.resolve_client(tenant, client_id).await?;
    let found = api.control.client(tenant, &client_id, limit).await?;
    let found = found.ok_or_else(|| no_session(&client_id))?;
    Ok(axum::Json(found.into()))
}

/// End a connection
///
/// The client gets DISCONNECT (0x98, Administrative action) and its Will is sent. Its session
/// stays, and it may connect again.
#[utoipa::path(delete, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path,
            description = "Client Identifier, percent-encoded; `ID@TEAM` as it connects, too"),
        OfTenant),
    responses(
        (status = 204, description = "The connection is ended"),
        (status = 404, description = "Not connected", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "The configuration has it", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn kick(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(client_id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let (tenant, client_id) = api.control.resolve_client(tenant, client_id).await?;
    expect_no_integration(&api, tenant, &client_id, Instead::Pause)?;
    match api.control.disconnect(tenant, &client_id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let detail = format!("the client {client_id:?} is not connected");
            let problem = Problem::new(ProblemKind::NotFound, detail);
            Err(problem.of_parameter("client_id", "not connected"))
        }
    }
}

/// All details of a client, without the contents of its messages.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClientDetailView {
    /// As in the list.
    pub client: ClientView,
    /// User name: authenticated, or merely claimed where authentication is off.
    pub user: Option<String>,
    /// Whether it has proved to be that user.
    pub user_is_proved: bool,
    /// The session outlives its connection: what is in it is kept in the store.
    pub durable: bool,
    /// When the last connection ended; none while there is one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub left_at: Option<String>,
    /// Connection of the client; none while it is away.
    pub connection: Option<ConnectionView>,
    /// Will of the client, if one is kept.
    pub will: Option<WillView>,
    /// Subscriptions of the client, as many as were asked for.
    pub subscriptions: Vec<SubscriptionView>,
    /// Bytes of the messages that wait in its queue.
    pub queued_bytes: u64,
    /// The first of them, as many as were asked for.
    pub queue: Vec<QueuedView>,
    /// Messages under a Packet Identifier, as many as were asked for.
    pub in_flight: Vec<InFlightView>,
    /// QoS 2 messages of its own between PUBLISH and PUBREL.
    pub receipts: usize,
    /// Messages dropped since the start of the node, by reason.
    pub drops: Vec<DropView>,
}

/// Properties of a connection.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// The listener that it came by.
    pub listener: String,
    /// Clean Start of its CONNECT.
    pub clean_start: bool,
    /// The client's Receive Maximum, bounded by the node's.
    pub receive_maximum: u16,
    /// The client's Maximum Packet Size; none is no limit.
    pub maximum_packet_size: Option<u32>,
    /// The client's Topic Alias Maximum, bounded by the node's.
    pub topic_alias_maximum: u16,
    /// Bytes that wait to be written.
    pub output_bytes: usize,
    /// Bytes that came and wait to be worked off.
    pub input_bytes: usize,
    /// Answers that wait for the store.
    pub answers_gated: u32,
    /// When its last packet arrived, such as a PUBLISH, PUBACK or PINGREQ.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_packet_at: Option<String>,
}

/// A Will, without its payload.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WillView {
    /// Topic Name.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Length of its payload.
    pub payload_bytes: usize,
    /// Will Delay Interval, seconds.
    pub delay_secs: u32,
}

/// A message in a queue. What it is about is not known where it lies in the store alone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QueuedView {
    /// Name of the message.
    pub message_id: String,
    /// The QoS that it is sent with.
    pub qos: u8,
    /// Whether it is sent with RETAIN 1.
    pub retain: bool,
    /// Bytes that it counts for in limits.
    pub bytes: usize,
    /// Topic Name.
    pub topic: Option<String>,
    /// Length of its payload.
    pub payload_bytes: Option<usize>,
    /// When it came in.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<String>,
}

/// A message under a Packet Identifier.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InFlightView {
    /// The identifier.
    pub packet_id: u16,
    /// Name of the message.
    pub message_id: String,
    /// How far it has come: `unsent`, `unacknowledged` or `released`.
    pub state: String,
    /// QoS of the PUBLISH.
    pub qos: u8,
    /// Topic Name; none if it is not in memory any more.
    pub topic: Option<String>,
    /// Length of its payload; likewise.
    pub payload_bytes: Option<usize>,
    /// When it came in; likewise.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<String>,
}

/// Messages that were dropped for one reason.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DropView {
    /// The reason, as in the metrics.
    pub reason: String,
    /// Meaning of the reason.
    pub meaning: String,
    /// How many.
    pub count: u64,
}

impl From<ClientDetail> for ClientDetailView {
    fn from(found: ClientDetail) -> Self {
        let drops = found.drops.iter().map(|(reason, count)| DropView {
            reason: reason.name().to_owned(),
            meaning: reason.meaning().to_owned(),
            count: *count,
        });
        Self {
            client: found.info.into(),
            user_is_proved: matches!(found.user, Some(UserName::Proved(_))),
            user: found.user.map(|user| user.as_str().to_owned()),
            durable: found.durable,
            left_at: found.left_ms.and_then(at),
            connection: found.connection.map(Into::into),
            will: found.will.map(Into::into),
            subscriptions: found.subscriptions.into_iter().map(Into::into).collect(),
            queued_bytes: found.queued_bytes,
            queue: found.queue.into_iter().map(Into::into).collect(),
            in_flight: found.in_flight.into_iter().map(Into::into).collect(),
            receipts: found.receipts,
            drops: drops.collect(),
        }
    }
}

impl From<ConnectionDetail> for ConnectionView {
    fn from(found: ConnectionDetail) -> Self {
        Self {
            listener: found.listener,
            clean_start: found.clean_start,
            receive_maximum: found.receive_maximum,
            maximum_packet_size: found.maximum_packet_size,
            topic_alias_maximum: found.topic_alias_maximum,
            output_bytes: found.output_bytes,
            input_bytes: found.input_bytes,
            answers_gated: found.answers_gated,
            last_packet_at: found.last_packet_ms.and_then(at),
        }
    }
}

impl From<WillInfo> for WillView {
    fn from(found: WillInfo) -> Self {
        Self {
            topic: found.topic.into(),
            qos: found.qos as u8,
            retain: found.retain,
            payload_bytes: found.payload_bytes,
            delay_secs: found.delay_secs,
        }
    }
}

impl From<QueuedMessage> for QueuedView {
    fn from(found: QueuedMessage) -> Self {
        let (topic, payload_bytes, received_at) = parts(found.head);
        Self {
            message_id: found.id.to_string(),
            qos: found.qos as u8,
            retain: found.retain,
            bytes: found.bytes,
            topic,
            payload_bytes,
            received_at,
        }
    }
}

impl From<InFlightMessage> for InFlightView {
    fn from(found: InFlightMessage) -> Self {
        use martlet_broker::DeliveryState::{Released, Unacknowledged, Unsent};
        let (topic, payload_bytes, received_at) = parts(found.head);
        let state = match found.state {
            Unsent => "unsent",
            Unacknowledged => "unacknowledged",
            Released => "released",
        };
        Self {
            packet_id: found.packet_id.get(),
            message_id: found.id.to_string(),
            state: state.to_owned(),
            qos: found.qos as u8,
            topic,
            payload_bytes,
            received_at,
        }
    }
}

fn parts(head: Option<MessageHead>) -> (Option<String>, Option<usize>, Option<String>) {
    match head {
        None => (None, None, None),
        Some(head) => (
            Some(head.topic.into()),
            Some(head.payload_bytes),
            at(head.received_wall_ms),
        ),
    }
}
