//! The shard: all state that one core owns, and the calls that bring events in.
//!
//! Every call takes the time, the node and the effects along in [`Cx`]; nothing in here waits,
//! reads a clock or touches a socket. The calls of one tick come in any order; at its end the
//! driver carries out the effects (see [`Effects`](crate::Effects)).

mod commands;
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
mod numbers;
mod output;
mod packet_error;
mod queues;
mod reached;
mod report;
mod timers;
mod turns;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use martlet_codec::{ReasonCode, UserProperties};
use martlet_permission::{Limit, RefusalCause};

use crate::authenticate::authentications::Authentications;
use crate::authenticate::permits::Permits;
use crate::connection::buffer::BufferPool;
use crate::connection::{Connection, Connections, Phase, Since};
use crate::counters::Counters;
use crate::effect::{QueueOwner, ReadPage, ShardMessage};
use crate::event_interest::Wants;
use crate::fan_out::under_way::FanOuts;
use crate::guest::{Guest, Peer};
use crate::hash::{Seed, seeded};
use crate::heard::list::HeardList;
use crate::id::{ConnectionId, MessageId, RecordNumber, SessionId, ShardId};
use crate::limits::Settings;
use crate::lobby::state::Lobby;
use crate::losses::lost::LossesToTell;
use crate::memory_account::MemoryAccount;
use crate::message::Messages;
use crate::node::{Cx, Node};
use crate::operate::operations::Operations;
use crate::part::attached::Parts;
use crate::part::holds::Holds;
use crate::part::receipts::due::Receipts;
use crate::pressure::relief::Relief;
use crate::record::{Record, RecordCount};
use crate::retained_ends::table::RetainedEnds;
use crate::route::routes::Routes;
use crate::routing::RoutingBuffers;
use crate::screen::screenings::Screenings;
use crate::session::Sessions;
use crate::session::outbound::EndedQueue;
use crate::share::group::Groups;
use crate::split_map::SplitMap;
use crate::subscribe::index::SubscriberIndex;
use crate::subscribe::retained_reads::RetainedReads;
use crate::subscribe::suback::PendingSubAcks;
use crate::tell::telling::{TOLD_WHEN_WRITTEN, Telling};
use crate::timer::{SWEEP_INTERVAL_MS, Timer, Wheel};
use crate::unmatched::topics::UnmatchedTopics;
use crate::work::{DELIVERY, NODE, RECORD, RETAINED, Work};

pub(crate) use end::Ending;
pub use end::TransportEnd;
use expiring::ExpiringQueues;
use gated::Gate;
pub(crate) use gated::{Gated, PlainAck};
use held::HeldBack;
pub use held::StoreState;
pub(crate) use holding::RESERVE_WILL_BYTES;
pub(crate) use input::Progress;
use numbers::Numbers;
pub(crate) use packet_error::PacketError;
pub(crate) use queues::Ends;
use queues::InputQueue;

