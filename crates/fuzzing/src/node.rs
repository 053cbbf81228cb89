//! A whole node in one thread: shards, what they share, the mailboxes between them, a store that
//! answers when told to, sockets that take as much as they are told to, and a clock.
//!
//! Does what a reactor does, but lets its user decide what a reactor cannot: when the store
//! answers, when batches arrive, how much a socket takes. After every call into a shard its
//! accounts must balance.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionEffect, ConnectionId, Counters, Cx, Effects,
    EpochKey, Guest, Interest, InterestClass, ListenerPolicy, Now, Peer, RecordNumber, Report,
    Retained, Settings, Shard, ShardId, ShardMessage, TenantId, TransportEnd,
};

use crate::client::Client;

/// What the shards share, without locks.
#[derive(Debug)]
pub struct SharedParts {
    interest: RefCell<Interest>,
    retained: RefCell<Retained>,
    memory_lent: Cell<usize>,
    lends: Cell<bool>,
    connections: Cell<usize>,
}

impl SharedParts {
    fn new(seed: u64) -> Self {
        Self {
            interest: RefCell::new(Interest::new(seed)),
            retained: RefCell::default(),
            memory_lent: Cell::new(0),
            lends: Cell::new(true),
            connections: Cell::new(0),
        }
    }
}

impl martlet_broker::Node for SharedParts {
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
        if self.lends.get() {
            self.memory_lent.set(self.memory_lent.get() + bytes);
        }
        self.lends.get()
    }

    fn return_memory(&self, bytes: usize) {
        let left = self.memory_lent.get().checked_sub(bytes);
        self.memory_lent
            .set(left.expect("only what was lent is given back"));
    }

    fn borrow_connection(&self, count_max: usize) -> bool {
        let free = self.connections.get() < count_max;
        self.connections
            .set(self.connections.get() + usize::from(free));
        free
    }

    fn return_connection(&self) {
        let left = self.connections.get().checked_sub(1);
        self.connections
            .set(left.expect("only a place that was taken is given back"));
    }
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(usize);

/// A connection between the node and a client.
#[derive(Debug)]
struct Wire {
    at: At,
    client: Client,
    /// Bytes that the socket takes with each write; `usize::MAX` takes all.
    takes: usize,
    paused: bool,
    unread: Vec<u8>,
    /// The client's end is gone while the connection was on its way to another shard.
    ended: Option<TransportEnd>,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Shard(u16, ConnectionId),
    /// As above, and closed once its output is written.
    Closing(u16, ConnectionId),
    /// On its way between shards.
    Moving,
    Gone,
}

#[derive(Debug)]
struct Slot {
    shard: Shard,
    effects: Effects,
    appended: u64,
    durable: u64,
}

/// A node under test.
#[derive(Debug)]
pub struct Node {
    shared: SharedParts,
    slots: Vec<Slot>,
    wires: Vec<Wire>,
    links: BTreeMap<(u16, u32, u32), Link>,
    listener: Arc<ListenerPolicy>,
    now: Now,
    /// The store answers at once.
    pub store_answers: bool,
    /// Batches and moved connections arrive at once.
    pub mail_arrives: bool,
    work: VecDeque<(u16, ConnectionEffect)>,
    mail: VecDeque<(u16, u16, Vec<ShardMessage>)>,
    arrivals: VecDeque<(u16, Link, Box<Guest>)>,
    reports: Vec<Report>,
    /// Questions who clients are, each with its shard.
    asked: Vec<(u16, Authentication)>,
    stopping: bool,
}

/// Rounds until a node must have come to rest: far more than any input needs.
const ROUNDS_MAX: u32 = 1_000_000;

