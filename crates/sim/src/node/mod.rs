//! The node: the loops of its shards, their shared data and mailboxes, and the broker's ends of
//! connections.
//!
//! Each shard uses the production loop (`martlet_tick`), all in one thread. Whenever a shard
//! accesses shared data, another shard may run a whole tick first, as with threads. The node has
//! no packets and no clock except the time it is given. Everything that happens elsewhere or later
//! is put into [`NodeRequest`] for the world.

mod outside;
mod rest;
mod shared;
mod socket;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionId, EventNotice, Guest, Interest,
    ListenerPolicy, Now, PartCall, PartEvent, PartId, Peer, Record, RecordNumber, Report, Retained,
    RuleBook, Settings, Shard, ShardId, TenantId, TransportEnd, owner,
};
use martlet_persistence::{RestoreReport, Shards, restore};
use martlet_tick::{Arrival, Batch, Control, Driver, Newcomer, Notice, SocketKey};

use crate::random::Random;
use crate::store::{CrashKind, Lsn, Store};
use shared::Handle;
use socket::{Socket, Wire};

/// A connection with both of its ends: sockets of the node and links of the network have the same
/// numbers.
pub type LinkIndex = u32;

/// A request of the node to the world.
#[derive(Debug)]
pub enum NodeRequest {
    /// Carry a batch to another shard.
    Mail(usize, Batch),
    /// Carry a connection to another shard.
    Move(usize, LinkIndex, Box<Guest>),
    /// Bytes for the client of a connection; the last durable record when they left.
    Wrote(LinkIndex, Vec<u8>, Lsn),
    /// The node writes no more, and reads until its client ends too.
    Finished(LinkIndex),
    /// The node has dropped its end.
    Dropped(LinkIndex),
    /// A record was appended.
    Recorded(Lsn, Record),
    /// An event for the log.
    Event(EventNotice),
    /// A shard asks the authenticator about a client.
    Who(usize, Box<Authentication>),
    /// An event for a part; the last durable record at that time.
    Part(PartId, PartEvent, Lsn),
}

/// Input that waits for one shard.
#[derive(Default)]
struct Inbox {
    notices: Vec<(LinkIndex, SocketKey, Notice)>,
    accepted: Vec<Newcomer<Wire>>,
    control: VecDeque<Control<Wire>>,
    batches: VecDeque<Batch>,
    durable: Option<RecordNumber>,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.notices.is_empty()
            && self.accepted.is_empty()
            && self.control.is_empty()
            && self.batches.is_empty()
            && self.durable.is_none()
    }
}

/// With a fault in force: records of a shard that leave after the batches of their tick.
#[derive(Default)]
struct Late {
    records: Vec<Record>,
    /// Whether batches have left in the tick of these records.
    overtaken: bool,
}

/// The node.
pub struct Node {
    settings: Arc<Settings>,
    profile: NodeProfile,
    /// Empty while it is down.
    drivers: Vec<RefCell<Driver<Wire>>>,
    inboxes: Vec<RefCell<Inbox>>,
    /// Number of batches in transit or waiting, by sender and receiver.
    waiting: Vec<Cell<usize>>,
    late: RefCell<Vec<Late>>,
    /// The broker's ends of all connections so far.
    sockets: RefCell<Vec<Socket>>,
    /// Where records go.
    pub store: RefCell<Store>,
    requests: RefCell<VecDeque<NodeRequest>>,
    reports: RefCell<Vec<Report>>,
    interest: RefCell<Interest>,
    retained: RefCell<Retained>,
    free_memory: Cell<usize>,
    memory_max: usize,
    connections: Cell<usize>,
    listener: Arc<ListenerPolicy>,
    /// Source of rules at its start.
    book: Option<Arc<dyn RuleBook>>,
    now: Cell<Now>,
    now_us: Cell<u64>,
    /// The last time that its loops read from the clock.
    moment: Cell<Duration>,
    /// Offset of the wall clock, milliseconds.
    wall_off_ms: Cell<i64>,
    /// The time of records when the run began.
    record_origin_ms: Cell<u64>,
    /// History of clock offsets, each with its start.
    clocks: RefCell<Vec<Clocks>>,
    random: RefCell<Random>,
    problem: RefCell<Option<String>>,
    opened: Cell<u64>,
    stopping: bool,
}

