//! Refusals of clients: the CONNACK, and the event.

use std::sync::Arc;

use martlet_codec::{ConnAck, Connect, ProtocolVersion, ReasonCode};
use martlet_permission::{Refusal, RefusalCause, TenantId};

use crate::connect_request::ConnectingClient;
use crate::connected_client::UserName;
use crate::connection::Phase;
use crate::effect::ConnectionEffect;
use crate::event::Event;
use crate::event_head::EventHead;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shortened::shortened;
use crate::work::CLOSING;

/// Facts known of a refused client.
pub(super) struct RefusedClient<'a> {
    pub(super) version: Option<ProtocolVersion>,
    /// The client, if nothing is wrong with its CONNECT.
    pub(super) client: Option<&'a ConnectingClient>,
    /// Else the Client Identifier and the User Name in it, as far as they can be read.
    pub(super) client_id: Option<Arc<str>>,
    pub(super) claims: Option<Arc<str>>,
}

/// The CONNECT that this input begins with, if it is a whole one.
fn connect_at(input: &[u8]) -> Option<Connect<'_>> {
    let header = martlet_codec::decode_fixed_header(input).ok()??;
    let body = input.get(usize::from(header.header_len)..header.packet_len())?;
    Connect::decode(header.flags, body).ok()
}

/// The User Name of a CONNECT that is refused whatever it is, if it may stand in a log.
pub(super) fn claim(user_name: Option<&str>) -> Option<Arc<str>> {
    let name = user_name.filter(|name| !martlet_codec::has_control_characters(name))?;
    Some(name.into())
}

/// Returns the Client Identifier, likewise, if it is not longer than `bytes_max`.
pub(super) fn claimed_id(client_id: &str, bytes_max: usize) -> Option<Arc<str>> {
    let is_valid = !client_id.is_empty()
        && !client_id.starts_with('$')
        && client_id.len() <= bytes_max
        && !martlet_codec::has_control_characters(client_id);
    is_valid.then(|| client_id.into())
}

/// The Client Identifier of a CONNECT, likewise. The User Name says in which tenant it is: without
/// one that may be told, it is told of a client without a User Name alone.
pub(super) fn claimed_client_id(connect: &Connect<'_>, bytes_max: usize) -> Option<Arc<str>> {
    let is_placed = connect.user_name.is_none() || claim(connect.user_name).is_some();
    claimed_id(connect.client_id, bytes_max).filter(|_| is_placed)
}

