//! A whole node in one thread: shards, what they share, the mailboxes between them, connections
//! as byte queues, a store that answers at once or later, and a clock that tests move.
//!
//! Does what a reactor does and nothing else; it knows no packets. After every call into a shard
//! the shard's accounts must balance, and whenever all shards are idle the sum over all of them:
//! that is how every test that runs on it checks that no message is lost uncounted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionEffect, ConnectionId, Counters, Cx, Effects,
    EpochKey, Event, Guest, Identity, Interest, InterestClass, ListenerPolicy, MemoryPressure,
    MemoryUse, Node, Now, Peer, RecordNumber, Report, Retained, Rules, Settings, Shard, ShardId,
    ShardMemory, ShardMessage, StoreState, TenantId, TransportEnd, WorkLimits,
};

/// What the shards share, without locks.
#[derive(Debug)]
pub struct LocalNode {
    interest: RefCell<Interest>,
    retained: RefCell<Retained>,
    memory_left: Cell<usize>,
    memory_bytes: usize,
    by_shard: RefCell<BTreeMap<u16, ShardMemory>>,
    sessions: Cell<usize>,
    connections: Cell<usize>,
}

impl LocalNode {
    /// A node with that much memory to lend; 0 is without end.
    pub fn new(seed: u64, memory_bytes: u64) -> Self {
        let bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        Self {
            interest: RefCell::new(Interest::new(seed)),
            retained: RefCell::new(Retained::new()),
            memory_left: Cell::new(if bytes == 0 { usize::MAX } else { bytes }),
            memory_bytes: if bytes == 0 { usize::MAX } else { bytes },
            by_shard: RefCell::default(),
            sessions: Cell::new(0),
            connections: Cell::new(0),
        }
    }
}

impl Node for LocalNode {
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
        read(&self.interest.borrow())
    }

    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass) {
        self.interest.borrow_mut().set(shard, tenant, filter, class);
    }

    fn interest_epoch(&self, key: EpochKey) -> u64 {
        self.interest.borrow().epochs().at(key)
    }

    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
        access(&mut self.retained.borrow_mut())
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let left = self.memory_left.get().checked_sub(bytes);
        if let Some(left) = left {
            self.memory_left.set(left);
        }
        left.is_some()
    }

    fn return_memory(&self, bytes: usize) {
        self.memory_left
            .set(self.memory_left.get().saturating_add(bytes));
    }

    fn memory_pressure(&self) -> MemoryPressure {
        match self.memory_bytes {
            usize::MAX => MemoryPressure::default(),
            limit => MemoryPressure::of(limit - self.memory_left.get(), limit),
        }
    }

    fn note_memory(&self, shard: ShardId, memory: ShardMemory) {
        self.by_shard.borrow_mut().insert(shard.0, memory);
    }

    fn memory_use(&self) -> MemoryUse {
        let by_shard = self.by_shard.borrow();
        let sum = by_shard.values().copied();
        MemoryUse {
            used: self.memory_bytes - self.memory_left.get(),
            limit: Some(self.memory_bytes).filter(|bytes| *bytes < usize::MAX),
            outside: 0,
            retained: self.retained.borrow().memory_bytes(),
            shards: sum.fold(ShardMemory::default(), ShardMemory::and),
        }
    }

    fn borrow_session(&self, count_max: usize) -> bool {
        let room = self.sessions.get() < count_max;
        self.sessions.set(self.sessions.get() + usize::from(room));
        room
    }

    fn return_session(&self) {
        self.sessions.set(self.sessions.get() - 1);
    }

    fn borrow_connection(&self, count_max: usize) -> bool {
        let room = self.connections.get() < count_max;
        self.connections
            .set(self.connections.get() + usize::from(room));
        room
    }

    fn return_connection(&self) {
        self.connections.set(self.connections.get() - 1);
    }
}