impl Node {
    /// A node that has just started.
    pub fn new(mut settings: Settings, listener: ListenerPolicy, shards: u16) -> Self {
        settings.node_seed = 1;
        let settings = Arc::new(settings);
        let slot = |id| Slot {
            shard: Shard::new(Arc::clone(&settings), ShardId(id), shards, 1),
            effects: Effects::new(shards),
            appended: 0,
            durable: 0,
        };
        Self {
            shared: SharedParts::new(1),
            slots: (0..shards).map(slot).collect(),
            wires: Vec::new(),
            links: BTreeMap::new(),
            listener: Arc::new(listener),
            now: Now {
                mono_ms: 1000,
                wall_ms: 1_700_000_000_000,
                record_ms: 1_700_000_000_000,
            },
            store_answers: true,
            mail_arrives: true,
            work: VecDeque::new(),
            mail: VecDeque::new(),
            arrivals: VecDeque::new(),
            reports: Vec::new(),
            asked: Vec::new(),
            stopping: false,
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> u16 {
        self.slots.len() as u16
    }

    /// A client connects to a shard. Places of connections that are over are used again.
    pub fn open(&mut self, shard: u16, client: Client) -> Link {
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&self.now.mono_ms.to_be_bytes());
        entropy[..8].copy_from_slice(&(self.wires.len() as u64).to_be_bytes());
        let peer = Peer {
            address: Some(([127, 0, 0, 1].into(), 10_000)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let id = self.call(shard, |shard, cx| shard.open(cx, peer));
        let wire = Wire {
            at: At::Shard(shard, id),
            client,
            takes: usize::MAX,
            paused: false,
            unread: Vec::new(),
            ended: None,
        };
        let free = self.wires.iter().position(|wire| wire.at == At::Gone);
        let link = Link(free.unwrap_or(self.wires.len()));
        match free {
            Some(index) => self.wires[index] = wire,
            None => self.wires.push(wire),
        }
        self.links.insert((shard, id.index, id.generation), link);
        link
    }

    /// Connections that are not over.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        let open = self.wires.iter().enumerate();
        open.filter(|(_, wire)| wire.at != At::Gone)
            .map(|(index, _)| Link(index))
    }

    /// The connection is over.
    pub fn is_gone(&self, link: Link) -> bool {
        self.wires[link.0].at == At::Gone
    }

    /// The client's end of a connection, as it was last known.
    pub fn client(&mut self, link: Link) -> &mut Client {
        &mut self.wires[link.0].client
    }

    /// The client sends bytes.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        let wire = &mut self.wires[link.0];
        match wire.at {
            At::Shard(shard, id) if !wire.paused && wire.unread.is_empty() => {
                self.call(shard, |shard, cx| shard.receive(cx, id, bytes));
            }
            At::Shard(..) | At::Moving if wire.ended.is_none() => {
                wire.unread.extend_from_slice(bytes);
            }
            _ => {}
        }
    }

    /// The client's end of the connection ends.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        let wire = &mut self.wires[link.0];
        match wire.at {
            At::Shard(shard, id) | At::Closing(shard, id) => {
                self.forget(link, shard, id);
                self.call(shard, |shard, cx| shard.closed(cx, id, end));
            }
            At::Moving => wire.ended = Some(end),
            At::Gone => {}
        }
    }

    /// Makes the socket writable, with this number of bytes for each write.
    pub fn set_takes(&mut self, link: Link, bytes: usize) {
        self.wires[link.0].takes = bytes;
        self.write(link);
    }

    /// The store answers for `count` more records of a shard, as far as there are any.
    pub fn answer(&mut self, shard: u16, count: u64) {
        let slot = &mut self.slots[usize::from(shard)];
        let up_to = slot.appended.min(slot.durable.saturating_add(count));
        if up_to > slot.durable {
            slot.durable = up_to;
            self.call(shard, |shard, cx| shard.durable(cx, RecordNumber(up_to)));
        }
    }

    /// Another shard's mailbox is full, or has room again.
    pub fn set_congested(&mut self, shard: u16, on: bool) {
        self.call(shard, |shard, cx| shard.congested(cx, on));
    }

    /// The node lends memory, or has none left.
    pub fn set_lends(&mut self, on: bool) {
        self.shared.lends.set(on);
    }

    /// Some shard has been told to stop, and accepts nobody.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Tells a shard something.
    pub fn command(&mut self, shard: u16, command: Command) {
        self.stopping |= matches!(command, Command::Shutdown);
        self.call(shard, |shard, cx| shard.command(cx, command));
    }