impl Shard {
    /// Ends a connection before its CONNECT was accepted, with CONNACK where the version is known
    /// [MQTT-3.1.4-1].
    /// Nothing that came behind the CONNECT is looked at [MQTT-3.1.4-6], and the connection ends
    /// [MQTT-3.2.2-7], [MQTT-4.12.0-4], [MQTT-4.13.2-1]. Before MQTT 5: [MQTT-3.1.1/3.1.2-2],
    /// [MQTT-3.1.1/3.1.3-9], [MQTT-3.1.1/3.1.4-1], [MQTT-3.1.1/3.2.2-6].
    pub(crate) fn refuse<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        version: Option<ProtocolVersion>,
        reason: ReasonCode,
        why: impl Into<Refusal>,
    ) {
        let refused_client = RefusedClient {
            version,
            client: None,
            client_id: None,
            claims: None,
        };
        self.refuse_as(cx, index, refused_client, reason, why.into());
    }

    /// The CONNECT of this connection has waited for the store for too long.
    pub(crate) fn refuse_held<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let id_bytes = usize::from(self.settings.limits.client_id_bytes);
        let limit = self.store.limit_for(TenantId::default());
        let input = self.connections.at(index).input.as_ref();
        let connect = input.and_then(|input| connect_at(&input.bytes));
        let refused_client = RefusedClient {
            version: connect.as_ref().map(|connect| connect.version),
            client: None,
            client_id: connect
                .as_ref()
                .and_then(|connect| claimed_client_id(connect, id_bytes)),
            claims: connect.and_then(|connect| claim(connect.user_name)),
        };
        self.refuse_as(
            cx,
            index,
            refused_client,
            ReasonCode::ServerUnavailable,
            limit.into(),
        );
    }

    /// Refuses a client that has named its user.
    pub(crate) fn refuse_client<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        client: &ConnectingClient,
        reason: ReasonCode,
        why: impl Into<Refusal>,
    ) {
        let refused_client = RefusedClient {
            version: Some(client.request.version),
            client: Some(client),
            client_id: None,
            claims: None,
        };
        self.refuse_as(cx, index, refused_client, reason, why.into());
    }

    /// Writes a CONNACK that refuses the client [MQTT-3.2.2-6], [MQTT-3.2.2-8]; without the Reason
    /// String where that is too long for it [MQTT-3.2.2-19].
    pub(crate) fn write_refusal<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        version: ProtocolVersion,
        reason: ReasonCode,
        reason_string: Option<&str>,
    ) {
        let connection = self.connections.at(index);
        let bytes_max = connection.packet_bytes_max as usize;
        let mut connack = ConnAck::new(false, reason);
        connack.properties.reason_string = reason_string;
        self.buffers.scratch.clear();
        connack.encode(version, &mut self.buffers.scratch);
        if self.buffers.scratch.len() > bytes_max {
            connack.properties.reason_string = None;
            self.buffers.scratch.clear();
            connack.encode(version, &mut self.buffers.scratch);
        }
        if self.buffers.scratch.len() <= bytes_max {
            let output = connection.output_mut(&mut self.buffers.pool);
            output.extend_from_slice(&self.buffers.scratch);
            self.output_appended(cx, index);
        }
    }

    pub(super) fn refuse_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        refused_client: RefusedClient<'_>,
        reason: ReasonCode,
        why: Refusal,
    ) {
        let RefusedClient {
            version,
            client,
            client_id,
            claims,
        } = refused_client;
        self.counters.connects_refused += 1;
        let id = self.connections.id_of(index);
        let address = self.connections.at(index).address();
        if self.connections.at(index).flags.part() {
            let why = why.for_client();
            let why = why.unwrap_or(RefusalCause::PartRefused.text());
            self.part_ended(cx, id, reason, why);
            self.leave_lobby(index);
            self.forget_connection(id);
            return;
        }
        // Before v5 there are return codes for a few refusals only; a packet that is malformed is
        // answered by closing (MQTT 3.1.1 section 4.8).
        let has_code = version.is_some_and(|version| {
            version.is_v5()
                || !matches!(
                    reason,
                    ReasonCode::MalformedPacket
                        | ReasonCode::ProtocolError
                        | ReasonCode::PacketTooLarge
                        | ReasonCode::TopicNameInvalid
                )
        });
        if let Some(version) = version.filter(|_| has_code) {
            self.write_refusal(cx, index, version, reason, why.for_client());
        }
        let connection = self.connections.at(index);
        connection.phase = Phase::Closing;
        if let Some(timer) = connection.deadline.take() {
            self.timers.wheel.cancel(timer);
        }
        // What has come is not looked at any more.
        self.buffers.pool.put(connection.input.take());
        self.leave_lobby(index);
        self.charge_buffers(index);
        let own = self.connections.at(index).listener().own;
        let claimed = client_id.map(|client_id| (own.unwrap_or(TenantId(0)), client_id));
        let name = client.map(|client| (client.login.tenant, client.client_id()));
        let name = name.or(claimed.as_ref().map(|(tenant, id)| (*tenant, &**id)));
        if self.is_refusal_observed(name, address.map(|(ip, _)| ip)) {
            let why = match why.limit() {
                // With its value, unless the refusal has it already.
                Some(limit) if !why.has_detail() => self.refusal(index, limit.into()),
                _ => why,
            };
            if let Some(ConnectingClient { request, login, .. }) = client
                && let Some(permit) = &login.permit
                && let Some(name) = permit.identity.user_name.clone()
            {
                let (client_id, proof) = (&request.client_id, permit.identity.proof);
                self.notify_authenticated(cx, index, login.tenant, client_id, name, proof);
            }
            let head = match client {
                Some(ConnectingClient { request, login, .. }) => {
                    EventHead::new(login.tenant, Arc::clone(&request.client_id))
                }
                None => claimed.map_or_else(EventHead::unknown, |(tenant, client_id)| {
                    EventHead::new(tenant, client_id)
                }),
            };
            let user = client.and_then(ConnectingClient::user);
            let is_open = client.is_none() && own.is_none() && claims.is_some();
            cx.effects.notify(
                head.with_user(user.or(claims.map(UserName::Claimed)))
                    .with_address(address)
                    .with_open_tenant(is_open),
                Event::Refused {
                    will_topic: client
                        .and_then(|client| client.request.will.as_ref())
                        .map(|will| (&*shortened(&will.topic)).into()),
                    reason,
                    why,
                },
            );
        }
        self.work.add(CLOSING);
        cx.effects.connections.push(ConnectionEffect::Close(id));
    }
}
