//! Calls of parts.

use std::sync::Arc;

use martlet_codec::{PacketId, ProtocolVersion, ReasonCode};
use martlet_permission::RefusalCause;

use crate::connect_request::{ConnectRequest, ConnectingClient, Login, Peer};
use crate::connection::Connection;
use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::id::{ConnectionId, lane_of};
use crate::limits::ListenerPolicy;
use crate::node::{Cx, Node};
use crate::part::attached::Part;
use crate::part::{
    PartCall, PartId, PartOutcome, PartReach, PartRefusal, PartSpec, RecentEntries, Settlement,
    end_part,
};
use crate::session::permit::Permit;
use crate::shard::{Ending, Shard};
use crate::timer::Timer;
use crate::work::NODE;

impl Shard {
    /// Handles a call of a part.
    pub fn part_call<N: Node>(&mut self, cx: &mut Cx<'_, N>, call: PartCall) {
        match call {
            PartCall::Attach(spec) => self.attach(cx, &spec),
            PartCall::Settle(id, settlements) => self.part_settles(cx, id, &settlements),
            PartCall::Publish(id, publish) => self.part_publishes(cx, id, &publish),
            PartCall::Credit(id, credit) => self.set_credit(cx, id, credit),
            PartCall::QueueBytes(id, bytes_max) => self.set_queue_bytes(cx, id, bytes_max),
            PartCall::Detach(id) => self.detach(cx, id, false),
            PartCall::End(id) => self.detach(cx, id, true),
        }
        self.settle(cx);
    }

    /// Claims the session of a part as a CONNECT does.
    pub(crate) fn attach<N: Node>(&mut self, cx: &mut Cx<'_, N>, spec: &PartSpec) {
        if !spec.client_id.starts_with('$') {
            let why = "the Client Identifier of a part begins with `$`";
            return end_part(cx, spec.id, ReasonCode::ClientIdentifierNotValid, why);
        }
        let is_left_over = spec.reach.is_lane() && spec.subscriptions.is_empty();
        if spec.reach.is_lane() && !is_left_over && lane_of(&spec.client_id).is_none() {
            let why = "the Client Identifier of a lane ends with its number";
            return end_part(cx, spec.id, ReasonCode::ClientIdentifierNotValid, why);
        }
        if spec.reach == PartReach::LaneOfAllTenants && spec.identity.is_some() {
            let why = "only a part without an identity takes messages of all tenants";
            return end_part(cx, spec.id, ReasonCode::NotAuthorized, why);
        }
        if self.lobby.stopping {
            let why = RefusalCause::ServerStopping.text();
            return end_part(cx, spec.id, ReasonCode::ServerShuttingDown, why);
        }
        let peer = Peer {
            address: None,
            listener: Arc::new(ListenerPolicy::part(spec.tenant)),
            entropy: [0; 16],
        };
        let id = self.enter_lobby(cx, peer);
        self.connections.at(id.index).flags.set_part(true);
        self.parts.attached.push(Part {
            id: spec.id,
            connection: id,
            granted: Vec::new(),
            session_present: false,
            later: Vec::new(),
            run: match spec.reach {
                PartReach::Node => Some(u32::MAX),
                _ => None,
            },
            is_left_over,
            recent: RecentEntries::default(),
        });
        let principal = spec.identity.as_ref();
        let request = ConnectRequest {
            version: ProtocolVersion::V5,
            bridge: false,
            clean_start: false,
            keep_alive_secs: 0,
            client_id: Arc::clone(&spec.client_id),
            assigned: false,
            user_name: None,
            authentication_method: None,
            will: None,
            session_expiry_secs: spec.session_expiry_secs,
            receive_maximum: spec.credit.max(1),
            // It takes no packets: see `send_publish`.
            packet_bytes_max: 0,
            topic_alias_maximum: 0,
            response_information: false,
            is_bridge: false,
            problem_information: false,
            remaining_bytes: 0,
        };
        let client = ConnectingClient {
            request,
            login: Login {
                tenant: spec.tenant,
                user_name: principal.and_then(|one| one.identity.user_name.clone()),
                permit: principal
                    .map(|one| Box::new(Permit::new(one.identity.clone(), one.last_revocation))),
                data: None,
            },
            part: Some(Box::new(spec.clone())),
        };
        self.accept_connect(cx, id.index, client);
    }

