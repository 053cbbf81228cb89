//! The node: its shards, what they share, their mailboxes and the broker's ends of connections.
//!
//! Does what the reactors do, tick by tick and in their order (records, what is durable, batches,
//! output), but in one thread: whenever a shard reaches for what the shards share, another shard
//! may run first, a whole tick of it, as threads would. It knows no packets and no time but the one
//! it is told; what is to happen elsewhere or later it leaves in [`Asked`] for the world.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use martlet_broker::{
    Command, ConnectionEffect, ConnectionId, Counters, Cx, Effects, EpochKey, Event, Guest,
    Interest, InterestClass, ListenerPolicy, Now, Peer, QueueRead, ReadPage, Record, RecordNumber,
    Report, Retained, Settings, Shard, ShardId, ShardMessage, TenantId, TransportEnd,
};
use martlet_fault::Fault;
use martlet_persistence::{Making, RestoreReport, Shards, restore};

use crate::random::Random;
use crate::store::{CrashKind, Lsn, Store};

/// A connection, by both of its ends: sockets of the node and links of the network have the same
/// numbers.
pub type LinkIndex = u32;

/// Something that waits for a shard.
#[derive(Debug)]
pub enum Input {
    /// A client has connected.
    Open(LinkIndex),
    /// A connection comes from another shard's lobby.
    Adopt(LinkIndex, Box<Guest>),
    /// What another shard has to say.
    Batch(ShardId, Vec<ShardMessage>),
    /// Records are durable.
    Durable(RecordNumber),
    /// Bytes have arrived.
    Readable(LinkIndex),
    /// The transport takes output again.
    Writable(LinkIndex),
    /// The transport has ended.
    Ended(LinkIndex, TransportEnd),
    /// Messages that a queue wanted back from the store.
    Read(ReadPage),
    /// From those who operate the node.
    Command(Command),
}

/// What the node asks of the world around it.
#[derive(Debug)]
pub enum Asked {
    /// Carry a batch to another shard.
    Mail(usize, usize, Vec<ShardMessage>),
    /// Carry a connection to another shard.
    Move(usize, LinkIndex, Box<Guest>),
    /// Bytes in the socket for its client; what was durable when they left.
    Wrote(LinkIndex, usize, Lsn),
    /// The node has closed its end, or (true) dropped it.
    Closed(LinkIndex, bool),
    /// The node wants to close, but its client takes no output.
    Lingers(LinkIndex),
    /// Read messages of a shard's queue.
    Read(usize, QueueRead),
    /// A record was appended.
    Recorded(Lsn, Record),
    /// The node has told the log.
    Event(Event),
}

/// The broker's end of a connection.
#[derive(Debug, Default)]
pub struct Socket {
    at: Option<(usize, ConnectionId)>,
    /// Arrived and not yet read.
    pub inbound: Vec<u8>,
    /// Written and not yet taken by the network.
    pub outbound: Vec<u8>,
    /// Bytes that the network takes.
    pub room: usize,
    /// The shard has more to write than there was room for.
    pub blocked: bool,
    paused: bool,
    closing: bool,
    /// It ended while it was on its way between shards.
    ended: Option<TransportEnd>,
    gone: bool,
}

struct Slot {
    shard: Shard,
    effects: Effects,
    /// By place of the connection: generation and link.
    links: Vec<(u32, LinkIndex)>,
    /// With a fault in force: records that leave after the batches that follow from them.
    late: Vec<Record>,
}

/// The node.
pub struct Node {
    settings: Arc<Settings>,
    seed: u64,
    /// None while it is down.
    slots: Vec<RefCell<Slot>>,
    inboxes: Vec<RefCell<VecDeque<Input>>>,
    /// The broker's ends of all connections there ever were.
    pub sockets: RefCell<Vec<Socket>>,
    /// Where records go.
    pub store: RefCell<Store>,
    asked: RefCell<VecDeque<Asked>>,
    reports: RefCell<Vec<Report>>,
    interest: RefCell<Interest>,
    retained: RefCell<Retained>,
    memory_left: Cell<usize>,
    memory_max: usize,
    connections: Cell<usize>,
    listener: Arc<ListenerPolicy>,
    now: Cell<Now>,
    now_us: Cell<u64>,
    /// What the wall clock is off by, milliseconds.
    wall_off_ms: Cell<i64>,
    /// The time of records when the run began.
    record_origin_ms: Cell<u64>,
    random: RefCell<Random>,
    /// Percentage of accesses at which another shard runs first, if it has something to do.
    interleave_percent: u64,
    /// Accounts are checked in one tick of this number of ticks.
    check_one_in: u64,
    problem: RefCell<Option<String>>,
    opened: Cell<u64>,
    stopping: bool,
}

