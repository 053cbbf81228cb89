//! Endings: of a connection and of a session, and what is reported and sent at each.

use core::hash::BuildHasher;
use std::sync::Arc;

use martlet_codec::{Disconnect, ReasonCode};
use martlet_permission::{RefusalCause, TenantId};

use crate::connection::{Connection, Phase};
use crate::counters::DropReason;
use crate::effect::{ConnectionEffect, QueueOwner};
use crate::event::{Event, WillNotice};
use crate::fault::{self, Fault};
use crate::id::{ConnectionId, RecordNumber};
use crate::node::{Cx, Node};
use crate::record::Record;
use crate::shard::Shard;
use crate::shard::end::{Ending, WillAtEnd};
use crate::shard::packet_error::PacketError;
use crate::shortened::shortened;
use crate::tenant_counts::TenantPool;
use crate::timer::Timer;
use crate::work::{CLOSING, COMING_OR_GOING};

/// Subscriptions that are taken out of the index at once when their session ends; a session with
/// more of them goes on with it in later turns.
pub(super) const SUBSCRIPTIONS_AT_ONCE: usize = 64;

impl Shard {
    /// Takes a connection out of the tables, in any state.
    pub(crate) fn forget_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        let mut connection = self.connections.remove(id)?;
        self.end_screening(connection.take_rare(|rare| rare.screening.take()));
        let exchange = connection.rare().and_then(|rare| rare.exchange.as_ref());
        let proving = exchange.and_then(|exchange| exchange.deadline);
        let timers = [
            connection.deadline.take(),
            connection.stalled.take(),
            proving,
        ];
        for timer in timers.into_iter().flatten() {
            self.timers.wheel.cancel(timer);
        }
        let lost = u64::from(connection.release_buffers(&mut self.buffers.pool));
        if lost > 0 {
            self.counters
                .drop_messages(DropReason::ConnectionLost, lost);
            if let Some(session) = connection
                .owner()
                .and_then(|owner| self.sessions.live(owner))
            {
                // 0: no time is kept of these drops.
                let reason = DropReason::ConnectionLost;
                self.sessions.losses(session).count_drop(reason, lost, 0);
                self.notify_losses_soon(session, reason);
            }
        }
        self.memory
            .charge_buffers(0, connection.charged_bytes as usize);
        Some(connection)
    }

    /// Ends an accepted connection: its session lives on or ends, its Will is due or not, and what
    /// is left to say is said.
    pub(crate) fn end_connection<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        ending: Ending,
    ) {
        let connection = self.connections.at(index);
        let Some(session) = connection.session() else {
            return;
        };
        if connection.flags.ending() {
            connection.flags.set_ending(false);
            connection.flags.set_admitted(true);
        }
        self.notify_rate_drops(cx, index);
        self.work.add(COMING_OR_GOING);
        if let Some(half_done) = self.take_half_done(index) {
            self.give_up(cx, half_done);
        }
        self.report_disconnected(cx, session, ending);
        if !self.connections.at(index).flags.part() {
            cx.node.return_connection_slot();
            let tenant = self.sessions.at(session).tenant;
            cx.node.return_of_tenant(tenant, TenantPool::Connections);
        }
        let id = self.connections.id_of(index);
        self.connections.accepted -= 1;
        let connection = self.connections.at(index);
        cx.node.return_listener_slot(connection.listener().number);
        let transport_closed = connection.flags.transport_closed();
        connection.phase = Phase::Closing;
        connection.flags.set_input_held(false);
        connection.input = None;
        connection.take_rare(|rare| rare.aliases.take());
        if let Some(timer) = connection.deadline.take() {
            self.timers.wheel.cancel(timer);
        }
        let is_part = connection.flags.part();
        if is_part {
            self.part_ended(cx, id, ending.reason, ending.cause.text());
        } else if ending.notify {
            self.send_disconnect(cx, index, ending);
            self.work.add(CLOSING);
            cx.effects.connections.push(ConnectionEffect::Close(id));
        }
        self.leave_session(cx, session, ending.will);
        if transport_closed || is_part {
            // The driver has reported its end already and will not do so again, or does not have
            // it.
            self.forget_connection(id);
        }
    }

    /// Ends a session: its subscriptions, its queue, its Will if one is still due.
    pub(crate) fn end_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        cause: RefusalCause,
    ) {
        // [MQTT-3.1.2-8]: the Will goes out before the session's end is over.
        self.send_will(cx, index);
        self.leave_groups(cx, index);
        let is_quick = self.unindex_some(cx, index, SUBSCRIPTIONS_AT_ONCE);
        self.abandon_outbound(cx, index);
        if self.sessions.at(index).flags.part() {
            let id = self.sessions.id_of(index);
            self.forget_queue_of_part(cx, id);
            self.end_lane(id);
        }
        self.notify_session_ended(cx, index, cause);
        // Behind it: readers look there for why messages were dropped together.
        let owner = QueueOwner::Session(self.sessions.id_of(index));
        self.notify_last_losses(cx, owner, Some(cause));
        let session = self.sessions.at(index);
        let (epoch, recorded) = (session.epoch, session.recorded);
        let is_part = session.flags.part();
        let (tenant, client_id) = (session.tenant, Arc::clone(&session.client_id));
        if let Some(timer) = session.expiry_timer.take() {
            self.timers.wheel.cancel(timer);
        }
        if recorded {
            let number = self.append(cx, Record::Ended(epoch));
            let client = self.seed.hash_one((tenant, &*client_id));
            self.store.gate.session_ends(number, client);
        }
        self.work.add(COMING_OR_GOING);
        self.uncount_session(cx, tenant, is_part);
        self.return_user_session(cx, index);
        match is_quick {
            true => self.sessions.remove(index),
            false => self.sessions.retire(index),
        }
    }

    /// The record that must be durable before a client whose session has ended begins another: 0 if
    /// none is under way.
    pub(crate) fn end_under_way(&mut self, tenant: TenantId, client_id: &str) -> RecordNumber {
        let client = self.seed.hash_one((tenant, client_id));
        self.store.gate.end_of(&self.store.records, client)
    }

    /// The session stays for its Session Expiry Interval [MQTT-4.1.0-1], then it ends
    /// [MQTT-4.1.0-2]. When the turn is over, a Will that is due and the end of a session that ends
    /// with its connection wait for theirs: both may take long, and many connections may end at
    /// once.
    pub(super) fn leave_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        will: WillAtEnd,
    ) {
        let waits = self.has_done_enough() && will != WillAtEnd::Kept;
        self.sessions.at(index).connection = None;
        let mut is_will_put_off = false;
        match will {
            WillAtEnd::Discarded => self.discard_will(index),
            WillAtEnd::Due if waits && self.will_delay_secs(index) == Some(0) => {
                is_will_put_off = true;
            }
            WillAtEnd::Due => self.will_after_loss(cx, index),
            WillAtEnd::Kept => {
                // The store keeps the Will: after the restart it is due.
                let has_none = self.replace_will(index, None).is_none();
                self.sessions.at(index).recorded &= has_none;
            }
        }
        let session = self.sessions.at(index);
        // What its expiry has run of already: with a deliberate fault as long as it was there.
        let there_ms = cx
            .now
            .wall_ms
            .saturating_sub(session.connected_at_wall_ms());
        let run_ms = |by: Fault| if fault::is(by) { there_ms } else { 0 };
        if session.recorded && session.expiry_secs > 0 {
            let run_ms = run_ms(Fault::ExpiryFromConnectRecorded);
            session.set_left_wall_ms(cx.now.record_ms.saturating_sub(run_ms));
            let record = self.session_record(index);
            self.append(cx, record);
        }
        let session = self.sessions.at(index);
        match session.expiry_secs {
            0 if !waits => return self.end_session(cx, index, RefusalCause::EndsWithConnection),
            0 | u32::MAX => {}
            secs => {
                let early = fault::is(Fault::SessionExpiresEarly);
                let ms = u64::from(secs) * if early { 500 } else { 1000 };
                let due_ms = cx.now.mono_ms + ms.saturating_sub(run_ms(Fault::ExpiryFromConnect));
                let id = self.sessions.id_of(index);
                let timer = self.timers.wheel.arm(due_ms, Timer::SessionExpiry(id));
                self.sessions.at(index).expiry_timer = Some(timer);
            }
        }
        self.send_presence(cx, index, false);
        self.pause_outbound(cx, index);
        if is_will_put_off || self.sessions.at(index).expiry_secs == 0 {
            self.finish_leaving_later(index);
        }
    }

    /// Does what [`Shard::leave_session`] has put off.
    pub(crate) fn finish_leaving<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let session = self.sessions.at(index);
        if !session.flags.leaving() {
            return;
        }
        session.flags.set_leaving(false);
        let (ends, waits) = (session.expiry_secs == 0, session.will_timer.is_some());
        if ends {
            // Its Will comes first.
            self.end_session(cx, index, RefusalCause::EndsWithConnection);
        } else if !waits {
            self.send_will(cx, index);
        }
    }

    /// DISCONNECT with reason and Reason String, to v5 clients [MQTT-3.14.2-3]; without User
    /// Properties [MQTT-3.14.2-4] or Session Expiry Interval [MQTT-3.14.2-2], and not before
    /// CONNACK [MQTT-3.14.0-1]. Nothing follows it [MQTT-3.14.4-1].
    pub(super) fn send_disconnect<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        ending: Ending,
    ) {
        let connection = self.connections.at(index);
        if !connection.version.is_v5() || !connection.flags.admitted() {
            return;
        }
        let mut packet = Disconnect::new(ending.reason);
        packet.reason_string = Some(ending.cause.text());
        let mut bytes = Vec::new();
        packet.encode(connection.version, &mut bytes);
        if bytes.len() > connection.packet_bytes_max as usize {
            bytes.clear();
            Disconnect::new(ending.reason).encode(connection.version, &mut bytes);
        }
        if bytes.len() <= connection.packet_bytes_max as usize {
            connection
                .output_mut(&mut self.buffers.pool)
                .extend_from_slice(&bytes);
            self.output_appended(cx, index);
        }
    }

    pub(super) fn report_disconnected<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        ending: Ending,
    ) {
        if self.is_presence_observed(session) {
            let refusal = match self.sessions.at(session).connection() {
                Some(index) => self.refusal(index, ending.cause),
                None => ending.cause.into(),
            };
            let will = self.will_notice(session, ending.will);
            // Of two clients with one Client Identifier, each is known by its address alone.
            let address = match ending.cause {
                RefusalCause::TakenOver => self.peer_of(session),
                _ => None,
            };
            cx.effects.notify(
                self.head_with_user(session).with_address(address),
                Event::Disconnected {
                    reason: ending.reason,
                    why: ending.in_full(refusal),
                    will,
                },
            );
        }
    }

    fn will_notice(&mut self, session: u32, at_end: WillAtEnd) -> Option<Box<WillNotice>> {
        let will = self.sessions.at(session).will.as_ref()?;
        Some(Box::new(WillNotice {
            topic: (&*shortened(&will.topic)).into(),
            is_discarded: match at_end {
                WillAtEnd::Discarded => true,
                WillAtEnd::Due => false,
                // It is due after the restart.
                WillAtEnd::Kept => return None,
            },
        }))
    }

    /// DISCONNECT from the client [MQTT-3.14.4-1], [MQTT-3.14.4-2].
    pub(super) fn disconnect_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), PacketError> {
        self.check_user_properties(disconnect.user_properties)?;
        if !disconnect.reason.sendable_by_client_in_disconnect() {
            return Err(PacketError::protocol(
                "a reason code that only servers send",
                "MQTT-3.14.2-1",
            ));
        }
        let connection = self.connections.at(index);
        let Some(session) = connection.session() else {
            return Ok(());
        };
        if let Some(expiry_secs) = disconnect.session_expiry_secs {
            if connection.flags.session_expiry_zero() && expiry_secs != 0 {
                // MQTT 5 section 3.14.2.2.2
                return Err(PacketError::protocol("Session Expiry raised from 0", ""));
            }
            self.change_expiry(session, expiry_secs);
        }
        let normal =
            disconnect.reason == ReasonCode::Success && !fault::is(Fault::WillAfterDisconnect);
        let will = if normal {
            WillAtEnd::Discarded
        } else {
            WillAtEnd::Due
        };
        let ending = Ending {
            reason: disconnect.reason,
            cause: RefusalCause::Goodbye,
            notify: false,
            will,
            wrong: None,
        };
        let id = self.connections.id_of(index);
        self.end_connection(cx, index, ending);
        self.work.add(CLOSING);
        cx.effects.connections.push(ConnectionEffect::Close(id));
        Ok(())
    }

    /// DISCONNECT may change the Session Expiry Interval.
    fn change_expiry(&mut self, session: u32, expiry_secs: u32) {
        // Its record follows when the session is left, which is next.
        let permit = self.sessions.at(session).permit.as_ref();
        let ceiling = match permit.is_some_and(|permit| permit.identity.is_applicant) {
            true => 0,
            false => self.settings.limits.session_expiry_max_secs,
        };
        self.sessions.at(session).expiry_secs = expiry_secs.min(ceiling);
    }
}
