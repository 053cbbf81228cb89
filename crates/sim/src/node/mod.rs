//! The node: the loops of its shards, what they share, their mailboxes and the broker's ends of
//! connections.
//!
//! Each shard is the loop that ships (`martlet_tick`), all of them in one thread: whenever a shard
//! reaches for what the shards share, another shard may run first, a whole tick of it, as threads
//! would. The node knows no packets and no time but the one it is told; what is to happen elsewhere
//! or later it leaves in [`NodeRequest`] for the world.

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

/// A connection, by both of its ends: sockets of the node and links of the network have the same
/// numbers.
pub type LinkIndex = u32;

/// What the node asks of the world around it.
#[derive(Debug)]
pub enum NodeRequest {
    /// Carry a batch to another shard.
    Mail(usize, Batch),
    /// Carry a connection to another shard.
    Move(usize, LinkIndex, Box<Guest>),
    /// Bytes for the client of a connection; what was durable when they left.
    Wrote(LinkIndex, Vec<u8>, Lsn),
    /// The node writes no more and reads on until its client ends too.
    Finished(LinkIndex),
    /// The node has dropped its end.
    Dropped(LinkIndex),
    /// A record was appended.
    Recorded(Lsn, Record),
    /// The node has told the log.
    Event(EventNotice),
    /// A shard wants to know who a client is.
    Who(usize, Box<Authentication>),
    /// A part is told something; what was durable then.
    Part(PartId, PartEvent, Lsn),
}

/// What waits for one shard.
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
    /// Batches have left in the tick of these records.
    overtaken: bool,
}

/// The node.
pub struct Node {
    settings: Arc<Settings>,
    profile: NodeProfile,
    /// None while it is down.
    drivers: Vec<RefCell<Driver<Wire>>>,
    inboxes: Vec<RefCell<Inbox>>,
    /// Batches that are on their way or wait, by sender and receiver.
    waiting: Vec<Cell<usize>>,
    late: RefCell<Vec<Late>>,
    /// The broker's ends of all connections there ever were.
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
    /// Where rules are looked up when it starts.
    book: Option<Arc<dyn RuleBook>>,
    now: Cell<Now>,
    now_us: Cell<u64>,
    /// What its loops have last seen when they looked at the clock.
    moment: Cell<Duration>,
    /// What the wall clock is off by, milliseconds.
    wall_off_ms: Cell<i64>,
    /// The time of records when the run began.
    record_origin_ms: Cell<u64>,
    /// What the clocks have told, from when on.
    clocks: RefCell<Vec<Clocks>>,
    random: RefCell<Random>,
    problem: RefCell<Option<String>>,
    opened: Cell<u64>,
    stopping: bool,
}

/// What the wall clock and the time of records are ahead of virtual time, from a time on.
#[derive(Clone, Copy)]
struct Clocks {
    from_us: u64,
    wall_ms: u64,
    record_ms: u64,
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
    /// Messages of a batch between shards, at most.
    pub batch_messages: usize,
    /// Batches of one shard that the mailbox of another takes.
    pub mailbox_batches: usize,
    /// Time that passes for a loop from one look at the clock to the next.
    pub look: Duration,
    /// Seed of hash tables.
    pub seed: u64,
    /// Clients have to say who they are.
    pub authenticate: bool,
}

/// Where the wall clock begins.
const WALL_MS: u64 = 1_700_000_000_000;

impl Node {
    /// A node that has not been started yet.
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

    /// Starts with what the store has, before anybody may connect.
    ///
    /// # Errors
    /// In words: a store that a run of the node left must bring its shards back, whole.
    pub fn start(&mut self, shards: u16) -> Result<RestoreReport, String> {
        let driver = |id| {
            let id = ShardId(id);
            let shard = Shard::new(Arc::clone(&self.settings), id, shards, self.profile.seed);
            let batch_messages = self.profile.batch_messages;
            Driver::new(shard, (id, shards), batch_messages, self.now.get())
        };
        let mut drivers: Vec<Driver<Wire>> = (0..shards).map(driver).collect();
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

    /// Ends the process without a shutdown. Returns the links that had a connection.
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

    /// It runs.
    pub fn is_up(&self) -> bool {
        !self.drivers.is_empty()
    }

    /// It runs, and clients may connect.
    pub fn is_open(&self) -> bool {
        self.is_up() && !self.stopping
    }

    /// It is told to stop: nobody may connect any more.
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

    /// It is this late, in virtual microseconds.
    pub fn set_now(&self, now_us: u64) {
        self.now_us.set(now_us);
        self.now.set(Now {
            mono_ms: now_us / 1000,
            wall_ms: (WALL_MS + now_us / 1000).saturating_add_signed(self.wall_off_ms.get()),
            record_ms: self.record_origin_ms.get() + now_us / 1000,
        });
    }

    /// What the wall clock says, milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.now.get().wall_ms
    }

    /// Lets the wall clock make a step of `ms` milliseconds.
    pub fn step_clock(&self, ms: i64) {
        self.wall_off_ms.set(self.wall_off_ms.get() + ms);
        self.set_now(self.now_us.get());
        self.note_clocks();
    }

