//! The shard: all state that one core owns, and the calls that bring events in.
//!
//! Every call takes the time, the node and the effects along in [`Cx`]; nothing in here waits,
//! reads a clock or touches a socket. The calls of one tick come in any order; at its end the
//! driver carries out the effects (see [`Effects`](crate::Effects)).

mod buffers;
mod commands;
mod due;
mod end;
mod ending;
mod expiring;
mod gate;
mod gated;
mod held;
mod holding;
mod inbox;
mod input;
mod memory;
mod names;
mod noted;
mod numbers;
mod output;
mod packet_error;
mod queues;
mod reached;
mod report;
mod store;
mod timers;
mod turns;
mod unqueued;
mod waiting;

use std::sync::Arc;

use martlet_codec::{ReasonCode, UserProperties};
use martlet_permission::{Limit, RefusalCause};

use crate::authenticate::permits::Permits;
use crate::connection::{Connection, Connections, Phase, Since};
use crate::counters::Counters;
use crate::effect::{QueueOwner, ReadPage};
use crate::guest::{Guest, Peer};
use crate::hash::{Seed, seeded};
use crate::id::{ConnectionId, RecordNumber, ShardId};
use crate::limits::Settings;
use crate::lobby::state::Lobby;
use crate::memory_account::MemoryAccount;
use crate::node::{Cx, Node};
use crate::notify::observers::{NOTIFY_WRITTEN, Observers};
use crate::operate::operations::Operations;
use crate::part::attached::Parts;
use crate::record::Record;
use crate::route::router::Router;
use crate::screen::screenings::Screenings;
use crate::session::Sessions;
use crate::share::group::Groups;
use crate::subscribe::index::SubscriberIndex;
use crate::subscribe::under_way::Subscribing;
use crate::work::{DELIVERY, NODE, RECORD, RETAINED, Work};

use buffers::Buffers;
use due::Timers;
pub(crate) use end::Ending;
pub use end::TransportEnd;
pub(crate) use gated::{Gate, Gated, PlainAck};
pub(crate) use holding::RESERVE_WILL_BYTES;
pub(crate) use input::Progress;
use noted::OperatorRecords;
use numbers::Numbers;
pub(crate) use packet_error::PacketError;
use queues::Waiting;
use store::Store;
pub use store::StoreState;

/// All state that one core owns.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) shard_count: u16,
    pub(crate) settings: Arc<Settings>,
    pub(crate) seed: Seed,
    /// Connections before their CONNECT is accepted, and what clients are authenticated by.
    pub(crate) lobby: Lobby,
    /// The rules in force.
    pub(crate) permits: Permits,
    /// Messages that the control plane looks at.
    pub(crate) screenings: Screenings,
    pub(crate) connections: Connections,
    pub(crate) sessions: Sessions,
    /// The subscriptions of all sessions, by Topic Filter.
    pub(crate) subscribers: SubscriberIndex,
    /// Subscriptions that are being made.
    pub(crate) subscribing: Subscribing,
    /// Where messages go, and which are on their way.
    pub(crate) router: Router,
    pub(crate) groups: Groups,
    pub(crate) parts: Parts,
    pub(crate) operations: Operations,
    /// Facts noted of messages, for the questions of operators.
    pub(crate) noted: OperatorRecords,
    /// Which events are wanted.
    pub(crate) observers: Observers,
    pub(crate) timers: Timers,
    /// State of the store, as far as known, and what waits for it.
    pub(crate) store: Store,
    /// Work that waits for its turn.
    pub(crate) waiting: Waiting,
    pub(crate) counters: Counters,
    pub(crate) memory: MemoryAccount,
    /// Memory that is used again and again.
    pub(crate) buffers: Buffers,
    numbers: Numbers,
    pub(crate) work: Work,
}

/// Pages of retained messages read per call of [`Shard::work`].
const PAGES_PER_WORK: usize = 16;
/// Part of a turn, beside the turn itself, for what the store has answered and an earlier turn had
/// no room for, as a divisor.
const GATE_PART_OF_TURN: u64 = 2;
/// Units of a packet with more User Properties than are allowed.
const TOO_MANY_PROPERTIES: u64 = 8 * 1024;
/// Timers fired per call of [`Shard::advance`], so that many that are due at once, such as the
/// Wills of a whole site, do not hold up everybody else.
const TIMERS_PER_ADVANCE: usize = 512;

