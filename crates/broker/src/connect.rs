//! CONNECT on the shard that owns the session: takeover, clean start or resumption, CONNACK
//! (MQTT 5 sections 3.1.4 and 3.2).

use core::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use martlet_codec::{
    ConnAck, ConnAckProperties, PacketType, QoS, ReasonCode, UserProperties, encode_user_property,
};
use martlet_permission::{IS_NODE, Limit, Refusal, RefusalCause, Share, TenantId};

use crate::connect_request::{ConnectRequest, ConnectingClient, Login};
use crate::connected_client::SharedClient;
use crate::connection::Since;
use crate::connection::topic_aliases::TopicAliases;
use crate::event::Event;
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::id::{ConnectionId, RecordNumber};
use crate::node::{Cx, Node};
use crate::session::Session;
use crate::session::permit::Permit;
use crate::shard::{Ending, Gated, Shard};
use crate::tenant_counts::TenantPool;
use crate::timer::Timer;
use crate::work::COMING_OR_GOING;

/// Approximate length of the longest CONNACK with a User Property. It is left out for clients that
/// take less [MQTT-3.2.2-20].
const MARKED_CONNACK_BYTES: u32 = 1_024;

impl Shard {
    /// Claims the session for a connection and answers CONNACK once that is durable.
    /// Clean Start is worked off here [MQTT-3.1.4-4]: a session is discarded [MQTT-3.1.2-4],
    /// resumed [MQTT-3.1.2-5] or begun [MQTT-3.1.2-6]; before MQTT 5 too [MQTT-3.1.1/3.1.2-6],
    /// [MQTT-3.1.1/3.1.4-2].
    pub(crate) fn accept_connect<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        mut client: ConnectingClient,
    ) {
        let (tenant, client_id) = (client.login.tenant, Arc::clone(&client.request.client_id));
        let before = self.sessions.find(tenant, &client_id);
        if let Err((reason, why)) = self.check_client(index, before, &client) {
            return self.refuse_client(cx, index, &client, reason, why);
        }
        let is_new = before.is_none();
        // The limit is for clients. An integration is not refused because devices have many
        // sessions, and does not count among them.
        let is_part = client.part.is_some();
        let sessions_max = self.settings.limits.sessions as usize;
        if is_new && let Err(why) = self.take_session(cx, tenant, is_part, sessions_max) {
            return self.refuse_client(cx, index, &client, ReasonCode::QuotaExceeded, why);
        }
        if let Err(why) = self.take_user_session(cx, before, &client) {
            if is_new {
                self.uncount_session(cx, tenant, is_part);
            }
            return self.refuse_client(cx, index, &client, ReasonCode::QuotaExceeded, why);
        }
        self.work.add(COMING_OR_GOING);
        let takes_over = self.end_old_connection(cx, index, tenant, &client_id);
        if let Err(why) = self.take_place(cx, index, tenant, takes_over) {
            if is_new {
                self.uncount_session(cx, tenant, is_part);
            }
            self.leave_user_session(cx, &client);
            return self.refuse_client(cx, index, &client, ReasonCode::ServerBusy, why);
        }
        let expiry_secs = client.session_expiry_secs(&self.settings.limits);
        let resumed = self.session_to_resume(cx, &client);
        let session_present = resumed.is_some();
        let session = resumed.unwrap_or_else(|| {
            if !is_new {
                // It takes the place of the one that has just ended.
                let _ = self.take_session(cx, tenant, is_part, usize::MAX);
            }
            self.new_session(tenant, &client_id)
        });
        let clean_start = client.has_clean_start();
        self.resume_session(cx, index, session, &mut client, expiry_secs);
        let ConnectingClient {
            request,
            login,
            part,
        } = client;
        let Login {
            user_name, data, ..
        } = login;
        self.notify_losses_while_away(cx, session);
        // Nor may a session of this client that has ended come back after a crash: it would take
        // new messages for old ones by their Packet Identifiers.
        if let Some(part) = &part {
            let (reach, queue) = (part.reach, part.queue);
            self.begin_lane(session, reach);
            self.bound_queue_of_part(cx, session, queue);
        }
        let record = self.record_session(cx, session);
        let record = record.max(self.end_under_way(tenant, &client_id));
        self.describe_client(index, session, &request, user_name);
        let flags = &mut self.connections.at(index).client_mut().flags;
        flags.set_clean_start(clean_start);
        flags.set_session_present(session_present);
        self.configure_connection(cx, index, session, &request);
        let (record, connack) = match part {
            None => {
                let data = data.as_deref();
                let connack =
                    self.encode_connack(index, &request, data, session_present, expiry_secs);
                if self.observers.wants.any(Wants::PACKETS.and(Wants::CLIENTS)) {
                    let bytes = request.remaining_bytes;
                    self.notify_packet(cx, index, PacketType::Connect, None, bytes, false);
                }
                (record, connack)
            }
            Some(part) => {
                self.subscribe_part(cx, index, session, &part, session_present);
                (self.subscription_record(session).max(record), Vec::new())
            }
        };
        self.report_connected(cx, index, session);
        self.admit_once_recorded(cx, index, record, connack);
    }

    /// An old connection of the same client is ended first [MQTT-3.1.4-3]. That may end its
    /// session, so the session is looked for after it. Returns whether there was one.
    fn end_old_connection<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        tenant: TenantId,
        client_id: &str,
    ) -> bool {
        self.finish_old_connection(cx, tenant, client_id);
        let mut has_ended = false;
        if let Some(old) = self.sessions.find(tenant, client_id)
            && let Some(connection) = self.sessions.at(old).connection()
        {
            self.counters.sessions_taken_over += 1;
            self.notify_taken_over(cx, old, connection, index);
            let cause = RefusalCause::TakenOver;
            let ending = Ending::with_disconnect(ReasonCode::SessionTakenOver, cause);
            self.end_connection(cx, connection, ending);
            has_ended = true;
        }
        // What the end of its connection has left for later comes before the new one.
        if let Some(old) = self.sessions.find(tenant, client_id) {
            self.finish_leaving(cx, old);
        }
        has_ended
    }

    /// Whether a CONNECT may claim its session here, before anything is changed for it. `before` is
    /// the session that its client has.
    ///
    /// # Errors
    /// The connection is refused, with this reason code for the client.
    fn check_client(
        &mut self,
        index: u32,
        before: Option<u32>,
        client: &ConnectingClient,
    ) -> Result<(), (ReasonCode, Refusal)> {
        let no_memory = self.memory.is_spent() || self.memory.growth.sessions_stop;
        if no_memory && before.is_none() {
            // A client with a session is accepted: it takes what is queued for it.
            return Err(match self.memory.growth.sessions_stop {
                true => (ReasonCode::QuotaExceeded, Limit::MemoryKept.into()),
                false => (ReasonCode::ServerBusy, Limit::Memory.into()),
            });
        }
        if let Some(why) = self.has_no_room_for(client) {
            return Err((ReasonCode::QuotaExceeded, why.into()));
        }
        if let Some(why) = self.is_turned_away(index, client) {
            return Err((ReasonCode::NotAuthorized, why));
        }
        let will = client.request.will.as_ref();
        match will.and_then(|will| self.will_exceeds(client.login.tenant, before, will)) {
            Some(why) => Err((ReasonCode::QuotaExceeded, why.into())),
            None => Ok(()),
        }
    }

    /// The session that this CONNECT resumes. One that it must not resume is ended.
    fn session_to_resume<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        client: &ConnectingClient,
    ) -> Option<u32> {
        let found = self
            .sessions
            .find(client.login.tenant, client.client_id())?;
        if !self.sessions.at(found).durable {
            // Remembered across a restart for its Will alone; the client is back before it is due.
            self.discard_will(found);
            self.end_session(cx, found, RefusalCause::KeptForWill);
            return None;
        }
        if self.gives_way(found, &client.login) {
            self.end_session(cx, found, RefusalCause::BelongsToOther);
            return None;
        }
        if client.has_clean_start() {
            self.end_session(cx, found, RefusalCause::CleanStart);
            return None;
        }
        Some(found)
    }

    /// The client is accepted once the record of its session is durable.
    fn admit_once_recorded<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        record: RecordNumber,
        connack: Vec<u8>,
    ) {
        let connection = self.connections.id_of(index);
        self.arm_identity_end(cx, connection);
        let early = fault::is(Fault::ConnAckBeforeRecord)
            || fault::is(Fault::PartAttachedBeforeRecord)
                && self.connections.at(index).flags.part();
        let record = if early { RecordNumber(0) } else { record };
        self.connections.at(index).gated_since = Since::at_ms(cx.now.mono_ms);
        if self.store.is_open(record) {
            return self.admit(cx, connection, &connack);
        }
        let admit = Gated::Admit {
            connection,
            connack,
        };
        self.gate(cx, record, admit);
        self.watch_stalled(cx, connection);
    }

    /// The record that the CONNACK waits for does not become durable: the client gets the reason,
    /// and its connection ends. What of its session was recorded stays.
    pub(crate) fn refuse_unrecorded<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let limit = self.store_limit_for(index);
        let reason = ReasonCode::ServerUnavailable;
        let connection = self.connections.at(index);
        if !connection.flags.part() {
            let version = connection.version;
            self.write_refusal(cx, index, version, reason, Some(limit.words()));
        }
        self.counters.connects_refused += 1;
        self.end_connection(cx, index, Ending::refused(reason, limit));
    }

    /// Whether a session belongs to an earlier user of the name or Client Identifier, not to this
    /// client.
    fn gives_way(&mut self, session: u32, login: &Login) -> bool {
        let owner = self.sessions.at(session).permit.as_deref();
        owner
            .zip(login.permit.as_deref())
            .is_some_and(|(owner, permit)| owner.gives_way_to(&permit.identity))
    }

    /// Takes a slot for a connection, of the listener, of the tenant and of the node. A connection
    /// that takes over from another one needs no room in the share of the tenant. A part takes no
    /// slot of the tenant and of the node.
    fn take_place<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        tenant: TenantId,
        takes_over: bool,
    ) -> Result<(), Limit> {
        let is_part = self.connections.at(index).flags.part();
        let listener = self.connections.at(index).listener();
        // Counted without a limit too, for statistics.
        let (number, places) = match (listener.number, listener.connections_max) {
            (number, 0) => (number, u32::MAX),
            limited => limited,
        };
        if !cx.node.borrow_listener_slot(number, places) {
            return Err(Limit::ListenerConnections);
        }
        if is_part {
            return Ok(());
        }
        let connections_max = match listener.own {
            Some(_) => usize::MAX,
            None => self.settings.limits.connections as usize,
        };
        let pool = TenantPool::Connections;
        let share = match takes_over {
            true => Share::percent(100),
            false => self.settings.limits.team_share(),
        };
        let has_room = cx
            .node
            .borrow_of_tenant(tenant, pool, connections_max, share);
        let limit = match has_room {
            true if cx.node.borrow_connection_slot(connections_max) => return Ok(()),
            true => {
                cx.node.return_of_tenant(tenant, pool);
                Limit::Connections
            }
            false => Limit::TeamConnections,
        };
        cx.node.return_listener_slot(number);
        Err(limit)
    }

    /// Sends CONNACK: from here on the client is connected. One CONNACK per connection
    /// [MQTT-3.2.0-2], of success [MQTT-3.1.4-5].
    pub(crate) fn admit<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, connack: &[u8]) {
        let found = self.connections.get(id);
        let Some(session) = found.and_then(|found| found.session()) else {
            return;
        };
        if self.permits.reviews.is_under_way() && self.review(session) {
            return;
        }
        let index = id.index;
        let connection = self.connections.at(index);
        if connack.len() > connection.packet_bytes_max as usize {
            // Not even CONNACK fits [MQTT-3.1.2-24].
            let cause = RefusalCause::Packet("CONNACK exceeds the client's Maximum Packet Size");
            let ending = Ending::with_disconnect(ReasonCode::PacketTooLarge, cause);
            return self.end_connection(cx, index, ending);
        }
        connection.flags.set_admitted(true);
        if connection.flags.part() {
            self.notify_attached(cx, id);
        } else {
            connection
                .output_mut(&mut self.buffers.pool)
                .extend_from_slice(connack);
            self.output_appended(cx, index);
        }
        self.resume_outbound(session);
        self.send_presence(cx, session, true);
        self.pump(cx, session);
        self.queue_retained(session);
        if self.connections.at(index).flags.transport_closed() {
            self.finish_input(cx, id);
        } else {
            self.queue_input(index);
        }
    }

    /// Finishes what a client sent before it closed its old connection, before the new connection
    /// is accepted [MQTT-3.14.4-3].
    fn finish_old_connection<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        client_id: &str,
    ) {
        let old = self.sessions.find(tenant, client_id);
        let old = old.and_then(|old| self.sessions.at(old).connection());
        let Some(old) = old else {
            return;
        };
        let connection = self.connections.at(old);
        if connection.flags.transport_closed() && connection.flags.admitted() {
            let id = self.connections.id_of(old);
            while self.connections.get(id).is_some() {
                match self.connections.at(id.index).waits_for_screening() {
                    false => self.finish_input(cx, id),
                    // The new connection does not wait until a message is looked at.
                    true => self.give_up_input(cx, id),
                }
            }
        }
    }

    /// A session is known by its Client Identifier [MQTT-3.1.3-2].
    fn new_session(&mut self, tenant: TenantId, client_id: &Arc<str>) -> u32 {
        let epoch = self.next_epoch();
        self.sessions
            .insert(Session::new(tenant, Arc::clone(client_id), epoch))
    }

    /// The session belongs to this connection from now on, with the Will of its CONNECT
    /// [MQTT-3.1.2-7]; without one nothing is published [MQTT-3.1.1/3.1.2-12].
    fn resume_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        client: &mut ConnectingClient,
        expiry_secs: u32,
    ) {
        // The client is back before its Will was due, so it is not sent [MQTT-3.1.3-9].
        let permit = client.login.permit.take();
        let permit = permit.map(|permit| self.permits.in_force(permit));
        let (request, part) = (&client.request, client.part.as_deref());
        self.note_restricted(permit.as_deref());
        if !fault::is(Fault::WillSentThoughBack) {
            self.discard_will(session);
        }
        let is_changed = !Permit::is_same(
            self.sessions.at(session).permit.as_deref(),
            permit.as_deref(),
        );
        let state = self.sessions.at(session);
        state.comes(index, cx.now.wall_ms);
        state.version = request.version;
        state.expiry_secs = expiry_secs;
        state.durable |= expiry_secs > 0;
        let keeps_qos0 = part.is_some_and(|part| part.keeps_qos0);
        let keeps_otherwise = state.flags.keeps_qos0() != keeps_qos0;
        state.flags.set_keeps_qos0(keeps_qos0);
        let has_subscriptions = state.subscriptions.len() > 0;
        if let Some(timer) = state.expiry_timer.take() {
            self.timers.wheel.cancel(timer);
        }
        self.sessions.set_part(session, part.is_some());
        self.return_user_session(cx, session);
        self.sessions.set_permit(session, permit);
        self.replace_will(session, request.will.clone());
        if is_changed && has_subscriptions {
            self.raise_epochs_of(session);
        }
        if keeps_otherwise && has_subscriptions && !fault::is(Fault::KeepsQos0NotRenewed) {
            self.renew_strength_of(cx, session);
        }
    }

    /// Records a session that persists or has a Will. Returns what the CONNACK waits for.
    fn record_session<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) -> RecordNumber {
        let state = self.sessions.at(session);
        if !state.durable && state.will.is_none() {
            return RecordNumber(0);
        }
        state.recorded = true;
        let record = self.session_record(session);
        self.append(cx, record)
    }

    /// Puts in force what the CONNECT asked for; the send quota is never 0 [MQTT-4.9.0-1].
    fn configure_connection<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        session: u32,
        request: &ConnectRequest,
    ) {
        let in_flight_max = self.settings.limits.in_flight.max(1);
        let alias_max = request
            .topic_alias_maximum
            .min(self.settings.limits.topic_alias_outbound);
        let owner = self.sessions.id_of(session);
        self.leave_lobby(index);
        self.connections.accepted += 1;
        let connection = self.connections.at(index);
        connection.accept(owner);
        connection.version = request.version;
        connection.flags.set_bridge(request.bridge);
        connection
            .flags
            .set_problem_information(request.problem_information);
        connection
            .flags
            .set_session_expiry_zero(request.session_expiry_secs == 0);
        connection.packet_bytes_max = request.packet_bytes_max;
        connection.send_quota = request.receive_maximum.min(in_flight_max);
        if alias_max > 0 {
            let aliases = TopicAliases::new(alias_max, &self.seed);
            connection.make_rare().aliases = Some(aliases);
        }
        let exchange = request.authentication_method.as_ref();
        let exchange = exchange.map(|method| self.lobby.authentications.accepted(method));
        match exchange {
            Some(exchange) => connection.make_rare().exchange = Some(Box::new(exchange)),
            None => drop(connection.take_rare(|rare| rare.exchange.take())),
        }
        connection.received(cx.now.mono_ms);
        if let Some(timer) = connection.deadline.take() {
            self.timers.wheel.cancel(timer);
        }
        let keep_alive_ms = connection.keep_alive_ms();
        let id = self.connections.id_of(index);
        if keep_alive_ms > 0 {
            let due_ms = cx.now.mono_ms + u64::from(keep_alive_ms);
            let timer = self.timers.wheel.arm(due_ms, Timer::KeepAlive(id));
            self.connections.at(index).deadline = Some(timer);
        }
        self.begin_trace(session);
        if !self.connections.at(index).flags.part() {
            self.counters.connects_accepted += 1;
        }
    }

    /// Session Present [MQTT-3.2.2-2], [MQTT-3.2.2-3]; the lower Maximum QoS [MQTT-3.2.2-9]; the
    /// assigned identifier [MQTT-3.1.3-7]; Response Information if asked for [MQTT-3.1.2-28]; a
    /// User Property for bridges alone, with room for it [MQTT-3.2.2-20].
    fn encode_connack(
        &mut self,
        index: u32,
        request: &ConnectRequest,
        authentication_data: Option<&[u8]>,
        session_present: bool,
        expiry_secs: u32,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let limits = &self.settings.limits;
        let client = SharedClient::clone(self.connections.at(index).client());
        let (listener, keep_alive_secs) = (&client.listener, client.keep_alive_secs);
        let response_information = match &self.settings.response_information {
            Some(prefix)
                if request.response_information && may_be_topic_level(&request.client_id) =>
            {
                Some(format!("{prefix}{}", request.client_id))
            }
            _ => None,
        };
        let mut is_node = Vec::new();
        if request.is_bridge && request.packet_bytes_max >= MARKED_CONNACK_BYTES {
            encode_user_property(&mut is_node, IS_NODE, "");
        }
        // Absent means available, unlimited, or as asked for: only what differs is sent.
        let properties = ConnAckProperties {
            session_expiry_secs: (expiry_secs != request.session_expiry_secs)
                .then_some(expiry_secs),
            receive_maximum: NonZeroU16::new(limits.receive_maximum)
                .filter(|maximum| maximum.get() != u16::MAX),
            maximum_qos: (listener.maximum_qos < QoS::ExactlyOnce).then_some(listener.maximum_qos),
            retain_available: (!listener.retain_available).then_some(false),
            maximum_packet_size: NonZeroU32::new(limits.packet_bytes),
            assigned_client_id: request.assigned.then_some(&*request.client_id),
            topic_alias_maximum: (limits.topic_alias_maximum > 0)
                .then_some(limits.topic_alias_maximum),
            reason_string: None,
            user_properties: UserProperties::from_encoded(&is_node).unwrap_or_default(),
            wildcard_subscription_available: (!listener.wildcard_subscription_available)
                .then_some(false),
            subscription_ids_available: (!listener.subscription_ids_available).then_some(false),
            shared_subscription_available: (!listener.shared_subscription_available)
                .then_some(false),
            server_keep_alive_secs: (keep_alive_secs != request.keep_alive_secs)
                .then_some(keep_alive_secs),
            response_information: response_information.as_deref(),
            server_reference: None,
            // [MQTT-4.12.0-5]
            authentication_method: request.authentication_method.as_deref(),
            authentication_data,
        };
        let reason = ReasonCode::Success;
        ConnAck {
            session_present,
            reason,
            properties,
        }
        .encode(request.version, &mut out);
        out
    }

    fn report_connected<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, session: u32) {
        if self.is_presence_observed(session) {
            let state = self.sessions.at(session);
            let client_id = Arc::clone(&state.client_id);
            let permit = state.permit.as_ref();
            let proved =
                permit.map(|permit| (permit.identity.user_name.clone(), permit.identity.proof));
            if let Some((Some(name), proof)) = proved {
                let tenant = self.sessions.at(session).tenant;
                self.notify_authenticated(cx, index, tenant, &client_id, name, proof);
            }
            let client = SharedClient::clone(self.connections.at(index).client());
            let head = EventHead::of_client(self.sessions.at(session).tenant, &client);
            cx.effects.notify(head, Event::Connected(client));
        }
    }

    /// Notes in the connection which client it is of, and what that client asked for.
    fn describe_client(
        &mut self,
        index: u32,
        session: u32,
        request: &ConnectRequest,
        user_name: Option<Arc<str>>,
    ) {
        let session = self.sessions.at(session);
        let permit = session.permit.as_ref();
        let is_proved = permit.is_some() && user_name.is_some();
        let is_device = is_proved && permit.is_some_and(|permit| permit.identity.is_device);
        let client_id = Arc::clone(&session.client_id);
        // The ceiling is for clients: a part sends no packets that could keep it alive.
        let limits = &self.settings.limits;
        let keep_alive_secs = match self.connections.at(index).flags.part() {
            true => request.keep_alive_secs,
            false => limits.keep_alive_in_force(request.keep_alive_secs),
        };
        let gauge = &self.memory.clients;
        let client = self.connections.at(index).client_mut();
        client.set_names(client_id, user_name, gauge);
        client.keep_alive_secs = keep_alive_secs;
        client.version = request.version;
        let flags = &mut client.flags;
        flags.set_user_is_proved(is_proved);
        flags.set_is_device(is_device);
    }
}

/// The identifier can stand in a topic without changing its meaning.
fn may_be_topic_level(client_id: &str) -> bool {
    !client_id.contains(['+', '#', '/'])
}