/// Offsets of the wall clock and of the time of records from virtual time, from a time on.
#[derive(Clone, Copy)]
struct Clocks {
    from_us: u64,
    wall_ms: u64,
    record_ms: u64,
}

/// Parameters of a node.
#[derive(Clone, Debug)]
pub struct NodeProfile {
    /// Settings of the node.
    pub settings: Settings,
    /// Percentage of accesses to shared data at which another shard runs first.
    pub interleave_percent: u64,
    /// Accounts are checked in one of this number of ticks.
    pub check_one_in: u64,
    /// Maximum number of messages of a batch between shards.
    pub batch_messages: usize,
    /// Maximum number of batches of one shard in the mailbox of another.
    pub mailbox_batches: usize,
    /// Time between two reads of the clock by a loop.
    pub look: Duration,
    /// Seed of hash tables.
    pub seed: u64,
    /// Whether clients must authenticate.
    pub authenticate: bool,
}

/// Initial time of the wall clock.
const WALL_MS: u64 = 1_700_000_000_000;

impl Node {
    /// A node that was not started yet.
    pub fn new(profile: &NodeProfile, store: Store, random: Random) -> Self {
        let mut settings = profile.settings.clone();
        settings.node_seed = profile.seed;
        let memory_max = match settings.limits.memory_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        Self {
            settings: Arc::new(settings),
            profile: profile.clone(),
            drivers: Vec::new(),
            inboxes: Vec::new(),
            waiting: Vec::new(),
            late: RefCell::default(),
            sockets: RefCell::default(),
            store: RefCell::new(store),
            requests: RefCell::default(),
            reports: RefCell::default(),
            interest: RefCell::new(Interest::new(profile.seed)),
            retained: RefCell::default(),
            free_memory: Cell::new(memory_max),
            memory_max,
            connections: Cell::new(0),
            listener: Arc::new(ListenerPolicy {
                authenticate: profile.authenticate,
                ..ListenerPolicy::default()
            }),
            book: None,
            now: Cell::default(),
            now_us: Cell::new(0),
            moment: Cell::default(),
            wall_off_ms: Cell::new(0),
            record_origin_ms: Cell::new(WALL_MS),
            clocks: RefCell::default(),
            random: RefCell::new(random),
            problem: RefCell::default(),
            opened: Cell::new(0),
            stopping: false,
        }
    }

    /// Starts with the contents of the store, before any client may connect.
    ///
    /// # Errors
    /// As text: a store from an earlier run of the node must restore its shards completely.
    pub fn start(&mut self, shards: u16) -> Result<RestoreReport, String> {
        let driver = |id| {
            let id = ShardId(id);
            let shard = Shard::new(Arc::clone(&self.settings), id, shards, self.profile.seed);
            let batch_messages = self.profile.batch_messages;
            Driver::new(shard, id, shards, batch_messages, self.now.get())
        };
        let mut drivers: Vec<Driver<Wire>> = (0..shards).map(driver).collect();
        // The first run sets the time; later ones restore it.
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
        let lent = Shards {
            settings: &self.settings,
            node: &Handle(self),
            now: self.now.get(),
            listeners: Arc::new([Arc::clone(&self.listener)]),
            shards: drivers.iter_mut().map(Driver::lend).collect(),
        };
        let restored = restore(&mut engine, lent).map_err(|error| error.to_string())?;
        let origin_ms = restored.record_ms - self.now_us.get() / 1000;
        self.record_origin_ms.set(origin_ms);
        self.set_now(self.now_us.get());
        self.note_clocks();
        if restored.damaged > 0 && !is_rotten {
            return Err(format!("records are damaged: {:?}", restored.damage));
        }
        if let Some(book) = &self.book {
            for driver in &mut drivers {
                let (shard, _) = driver.lend();
                shard.set_rule_book(Arc::clone(book));
            }
        }
        let last = drivers.iter().map(|driver| driver.shard().last_record());
        self.store.borrow_mut().begin(engine, last);
        self.drivers = drivers.into_iter().map(RefCell::new).collect();
        self.inboxes = (0..shards).map(|_| RefCell::default()).collect();
        let pairs = usize::from(shards) * usize::from(shards);
        self.waiting = (0..pairs).map(|_| Cell::new(0)).collect();
        self.late = RefCell::new((0..shards).map(|_| Late::default()).collect());
        Ok(restored)
    }

