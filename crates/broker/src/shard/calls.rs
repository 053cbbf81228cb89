//! Calls that bring events in: connections, bytes, records that became durable, time.
//!
//! Each of them ends with [`Shard::settle`].

use martlet_codec::ReasonCode;
use martlet_permission::{RefusalCause, TlsFault};

use crate::connect_request::{Guest, Peer};
use crate::connected_client::UserName;
use crate::connection::{Phase, Since};
use crate::effect::{QueueOwner, ReadPage};
use crate::event::Event;
use crate::event_head::EventHead;
use crate::id::{ConnectionId, RecordNumber};
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_WRITTEN;
use crate::screening::Screened;
use crate::shard::Shard;
use crate::shard::end::{Ending, TransportEnd};
use crate::work::{NODE, RETAINED};

/// Pages of retained messages read per call of [`Shard::work`].
const PAGES_PER_WORK: usize = 16;

/// Part of a turn, beside the turn itself, for what the store has answered and an earlier turn had
/// no room for, as a divisor.
const GATE_PART_OF_TURN: u64 = 2;

/// Timers fired per call of [`Shard::advance`], so that many that are due at once, such as the
/// Wills of a whole site, do not hold up everybody else.
const TIMERS_PER_ADVANCE: usize = 512;

impl Shard {
    /// A connection was accepted: it begins in the lobby, and its deadline runs.
    pub fn open<N: Node>(&mut self, cx: &mut Cx<'_, N>, peer: Peer) -> ConnectionId {
        self.enter_lobby(cx, peer)
    }

    /// A connection comes from another shard's lobby, because its session lives here.
    pub fn adopt<N: Node>(&mut self, cx: &mut Cx<'_, N>, guest: Box<Guest>) -> ConnectionId {
        let Guest {
            peer,
            client,
            unread,
        } = *guest;
        let id = self.enter_lobby(cx, peer);
        let connection = self.connections.at(id.index);
        if !unread.is_empty() {
            connection.keep_input(&unread, &mut self.buffers.pool);
        }
        connection.packet_bytes_max = client.request.packet_bytes_max;
        if self.lobby.stopping {
            let (version, reason) = (client.request.version, ReasonCode::ServerUnavailable);
            let cause = RefusalCause::ServerStopping;
            self.refuse(cx, id.index, Some(version), reason, cause);
        } else {
            self.accept_connect(cx, id.index, client);
        }
        self.settle(cx);
        id
    }

