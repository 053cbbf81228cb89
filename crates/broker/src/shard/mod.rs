//! The shard: all state that one core owns. `calls` has the calls that bring events in.
//!
//! Every call takes the time, the node and the effects along in [`Cx`]; nothing in here waits,
//! reads a clock or touches a socket. The calls of one tick come in any order; at its end the
//! driver carries out the effects (see [`Effects`](crate::Effects)).

mod buffers;
mod bytes;
mod calls;
mod checks;
mod commands;
mod due;
mod end;
mod ending;
mod gate;
mod gate_open;
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
mod packets;
mod put_off;
mod queues;
mod reached;
mod report;
mod settle;
mod store;
mod timers;
mod turns;
mod unqueued;
mod watch;

use std::sync::Arc;

use crate::authenticate::permits::Permits;
use crate::connection::{Connection, Connections};
use crate::counters::Counters;
use crate::hash::{Seed, seeded};
use crate::id::{ConnectionId, RecordNumber, ShardId};
use crate::limits::Settings;
use crate::lobby::state::Lobby;
use crate::memory_account::MemoryAccount;
use crate::node::{Cx, Node};
use crate::notify::observers::Observers;
use crate::operate::operations::Operations;
use crate::part::attached::Parts;
use crate::record::Record;
use crate::route::router::Router;
use crate::screen::screenings::Screenings;
use crate::session::Sessions;
use crate::share::group::Groups;
use crate::subscribe::index::SubscriberIndex;
use crate::subscribe::under_way::Subscribing;
use crate::work::{DELIVERY, RECORD, Work};

use buffers::Buffers;
use due::Timers;
pub(crate) use end::Ending;
pub use end::TransportEnd;
pub(crate) use gated::{Gate, Gated, PlainAck};
pub(crate) use holding::RESERVE_WILL_BYTES;
use noted::OperatorRecords;
use numbers::Numbers;
pub(crate) use packet_error::PacketError;
pub(crate) use packets::Progress;
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

    /// Bytes to be written.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(id).map_or(&[], Connection::output)
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
}