    /// Kills the process without a shutdown. Returns the links that had a connection.
    pub fn crash(&mut self, kind: CrashKind) -> Vec<LinkIndex> {
        self.stopping = false;
        self.drivers.clear();
        self.inboxes.clear();
        self.requests.borrow_mut().clear();
        self.reports.borrow_mut().clear();
        self.interest.replace(Interest::new(self.profile.seed));
        self.retained.take();
        self.free_memory.set(self.memory_max);
        self.connections.set(0);
        self.store.borrow_mut().crash(kind, self.now.get());
        let mut sockets = self.sockets.borrow_mut();
        let all = sockets.iter_mut().enumerate();
        let open = all.filter_map(|(link, socket)| socket.forget().then_some(link as LinkIndex));
        open.collect()
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        !self.drivers.is_empty()
    }

    /// Whether it runs and accepts clients.
    pub fn is_open(&self) -> bool {
        self.is_up() && !self.stopping
    }

    /// Begins a clean stop: no new clients are accepted.
    pub fn begin_stop(&mut self) {
        self.stopping = true;
        for shard in 0..self.drivers.len() {
            self.command(shard, Command::Shutdown);
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.drivers.len()
    }

    /// Sets the virtual time, microseconds.
    pub fn set_now(&self, now_us: u64) {
        self.now_us.set(now_us);
        self.now.set(Now {
            mono_ms: now_us / 1000,
            wall_ms: (WALL_MS + now_us / 1000).saturating_add_signed(self.wall_off_ms.get()),
            record_ms: self.record_origin_ms.get() + now_us / 1000,
        });
    }

    /// Time of the wall clock, milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.now.get().wall_ms
    }

    /// Steps the wall clock by `ms` milliseconds.
    pub fn step_clock(&self, ms: i64) {
        self.wall_off_ms.set(self.wall_off_ms.get() + ms);
        self.set_now(self.now_us.get());
        self.note_clocks();
    }

    /// Whether the wall clock was ever set back.
    pub fn has_clock_gone_back(&self) -> bool {
        let clocks = self.clocks.borrow();
        clocks.windows(2).any(|two| two[1].wall_ms < two[0].wall_ms)
    }

    fn note_clocks(&self) {
        let (from_us, now) = (self.now_us.get(), self.now.get());
        self.clocks.borrow_mut().push(Clocks {
            from_us,
            wall_ms: now.wall_ms - from_us / 1000,
            record_ms: now.record_ms - from_us / 1000,
        });
    }

    /// Age, in the time of records, of this wall-clock time; of its last occurrence if the clock
    /// was set back.
    pub fn age_ms(&self, wall_ms: u64) -> u64 {
        let mut until_us = u64::MAX;
        for clocks in self.clocks.borrow().iter().rev() {
            let at_ms = wall_ms.checked_sub(clocks.wall_ms);
            let is_then = |ms: &u64| (clocks.from_us / 1000..=until_us / 1000).contains(ms);
            if let Some(at_ms) = at_ms.filter(is_then) {
                let record_ms = clocks.record_ms + at_ms;
                return self.now.get().record_ms.saturating_sub(record_ms);
            }
            until_us = clocks.from_us;
        }
        0
    }

    /// A read of the clock by a loop. Work takes time although no virtual time passes.
    fn moment(&self) -> Duration {
        let now = Duration::from_micros(self.now_us.get());
        let moment = self.moment.get().max(now) + self.profile.look;
        self.moment.set(moment);
        moment
    }