/// How a node is made.
#[derive(Clone, Debug)]
pub struct NodeProfile {
    /// Its settings.
    pub settings: Settings,
    /// Percentage of accesses to what is shared at which another shard runs first.
    pub interleave_percent: u64,
    /// Accounts are checked in one tick of this number of ticks.
    pub check_one_in: u64,
    /// Seed of hash tables.
    pub seed: u64,
}

/// Where the wall clock begins.
const WALL_MS: u64 = 1_700_000_000_000;
const READ_BYTES: usize = 64 * 1024;

impl Node {
    /// A node that has not been started yet.
    pub fn new(profile: &NodeProfile, store: Store, random: Random) -> Self {
        let mut settings = profile.settings.clone();
        settings.node_seed = profile.seed;
        let memory_max = usize::try_from(settings.limits.memory_bytes).unwrap_or(usize::MAX);
        let memory_max = if memory_max == 0 {
            usize::MAX
        } else {
            memory_max
        };
        Self {
            settings: Arc::new(settings),
            seed: profile.seed,
            slots: Vec::new(),
            inboxes: Vec::new(),
            sockets: RefCell::default(),
            store: RefCell::new(store),
            asked: RefCell::default(),
            reports: RefCell::default(),
            interest: RefCell::new(Interest::new(profile.seed)),
            retained: RefCell::default(),
            memory_left: Cell::new(memory_max),
            memory_max,
            connections: Cell::new(0),
            listener: Arc::default(),
            now: Cell::default(),
            now_us: Cell::new(0),
            wall_off_ms: Cell::new(0),
            record_origin_ms: Cell::new(WALL_MS),
            random: RefCell::new(random),
            interleave_percent: profile.interleave_percent,
            check_one_in: profile.check_one_in,
            problem: RefCell::default(),
            opened: Cell::new(0),
            stopping: false,
        }
    }

    /// Starts with what the store has, before anybody may connect.
    ///
    /// # Errors
    /// In words: a store that a run of the node left must bring its shards back, whole.
    pub fn start(&mut self, shards: u16) -> Result<RestoreReport, String> {
        let slot = |id| Slot {
            shard: Shard::new(Arc::clone(&self.settings), ShardId(id), shards, self.seed),
            effects: Effects::new(shards),
            links: Vec::new(),
            late: Vec::new(),
        };
        let mut slots: Vec<Slot> = (0..shards).map(slot).collect();
        // The first run knows no other time; later ones are told.
        self.set_now(self.now_us.get());
        let wall_ms = self.now.get().wall_ms;
        self.record_origin_ms
            .set(wall_ms - self.now_us.get() / 1000);
        self.set_now(self.now_us.get());
        let (mut engine, report) = self.store.borrow_mut().open()?;
        let is_rotten = self.store.borrow().is_rotten();
        if !report.damage.is_empty() && !is_rotten {
            return Err(format!("damage was found: {:?}", report.damage));
        }
        let of_slots = slots.iter_mut();
        let lent = Shards {
            settings: &self.settings,
            node: &Handle(self),
            now: self.now.get(),
            shards: of_slots
                .map(|slot| (&mut slot.shard, &mut slot.effects))
                .collect(),
        };
        let restored = restore(&mut engine, lent).map_err(|error| error.to_string())?;
        let origin_ms = restored.record_ms - self.now_us.get() / 1000;
        self.record_origin_ms.set(origin_ms);
        self.set_now(self.now_us.get());
        if restored.damaged > 0 && !is_rotten {
            return Err(format!("records are damaged: {:?}", restored.damage));
        }
        let last = slots.iter().map(|slot| slot.shard.last_record());
        self.store.borrow_mut().begin(engine, last);
        self.slots = slots.into_iter().map(RefCell::new).collect();
        self.inboxes = (0..shards).map(|_| RefCell::default()).collect();
        Ok(restored)
    }