/// How a harness is wired.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// Number of shards, from 1.
    pub shards: u16,
    /// Time until the store answers that a record is durable; 0 is within the same tick.
    pub durable_delay_ms: u64,
    /// Seed of hash tables and of where sessions live.
    pub seed: u64,
    /// Turns are so short that nearly every packet ends one, and every message is fanned out.
    pub short_turns: bool,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            shards: 1,
            durable_delay_ms: 0,
            seed: 1,
            short_turns: false,
        }
    }
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(usize);

#[derive(Debug, Default)]
struct Wire {
    /// Where it is; none once the broker has no more to do with it.
    at: Option<(u16, ConnectionId)>,
    /// Bytes that the broker has written and nobody has taken.
    received: Vec<u8>,
    /// The broker has closed it.
    closed: bool,
    /// The client does not read: the broker's writes take nothing.
    deaf: bool,
    /// The broker closes as soon as its output is written.
    closing: bool,
    /// The broker does not read now.
    paused: bool,
    /// What the client has sent and the broker not read.
    unread: Vec<u8>,
    /// The turn in which the first byte of `received` came.
    received_in: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    shard: Shard,
    appended: u64,
}

/// A node under test.
#[derive(Debug)]
pub struct Harness {
    node: LocalNode,
    slots: Vec<Slot>,
    wires: Vec<Wire>,
    links: BTreeMap<(u16, u32, u32), Link>,
    listener: Arc<ListenerPolicy>,
    durable_delay_ms: u64,
    now: Now,
    opened: u64,
    effects: VecDeque<(u16, ConnectionEffect)>,
    durable: VecDeque<(u64, u16, RecordNumber)>,
    mail: VecDeque<(u16, u16, Vec<ShardMessage>)>,
    arrivals: VecDeque<(u16, Link, Box<Guest>)>,
    events: Vec<Event>,
    /// The most PUBLISH packets that one call has written, while that is watched.
    most_sent: Option<u64>,
    /// Calls that let shards go on with deferred work, so far.
    turns: u64,
    /// The most work that one call has done since this was last asked for.
    most_work: u64,
    /// The most connections that one call has asked to be written to before those that wait for
    /// messages for many, since this was last asked for.
    most_writes: usize,
    /// The shard that goes on first with what it has deferred: they take turns.
    next_shard: u16,
    /// Shards are called for what comes, and for nothing else.
    is_held: bool,
    /// The accounts are not checked after each call.
    is_trusted: bool,
    reports: Vec<Report>,
    /// Clients who wait to be known, each with its shard.
    authentications: Vec<(u16, Authentication)>,
}

/// Steps until a node must be idle again: far more than any test needs.
const STEPS_MAX: u32 = 10_000_000;

impl Harness {
    /// A node that has just started.
    pub fn new(mut settings: Settings, listener: ListenerPolicy, wiring: Wiring) -> Self {
        settings.node_seed = wiring.seed;
        if wiring.short_turns {
            settings.work = WorkLimits {
                turn: 64,
                share: 4,
                matches: 1,
            };
        }
        let node = LocalNode::new(wiring.seed, settings.limits.memory_bytes);
        let settings = Arc::new(settings);
        let slots = (0..wiring.shards).map(|id| Slot {
            shard: Shard::new(
                Arc::clone(&settings),
                ShardId(id),
                wiring.shards,
                wiring.seed,
            ),
            appended: 0,
        });
        Self {
            node,
            slots: slots.collect(),
            wires: Vec::new(),
            links: BTreeMap::new(),
            listener: Arc::new(listener),
            durable_delay_ms: wiring.durable_delay_ms,
            now: Now {
                mono_ms: 1000,
                wall_ms: 1_700_000_000_000,
                record_ms: 1_700_000_000_000,
            },
            opened: 0,
            effects: VecDeque::new(),
            durable: VecDeque::new(),
            mail: VecDeque::new(),
            arrivals: VecDeque::new(),
            events: Vec::new(),
            most_sent: None,
            turns: 0,
            most_work: 0,
            most_writes: 0,
            next_shard: 0,
            is_held: false,
            is_trusted: false,
            reports: Vec::new(),
            authentications: Vec::new(),
        }
    }