    /// Sets the source of rules from the next start on.
    pub fn set_book(&mut self, book: Option<Arc<dyn RuleBook>>) {
        self.book = book;
    }

    /// Connects a client from this address: returns its link, and the shard of its lobby.
    pub fn connect(&self, room: usize, address: IpAddr) -> (LinkIndex, usize) {
        let mut sockets = self.sockets.borrow_mut();
        let link = sockets.len() as LinkIndex;
        sockets.push(Socket::new(room));
        self.opened.set(self.opened.get() + 1);
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&self.opened.get().to_be_bytes());
        let peer = Peer {
            address: Some((address, link as u16)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let newcomer = Newcomer {
            stream: Wire(link),
            layers: None,
            peer,
            refused: None,
        };
        let shard = link as usize % self.drivers.len();
        let mut inbox = self.inbox(shard);
        // The first shard accepts connections and distributes them.
        match shard {
            0 => inbox.accepted.push(newcomer),
            _ => inbox.control.push_back(Control::Open(newcomer)),
        }
        (link, shard)
    }

    /// The latest connection from this port.
    pub fn link_from(&self, port: u16) -> LinkIndex {
        let last = self.sockets.borrow().len() as LinkIndex - 1;
        last - u32::from((last as u16).wrapping_sub(port))
    }

    /// Passes the authenticator's answer to the shard.
    pub fn authenticated(&self, shard: usize, id: ConnectionId, answer: Authenticated) {
        let answer = Control::Authenticated(id, Box::new(answer));
        self.inbox(shard).control.push_back(answer);
    }

    /// Number of bytes produced for the client of a connection, written or not.
    pub fn connects(&self, link: LinkIndex) -> u64 {
        let socket = &self.sockets.borrow()[link as usize];
        let unwritten = socket.at.map_or(0, |(shard, key)| {
            self.drivers[shard].borrow().unwritten(key)
        });
        socket.written() + unwritten as u64
    }

    fn inbox(&self, shard: usize) -> RefMut<'_, Inbox> {
        self.inboxes[shard].borrow_mut()
    }

    /// Batches from one shard to another that were not taken yet.
    fn waiting(&self, from: ShardId, to: usize) -> &Cell<usize> {
        &self.waiting[usize::from(from.0) * self.drivers.len() + to]
    }

    /// Reports to a shard that its records up to this one are durable.
    pub fn durable(&self, shard: usize, up_to: RecordNumber) {
        self.inbox(shard).durable = Some(up_to);
    }

    /// Delivers a batch to a shard.
    pub fn mail(&self, to: usize, batch: Batch) {
        self.inbox(to).batches.push_back(batch);
    }

    /// Delivers a connection to the shard of its session.
    pub fn adopt(&self, to: usize, link: LinkIndex, guest: Box<Guest>) {
        let arrival = Arrival {
            stream: Wire(link),
            layers: None,
            guest,
        };
        self.inbox(to).control.push_back(Control::Adopt(arrival));
    }

    /// Sends an operator's command to a shard.
    pub fn command(&self, shard: usize, command: Command) {
        self.inbox(shard)
            .control
            .push_back(Control::Command(command));
    }

    /// Passes a call of the part with this Client Identifier to its shard; returns that shard.
    pub fn part_call(&self, client_id: &str, call: PartCall) -> usize {
        let shards = self.drivers.len() as u16;
        let shard = owner(&self.settings, TenantId(0), client_id, shards);
        let shard = usize::from(shard.0);
        self.inbox(shard).control.push_back(Control::Part(call));
        shard
    }

    /// Maximum number of unsettled deliveries of a part or client.
    pub fn in_flight_max(&self) -> u16 {
        self.settings.limits.in_flight.max(1)
    }

    /// Delivers bytes of a client to its socket; returns the shard to wake.
    pub fn arrive(&self, link: LinkIndex, bytes: &[u8]) -> Option<usize> {
        self.change(link, |socket| socket.receive(bytes))
    }