    /// The process ends as it stands. Answers the connections that were there.
    pub fn crash(&mut self, kind: CrashKind) -> Vec<LinkIndex> {
        self.stopping = false;
        self.slots.clear();
        self.inboxes.clear();
        self.asked.borrow_mut().clear();
        self.reports.borrow_mut().clear();
        self.interest.replace(Interest::new(self.seed));
        self.retained.take();
        self.memory_left.set(self.memory_max);
        self.connections.set(0);
        self.store.borrow_mut().crash(kind, self.now.get());
        let mut sockets = self.sockets.borrow_mut();
        let open = sockets
            .iter_mut()
            .enumerate()
            .filter(|(_, socket)| !socket.gone);
        let open = open.map(|(link, socket)| {
            *socket = Socket {
                gone: true,
                ..Socket::default()
            };
            link as LinkIndex
        });
        open.collect()
    }

    /// It runs.
    pub fn is_up(&self) -> bool {
        !self.slots.is_empty()
    }

    /// It runs, and clients may connect.
    pub fn is_open(&self) -> bool {
        self.is_up() && !self.stopping
    }

    /// It is told to stop: nobody may connect any more.
    pub fn begin_stop(&mut self) {
        self.stopping = true;
        for shard in 0..self.slots.len() {
            self.put(shard, Input::Command(Command::Shutdown));
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.slots.len()
    }

    /// It is this late, in virtual microseconds.
    pub fn set_now(&self, now_us: u64) {
        self.now_us.set(now_us);
        self.now.set(Now {
            mono_ms: now_us / 1000,
            wall_ms: (WALL_MS + now_us / 1000).saturating_add_signed(self.wall_off_ms.get()),
            record_ms: self.record_origin_ms.get() + now_us / 1000,
        });
    }

    /// Lets the wall clock make a step of `ms` milliseconds.
    pub fn step_clock(&self, ms: i64) {
        self.wall_off_ms.set(self.wall_off_ms.get() + ms);
        self.set_now(self.now_us.get());
    }

    /// A client connects: the link it is to use, and the shard whose lobby it is in.
    pub fn connect(&self, room: usize) -> (LinkIndex, usize) {
        let mut sockets = self.sockets.borrow_mut();
        let link = sockets.len() as LinkIndex;
        sockets.push(Socket {
            room,
            ..Socket::default()
        });
        let shard = link as usize % self.slots.len();
        self.put(shard, Input::Open(link));
        (link, shard)
    }

    /// Puts something into a shard's inbox.
    pub fn put(&self, shard: usize, input: Input) {
        self.inboxes[shard].borrow_mut().push_back(input);
    }

    /// The shard that a connection belongs to now; none while it moves or when it is over.
    pub fn shard_of(&self, link: LinkIndex) -> Option<usize> {
        self.sockets.borrow()[link as usize]
            .at
            .map(|(shard, _)| shard)
    }

    /// The node has no more to do with a connection.
    pub fn is_gone(&self, link: LinkIndex) -> bool {
        self.sockets.borrow()[link as usize].gone
    }

    /// The transport of a connection has ended; answers the shard that is to look.
    pub fn ended(&self, link: LinkIndex, end: TransportEnd) -> Option<usize> {
        let at = {
            let socket = &mut self.sockets.borrow_mut()[link as usize];
            if socket.at.is_none() && !socket.gone {
                socket.ended = Some(end.clone());
            }
            socket.at
        };
        let (shard, _) = at?;
        self.put(shard, Input::Ended(link, end));
        Some(shard)
    }

    /// What the node has asked for next.
    pub fn next_asked(&self) -> Option<Asked> {
        self.asked.borrow_mut().pop_front()
    }

    /// Reports since the last call.
    pub fn take_reports(&self) -> Vec<Report> {
        core::mem::take(&mut self.reports.borrow_mut())
    }

    /// When a shard wants its next tick, microseconds; `Some(0)` is at once.
    pub fn next_tick(&self, shard: usize) -> Option<u64> {
        if !self.inboxes[shard].borrow().is_empty() {
            return Some(0);
        }
        let slot = self.slots[shard].borrow();
        if slot.shard.has_work() {
            return Some(0);
        }
        slot.shard.next_wakeup().map(|due_ms| due_ms * 1000)
    }

    /// What is wrong with the node itself, if anything is.
    pub fn take_problem(&self) -> Option<String> {
        self.problem.borrow_mut().take()
    }

    /// One tick of a shard.
    pub fn tick(&self, shard: usize) {
        let Some(Ok(mut slot)) = self.slots.get(shard).map(RefCell::try_borrow_mut) else {
            return;
        };
        let slot = &mut *slot;
        let late = core::mem::take(&mut slot.late);
        self.append(shard, late);
        let count = self.inboxes[shard].borrow().len();
        let mut taken: Vec<Input> = self.inboxes[shard].borrow_mut().drain(..count).collect();
        if taken.iter().any(|input| matches!(input, Input::Adopt(..))) {
            // Who said the last word before it connected anew is heard out first.
            for input in &taken {
                if let Input::Readable(link) = input {
                    self.read(shard, slot, *link);
                }
            }
            self.carry_out(shard, slot);
        }
        taken.sort_by_key(order_in_tick);
        let mut worked = false;
        for input in taken {
            if !worked && order_in_tick(&input) > 2 {
                worked = true;
                self.call(slot, |shard, cx| shard.work(cx));
            }
            self.take(shard, slot, input);
        }
        let now_ms = self.now.get().mono_ms;
        if slot.shard.next_wakeup().is_some_and(|due| due <= now_ms) {
            self.call(slot, |shard, cx| shard.advance(cx));
        }
        if !worked {
            self.call(slot, |shard, cx| shard.work(cx));
        }
        self.carry_out(shard, slot);
        let chance = self.random.borrow_mut().below(self.check_one_in);
        if chance == 0 && !slot.shard.accounts_balance() {
            self.complain(format!("the accounts of shard {shard} do not balance"));
        }
    }

    fn take(&self, shard: usize, slot: &mut Slot, input: Input) {
        match input {
            Input::Open(link) => self.open(shard, slot, link),
            Input::Adopt(link, guest) => {
                let id = self.call(slot, |shard, cx| shard.adopt(cx, guest));
                self.place(shard, slot, link, id);
            }
            Input::Batch(from, mut messages) => {
                self.call(slot, |shard, cx| {
                    shard.begin_turn();
                    shard.receive_batch(cx, from, &mut messages);
                });
            }
            Input::Durable(number) => self.call(slot, |shard, cx| shard.durable(cx, number)),
            Input::Readable(link) => self.read(shard, slot, link),
            Input::Writable(link) => self.write(shard, slot, link),
            Input::Ended(link, end) => self.end(shard, slot, link, end),
            Input::Read(page) => self.call(slot, |shard, cx| shard.messages_read(cx, page)),
            Input::Command(command) => self.call(slot, |shard, cx| shard.command(cx, command)),
        }
    }

    fn open(&self, shard: usize, slot: &mut Slot, link: LinkIndex) {
        self.opened.set(self.opened.get() + 1);
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&self.opened.get().to_be_bytes());
        let peer = Peer {
            address: Some(([127, 0, 0, 1].into(), 10_000)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let id = self.call(slot, |shard, cx| shard.open(cx, peer));
        self.place(shard, slot, link, id);
    }

    /// A connection is in a shard's hands from now on.
    fn place(&self, shard: usize, slot: &mut Slot, link: LinkIndex, id: ConnectionId) {
        let index = id.index as usize;
        if slot.links.len() <= index {
            slot.links.resize(index + 1, (0, 0));
        }
        slot.links[index] = (id.generation, link);
        let ended = {
            let socket = &mut self.sockets.borrow_mut()[link as usize];
            socket.at = Some((shard, id));
            socket.ended.take()
        };
        self.read(shard, slot, link);
        if let Some(end) = ended {
            self.end(shard, slot, link, end);
        }
    }

    fn read(&self, shard: usize, slot: &mut Slot, link: LinkIndex) {
        let (id, bytes) = {
            let socket = &mut self.sockets.borrow_mut()[link as usize];
            let Some((_, id)) = socket.at.filter(|(at, _)| *at == shard) else {
                return;
            };
            if socket.paused || socket.closing || socket.inbound.is_empty() {
                return;
            }
            let rest = socket
                .inbound
                .split_off(socket.inbound.len().min(READ_BYTES));
            (id, core::mem::replace(&mut socket.inbound, rest))
        };
        self.call(slot, |shard, cx| shard.receive(cx, id, &bytes));
        let more = {
            let mut sockets = self.sockets.borrow_mut();
            let socket = &mut sockets[link as usize];
            if socket.inbound.is_empty() {
                let mut bytes = bytes;
                bytes.clear();
                socket.inbound = bytes;
            }
            socket.at.filter(|_| !socket.inbound.is_empty())
        };
        if let Some((shard, _)) = more {
            self.put(shard, Input::Readable(link));
        }
    }

    /// The transport ends; what arrived before its end is read first.
    fn end(&self, shard: usize, slot: &mut Slot, link: LinkIndex, end: TransportEnd) {
        self.read(shard, slot, link);
        let at = self.sockets.borrow()[link as usize].at;
        // It may have moved on with what was read just now.
        let Some((_, id)) = at.filter(|(found, _)| *found == shard) else {
            let mut sockets = self.sockets.borrow_mut();
            if !sockets[link as usize].gone {
                sockets[link as usize].ended = Some(end);
            }
            return;
        };
        self.forget(link);
        self.call(slot, |shard, cx| shard.closed(cx, id, end));
    }

    /// The client lingers on with output unread: the node closes all the same.
    pub fn drop_lingering(&self, link: LinkIndex) {
        let at = self.sockets.borrow()[link as usize].at;
        let Some((shard, id)) = at else { return };
        self.forget(link);
        let mut slot = self.slots[shard].borrow_mut();
        let slot = &mut *slot;
        self.ask(Asked::Closed(link, true));
        self.call(slot, |shard, cx| shard.closed(cx, id, TransportEnd::Error));
        self.carry_out(shard, slot);
    }

    fn forget(&self, link: LinkIndex) {
        let socket = &mut self.sockets.borrow_mut()[link as usize];
        socket.at = None;
        socket.gone = true;
        socket.inbound = Vec::new();
    }

    fn call<T>(
        &self,
        slot: &mut Slot,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, Handle<'_>>) -> T,
    ) -> T {
        let handle = Handle(self);
        let mut cx = Cx {
            now: self.now.get(),
            node: &handle,
            effects: &mut slot.effects,
        };
        call(&mut slot.shard, &mut cx)
    }

    fn append(&self, shard: usize, mut records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let seen = records.clone();
        let mut store = self.store.borrow_mut();
        let first = store.append(shard, &mut records, (self.now_us.get(), self.now.get()));
        let mut asked = self.asked.borrow_mut();
        for (record, lsn) in seen.into_iter().zip(first..) {
            asked.push_back(Asked::Recorded(lsn, record));
        }
    }

    /// Reads messages of a queue; they reach the shard with its next tick.
    pub fn read_back(&self, shard: usize, read: &QueueRead) {
        let gauge = self.slots[shard].borrow().shard.gauge();
        let making = Making {
            now: self.now.get(),
            gauge: &gauge,
        };
        let mut store = self.store.borrow_mut();
        let messages = store.read(read, making);
        let (owner, of) = (read.owner, read.of);
        self.put(
            shard,
            Input::Read(ReadPage {
                owner,
                of,
                messages,
            }),
        );
    }

    /// Carries out what a shard asked for, and what that brings, until nothing is left.
    fn carry_out(&self, shard: usize, slot: &mut Slot) {
        while !slot.effects.is_empty() {
            let records = core::mem::take(&mut slot.effects.records);
            let batches = slot.effects.batches.iter().any(|batch| !batch.is_empty());
            if batches && martlet_fault::is(Fault::BatchBeforeRecord) {
                slot.late.extend(records);
            } else {
                let late = core::mem::take(&mut slot.late);
                self.append(shard, late);
                self.append(shard, records);
            }
            for to in 0..self.slots.len() {
                let batch = core::mem::take(&mut slot.effects.batches[to]);
                if !batch.is_empty() {
                    self.ask(Asked::Mail(shard, to, batch));
                }
            }
            for read in slot.effects.reads.drain(..) {
                self.ask(Asked::Read(shard, read));
            }
            // A client misses them.
            slot.effects.lost.clear();
            for told in slot.effects.events.drain(..) {
                self.ask(Asked::Event(told.event));
            }
            self.reports.borrow_mut().append(&mut slot.effects.reports);
            for effect in core::mem::take(&mut slot.effects.connections) {
                self.carry_out_one(shard, slot, effect);
            }
        }
    }

    fn carry_out_one(&self, shard: usize, slot: &mut Slot, effect: ConnectionEffect) {
        let id = effect.connection();
        let Some(&(generation, link)) = slot.links.get(id.index as usize) else {
            return;
        };
        let at = self.sockets.borrow()[link as usize].at;
        if generation != id.generation || at != Some((shard, id)) {
            return;
        }
        match effect {
            ConnectionEffect::Write(_) | ConnectionEffect::WriteInTurn(_) => {
                self.write(shard, slot, link)
            }
            ConnectionEffect::PauseReading(_) => {
                self.sockets.borrow_mut()[link as usize].paused = true;
            }
            ConnectionEffect::ResumeReading(_) => {
                self.sockets.borrow_mut()[link as usize].paused = false;
                self.put(shard, Input::Readable(link));
            }
            ConnectionEffect::Close(_) => {
                self.sockets.borrow_mut()[link as usize].closing = true;
                self.write(shard, slot, link);
                if self.sockets.borrow()[link as usize].at.is_some() {
                    self.ask(Asked::Lingers(link));
                }
            }
            ConnectionEffect::Abort(_) => {
                self.forget(link);
                self.ask(Asked::Closed(link, true));
            }
            ConnectionEffect::Move { to, guest, .. } => {
                self.sockets.borrow_mut()[link as usize].at = None;
                self.ask(Asked::Move(usize::from(to.0), link, guest));
            }
        }
    }

    /// Writes what the transport takes; who is to be closed is, once all is written.
    fn write(&self, shard: usize, slot: &mut Slot, link: LinkIndex) {
        let (id, count, left, closing) = {
            let socket = &mut self.sockets.borrow_mut()[link as usize];
            let Some((at, id)) = socket.at else { return };
            if at != shard {
                return;
            }
            let output = slot.shard.output(id);
            let count = output.len().min(socket.room);
            socket.outbound.extend_from_slice(&output[..count]);
            socket.room -= count;
            socket.blocked = output.len() > count;
            (id, count, output.len() - count, socket.closing)
        };
        if count > 0 {
            let durable = self.store.borrow().durable();
            self.ask(Asked::Wrote(link, count, durable));
        }
        if count > 0 || left > 0 {
            self.call(slot, |shard, cx| shard.wrote(cx, id, count));
        }
        if closing && left == 0 {
            self.forget(link);
            self.ask(Asked::Closed(link, false));
            self.call(slot, |shard, cx| {
                shard.closed(cx, id, TransportEnd::Finished);
            });
        }
    }

    fn ask(&self, asked: Asked) {
        self.asked.borrow_mut().push_back(asked);
    }

    fn complain(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// Another shard may run here, before this one goes on.
    fn step(&self) {
        if self.slots.len() <= 1 || self.interleave_percent == 0 {
            return;
        }
        let shard = {
            let mut random = self.random.borrow_mut();
            if !random.percent(self.interleave_percent) {
                return;
            }
            random.below(self.slots.len() as u64) as usize
        };
        if !self.inboxes[shard].borrow().is_empty() {
            self.tick(shard);
        }
    }

    /// Counters and gauges of all shards together.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let mut effects = Effects::default();
        for slot in &self.slots {
            let cx = Cx {
                now: self.now.get(),
                node: &Handle(self),
                effects: &mut effects,
            };
            sum.add(&slot.borrow().shard.snapshot(&cx));
        }
        sum
    }

    /// Nothing waits in any inbox.
    pub fn is_quiet(&self) -> bool {
        let empty = self.inboxes.iter().all(|inbox| inbox.borrow().is_empty());
        empty
            && self
                .slots
                .iter()
                .all(|slot| !slot.borrow().shard.has_work())
    }

    /// What is left in the store although all sessions are gone; nothing, if all is well.
    pub fn stored_leftovers(&self) -> Vec<String> {
        let Some(stats) = self.store.borrow().stats() else {
            return Vec::new();
        };
        let retained = self.retained.borrow().len();
        let mut left = Vec::new();
        for (what, count, expected) in [
            ("bodies in the store", stats.bodies, retained),
            ("queues in the store", stats.queues, 0),
            // The number of this run, and the time.
            ("states in the store", stats.states, 2),
        ] {
            if count != expected {
                left.push(format!("{count} {what}, not {expected}"));
            }
        }
        for (queue, body) in self.store.borrow().queued() {
            left.push(format!("message {body:x} in queue {queue:x} of the store"));
        }
        left
    }

    /// Empties the retained store.
    pub fn forget_retained(&self) {
        self.retained.replace(Retained::new());
    }

    /// What is left although all clients, sessions and retained messages are gone; nothing, if all
    /// is well.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (number, slot) in self.slots.iter().enumerate() {
            for (what, count) in slot.borrow().shard.leftovers() {
                left.push(format!("shard {number}: {count} {what}"));
            }
        }
        let counters = self.counters();
        let slots = self.slots.iter();
        let tables: u64 = slots
            .map(|slot| slot.borrow().shard.bytes_of_tables())
            .sum();
        let charged = counters.memory_bytes - counters.route_cache_bytes - tables;
        if charged != 0 {
            left.push(format!("{charged} bytes charged"));
        }
        if self.connections.get() != 0 {
            left.push(format!("{} places taken", self.connections.get()));
        }
        let filters = self.interest.borrow().filter_count();
        if filters != 0 {
            left.push(format!("{filters} filters wanted"));
        }
        let lent = self.memory_max - self.memory_left.get();
        if lent > 2 * 1024 * 1024 * self.slots.len() {
            left.push(format!("{lent} bytes lent"));
        }
        left
    }
}