    fn part_settles<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: PartId,
        settlements: &[Settlement],
    ) {
        let Some((connection, session)) = self.session_of_part(id) else {
            return;
        };
        let settlements = match settlements {
            [first @ .., _] if fault::is(Fault::PartSettlementLost) && !first.is_empty() => first,
            all => all,
        };
        for Settlement { token, outcome } in settlements {
            let token = match PacketId::new(token.get() - 1) {
                Some(other) if fault::is(Fault::PartSettlesOther) => other,
                _ => *token,
            };
            let reason = match outcome {
                PartOutcome::Done => ReasonCode::Success,
                PartOutcome::Refused(_) if fault::is(Fault::PartRefusedComesAgain) => {
                    self.put_off_delivery(cx, connection, session, token, 1_000);
                    continue;
                }
                PartOutcome::Refused(_) if fault::is(Fault::PartRefusalForgotten) => {
                    PartRefusal::Rejected.code()
                }
                PartOutcome::Refused(why) => why.code(),
                PartOutcome::TooOld => {
                    if let Some(entry) = self.take_in_flight(session, token) {
                        self.drop_entry(cx, session, entry, DropReason::TooOld);
                    }
                    continue;
                }
                PartOutcome::Later(after_ms) => {
                    self.put_off_delivery(cx, connection, session, token, *after_ms);
                    continue;
                }
            };
            let session = self.sessions.id_of(session);
            // A part is granted QoS 1 at most, so nothing else can be wrong with it.
            let settled = self.puback_received(cx, session, token, reason);
            debug_assert!(settled.is_ok());
        }
        self.waiting.answered = None;
        self.pump(cx, session);
        self.sessions.at(session).outbound.rest();
        self.end_hold_if_room(cx, session);
        self.notify_run(cx, session);
    }

    fn put_off_delivery<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        connection: ConnectionId,
        session: u32,
        token: PacketId,
        after_ms: u32,
    ) {
        let outbound = &mut self.sessions.at(session).outbound;
        if !outbound.take_off_wire(token) {
            return;
        }
        if fault::is(Fault::PartCreditNotReturned) {
            outbound.on_wire += 1;
        }
        if fault::is(Fault::PartLaterForgotten) {
            return;
        }
        let due_ms = cx.now.mono_ms + u64::from(after_ms);
        if let Some(part) = self.parts.at(connection) {
            part.later.push((due_ms, token));
            self.timers.wheel.arm(due_ms, Timer::PartLater(connection));
        }
    }

    /// Some deliveries are to be made again.
    pub(crate) fn deliver_later<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(session) = self.connections.get(id).and_then(Connection::session) else {
            return;
        };
        let Some(part) = self.parts.at(id) else {
            return;
        };
        let now_ms = cx.now.mono_ms;
        let due = part.later.extract_if(.., |(due_ms, _)| *due_ms <= now_ms);
        let due: Vec<PacketId> = due.map(|(_, token)| token).collect();
        let outbound = &mut self.sessions.at(session).outbound;
        let unsent = outbound.send_again(&due);
        self.work.add((due.len() + unsent) as u64 * NODE);
        self.pump(cx, session);
    }

    fn set_credit<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: PartId, credit: u16) {
        let Some((connection, session)) = self.session_of_part(id) else {
            return;
        };
        let connection = self.connections.at(connection.index);
        let before = match fault::is(Fault::PartCreditNotLowered) {
            true => connection.send_quota,
            false => 1,
        };
        // `limits.in_flight` is for clients.
        connection.send_quota = credit.max(before);
        self.pump(cx, session);
    }

    fn set_queue_bytes<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: PartId, bytes_max: u64) {
        if let Some((_, session)) = self.session_of_part(id) {
            self.set_bytes_of_queue(cx, session, bytes_max);
        }
    }

    pub(crate) fn detach<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: PartId, ends: bool) {
        let Some((connection, session)) = self.session_of_part(id) else {
            return;
        };
        if ends && !fault::is(Fault::PartEndForgotten) {
            self.sessions.at(session).expiry_secs = 0;
        }
        let ending = Ending::with_disconnect(ReasonCode::Success, RefusalCause::Detached);
        self.end_connection(cx, connection.index, ending);
    }
}
