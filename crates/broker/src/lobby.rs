//! The lobby: a connection before its session.
//!
//! It reads one CONNECT, under one deadline however slowly its bytes drip, checks what can be
//! checked without the session, and hands the connection over, once, to the shard that owns the
//! session. What came behind the CONNECT moves along.

mod place;
mod refuse;
pub(crate) mod state;

use std::sync::Arc;

use martlet_codec::{Connect, ProtocolVersion, ReasonCode};
use martlet_permission::{IS_NODE, Limit, RefusalCause};

use crate::authentication::{Password, Step};
use crate::connect_request::{
    ConnectRequest, ConnectingClient, Guest, Peer, requested_expiry_secs,
};
use crate::effect::ConnectionEffect;
use crate::lobby::refuse::{RefusedClient, claim, claimed_client_id, claimed_id};
use crate::node::{Cx, Node};
use crate::record::StoredWill;
use crate::shard::Shard;
use crate::work::{BYTES_PER_UNIT, CONNECT};

/// A CONNECT that is not accepted.
struct BadConnect {
    /// Version in whose style to answer; none closes without a packet.
    version: Option<ProtocolVersion>,
    reason: ReasonCode,
    cause: RefusalCause,
    /// Whether its Will is the cause.
    is_will: bool,
    /// The Client Identifier and the User Name that it came with, as far as they can be told.
    client_id: Option<Arc<str>>,
    claims: Option<Arc<str>>,
}

/// The result of a CONNECT.
pub(crate) enum Admission {
    /// The session is of this shard, or the client was refused.
    Here,
    /// The connection has left for another shard, with the bytes behind the CONNECT.
    Moved,
}