/// All state that one core owns.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) shard_count: u16,
    pub(crate) settings: Arc<Settings>,
    pub(crate) seed: Seed,
    pub(crate) authentications: Authentications,
    /// Messages that the control plane looks at.
    pub(crate) screenings: Screenings,
    pub(crate) permits: Permits,
    pub(crate) connections: Connections,
    pub(crate) lobby: Lobby,
    /// How fast a client may publish has a limit.
    pub(crate) has_rates: bool,
    pub(crate) sessions: Sessions,
    pub(crate) subscribers: SubscriberIndex,
    pub(crate) routes: Routes,
    pub(crate) routing_buffers: RoutingBuffers,
    /// Messages that nobody was subscribed to.
    pub(crate) unmatched: UnmatchedTopics,
    /// Retained messages that were taken away.
    pub(crate) retained_ends: RetainedEnds,
    /// Devices that have published.
    pub(crate) heard: HeardList,
    pub(crate) groups: Groups,
    pub(crate) subacks: PendingSubAcks,
    pub(crate) operations: Operations,
    pub(crate) parts: Parts,
    pub(crate) receipts: Receipts,
    /// Which events are wanted.
    pub(crate) wants: Wants,
    pub(crate) telling: Telling,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) records: RecordCount,
    gate: Gate,
    /// Queues of sessions and share groups that have ended: memory is given back, and receipts are
    /// told, over turns.
    pub(crate) ended_queues: VecDeque<EndedQueue>,
    /// Messages whose entries other shards have yet to record: how many shards.
    pub(crate) awaiting_routed: SplitMap<MessageId, u32>,
    /// Connections to be ended once the message under way is delivered to all.
    pub(crate) closing: Vec<(ConnectionId, ReasonCode, RefusalCause)>,
    /// The session whose acknowledgements are being worked off.
    pub(crate) answered: Option<SessionId>,
    /// Connections with input to be worked off.
    input_queue: InputQueue,
    held_back: HeldBack,
    /// Connections and sessions that end in their turn.
    pub(crate) ends: Ends,
    pub(crate) retained_reads: RetainedReads,
    /// Queues with messages that expire, by when the first does.
    expiring: ExpiringQueues,
    /// Clients and share groups that lost messages, by when that is told again.
    pub(crate) losses_to_tell: LossesToTell,
    /// Messages of queues can be read back from the store.
    pub(crate) reads_back: bool,
    pub(crate) counters: Counters,
    pub(crate) pool: BufferPool,
    /// Connections that have been accepted and have not ended.
    pub(crate) accepted_count: usize,
    /// Sessions whose queues have dropped messages.
    pub(crate) dropping: BTreeSet<SessionId>,
    /// The search for clients that hold much, while memory is short.
    pub(crate) relief: Relief,
    pub(crate) memory: MemoryAccount,
    pub(crate) messages: Messages,
    pub(crate) scratch: Vec<u8>,
    pub(crate) forwarded: Vec<u8>,
    numbers: Numbers,
    pub(crate) work: Work,
    /// See [`WorkLimits::copied_in_a_crowd`](crate::WorkLimits).
    pub(crate) copied_in_a_crowd: usize,
    pub(crate) fan_outs: FanOuts,
    /// Parts of all shards that hold publishers back.
    pub(crate) holds: Holds,
    /// Messages of other shards for which this turn had no room.
    inbox: VecDeque<(ShardId, ShardMessage)>,
    pub(crate) stopping: bool,
}