    /// The time of the node.
    pub fn now(&self) -> Now {
        self.now
    }

    /// From now on queues keep in memory only what a store does not have. There is none that could
    /// be asked: for tests in which clients that are owed much are away.
    pub fn keep_queues_in_store(&mut self) {
        for shard in 0..self.slots.len() as u16 {
            self.call(shard, |shard, cx| {
                shard.begin_run(1);
                shard.restored(cx, &[]);
            });
        }
    }

    /// A client connects; shards take turns in accepting.
    pub fn open(&mut self) -> Link {
        self.open_from([127, 0, 0, 1].into())
    }

    /// The same from this address.
    pub fn open_from(&mut self, address: IpAddr) -> Link {
        let link = Link(self.wires.len());
        self.wires.push(Wire::default());
        let shard = (self.opened % self.slots.len() as u64) as u16;
        self.opened += 1;
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&self.opened.to_be_bytes());
        let peer = Peer {
            address: Some((address, 10_000)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let id = self.call(shard, |shard, cx| shard.open(cx, peer));
        self.place(link, shard, id);
        self.run();
        link
    }

    /// The client sends bytes, and the node works until it is idle.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        self.wires[link.0].unread.extend_from_slice(bytes);
        self.read(link);
        self.run();
    }

    /// The client's end of the connection ends.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        if let Some((shard, id)) = self.unplace(link) {
            self.call(shard, |shard, cx| shard.closed(cx, id, end));
        }
        self.wires[link.0].closed = true;
        self.run();
    }

    /// The client reads or stops reading.
    pub fn set_reading(&mut self, link: Link, reading: bool) {
        self.wires[link.0].deaf = !reading;
        if reading {
            self.write(link);
            self.run();
        }
    }

    /// Takes what the broker has written.
    pub fn take(&mut self, link: Link) -> Vec<u8> {
        self.wires[link.0].received_in = None;
        core::mem::take(&mut self.wires[link.0].received)
    }

    /// Bytes of memory of the shards' tables, as they were counted last.
    pub fn table_bytes(&self) -> u64 {
        let slots = self.slots.iter();
        slots.map(|slot| slot.shard.bytes_of_tables()).sum()
    }

    /// The shard where the connection is; none once it has ended.
    pub fn shard_of(&self, link: Link) -> Option<u16> {
        self.wires[link.0].at.map(|(shard, _)| shard)
    }

    /// The broker has closed the connection.
    pub fn is_closed(&self, link: Link) -> bool {
        self.wires[link.0].closed
    }

    /// Tells one shard something.
    pub fn command(&mut self, shard: u16, command: Command) {
        self.call(shard, |shard, cx| shard.command(cx, command));
        self.run();
    }

    /// Ends a tick of each shard, as a reactor does after all that came, though no work waits:
    /// memory is settled with the node.
    pub fn end_tick(&mut self) {
        for shard in 0..self.slots.len() as u16 {
            self.turns += 1;
            self.call(shard, |shard, cx| shard.work(cx));
        }
        self.run();
    }

    /// The same for one shard alone: the others have nothing to do.
    pub fn end_tick_of(&mut self, shard: u16) {
        self.turns += 1;
        self.call(shard, |shard, cx| shard.work(cx));
        self.run();
    }

    /// Tells one shard that another one's mailbox is full, or has room again.
    pub fn set_congested(&mut self, shard: u16, on: bool) {
        self.call(shard, |shard, cx| shard.congested(cx, on));
        self.run();
    }

    /// Tells all shards what the store can take from now on.
    pub fn set_store_state(&mut self, state: StoreState) {
        for shard in 0..self.slots.len() as u16 {
            self.call(shard, |shard, _| shard.store_is(state));
        }
        self.run();
    }

    /// Sets the wall clock, which has no influence on intervals.
    pub fn set_wall_clock(&mut self, wall_ms: u64) {
        self.now.wall_ms = wall_ms;
    }

    /// Events that have been reported since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// Clients who wait to be known, each with its shard.
    pub fn take_authentications(&mut self) -> Vec<(u16, Authentication)> {
        core::mem::take(&mut self.authentications)
    }

    /// Tells a shard who the client of a connection is.
    pub fn authenticated(&mut self, shard: u16, id: ConnectionId, answer: Authenticated) {
        self.call(shard, |shard, cx| shard.authenticated(cx, id, answer));
        self.run();
    }

    /// Accepts all clients that wait to be authenticated, each as the user that it names, with all
    /// rights; `known` is the number of the last revocation that was known.
    pub fn accept_waiting(&mut self, known: u64) {
        for (shard, asked) in self.take_authentications() {
            let identity = Identity {
                user_name: asked.user_name.clone(),
                rules: Arc::new(Rules::open()),
                ..Identity::anyone()
            };
            let answer = Authenticated::Accepted {
                identity,
                known,
                data: None,
            };
            self.authenticated(shard, asked.connection, answer);
        }
    }

    /// Reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        core::mem::take(&mut self.reports)
    }

    /// From now on it is counted how many PUBLISH packets a call into a shard writes.
    pub fn watch_sent(&mut self) {
        self.most_sent = Some(0);
    }

    /// The most of them since then.
    pub fn most_sent(&self) -> u64 {
        self.most_sent.unwrap_or_default()
    }

    /// Calls that have let shards go on with deferred work.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The turn in which the first byte came that the client has not taken.
    pub fn received_in(&self, link: Link) -> Option<u64> {
        self.wires[link.0].received_in
    }

    /// From now on the accounts of shards are not checked after each call, which looks at each
    /// session: for tests with very many of them.
    pub fn trust_accounts(&mut self) {
        self.is_trusted = true;
    }

    /// The most work that one call into a shard has done since the last time this was asked for.
    pub fn take_most_work(&mut self) -> u64 {
        core::mem::take(&mut self.most_work)
    }

    /// The most connections that one call into a shard has asked to be written to before those that
    /// wait for messages for many, since the last time this was asked for.
    pub fn take_most_writes(&mut self) -> usize {
        core::mem::take(&mut self.most_writes)
    }

    /// Work of all shards so far.
    fn work_done(&self) -> u64 {
        self.slots.iter().map(|slot| slot.shard.work_done()).sum()
    }

    /// Does what `come` does as if all of it came at the same time: the node goes on with what it
    /// has deferred only afterwards. Answers how much work was done before that.
    pub fn at_once(&mut self, come: impl FnOnce(&mut Self)) -> u64 {
        let before = self.work_done();
        self.is_held = true;
        come(self);
        self.is_held = false;
        let work = self.work_done() - before;
        self.run();
        work
    }

    /// Counters of all shards together.
    pub fn counters(&mut self) -> Counters {
        let mut sum = Counters::default();
        let mut effects = Effects::default();
        for slot in &self.slots {
            let cx = Cx {
                now: self.now,
                node: &self.node,
                effects: &mut effects,
            };
            sum.add(&slot.shard.snapshot(&cx));
        }
        sum
    }

    /// Lets time pass, from one due timer to the next.
    pub fn elapse(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            self.set_clock(due.max(self.now.mono_ms + 1).min(until));
            self.run();
            if self.now.mono_ms == until {
                break;
            }
        }
        self.set_clock(until);
        self.run();
    }

    fn set_clock(&mut self, mono_ms: u64) {
        self.now.wall_ms += mono_ms - self.now.mono_ms;
        self.now.record_ms += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }

    fn next_due(&self) -> Option<u64> {
        let timers = self
            .slots
            .iter()
            .filter_map(|slot| slot.shard.next_wakeup());
        timers
            .chain(self.durable.iter().map(|(due, ..)| *due))
            .min()
    }

    /// Works until nothing is left to be done at this time.
    fn run(&mut self) {
        if self.is_held {
            return;
        }
        for _ in 0..STEPS_MAX {
            if !self.step() {
                self.assert_sums();
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    fn step(&mut self) -> bool {
        if let Some((shard, effect)) = self.effects.pop_front() {
            self.carry_out(shard, effect);
            return true;
        }
        if let Some((to, link, guest)) = self.arrivals.pop_front() {
            let id = self.call(to, |shard, cx| shard.adopt(cx, guest));
            self.place(link, to, id);
            self.read(link);
            return true;
        }
        if let Some((from, to, mut batch)) = self.mail.pop_front() {
            self.call(to, |shard, cx| {
                shard.receive_batch(cx, ShardId(from), &mut batch)
            });
            return true;
        }
        if let Some((_, shard, up_to)) = self
            .durable
            .pop_front_if(|(due, ..)| *due <= self.now.mono_ms)
        {
            self.call(shard, |shard, cx| shard.durable(cx, up_to));
            return true;
        }
        let count = self.slots.len() as u16;
        let first = self.next_shard;
        for index in (first..count).chain(0..first) {
            let shard = &self.slots[usize::from(index)].shard;
            let timers_due = shard
                .next_wakeup()
                .is_some_and(|due| due <= self.now.mono_ms);
            if shard.has_work() || timers_due {
                self.turns += 1;
                self.next_shard = (index + 1) % count;
                self.call(index, |shard, cx| {
                    shard.advance(cx);
                    shard.work(cx);
                });
                let slot = &self.slots[usize::from(index)];
                let again = slot.shard.has_work()
                    || slot
                        .shard
                        .next_wakeup()
                        .is_some_and(|due| due <= self.now.mono_ms);
                if again || !self.effects.is_empty() || !self.mail.is_empty() {
                    return true;
                }
            }
        }
        let mut durable = self.durable.iter();
        !self.effects.is_empty()
            || !self.arrivals.is_empty()
            || !self.mail.is_empty()
            || durable.any(|(due, ..)| *due <= self.now.mono_ms)
    }

    /// Calls into a shard and gathers what it asks for, in the order in which it is to be done.
    fn call<T>(
        &mut self,
        index: u16,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, LocalNode>) -> T,
    ) -> T {
        let mut effects = Effects::new(self.slots.len() as u16);
        let mut cx = Cx {
            now: self.now,
            node: &self.node,
            effects: &mut effects,
        };
        let slot = &mut self.slots[usize::from(index)];
        let sent = |shard: &Shard, cx: &Cx<'_, LocalNode>| shard.snapshot(cx).publishes_sent;
        let before = self.most_sent.map(|_| sent(&slot.shard, &cx));
        let work_before = slot.shard.work_done();
        let result = call(&mut slot.shard, &mut cx);
        if let (Some(most), Some(before)) = (&mut self.most_sent, before) {
            *most = (*most).max(sent(&slot.shard, &cx) - before);
        }
        let work = slot.shard.work_done() - work_before;
        self.most_work = self.most_work.max(work);
        assert!(
            self.is_trusted || slot.shard.accounts_balance(),
            "the accounts of shard {index} do not balance"
        );
        if !effects.records.is_empty() {
            slot.appended += effects.records.len() as u64;
            assert_eq!(RecordNumber(slot.appended), slot.shard.last_record());
            let due = self.now.mono_ms + self.durable_delay_ms;
            self.durable
                .push_back((due, index, RecordNumber(slot.appended)));
        }
        for (to, batch) in effects.batches.into_iter().enumerate() {
            if !batch.is_empty() {
                self.mail.push_back((index, to as u16, batch));
            }
        }
        let all = effects.connections.iter();
        let writes = all.filter(|effect| matches!(effect, ConnectionEffect::Write(_)));
        self.most_writes = self.most_writes.max(writes.count());
        self.effects.extend(
            effects
                .connections
                .into_iter()
                .map(|effect| (index, effect)),
        );
        self.events
            .extend(effects.events.into_iter().map(|told| told.event));
        self.reports.extend(effects.reports);
        let asked = effects.authentications.into_iter();
        self.authentications
            .extend(asked.map(|asked| (index, asked)));
        result
    }

    fn carry_out(&mut self, shard: u16, effect: ConnectionEffect) {
        let link = |harness: &Self, id: ConnectionId| {
            harness
                .links
                .get(&(shard, id.index, id.generation))
                .copied()
        };
        match effect {
            ConnectionEffect::Write(id) | ConnectionEffect::WriteInTurn(id) => {
                if let Some(link) = link(self, id) {
                    self.write(link);
                }
            }
            ConnectionEffect::PauseReading(id) => {
                if let Some(link) = link(self, id) {
                    self.wires[link.0].paused = true;
                }
            }
            ConnectionEffect::ResumeReading(id) => {
                if let Some(link) = link(self, id) {
                    self.wires[link.0].paused = false;
                    self.read(link);
                }
            }
            ConnectionEffect::Close(id) => {
                if let Some(link) = link(self, id) {
                    self.wires[link.0].closing = true;
                    self.write(link);
                }
            }
            ConnectionEffect::Abort(id) => {
                if let Some(link) = link(self, id) {
                    self.unplace(link);
                    self.wires[link.0].closed = true;
                }
            }
            ConnectionEffect::Move { id, to, guest } => {
                if let Some(link) = link(self, id) {
                    self.unplace(link);
                    self.arrivals.push_back((to.0, link, guest));
                }
            }
        }
    }

    /// Hands over what the client has sent, unless the broker does not read.
    fn read(&mut self, link: Link) {
        let wire = &mut self.wires[link.0];
        let Some((shard, id)) = wire.at else { return };
        if wire.paused || wire.closing || wire.unread.is_empty() {
            return;
        }
        let bytes = core::mem::take(&mut wire.unread);
        self.call(shard, |shard, cx| shard.receive(cx, id, &bytes));
    }

    /// Takes what the broker has to write, if the client reads.
    fn write(&mut self, link: Link) {
        let wire = &mut self.wires[link.0];
        let Some((shard, id)) = wire.at else { return };
        if wire.deaf {
            self.call(shard, |shard, cx| shard.wrote(cx, id, 0));
            return;
        }
        let closing = wire.closing;
        let output = self.slots[usize::from(shard)].shard.output(id);
        let count = output.len();
        wire.received.extend_from_slice(output);
        if count > 0 {
            wire.received_in.get_or_insert(self.turns);
        }
        if count > 0 {
            self.call(shard, |shard, cx| shard.wrote(cx, id, count));
        }
        if closing {
            self.unplace(link);
            self.wires[link.0].closed = true;
            self.call(shard, |shard, cx| {
                shard.closed(cx, id, TransportEnd::Finished)
            });
        }
    }

    fn place(&mut self, link: Link, shard: u16, id: ConnectionId) {
        self.wires[link.0].at = Some((shard, id));
        self.links.insert((shard, id.index, id.generation), link);
    }

    fn unplace(&mut self, link: Link) -> Option<(u16, ConnectionId)> {
        let (shard, id) = self.wires[link.0].at.take()?;
        self.links.remove(&(shard, id.index, id.generation));
        Some((shard, id))
    }

    /// Nothing is between shards, so the sum over all must balance.
    fn assert_sums(&mut self) {
        if self.is_trusted {
            return;
        }
        let sum = self.counters();
        assert!(
            sum.balanced(),
            "the accounts of the node do not balance: {sum:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_a_connect() {
        let settings = Settings::default();
        let mut node = Harness::new(settings, ListenerPolicy::default(), Wiring::default());
        let link = node.open();
        node.send(link, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a");
        assert_eq!(node.take(link), b"\x20\x02\x00\x00");
        assert_eq!(node.counters().connections, 1);
    }
}