    /// Ends the client's side of a connection; returns the shard to wake.
    pub fn ended(&self, link: LinkIndex, end: TransportEnd) -> Option<usize> {
        self.change(link, |socket| socket.end(end))
    }

    /// Changes a socket, and notifies its loop if it has one.
    fn change(&self, link: LinkIndex, change: impl FnOnce(&mut Socket)) -> Option<usize> {
        let socket = &mut self.sockets.borrow_mut()[link as usize];
        change(socket);
        let (shard, key) = socket.at?;
        let notice = socket.notice();
        self.inbox(shard).notices.push((link, key, notice));
        Some(shard)
    }

    /// Adds room in the network for a socket; returns the shard that waited for it.
    pub fn give_room(&self, link: LinkIndex, bytes: usize) -> Option<usize> {
        let socket = &mut self.sockets.borrow_mut()[link as usize];
        let is_awaited = socket.give_room(bytes);
        let (shard, key) = socket.at.filter(|_| is_awaited)?;
        let notice = Notice {
            writable: true,
            ..Notice::default()
        };
        self.inbox(shard).notices.push((link, key, notice));
        Some(shard)
    }

    /// Whether no shard uses this connection any more.
    pub fn is_closed(&self, link: LinkIndex) -> bool {
        !self.sockets.borrow()[link as usize].is_in_use()
    }

    /// The next request of the node.
    pub fn next_request(&self) -> Option<NodeRequest> {
        self.requests.borrow_mut().pop_front()
    }

    fn ask(&self, requests: NodeRequest) {
        self.requests.borrow_mut().push_back(requests);
    }

    /// Reports since the last call.
    pub fn take_reports(&self) -> Vec<Report> {
        core::mem::take(&mut self.reports.borrow_mut())
    }

    /// Time of the next tick of a shard, microseconds; `Some(0)` is at once.
    pub fn next_tick(&self, shard: usize) -> Option<u64> {
        if !self.inbox(shard).is_empty() {
            return Some(0);
        }
        let due_ms = self.drivers[shard].borrow().due_ms();
        due_ms.map(|due_ms| due_ms * 1000)
    }

    /// An internal problem of the node, if any.
    pub fn take_problem(&self) -> Option<String> {
        self.problem.borrow_mut().take()
    }

    fn complain(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// Runs one tick of a shard, unless it is in the middle of one.
    pub fn tick(&self, shard: usize) {
        let Some(Ok(mut driver)) = self.drivers.get(shard).map(RefCell::try_borrow_mut) else {
            return;
        };
        self.append_late(shard);
        let moment = self.moment();
        driver.tick(&mut self.around(shard), moment, self.now.get());
        if !self.late.borrow()[shard].overtaken {
            self.append_late(shard);
        }
        let chance = self.random.borrow_mut().below(self.profile.check_one_in);
        if chance == 0 && !driver.shard().accounts_balance() {
            self.complain(format!("the accounts of shard {shard} do not balance"));
        }
    }

    /// Another shard may run here before this one continues.
    fn step(&self) {
        let percent = self.profile.interleave_percent;
        if self.drivers.len() <= 1 || percent == 0 {
            return;
        }
        let shard = {
            let mut random = self.random.borrow_mut();
            if !random.percent(percent) {
                return;
            }
            random.below(self.drivers.len() as u64) as usize
        };
        if !self.inbox(shard).is_empty() {
            self.tick(shard);
        }
    }

    fn append(&self, shard: usize, records: &[Record]) {
        let mut store = self.store.borrow_mut();
        let first = store.append(shard, records, (self.now_us.get(), self.now.get()));
        for (record, lsn) in records.iter().zip(first..) {
            self.ask(NodeRequest::Recorded(lsn, record.clone()));
        }
    }

    /// Appends the records that a fault has delayed.
    fn append_late(&self, shard: usize) {
        let late = core::mem::take(&mut self.late.borrow_mut()[shard]);
        if !late.records.is_empty() {
            self.append(shard, &late.records);
        }
    }
}