impl Shard {
    /// Shard `id` of a node of `shard_count`. `seed` is for its hash tables: random in production,
    /// since clients choose the keys.
    pub fn new(settings: Arc<Settings>, id: ShardId, shard_count: u16, seed: u64) -> Self {
        Self {
            id,
            shard_count,
            seed: seeded(seed),
            lobby: Lobby::new(settings.checks_bans),
            permits: Permits::default(),
            screenings: Screenings::default(),
            connections: Connections::default(),
            sessions: Sessions::new(seed),
            subscribers: SubscriberIndex::new(seed),
            subscribing: Subscribing::default(),
            router: Router::new(seed, &settings),
            groups: Groups::new(seed),
            parts: Parts::new(seeded(seed)),
            operations: Operations::default(),
            noted: OperatorRecords::default(),
            observers: Observers::of(&settings.events),
            timers: Timers::new(),
            store: Store::default(),
            waiting: Waiting::default(),
            counters: Counters::default(),
            memory: MemoryAccount::new(settings.limits.output_bytes as usize),
            buffers: Buffers::default(),
            numbers: Numbers::default(),
            work: Work::default(),
            settings,
        }
    }

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

    /// Bytes to be written.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(id).map_or(&[], Connection::output)
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

    /// Takes back records that were handed over to the store: what they held is used again.
    pub fn take_back(&mut self, records: &mut Vec<Record>) {
        for record in records.drain(..) {
            if let Record::Message(record) = record {
                self.buffers.messages.put_back(record.message);
            }
        }
    }

    /// Work counts anew from here on. A tick has a turn for batches of other shards,
    /// and one with each call of [`Shard::work`].
    pub fn begin_turn(&mut self) {
        self.work.begin_turn(self.settings.work.turn);
    }

    /// Counts units of work, of about 50 ns, that layers below MQTT have done for a client. It
    /// belongs to the turn as what the shard itself does for clients.
    pub fn layers_have_done(&mut self, units: u64) {
        self.work.add(units);
    }

    /// Whether the turn's budget of work is used up, so that the rest should wait for the next
    /// turn: a small packet may go to thousands of receivers.
    pub fn has_done_enough(&self) -> bool {
        self.work.is_turn_over()
    }

    /// Whether other clients wait for their turn, so that each may use only a part of this one.
    pub(crate) fn is_crowded(&self) -> bool {
        self.work.is_turn_over() || self.waiting.is_crowd()
    }

    /// Units of work so far, for tests.
    #[doc(hidden)]
    pub fn work_done(&self) -> u64 {
        self.work.done
    }

    /// Counts a message that was chosen for a session or share group.
    #[inline(always)]
    pub(crate) fn count_matched(&mut self) {
        self.counters.matched += 1;
        self.work.add(DELIVERY);
    }

    /// When [`Shard::advance`] is to be called next, monotonic milliseconds.
    pub fn next_wakeup(&self) -> Option<u64> {
        self.timers.wheel.next_wakeup()
    }

    /// Whether something waits for a record behind number `before` to be durable.
    pub fn awaits_beyond(&self, before: RecordNumber) -> bool {
        self.store.gate.awaits_beyond(before)
    }

    /// PUBLISH packets so far of messages that waited for nothing.
    pub fn sent_at_once(&self) -> u64 {
        self.counters.publishes_sent_at_once
    }

    /// The number of the last record appended.
    pub fn last_record(&self) -> RecordNumber {
        self.store.records.last()
    }

    pub(crate) fn append<N: Node>(&mut self, cx: &mut Cx<'_, N>, record: Record) -> RecordNumber {
        self.work.add(RECORD);
        cx.effects.records.push(record);
        self.store.records.appended()
    }

    pub(crate) fn check_user_properties(
        &mut self,
        properties: UserProperties<'_>,
    ) -> Result<(), PacketError> {
        let count_max = usize::from(self.settings.limits.user_properties);
        if properties.iter().take(count_max + 1).count() > count_max {
            // It may have had hundreds of thousands.
            self.work.add(TOO_MANY_PROPERTIES);
            return Err(PacketError::of(
                ReasonCode::QuotaExceeded,
                Limit::UserProperties,
            ));
        }
        Ok(())
    }

    /// Carries out what must not happen in the middle of something else.
    pub(crate) fn settle<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        loop {
            // First: what a member refuses comes back to a group that knows why.
            if let Some(session) = self.groups.reads_changed.pop() {
                self.send_reads(cx, session);
            } else if let Some(message) = self.groups.own_traffic.pop_front() {
                let own = self.id;
                self.share_received(cx, own, message);
            } else if let Some((id, reason, cause)) = self.waiting.closing.pop() {
                if self.connections.get(id).is_some() {
                    self.end_in_turn(cx, id.index, Ending::with_disconnect(reason, cause));
                }
            } else {
                return;
            }
        }
    }
}