    /// Answers the oldest question who a client is; false if there is none.
    pub fn answer_who(&mut self, answer: impl FnOnce(&Authentication) -> Authenticated) -> bool {
        if self.asked.is_empty() {
            return false;
        }
        let (shard, asked) = self.asked.remove(0);
        let answer = answer(&asked);
        self.call(shard, |shard, cx| {
            shard.authenticated(cx, asked.connection, answer);
        });
        true
    }

    /// Reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        core::mem::take(&mut self.reports)
    }

    /// Empties the retained store.
    pub fn forget_retained(&mut self) {
        self.shared.retained.replace(Retained::new());
    }

    /// Delivers the oldest batch or moved connection, if there is one.
    pub fn deliver(&mut self) -> bool {
        if let Some((to, link, guest)) = self.arrivals.pop_front() {
            let id = self.call(to, |shard, cx| shard.adopt(cx, guest));
            self.wires[link.0].at = At::Shard(to, id);
            self.links.insert((to, id.index, id.generation), link);
            if let Some(end) = self.wires[link.0].ended.take() {
                self.end(link, end);
            } else {
                self.read(link);
            }
            return true;
        }
        let Some((from, to, mut batch)) = self.mail.pop_front() else {
            return false;
        };
        self.call(to, |shard, cx| {
            shard.receive_batch(cx, ShardId(from), &mut batch);
        });
        true
    }

    /// Works until nothing is left to be done at this time.
    pub fn run(&mut self) {
        for index in 0..self.shard_count() {
            self.call(index, Shard::work);
        }
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    /// Lets time pass, from one due timer to the next, at most `rounds_max` of them.
    pub fn elapse(&mut self, ms: u64, rounds_max: usize) {
        let until = self.now.mono_ms + ms;
        self.run();
        for _ in 0..rounds_max {
            let due = self
                .slots
                .iter()
                .filter_map(|slot| slot.shard.next_wakeup());
            let Some(due) = due.min().filter(|due| *due < until) else {
                break;
            };
            self.set_clock(due.max(self.now.mono_ms + 1));
            self.run();
        }
        self.set_clock(until);
        self.run();
    }

    /// Counters and gauges of all shards together.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let mut effects = Effects::default();
        for slot in &self.slots {
            let cx = Cx {
                now: self.now,
                node: &self.shared,
                effects: &mut effects,
            };
            sum.add(&slot.shard.snapshot(&cx));
        }
        sum
    }

    /// Nothing is left of any client: no table of any shard has an entry, no memory is charged, no
    /// place is taken. Panics otherwise.
    pub fn assert_empty(&self) {
        assert!(self.mail.is_empty() && self.arrivals.is_empty() && self.work.is_empty());
        for slot in &self.slots {
            let leftovers = slot.shard.leftovers();
            assert!(leftovers.is_empty(), "left in a shard: {leftovers:?}");
        }
        let counters = self.counters();
        let slots = self.slots.iter();
        let tables: u64 = slots.map(|slot| slot.shard.bytes_of_tables()).sum();
        let charged = counters.memory_bytes - counters.route_cache_bytes - tables;
        assert_eq!(charged, 0, "bytes are still charged");
        assert_eq!(self.shared.connections.get(), 0, "places are still taken");
        let interest = self.shared.interest.borrow().filter_count();
        assert_eq!(interest, 0, "filters are still wanted");
        let spare = 2 * 1024 * 1024 * self.slots.len();
        let lent = self.shared.memory_lent.get();
        assert!(lent <= spare, "{lent} bytes are still lent");
    }

    fn set_clock(&mut self, mono_ms: u64) {
        let ms = mono_ms.saturating_sub(self.now.mono_ms);
        self.now.wall_ms += ms;
        self.now.record_ms += ms;
        self.now.mono_ms += ms;
    }

    /// One thing that is to be done; false if there is none.
    fn round(&mut self) -> bool {
        if let Some((shard, effect)) = self.work.pop_front() {
            self.carry_out(shard, effect);
            return true;
        }
        if self.mail_arrives && self.deliver() {
            return true;
        }
        let mut busy = false;
        for index in 0..self.slots.len() as u16 {
            let slot = &self.slots[usize::from(index)];
            if self.store_answers && slot.durable < slot.appended {
                self.answer(index, u64::MAX);
                busy = true;
            }
            let now_ms = self.now.mono_ms;
            let shard = &self.slots[usize::from(index)].shard;
            let due = shard.next_wakeup().is_some_and(|due| due <= now_ms);
            if due || shard.has_work() {
                self.call(index, Shard::advance);
                self.call(index, Shard::work);
                // Work that waits for another shard or the store is tried once per round.
                busy |= !self.work.is_empty() || self.mail_arrives && !self.mail.is_empty() || due;
            }
        }
        busy
    }

    /// Calls into a shard and gathers what it asks for, in the order in which it is to be done.
    fn call<T>(
        &mut self,
        index: u16,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, SharedParts>) -> T,
    ) -> T {
        let slot = &mut self.slots[usize::from(index)];
        let mut cx = Cx {
            now: self.now,
            node: &self.shared,
            effects: &mut slot.effects,
        };
        let result = call(&mut slot.shard, &mut cx);
        assert!(
            slot.shard.accounts_balance(),
            "the accounts of shard {index} do not balance"
        );
        let effects = &mut slot.effects;
        slot.appended += effects.records.len() as u64;
        effects.records.clear();
        assert_eq!(RecordNumber(slot.appended), slot.shard.last_record());
        for (to, batch) in effects.batches.iter_mut().enumerate() {
            if !batch.is_empty() {
                let batch = core::mem::take(batch);
                self.mail.push_back((index, to as u16, batch));
            }
        }
        let asked = effects.connections.drain(..);
        self.work.extend(asked.map(|effect| (index, effect)));
        effects.events.clear();
        self.reports.append(&mut effects.reports);
        let asked = effects.authentications.drain(..);
        self.asked.extend(asked.map(|asked| (index, asked)));
        result
    }

    fn carry_out(&mut self, shard: u16, effect: ConnectionEffect) {
        let id = effect.connection();
        let Some(&link) = self.links.get(&(shard, id.index, id.generation)) else {
            return;
        };
        match effect {
            ConnectionEffect::Write(_) | ConnectionEffect::WriteInTurn(_) => self.write(link),
            ConnectionEffect::PauseReading(_) => self.wires[link.0].paused = true,
            ConnectionEffect::ResumeReading(_) => {
                self.wires[link.0].paused = false;
                self.read(link);
            }
            ConnectionEffect::Close(_) => {
                self.wires[link.0].at = At::Closing(shard, id);
                self.wires[link.0].unread.clear();
                self.write(link);
            }
            ConnectionEffect::Abort(_) => self.forget(link, shard, id),
            ConnectionEffect::Move { to, guest, .. } => {
                self.forget(link, shard, id);
                self.wires[link.0].at = At::Moving;
                self.arrivals.push_back((to.0, link, guest));
            }
        }
    }

    /// Hands over what the client has sent, unless the broker does not read.
    fn read(&mut self, link: Link) {
        let wire = &mut self.wires[link.0];
        if let At::Shard(shard, id) = wire.at
            && !wire.paused
            && !wire.unread.is_empty()
        {
            let bytes = core::mem::take(&mut wire.unread);
            self.call(shard, |shard, cx| shard.receive(cx, id, &bytes));
        }
    }

    /// The socket takes what it takes; a connection that is to be closed is, once it took all.
    fn write(&mut self, link: Link) {
        let wire = &mut self.wires[link.0];
        let (At::Shard(shard, id) | At::Closing(shard, id)) = wire.at else {
            return;
        };
        let output = self.slots[usize::from(shard)].shard.output(id);
        let count = output.len().min(wire.takes);
        let left = output.len() - count;
        wire.client.receive(&output[..count]);
        if count > 0 || left > 0 {
            self.call(shard, |shard, cx| shard.wrote(cx, id, count));
        }
        if left == 0 && matches!(self.wires[link.0].at, At::Closing(..)) {
            self.forget(link, shard, id);
            self.call(shard, |shard, cx| {
                shard.closed(cx, id, TransportEnd::Finished);
            });
        }
    }

    fn forget(&mut self, link: Link, shard: u16, id: ConnectionId) {
        self.wires[link.0].at = At::Gone;
        self.links.remove(&(shard, id.index, id.generation));
    }
}