    /// Bytes came in. All are taken; what cannot be worked off yet is kept.
    pub fn receive<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, bytes: &[u8]) {
        self.counters.bytes_received += bytes.len() as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        if connection.flags.input_held() || connection.input.is_some() {
            connection.keep_input(bytes, &mut self.buffers.pool);
            self.work_off_input(cx, id);
        } else {
            let consumed = self.receive_packets(cx, id, bytes);
            self.keep_input(cx, id, &bytes[consumed..]);
        }
        self.after_input(cx, id);
        self.settle(cx);
    }

    /// `count` bytes of the output have been taken by the transport; 0 when it took none.
    pub fn wrote<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, count: usize) {
        self.counters.bytes_sent += count as u64;
        if self.observers.wants.any(NOTIFY_WRITTEN) {
            self.notify_output_written(cx, id, count);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let delivered = connection.wrote(count, &mut self.buffers.pool);
        let owner = connection.owner();
        self.count_qos0_delivered(owner, u64::from(delivered));
        let connection = self.connections.at(id.index);
        if count > 0 {
            connection.progressed(cx.now.mono_ms);
        }
        let paused = connection.flags.reading_paused();
        if connection.output_len() > 0 {
            self.watch_stalled(cx, id);
            if paused {
                self.after_input(cx, id);
            }
            return;
        }
        self.charge_buffers(id.index);
        if paused {
            self.after_input(cx, id);
            if self.connections.get(id).is_none() {
                return;
            }
        }
        let connection = self.connections.at(id.index);
        if connection.answers_gated == 0
            && connection.held_for_store_since == Since::NONE
            && let Some(timer) = connection.stalled.take()
        {
            self.timers.wheel.cancel(timer);
        }
        let connection = self.connections.at(id.index);
        if let Some(session) = connection.session()
            && connection.flags.admitted()
        {
            if !self.sessions.at(session).outbound.is_idle() {
                self.pump(cx, session);
            }
            self.queue_retained(session);
            self.settle(cx);
        }
    }

    /// The transport of a connection has ended. Called once per connection.
    pub fn closed<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, end: TransportEnd) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let cause = end.cause();
        match connection.phase {
            // It ends in its turn, and why is known.
            Phase::Accepted if connection.flags.ending() => {
                self.connections
                    .at(id.index)
                    .flags
                    .set_transport_closed(true);
                return;
            }
            Phase::Accepted if connection.input.is_some() => {
                // What came before the end counts, a DISCONNECT above all, even if its client did
                // not wait for CONNACK.
                let admitted = connection.flags.admitted();
                let connection = self.connections.at(id.index);
                connection.flags.set_transport_closed(true);
                if end != TransportEnd::EndOfStream {
                    connection.make_rare().transport_end = Some(cause);
                }
                if admitted && self.has_done_enough() {
                    self.queue_input(id.index);
                } else if admitted {
                    self.finish_input(cx, id);
                }
                return self.settle(cx);
            }
            Phase::Accepted => self.end_connection(cx, id.index, Ending::lost(cause)),
            Phase::Lobby | Phase::Authenticating | Phase::Challenged => {
                let address = connection.address();
                let why = end.refusal(&connection.listener().name);
                self.leave_lobby(id.index);
                self.counters.connects_refused += 1;
                let ip = address.map(|(ip, _)| ip);
                // A client that only closes its connection is not worth a line.
                let is_told = match end {
                    TransportEnd::Violation(RefusalCause::Tls(
                        TlsFault::LeftHandshake | TlsFault::LeftAfterHandshake,
                    )) => self.lobby.silent_ends.take(ip, cause, cx.now.mono_ms),
                    TransportEnd::Violation(_) | TransportEnd::BadCertificate { .. } => true,
                    _ => false,
                };
                if is_told && self.is_refusal_observed(None, ip) {
                    let claims = match end {
                        TransportEnd::BadCertificate { claims, .. } => claims,
                        _ => None,
                    };
                    cx.effects.notify(
                        EventHead::unknown()
                            .with_user(claims.map(UserName::Claimed))
                            .with_address(address),
                        Event::Refused {
                            will_topic: None,
                            reason: ReasonCode::ProtocolError,
                            why,
                        },
                    );
                }
            }
            Phase::Closing => {}
        }
        self.forget_connection(id);
        self.settle(cx);
    }

    /// Messages that an effect asked for ([`QueueRead`](crate::QueueRead)) have come from the
    /// store, or it is known why not.
    pub fn messages_read<N: Node>(&mut self, cx: &mut Cx<'_, N>, page: ReadPage) {
        let ReadPage {
            owner,
            of,
            mut messages,
        } = page;
        self.parts.receipts.name_parts(&mut messages);
        match owner {
            QueueOwner::Session(id) => self.session_messages_read(cx, id, of, messages),
            QueueOwner::Group(id) => self.group_messages_read(cx, id, messages),
        }
        self.settle(cx);
    }

    /// All records up to this number are durable: what waited for them goes out.
    pub fn durable<N: Node>(&mut self, cx: &mut Cx<'_, N>, up_to: RecordNumber) {
        self.store.records.durable(up_to);
        self.work_off_gate(cx, self.settings.work.turn);
        self.settle(cx);
    }

    /// Some other shard's mailbox is full (`on`), or has room again: publishers are held back.
    pub fn congested<N: Node>(&mut self, _cx: &mut Cx<'_, N>, on: bool) {
        self.waiting.held_back.set_congested(on);
    }

    /// Fires timers that are due, a bounded number at a time.
    pub fn advance<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let before = self.work.done;
        for _ in 0..TIMERS_PER_ADVANCE {
            if (self.work.done - before) * 2 >= self.settings.work.turn {
                break;
            }
            let Some((_, timer)) = self.timers.wheel.expire(cx.now.mono_ms) else {
                break;
            };
            self.work.add(NODE);
            self.fire(cx, timer);
            self.settle(cx);
        }
    }

    /// Goes on with what was put off: held-back input, retained messages; settles accounts with
    /// the node's memory. Called once per tick.
    pub fn work<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if self.store.is_gate_open() {
            self.work_off_gate(cx, self.settings.work.turn / GATE_PART_OF_TURN);
            self.settle(cx);
        }
        self.begin_turn();
        if self.has_put_off() {
            self.go_on_reviewing(cx);
            self.queue_released();
            self.work_off_inbox(cx);
            self.continue_fan_outs(cx);
            self.go_on_ending(cx);
            self.unindex_retired(cx);
            self.free_ended_queues(cx);
            self.serve_groups_put_off(cx);
        }
        if !self.waiting.input.is_empty() {
            self.work_off_queued_input(cx);
        }
        for _ in 0..PAGES_PER_WORK {
            if !self.read_retained_page(cx) || self.work.is_past(RETAINED) {
                break;
            }
        }
        if self.has_work_for_operators() {
            self.work_for_operators(cx);
            self.settle(cx);
        }
        self.settle_memory(cx);
    }

    /// The answer to a [`Screening`]; too late for a connection that has ended.
    pub fn screened<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, answer: Screened) {
        let connection = self.connections.get_mut(id);
        let rare = connection.and_then(|connection| connection.rare_mut());
        let pending = rare.and_then(|rare| rare.screening.as_mut());
        if pending.is_some_and(|pending| pending.answer(answer)) {
            self.queue_input(id.index);
        }
        self.settle(cx);
    }

    /// [`Shard::work`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.waiting.input.is_empty()
            || self.has_put_off()
            || self.store.is_gate_open()
            || self.memory.relief.is_under_way()
            || !self.subscribing.retained_reads.is_empty()
            || self.lobby.memory.is_over()
            || self.has_work_for_operators()
    }

    /// Something that was begun goes on in this turn.
    #[inline]
    pub(super) fn has_put_off(&self) -> bool {
        self.waiting.has_put_off()
            || self.permits.reviews.has_work()
            || !self.router.fan_outs.is_empty()
            || self.sessions.first_retired().is_some()
            || self.groups.has_put_off()
    }

    /// Whether something goes on that thousands of clients have a part in: messages with very
    /// many receivers, or connections and sessions that end.
    pub fn serves_crowd(&self) -> bool {
        !self.router.fan_outs.is_empty() || !self.waiting.ends.is_empty()
    }
}