    /// Whether the wall clock has ever been set back.
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

    /// How long ago, in the time of records, the wall clock told this time; the last time that it
    /// did so, if it was set back.
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

    /// A loop looks at the clock. What it does takes time although none passes for the world.
    fn moment(&self) -> Duration {
        let now = Duration::from_micros(self.now_us.get());
        let moment = self.moment.get().max(now) + self.profile.look;
        self.moment.set(moment);
        moment
    }

    /// From the next start on rules are looked up here.
    pub fn set_book(&mut self, book: Option<Arc<dyn RuleBook>>) {
        self.book = book;
    }

    /// A client connects from this address: the link it is to use, and the shard whose lobby it is
    /// in.
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
        // The first shard accepts connections and deals them out.
        match shard {
            0 => inbox.accepted.push(newcomer),
            _ => inbox.control.push_back(Control::Open(newcomer)),
        }
        (link, shard)
    }

    /// The connection that came last from this port.
    pub fn link_from(&self, port: u16) -> LinkIndex {
        let last = self.sockets.borrow().len() as LinkIndex - 1;
        last - u32::from((last as u16).wrapping_sub(port))
    }

    /// The authenticator answers who a client is.
    pub fn authenticated(&self, shard: usize, id: ConnectionId, answer: Authenticated) {
        let answer = Control::Authenticated(id, Box::new(answer));
        self.inbox(shard).control.push_back(answer);
    }

    /// Bytes that have been made for the client of a connection, written or not.
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

    /// Batches of one shard for another that have not been taken yet.
    fn waiting(&self, from: ShardId, to: usize) -> &Cell<usize> {
        &self.waiting[usize::from(from.0) * self.drivers.len() + to]
    }

    /// Records of this shard up to that one are durable.
    pub fn durable(&self, shard: usize, up_to: RecordNumber) {
        self.inbox(shard).durable = Some(up_to);
    }

    /// A batch has reached a shard.
    pub fn mail(&self, to: usize, batch: Batch) {
        self.inbox(to).batches.push_back(batch);
    }

    /// A connection has reached the shard of its session.
    pub fn adopt(&self, to: usize, link: LinkIndex, guest: Box<Guest>) {
        let arrival = Arrival {
            stream: Wire(link),
            layers: None,
            guest,
        };
        self.inbox(to).control.push_back(Control::Adopt(arrival));
    }

    /// Those who operate the node tell a shard something.
    pub fn command(&self, shard: usize, command: Command) {
        self.inbox(shard)
            .control
            .push_back(Control::Command(command));
    }

    /// A part of this Client Identifier tells its shard something; answers which shard that is.
    pub fn part_call(&self, client_id: &str, call: PartCall) -> usize {
        let shards = self.drivers.len() as u16;
        let shard = owner(&self.settings, TenantId(0), client_id, shards);
        let shard = usize::from(shard.0);
        self.inbox(shard).control.push_back(Control::Part(call));
        shard
    }

    /// Deliveries that a part or client may have and not have settled, at most.
    pub fn in_flight_max(&self) -> u16 {
        self.settings.limits.in_flight.max(1)
    }

    /// Bytes of a client have reached its socket; answers the shard that is to look.
    pub fn arrive(&self, link: LinkIndex, bytes: &[u8]) -> Option<usize> {
        self.change(link, |socket| socket.receive(bytes))
    }

    /// The client's side of a connection has ended; answers the shard that is to look.
    pub fn ended(&self, link: LinkIndex, end: TransportEnd) -> Option<usize> {
        self.change(link, |socket| socket.end(end))
    }

    /// Something has come by a socket, which its loop is told if it has one.
    fn change(&self, link: LinkIndex, change: impl FnOnce(&mut Socket)) -> Option<usize> {
        let socket = &mut self.sockets.borrow_mut()[link as usize];
        change(socket);
        let (shard, key) = socket.at?;
        let notice = socket.notice();
        self.inbox(shard).notices.push((link, key, notice));
        Some(shard)
    }

    /// The network takes more from a socket; answers the shard that has waited for that.
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

    /// No shard has to do with this connection any more.
    pub fn is_closed(&self, link: LinkIndex) -> bool {
        !self.sockets.borrow()[link as usize].is_in_use()
    }

    /// What the node has asked for next.
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

    /// When a shard wants its next tick, microseconds; `Some(0)` is at once.
    pub fn next_tick(&self, shard: usize) -> Option<u64> {
        if !self.inbox(shard).is_empty() {
            return Some(0);
        }
        let due_ms = self.drivers[shard].borrow().due_ms();
        due_ms.map(|due_ms| due_ms * 1000)
    }

    /// What is wrong with the node itself, if anything is.
    pub fn take_problem(&self) -> Option<String> {
        self.problem.borrow_mut().take()
    }

    fn complain(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// One tick of a shard, unless it is in the middle of one.
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

    /// Another shard may run here, before this one goes on.
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

    /// Appends the records that a fault has held back.
    fn append_late(&self, shard: usize) {
        let late = core::mem::take(&mut self.late.borrow_mut()[shard]);
        if !late.records.is_empty() {
            self.append(shard, &late.records);
        }
    }
}
