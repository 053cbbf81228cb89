//! Enhanced authentication: a client proves its identity in several steps, when it connects and
//! again whenever it likes (MQTT 5 section 4.12).
//!
//! The broker knows whose turn it is; the data mean something only to the authenticator. Its state
//! between two steps is kept with the connection, so that it ends with it, and there is at most
//! one.

pub(crate) mod state;

use std::sync::Arc;

use martlet_codec::{
    Auth, Disconnect, PacketType, ProtocolVersion, ReasonCode, decode_fixed_header,
};
use martlet_permission::{Identity, Limit, Refusal, RefusalCause};

use crate::authentication::{Authenticated, Authentication, ExchangeState, LoginWaiter, Step};
use crate::connect_request::ConnectingClient;
use crate::connection::{Connection, Phase};
use crate::event::Event;
use crate::event_interest::Wants;
use crate::exchange::state::{Exchange, ExchangeTurn};
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::session::permit::Permit;
use crate::shard::{Ending, PacketError, Progress, Shard};
use crate::timer::Timer;

impl Shard {
    /// Receives what a client may send between the server's AUTH and its CONNACK: AUTH or
    /// DISCONNECT [MQTT-3.1.2-30].
    pub(crate) fn receive_in_exchange<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Result<Progress, PacketError> {
        let Some(header) = decode_fixed_header(bytes)? else {
            return Ok(Progress::NeedMore);
        };
        if !matches!(
            header.packet_type,
            PacketType::Auth | PacketType::Disconnect
        ) {
            return Err(PacketError::protocol(
                "neither AUTH nor DISCONNECT before CONNACK",
                "MQTT-3.1.2-30",
            ));
        }
        let length = header.packet_len();
        if length > self.settings.limits.connect_packet_bytes as usize {
            let (reason, why) = (ReasonCode::PacketTooLarge, Limit::ConnectPacketBytes);
            return Err(PacketError::of(reason, why));
        }
        if bytes.len() < length {
            return Ok(Progress::NeedMore);
        }
        self.counters.packets_received += 1;
        header.check_version(ProtocolVersion::V5)?;
        let body = &bytes[usize::from(header.header_len)..length];
        if header.packet_type == PacketType::Disconnect {
            Disconnect::decode(body, ProtocolVersion::V5)?;
            let cause = RefusalCause::LoginGivenUp;
            self.refuse(cx, id.index, None, ReasonCode::NotAuthorized, cause);
            return Ok(Progress::Gone);
        }
        self.auth_received(cx, id.index, &Auth::decode(body)?)?;
        Ok(Progress::Packet(length))
    }