/// Number of waiting items at which a shard counts as crowded.
const CROWD: usize = 8;
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
    // Table: the fields and what they begin with.
    pub fn new(settings: Arc<Settings>, id: ShardId, shard_count: u16, seed: u64) -> Self {
        let route_entries = settings.limits.route_cache_entries as usize;
        let limits = &settings.limits;
        let output_bytes_max = limits.output_bytes as usize;
        let authentications = Authentications::new(settings.checks_bans);
        let has_rates = limits.publish_rate > 0 || limits.publish_bytes_rate > 0;
        let copied_in_a_crowd = settings.work.copied_in_a_crowd();
        let wants = Wants::of(&settings.events);
        let telling = Telling::of(&settings.events);
        let mut wheel = Wheel::new(0);
        wheel.arm(SWEEP_INTERVAL_MS, Timer::RetainedSweep);
        Self {
            id,
            shard_count,
            settings,
            seed: seeded(seed),
            authentications,
            screenings: Screenings::default(),
            permits: Permits::default(),
            connections: Connections::default(),
            lobby: Lobby::default(),
            has_rates,
            sessions: Sessions::new(seed),
            subscribers: SubscriberIndex::new(seed),
            routes: Routes::new(seed, route_entries),
            routing_buffers: RoutingBuffers::default(),
            unmatched: UnmatchedTopics::default(),
            retained_ends: RetainedEnds::default(),
            heard: HeardList::default(),
            groups: Groups::new(seed),
            subacks: PendingSubAcks::default(),
            operations: Operations::default(),
            parts: Parts::default(),
            receipts: Receipts::new(seeded(seed)),
            wants,
            telling,
            wheel,
            records: RecordCount::default(),
            gate: Gate::default(),
            ended_queues: VecDeque::new(),
            awaiting_routed: SplitMap::new(seeded(seed)),
            closing: Vec::new(),
            answered: None,
            input_queue: InputQueue::default(),
            held_back: HeldBack::default(),
            ends: Ends::default(),
            retained_reads: RetainedReads::default(),
            expiring: ExpiringQueues::default(),
            losses_to_tell: LossesToTell::default(),
            reads_back: false,
            counters: Counters::default(),
            pool: BufferPool::default(),
            accepted_count: 0,
            dropping: BTreeSet::new(),
            relief: Relief::default(),
            memory: MemoryAccount::new(output_bytes_max),
            messages: Messages::default(),
            scratch: Vec::new(),
            forwarded: Vec::new(),
            numbers: Numbers::default(),
            work: Work::default(),
            copied_in_a_crowd,
            fan_outs: FanOuts::default(),
            holds: Holds::default(),
            inbox: VecDeque::new(),
            stopping: false,
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
            connection.keep_input(&unread, &mut self.pool);
        }
        connection.packet_bytes_max = client.request.packet_bytes_max;
        if self.stopping {
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
            connection.keep_input(bytes, &mut self.pool);
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
        if self.wants.any(TOLD_WHEN_WRITTEN) {
            self.tell_output_written(cx, id, count);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let delivered = connection.wrote(count, &mut self.pool);
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
            self.wheel.cancel(timer);
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
        self.name_parts_of(&mut messages);
        match owner {
            QueueOwner::Session(id) => self.session_messages_read(cx, id, of, messages),
            QueueOwner::Group(id) => self.group_messages_read(cx, id, messages),
        }
        self.settle(cx);
    }

    /// All records up to this number are durable: what waited for them goes out.
    pub fn durable<N: Node>(&mut self, cx: &mut Cx<'_, N>, up_to: RecordNumber) {
        self.records.durable(up_to);
        self.work_off_gate(cx, self.settings.work.turn);
        self.settle(cx);
    }

    /// Some other shard's mailbox is full (`on`), or has room again: publishers are held back.
    pub fn congested<N: Node>(&mut self, _cx: &mut Cx<'_, N>, on: bool) {
        self.held_back.set_congested(on);
    }

    /// Fires timers that are due, a bounded number at a time.
    pub fn advance<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let before = self.work.done;
        for _ in 0..TIMERS_PER_ADVANCE {
            if (self.work.done - before) * 2 >= self.settings.work.turn {
                break;
            }
            let Some((_, timer)) = self.wheel.expire(cx.now.mono_ms) else {
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
        if self.is_gate_open() {
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
        if !self.input_queue.is_empty() {
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
                self.messages.put_back(record.message);
            }
        }
    }

    /// Work counts anew from here on. A tick has a turn for batches of other shards,
    /// and one with each call of [`Shard::work`].
    pub fn begin_turn(&mut self) {
        self.work.begin_turn(self.settings.work.turn);
    }

    /// Whether the turn's budget of work is used up, so that the rest should wait for the next
    /// turn: a small packet may go to thousands of receivers.
    pub fn has_done_enough(&self) -> bool {
        self.work.is_turn_over()
    }

    /// Whether other clients wait for their turn, so that each may use only a part of this one.
    pub(crate) fn is_crowded(&self) -> bool {
        let waiting = self.input_queue.len() + self.inbox.len() + self.ends.len();
        self.work.is_turn_over() || waiting >= CROWD
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
        self.wheel.next_wakeup()
    }

    /// Whether something waits for a record behind number `before` to be durable.
    pub fn awaits_beyond(&self, before: RecordNumber) -> bool {
        self.gate.awaits_beyond(before)
    }

    /// PUBLISH packets so far of messages that waited for nothing.
    pub fn sent_at_once(&self) -> u64 {
        self.counters.publishes_sent_at_once
    }

    /// The number of the last record appended.
    pub fn last_record(&self) -> RecordNumber {
        self.records.last()
    }

    pub(crate) fn append<N: Node>(&mut self, cx: &mut Cx<'_, N>, record: Record) -> RecordNumber {
        self.work.add(RECORD);
        cx.effects.records.push(record);
        self.records.appended()
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
            } else if let Some((id, reason, cause)) = self.closing.pop() {
                if self.connections.get(id).is_some() {
                    self.end_in_turn(cx, id.index, Ending::told(reason, cause));
                }
            } else {
                return;
            }
        }
    }
}