impl Shard {
    /// The first packet is a complete CONNECT; `unread` is what came behind it.
    pub(crate) fn connect_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        flags: u8,
        body: &[u8],
        unread: &[u8],
    ) -> Admission {
        self.work
            .add(CONNECT + (body.len() / BYTES_PER_UNIT) as u64);
        self.renew_listener(index);
        let (request, password, step) = match self.check_connect(cx, index, flags, body) {
            Ok(checked) => checked,
            Err(bad) => {
                let refused_client = RefusedClient {
                    version: bad.version,
                    client: None,
                    client_id: bad.client_id,
                    claims: bad.claims,
                };
                let why = match bad.cause.limit().filter(|_| bad.is_will) {
                    Some(limit) => {
                        let why = self.refusal(index, limit.into());
                        let detail = format!("its Will is refused: {}", why.detail());
                        why.with_detail(detail)
                    }
                    None => bad.cause.into(),
                };
                self.refuse_as(cx, index, refused_client, bad.reason, why);
                return Admission::Here;
            }
        };
        let listener = self.connections.at(index).listener();
        if listener.authenticate || self.lobby.authentications.checks_bans && listener.own.is_none()
        {
            self.request_authentication(cx, index, request, password, step);
            return Admission::Here;
        }
        let login = self.claimed_login(index, &request);
        self.let_in(cx, index, ConnectingClient::new(request, login), unread)
    }

    /// Admits the client: it goes to the shard that owns its session.
    pub(crate) fn let_in<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        client: ConnectingClient,
        unread: &[u8],
    ) -> Admission {
        let to = self.owner(client.login.tenant, client.client_id());
        if to == self.id {
            self.accept_connect(cx, index, client);
            return Admission::Here;
        }
        let id = self.connections.id_of(index);
        let entropy = self.entropy_of(index);
        self.leave_lobby(index);
        if let Some(connection) = self.forget_connection(id) {
            let peer = Peer {
                address: connection.address(),
                entropy,
                listener: Arc::clone(connection.listener()),
            };
            let guest = Box::new(Guest {
                peer,
                client,
                unread: unread.to_vec(),
            });
            cx.effects
                .connections
                .push(ConnectionEffect::Move { id, to, guest });
        }
        Admission::Moved
    }

    /// Checks a CONNECT. An error ends the connection [MQTT-3.1.4-2], [MQTT-3.1.3-8].
    fn check_connect<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        flags: u8,
        body: &[u8],
    ) -> Result<(ConnectRequest, Option<Password>, Option<Step>), BadConnect> {
        let id_bytes = usize::from(self.settings.limits.client_id_bytes);
        let connect = Connect::decode(flags, body).map_err(|refused| BadConnect {
            version: refused.version,
            reason: refused.error.reason,
            cause: RefusalCause::Packet(refused.error.what),
            is_will: false,
            client_id: refused.client_id.and_then(|id| claimed_id(id, id_bytes)),
            claims: None,
        })?;
        let version = connect.version;
        // Known from here on, to whatever is answered [MQTT-3.1.2-24].
        if let Some(size) = connect.properties.maximum_packet_size {
            self.connections.at(index).packet_bytes_max = size.get();
        }
        let refuse = |reason, cause: RefusalCause| BadConnect {
            version: Some(version),
            reason,
            cause,
            is_will: false,
            client_id: claimed_client_id(&connect, id_bytes),
            claims: claim(connect.user_name),
        };
        self.check_admission(cx, index)
            .map_err(|(reason, cause)| refuse(reason, cause))?;
        let limits = &self.settings.limits;
        if connect.client_id.len() > usize::from(limits.client_id_bytes) {
            return Err(refuse(
                ReasonCode::ClientIdentifierNotValid,
                Limit::ClientIdBytes.into(),
            ));
        }
        let is_own = self.connections.at(index).listener().own.is_some();
        if connect.client_id.starts_with('$') != is_own {
            let cause = RefusalCause::ReservedClientId;
            return Err(refuse(ReasonCode::ClientIdentifierNotValid, cause));
        }
        self.check_characters(&connect)
            .map_err(|(reason, cause)| refuse(reason, cause))?;
        self.check_user_properties(connect.properties.user_properties)
            .map_err(|error| refuse(error.reason, error.cause))?;
        let listener = Arc::clone(self.connections.at(index).listener());
        if connect.properties.authentication_method.is_some() && !listener.authenticate {
            // No credentials are kept, so no method is known [MQTT-4.12.0-1].
            let cause = RefusalCause::NoAuthenticationMethod;
            return Err(refuse(ReasonCode::BadAuthenticationMethod, cause));
        }
        self.check_will(index, &connect)
            .map_err(|(reason, cause)| BadConnect {
                is_will: true,
                ..refuse(reason, cause)
            })?;
        if !listener.allow_anonymous && !listener.authenticate {
            let cause = RefusalCause::AnonymousRefused;
            return Err(refuse(ReasonCode::NotAuthorized, cause));
        }
        let request = self
            .request_of(index, &connect, body.len())
            .map_err(|(reason, cause)| refuse(reason, cause))?;
        let method = request.authentication_method.clone();
        let step = method.map(|method| Step {
            method,
            data: connect
                .properties
                .authentication_data
                .unwrap_or_default()
                .into(),
            state: None,
        });
        let password = connect.password.filter(|_| step.is_none());
        Ok((request, password.map(Password::from), step))
    }

    /// Is there room for one more client?
    fn check_admission<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
    ) -> Result<(), (ReasonCode, RefusalCause)> {
        let address = self.connections.at(index).address();
        let limits = &self.settings.limits;
        if self.lobby.stopping {
            // 0x8B is a reason of DISCONNECT only [MQTT-3.2.2-8].
            let cause = RefusalCause::ServerStopping;
            return Err((ReasonCode::ServerUnavailable, cause));
        }
        if self.connections.at(index).listener().own.is_some() {
            return Ok(());
        }
        let rate = &mut self.lobby.connect_rate;
        if !rate.take(cx.now.mono_ms, limits.connect_rate) {
            let why = Limit::ConnectRate.into();
            return Err((ReasonCode::ConnectionRateExceeded, why));
        }
        let per_address = limits.connect_rate_per_address;
        if let Some((ip, _)) = address
            && per_address > 0
            && !cx.node.counts_connect(ip, cx.now.mono_ms, per_address)
        {
            let why = Limit::ConnectRatePerAddress.into();
            return Err((ReasonCode::ConnectionRateExceeded, why));
        }
        Ok(())
    }

    /// Names that go into logs and topics hold no control characters (MQTT 5 section 1.5.4).
    fn check_characters(&self, connect: &Connect<'_>) -> Result<(), (ReasonCode, RefusalCause)> {
        if !self.settings.refuse_control_characters {
            return Ok(());
        }
        if martlet_codec::has_control_characters(connect.client_id) {
            let cause = RefusalCause::Packet("control character in the Client Identifier");
            return Err((ReasonCode::ClientIdentifierNotValid, cause));
        }
        let user_name = connect.user_name.unwrap_or_default();
        if martlet_codec::has_control_characters(user_name) {
            let cause = RefusalCause::Packet("control character in the User Name");
            return Err((ReasonCode::BadUserNameOrPassword, cause));
        }
        Ok(())
    }

    fn check_will(
        &mut self,
        index: u32,
        connect: &Connect<'_>,
    ) -> Result<(), (ReasonCode, RefusalCause)> {
        let Some(will) = &connect.will else {
            return Ok(());
        };
        let listener = self.connections.at(index).listener();
        if will.qos > listener.maximum_qos {
            // [MQTT-3.2.2-12]
            return Err((ReasonCode::QoSNotSupported, Limit::MaximumQos.into()));
        }
        if will.retain && !listener.retain_available {
            // [MQTT-3.2.2-13]
            return Err((
                ReasonCode::RetainNotSupported,
                Limit::RetainAvailable.into(),
            ));
        }
        if self.settings.limits.is_payload_too_long(will.payload) {
            let reason = match connect.version.is_v5() {
                true => ReasonCode::PacketTooLarge,
                false => ReasonCode::NotAuthorized,
            };
            return Err((reason, Limit::PayloadBytes.into()));
        }
        if let Err(error) = self.check_topic(will.topic) {
            return Err((ReasonCode::TopicNameInvalid, error.cause));
        }
        if !martlet_permission::may_publish(will.topic) {
            return Err((ReasonCode::NotAuthorized, RefusalCause::WillOnServerTopic));
        }
        Ok(())
    }

    fn request_of(
        &mut self,
        index: u32,
        connect: &Connect<'_>,
        remaining_bytes: usize,
    ) -> Result<ConnectRequest, (ReasonCode, RefusalCause)> {
        let assigned = connect.client_id.is_empty();
        if assigned {
            match connect.version {
                ProtocolVersion::V31 => {
                    let cause = RefusalCause::Packet("MQTT 3.1 requires a Client Identifier");
                    return Err((ReasonCode::ClientIdentifierNotValid, cause));
                }
                version if !self.connections.at(index).listener().allow_empty_client_id => {
                    let reason = match version.is_v5() {
                        true => ReasonCode::UnspecifiedError,
                        false => ReasonCode::ClientIdentifierNotValid,
                    };
                    return Err((reason, RefusalCause::EmptyClientId));
                }
                ProtocolVersion::V311 if !connect.clean_start => {
                    // [MQTT-3.1.1/3.1.3-8]
                    let rule = "an empty Client Identifier requires Clean Session";
                    let cause = RefusalCause::Packet(rule);
                    return Err((ReasonCode::ClientIdentifierNotValid, cause));
                }
                ProtocolVersion::V311 | ProtocolVersion::V5 => {}
            }
        }
        let client_id = match assigned {
            true => assigned_client_id(&self.entropy_of(index)).into(),
            false => connect.client_id.into(),
        };
        let delay_max_secs = self.settings.limits.will_delay_max_secs;
        let properties = &connect.properties;
        Ok(ConnectRequest {
            version: connect.version,
            bridge: connect.bridge,
            clean_start: connect.clean_start,
            keep_alive_secs: connect.keep_alive_secs,
            client_id,
            assigned,
            user_name: connect.user_name.map(Arc::from),
            authentication_method: connect.properties.authentication_method.map(Arc::from),
            will: connect
                .will
                .as_ref()
                .map(|will| Arc::new(StoredWill::new(will, delay_max_secs))),
            session_expiry_secs: requested_expiry_secs(connect),
            receive_maximum: properties
                .receive_maximum
                .map_or(u16::MAX, |maximum| maximum.get()),
            packet_bytes_max: properties
                .maximum_packet_size
                .map_or(u32::MAX, |size| size.get()),
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            response_information: properties.request_response_information.unwrap_or(false),
            is_bridge: properties
                .user_properties
                .iter()
                .any(|(name, _)| name == IS_NODE),
            problem_information: properties.request_problem_information.unwrap_or(true),
            remaining_bytes: remaining_bytes as u32,
        })
    }
}