    /// AUTH: an answer to ours [MQTT-4.12.0-3], or the beginning of a re-authentication.
    pub(crate) fn auth_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        auth: &Auth<'_>,
    ) -> Result<(), PacketError> {
        self.check_user_properties(auth.user_properties)?;
        let id = self.connections.id_of(index);
        let Some(exchange) = exchange_of(self.connections.at(index)) else {
            return Err(auth_without_method(auth));
        };
        if auth.authentication_method != Some(&*exchange.method) {
            // [MQTT-4.12.0-5]
            let why = "AUTH with another Authentication Method than CONNECT";
            return Err(PacketError::protocol(why, "MQTT-4.12.1-1"));
        }
        let again = match (auth.reason, &exchange.turn) {
            (ReasonCode::ReAuthenticate, ExchangeTurn::Over) => true,
            (ReasonCode::ContinueAuthentication, ExchangeTurn::Client(_)) => false,
            (ReasonCode::ReAuthenticate, _) => {
                let why = "re-authentication while authentication is under way";
                return Err(PacketError::protocol(why, ""));
            }
            _ => {
                let why = "AUTH that answers nothing";
                return Err(PacketError::protocol(why, "MQTT-4.12.0-3"));
            }
        };
        let step = Step {
            method: Arc::clone(&exchange.method),
            data: auth.authentication_data.unwrap_or_default().into(),
            state: match std::mem::replace(&mut exchange.turn, ExchangeTurn::Keeper) {
                ExchangeTurn::Client(state) => Some(state),
                ExchangeTurn::Over | ExchangeTurn::Keeper => None,
            },
        };
        if again {
            let timeout_ms = u64::from(self.settings.limits.authenticate_timeout_secs) * 1000;
            let timer = Timer::ReauthenticationDeadline(id);
            exchange.deadline = Some(self.timers.wheel.arm(cx.now.mono_ms + timeout_ms, timer));
        }
        self.request_step(cx, index, step);
        Ok(())
    }

    fn request_step<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, step: Step) {
        let id = self.connections.id_of(index);
        let connection = self.connections.at(index);
        if connection.phase == Phase::Challenged {
            connection.phase = Phase::Authenticating;
        }
        let (listener, address) = (Arc::clone(connection.listener()), connection.address());
        let (client_id, user_name, waiter) = match connection.session() {
            Some(session) => {
                let user_name = connection.user_name().cloned();
                let client_id = Arc::clone(&self.sessions.at(session).client_id);
                (client_id, user_name, LoginWaiter::default())
            }
            None => {
                let waiting = connection.lobby().and_then(|state| state.waiting.as_ref());
                let Some(waiting) = waiting else {
                    return;
                };
                let request = &waiting.request;
                let client_id = Arc::clone(&request.client_id);
                (client_id, request.user_name.clone(), waiting.waiter())
            }
        };
        cx.effects.authentications.push(Authentication {
            connection: id,
            realm: listener.realm,
            listener,
            address,
            version: ProtocolVersion::V5,
            client_id,
            user_name,
            password: None,
            certificate: None,
            waiter,
            step: Some(step),
        });
    }

    /// The authenticator needs more data from a client that logs in.
    pub(crate) fn challenge<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        data: &[u8],
        state: ExchangeState,
    ) {
        let reason = ReasonCode::ContinueAuthentication;
        if let Err(error) = self.send_auth(cx, index, reason, Some(data)) {
            self.refuse_waiting(cx, index, error);
            return;
        }
        let connection = self.connections.at(index);
        if let Some(exchange) = exchange_of(connection) {
            exchange.turn = ExchangeTurn::Client(state);
        }
        connection.phase = Phase::Challenged;
        self.queue_input(index);
    }

    /// Ends the connection of a client that is being authenticated, with CONNACK: there is no
    /// DISCONNECT before it [MQTT-3.14.0-1].
    pub(crate) fn refuse_waiting<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        error: PacketError,
    ) {
        match self.take_waiting(index) {
            Some(request) => {
                let login = self.claimed_login(index, &request);
                let client = ConnectingClient::new(request, login);
                self.refuse_client(cx, index, &client, error.reason, error.cause);
            }
            None => self.refuse(cx, index, None, error.reason, error.cause),
        }
    }

    /// AUTH to a client that named this method in its CONNECT [MQTT-4.12.0-2], [MQTT-4.12.0-5]; to
    /// no other [MQTT-4.12.0-6]. Without Reason String and User Properties [MQTT-3.15.2-2],
    /// [MQTT-3.15.2-3].
    fn send_auth<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: ReasonCode,
        data: Option<&[u8]>,
    ) -> Result<(), PacketError> {
        let connection = self.connections.at(index);
        let Some(exchange) = exchange_of(connection) else {
            let why = "authentication in steps of a client that named no method";
            return Err(PacketError::rule(ReasonCode::UnspecifiedError, why));
        };
        let auth = Auth {
            authentication_method: Some(&exchange.method),
            authentication_data: data,
            ..Auth::new(reason)
        };
        self.buffers.scratch.clear();
        auth.encode(&mut self.buffers.scratch);
        if self.buffers.scratch.len() > connection.packet_bytes_max as usize {
            let why = "authentication needs larger packets than the client accepts";
            return Err(PacketError::rule(ReasonCode::PacketTooLarge, why));
        }
        let output = connection.output_mut(&mut self.buffers.pool);
        output.extend_from_slice(&self.buffers.scratch);
        self.output_appended(cx, index);
        Ok(())
    }

    /// The answer to a step of a re-authentication. Until it succeeds the client keeps its
    /// identity.
    pub(crate) fn reauthenticated<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        answer: Authenticated,
    ) {
        let Some(exchange) = exchange_of(self.connections.at(id.index)) else {
            return;
        };
        if !matches!(exchange.turn, ExchangeTurn::Keeper) {
            return;
        }
        let result = match answer {
            Authenticated::Continue { data, state } => {
                exchange.turn = ExchangeTurn::Client(state);
                let reason = ReasonCode::ContinueAuthentication;
                self.send_auth(cx, id.index, reason, Some(&data))
            }
            Authenticated::Accepted {
                identity,
                last_revocation,
                data,
            } => self.proved_again(cx, id, identity, last_revocation, data.as_deref()),
            Authenticated::Refused { reason, why, .. } => {
                self.report_not_proved(cx, id.index, reason, why);
                // DISCONNECT has fewer reason codes than CONNACK [MQTT-3.14.2-1].
                let reason = match reason {
                    ReasonCode::ServerUnavailable => ReasonCode::ServerBusy,
                    ReasonCode::ConnectionRateExceeded => reason,
                    _ => ReasonCode::NotAuthorized,
                };
                Err(PacketError::of(
                    reason,
                    RefusalCause::ReauthenticationFailed,
                ))
            }
        };
        if let Err(error) = result {
            // [MQTT-4.12.1-2]
            let ending = Ending::with_disconnect(error.reason, error.cause);
            self.end_connection(cx, id.index, ending);
        }
    }

    fn proved_again<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        identity: Identity,
        last_revocation: u64,
        data: Option<&[u8]>,
    ) -> Result<(), PacketError> {
        let refused = |cause: RefusalCause| PacketError::of(ReasonCode::NotAuthorized, cause);
        if let Some(exchange) = exchange_of(self.connections.at(id.index)) {
            exchange.turn = ExchangeTurn::Over;
            if let Some(timer) = exchange.deadline.take() {
                self.timers.wheel.cancel(timer);
            }
        }
        let Some(session) = self.connections.at(id.index).session() else {
            return Ok(());
        };
        let state = self.sessions.at(session);
        let old = state.permit.as_deref();
        let is_same = old.is_some_and(|old| old.is_of_same_user(&identity));
        if !is_same || state.tenant != identity.tenant {
            return Err(refused(RefusalCause::ReauthenticatedAsOther));
        }
        if let Some(reason) = self
            .lobby
            .authentications
            .revocation_of(&identity, last_revocation)
        {
            return Err(refused(RefusalCause::Revoked(reason)));
        }
        let proved = (identity.user_name.clone(), identity.proof);
        let ended_wall_ms = end_of(self.sessions.at(session).permit.as_deref());
        self.change_permit(session, Box::new(Permit::new(identity, last_revocation)));
        let ends_wall_ms = end_of(self.sessions.at(session).permit.as_deref());
        if ends_wall_ms < ended_wall_ms {
            // Else a timer that is armed already looks at it.
            self.arm_identity_end(cx, id);
        }
        if self.is_observed(session, Wants::CONNECTIONS)
            && let (Some(name), proof) = proved
        {
            let client_id = Arc::clone(&self.sessions.at(session).client_id);
            let tenant = self.sessions.at(session).tenant;
            self.notify_authenticated(cx, id.index, tenant, &client_id, name, proof);
        }
        self.send_auth(cx, id.index, ReasonCode::Success, data)
    }

    fn report_not_proved<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: ReasonCode,
        why: Refusal,
    ) {
        if self
            .observers
            .wants
            .any(Wants::CONNECTIONS.and(Wants::CLIENTS))
            && let Some(session) = self.connections.at(index).session()
        {
            let event = Event::ReauthenticationRefused { reason, why };
            cx.effects.notify(self.head_with_user(session), event);
        }
    }

    /// The client has begun a re-authentication and not finished it in time.
    pub(crate) fn check_reauthentication<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let connection = self.connections.get_mut(id);
        let Some(exchange) = connection.and_then(exchange_of) else {
            return;
        };
        exchange.deadline = None;
        let ending = Ending::with_disconnect(ReasonCode::NotAuthorized, Limit::AuthenticateTimeout);
        self.end_connection(cx, id.index, ending);
    }
}

/// The exchange of a connection whose CONNECT named an Authentication Method.
fn exchange_of(connection: &mut Connection) -> Option<&mut Exchange> {
    connection.rare_mut()?.exchange.as_deref_mut()
}

/// When credentials end; never is the greatest.
fn end_of(permit: Option<&Permit>) -> u64 {
    let ends = permit.map_or(0, |permit| permit.identity.expires_wall_ms);
    ends.wrapping_sub(1)
}

/// The CONNECT named no method, so no AUTH has a place [MQTT-4.12.0-7].
fn auth_without_method(auth: &Auth<'_>) -> PacketError {
    match auth.authentication_method {
        Some(_) => {
            PacketError::protocol("AUTH although CONNECT named no Authentication Method", "")
        }
        None => PacketError::protocol("AUTH without Authentication Method", "MQTT-4.12.0-7"),
    }
}