/// In which order a tick takes what came, as the reactor does.
fn order_in_tick(input: &Input) -> u8 {
    match input {
        Input::Adopt(..) => 0,
        Input::Durable(_) | Input::Read(..) | Input::Command(_) => 1,
        Input::Batch(..) => 2,
        Input::Open(_) => 3,
        Input::Readable(_) | Input::Writable(_) => 4,
        Input::Ended(..) => 5,
    }
}

/// What the shards share, as one of them sees it: each access is a step.
struct Handle<'a>(&'a Node);

impl martlet_broker::Node for Handle<'_> {
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
        self.0.step();
        let answer = read(&self.0.interest.borrow());
        self.0.step();
        answer
    }

    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass) {
        self.0.step();
        self.0
            .interest
            .borrow_mut()
            .set(shard, tenant, filter, class);
        self.0.step();
    }

    fn interest_epoch(&self, key: EpochKey) -> u64 {
        self.0.step();
        self.0.interest.borrow().epochs().at(key)
    }

    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
        self.0.step();
        let answer = access(&mut self.0.retained.borrow_mut());
        self.0.step();
        answer
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let left = self.0.memory_left.get().checked_sub(bytes);
        if let Some(left) = left {
            self.0.memory_left.set(left);
        }
        left.is_some()
    }

    fn return_memory(&self, bytes: usize) {
        let left = self.0.memory_left.get() + bytes;
        if left > self.0.memory_max {
            self.0
                .complain("more memory given back than lent".to_owned());
        }
        self.0.memory_left.set(left);
    }

    fn borrow_connection(&self, count_max: usize) -> bool {
        let taken = self.0.connections.get();
        self.0
            .connections
            .set(taken + usize::from(taken < count_max));
        taken < count_max
    }

    fn return_connection(&self) {
        match self.0.connections.get().checked_sub(1) {
            Some(left) => self.0.connections.set(left),
            None => self.0.complain("a place given back twice".to_owned()),
        }
    }
}