/// `auto-` and a random UUID (RFC 9562, version 4), as Mosquitto's.
/// New each time [MQTT-3.2.2-16].
fn assigned_client_id(entropy: &[u8; 16]) -> String {
    let mut uuid = *entropy;
    uuid[6] = uuid[6] & 0x0F | 0x40;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    let mut id = String::with_capacity(41);
    id.push_str("auto-");
    for (index, byte) in uuid.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for digit in [byte >> 4, byte & 0xF] {
            id.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    id
}

/// Whether a Client Identifier looks as if the node had assigned it, to a client that came without
/// one.
pub fn is_assigned_client_id(client_id: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let Some(random) = client_id.strip_prefix("auto-") else {
        return false;
    };
    match random.len() {
        36 => random.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_digit(byte),
        }),
        // Without hyphens: identifiers that older nodes assigned and the store has kept.
        32 => random.bytes().all(is_digit),
        _ => false,
    }
}

/// The protocol version of a CONNECT whose beginning is there, to answer it in its own style.
pub(crate) fn version_of_unfinished(packet: &[u8]) -> Option<ProtocolVersion> {
    let header = martlet_codec::decode_fixed_header(packet).ok()??;
    match packet.get(usize::from(header.header_len)..)? {
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(ProtocolVersion::V5),
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(ProtocolVersion::V311),
        _ => None,
    }
}
