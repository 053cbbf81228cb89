//! A whole node in memory with a store on a simulated disk: restarts and power losses. Runs packet
//! scripts.
//!
//! It uses the production loop, in `martlet_tick::local::World`. Only the steps of the store's
//! threads are its own: one sync for everything appended, then pages requested by queues.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its part of it; a failure ends the test"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Command, Counters, DropReason, EventNotice, ListenerPolicy, LostMessage, Node, Now, PartCall,
    PartEvent, PartId, QueueRead, ReadPage, Record, RecordNumber, Settings, Shard, ShardId,
    TenantId, TransportEnd, owner,
};
use martlet_persistence::{
    ClockState, Making, RestoreError, RestoreReport, Shards, encode, locate, put_clock,
    read_located, restore,
};
use martlet_script::{Incoming, Script, Stage, Users, Value, Version, configure, decode, play};
use martlet_store::{Engine, OpenError, Options, RecordBuffer, RecordBuilder, Report, SimDisk};
use martlet_tick::local::{Link, Parts, START, World, peer};
use martlet_tick::{Control, Driver, LocalNode};

/// Why a node could not be opened from its disk.
#[derive(Debug)]
pub(crate) enum NotOpen {
    Open(OpenError),
    Restore(RestoreError),
}

impl From<OpenError> for NotOpen {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<RestoreError> for NotOpen {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

/// How a run of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A clean stop: clients are notified, the store is closed.
    Stop,
    /// The process is killed; the machine keeps running.
    Kill,
    /// The machine loses power, with this seed.
    PowerCut(u64),
}

/// The data shared by the shards, and their interface to the store.
struct Store {
    node: LocalNode,
    engine: Engine<SimDisk>,
    buffer: RecordBuffer,
    /// Whether shards have appended records since the last sync; these may contain nothing to
    /// store.
    unanswered: bool,
    /// Number of records passed to the engine.
    records: u64,
    /// Requested pages, each with the number of its shard.
    reads: VecDeque<(usize, QueueRead)>,
    /// Messages that a session waited for and that could not be read.
    lost: Vec<LostMessage>,
}

impl Parts for Store {
    type Node = LocalNode;

    fn node(&self) -> &LocalNode {
        &self.node
    }

    fn called(&mut self, shard: &Shard) {
        assert!(
            shard.accounts_balance(),
            "the accounts of a shard do not balance"
        );
    }

    fn append(
        &mut self,
        _: ShardId,
        records: &[Record],
        _: RecordNumber,
        now: Now,
    ) -> Option<RecordNumber> {
        self.unanswered = true;
        encode(records, now, &mut self.buffer);
        self.engine.append(&self.buffer);
        self.records += self.buffer.count() as u64;
        self.buffer.clear();
        None
    }

    fn read_back(&mut self, shard: ShardId, reads: &mut Vec<QueueRead>) {
        let shard = usize::from(shard.0);
        self.reads.extend(reads.drain(..).map(|read| (shard, read)));
    }

    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        self.lost.append(lost);
    }
}

/// A node and its disk.
pub(crate) struct StoredNode {
    pub(crate) disk: SimDisk,
    /// Report of the last restore.
    pub(crate) report: RestoreReport,
    /// Report of the last opening of the store.
    pub(crate) found: Report,
    /// Events for the log.
    pub(crate) events: Vec<EventNotice>,
    pub(crate) reads_done: u64,
    world: World<Store>,
    settings: Arc<Settings>,
    listener: Arc<ListenerPolicy>,
    users: Users,
    links: Vec<Link>,
    /// Number of pages that may still be read.
    reads_left: u64,
    /// Whether a call to the disk failed: power is lost.
    dead: bool,
}

/// Small, so that segments fill, checkpoints are taken and space is reclaimed in all longer tests.
fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        tail_bytes: 32 * 1024,
        salt: 5,
        ..Options::default()
    }
}

const STEPS_MAX: u32 = 1_000_000;

impl StoredNode {
    /// A node of `shards` shards without stored data.
    pub(crate) fn new(shards: u16) -> Self {
        Self::with_settings(shards, &[])
    }

    /// With settings in the syntax of scripts.
    pub(crate) fn with_settings(shards: u16, pairs: &[(String, String)]) -> Self {
        let (mut settings, listener) = configure(pairs).unwrap();
        settings.node_seed = 1;
        Self::open(SimDisk::new(1), settings, listener, shards, START).unwrap()
    }

    /// As [`StoredNode::with_settings`], with an event for each dropped message.
    pub(crate) fn telling_drops(shards: u16, pairs: &[(String, String)]) -> Self {
        let (mut settings, listener) = configure(pairs).unwrap();
        settings.node_seed = 1;
        settings.events.drops = true;
        Self::open(SimDisk::new(1), settings, listener, shards, START).unwrap()
    }

    /// Opens the data on the disk, with default settings.
    pub(crate) fn reopen(disk: SimDisk, shards: u16) -> Result<Self, NotOpen> {
        let (mut settings, listener) = configure(&[]).unwrap();
        settings.node_seed = 1;
        Self::open(disk, settings, listener, shards, START)
    }

    /// Opens the data on the disk.
    pub(crate) fn open(
        disk: SimDisk,
        settings: Settings,
        listener: ListenerPolicy,
        shards: u16,
        now: Now,
    ) -> Result<Self, NotOpen> {
        let settings = Arc::new(settings);
        let (engine, found) = Engine::open(disk.clone(), options())?;
        let states =
            (0..shards).map(|id| Shard::new(Arc::clone(&settings), ShardId(id), shards, 1));
        let store = Store {
            node: LocalNode::new(1, settings.limits.memory_bytes),
            engine,
            buffer: RecordBuffer::new(),
            unanswered: false,
            records: 0,
            reads: VecDeque::new(),
            lost: Vec::new(),
        };
        let listener = Arc::new(listener);
        let mut world = World::new(store, states.collect(), now);
        let (Store { node, engine, .. }, drivers) = world.lend();
        let lent = Shards {
            settings: &settings,
            node: &*node,
            now,
            listeners: Arc::new([Arc::clone(&listener)]),
            shards: drivers.iter_mut().map(Driver::lend).collect(),
        };
        let report = restore(engine, lent)?;
        let record_ms = report.record_ms;
        world.set_now(Now { record_ms, ..now });
        let mut node = Self {
            disk,
            report,
            found,
            events: Vec::new(),
            reads_done: 0,
            world,
            settings,
            listener,
            users: Users::default(),
            links: Vec::new(),
            reads_left: u64::MAX,
            dead: false,
        };
        node.run();
        Ok(node)
    }

    /// Ends this run and begins the next with `shards` shards, `away_ms` later.
    pub(crate) fn restart(self, end: End, shards: u16, away_ms: u64) -> Self {
        self.try_restart(end, shards, away_ms).unwrap()
    }

    /// Sets the wall clock back.
    pub(crate) fn set_wall_clock_back(&mut self, ms: u64) {
        let mut now = self.world.now();
        now.wall_ms -= ms;
        self.world.set_now(now);
    }

    /// Sets the wall clock forward.
    pub(crate) fn set_wall_clock_forward(&mut self, ms: u64) {
        let mut now = self.world.now();
        now.wall_ms += ms;
        self.world.set_now(now);
    }

    /// Records the time, as the writer thread does regularly.
    pub(crate) fn record_clock(&mut self) {
        let mut records = RecordBuffer::new();
        put_clock(ClockState::of(self.world.now()), &mut records);
        let engine = &mut self.world.parts.engine;
        engine.append(&records);
        engine.write().unwrap();
        engine.sync().unwrap();
    }

    /// As [`StoredNode::restart`].
    pub(crate) fn try_restart(
        mut self,
        end: End,
        shards: u16,
        away_ms: u64,
    ) -> Result<Self, NotOpen> {
        let disk = self.disk.clone();
        let settings = Settings::clone(&self.settings);
        let listener = ListenerPolicy::clone(&self.listener);
        if end == End::Stop {
            for shard in self.shards() {
                self.world
                    .control(shard, Control::Command(Command::Shutdown));
            }
            self.run();
        }
        let mut now = self.world.now();
        now.wall_ms += away_ms;
        // A new process has a new monotonic clock.
        now.mono_ms = 77;
        let Self { world, users, .. } = self;
        let engine = world.parts.engine;
        match end {
            End::Stop => engine.close().unwrap(),
            End::Kill => drop(engine),
            End::PowerCut(seed) => {
                drop(engine);
                disk.crash(seed);
            }
        }
        Self::open(disk, settings, listener, shards, now).map(|node| node.with_users(users))
    }

    /// Enables authentication, with rules that apply from now on.
    pub(crate) fn with_users(mut self, users: Users) -> Self {
        if users.is_empty() {
            return self;
        }
        let mut listener = ListenerPolicy::clone(&self.listener);
        listener.authenticate = true;
        self.listener = Arc::new(listener);
        for driver in self.world.lend().1 {
            driver.lend().0.set_rule_book(Arc::new(users.clone()));
        }
        self.users = users;
        self
    }

    /// Plays a script; clients of earlier scripts are disconnected or do not matter.
    pub(crate) fn play(&mut self, text: &str) {
        let script = Script::parse("part", text).unwrap();
        if let Err(mismatch) = play(self, &script, Version::V5, "stored node") {
            panic!("{mismatch}");
        }
    }

    /// As [`StoredNode::play`]; false if power failed during the script.
    pub(crate) fn try_play(&mut self, text: &str) -> bool {
        let script = Script::parse("part", text).unwrap();
        match play(self, &script, Version::V5, "stored node") {
            Ok(()) => !self.dead,
            Err(_) if self.dead => false,
            Err(mismatch) => panic!("{mismatch}"),
        }
    }

    /// Resumes a session and acknowledges all messages: returns Session Present, and the payloads.
    pub(crate) fn collect(&mut self, client_id: &str) -> (bool, Vec<String>) {
        self.collect_with(client_id, 65_536)
    }

    /// As [`StoredNode::collect`], with this Session Expiry Interval.
    pub(crate) fn collect_with(&mut self, client_id: &str, expiry: u32) -> (bool, Vec<String>) {
        let link = Stage::open(self).unwrap();
        let mut connect = b"\x10\x00\x00\x04MQTT\x05\x00\x00\x00\x05\x11".to_vec();
        connect.extend_from_slice(&expiry.to_be_bytes());
        connect.push(0);
        connect.push(client_id.len() as u8);
        connect.extend_from_slice(client_id.as_bytes());
        connect[1] = connect.len() as u8 - 2;
        self.send(link, &connect).unwrap();
        let (mut present, mut payloads, mut bytes) = (false, Vec::new(), Vec::new());
        while let Incoming::Bytes(more) = self.read(link, Duration::from_millis(50)) {
            bytes.extend(more);
            while let Some((packet, len)) = decode(&bytes, Version::V5).unwrap() {
                bytes.drain(..len);
                let id = packet.number("id").unwrap_or(0) as u16;
                let [high, low] = id.to_be_bytes();
                match (packet.name, packet.number("qos")) {
                    ("CONNACK", _) => present = packet.number("session_present") == Some(1),
                    ("PUBLISH", qos) => {
                        let Some(Value::Bytes(payload)) = packet.get("payload") else {
                            panic!("{packet:?}");
                        };
                        payloads.push(String::from_utf8_lossy(payload).into_owned());
                        let kind = if qos == Some(2) { 0x50 } else { 0x40 };
                        if qos != Some(0) {
                            self.send(link, &[kind, 2, high, low]).unwrap();
                        }
                    }
                    ("PUBREL", _) => self.send(link, &[0x70, 2, high, low]).unwrap(),
                    _ => panic!("{packet:?}"),
                }
            }
        }
        self.end(link);
        (present, payloads)
    }

    /// Passes a call of a part to the shard that owns the session of this Client Identifier.
    pub(crate) fn part_call(&mut self, client_id: &str, call: PartCall) {
        let shards = self.world.shard_count();
        let owner = owner(&self.settings, TenantId(0), client_id, shards);
        self.world
            .control(usize::from(owner.0), Control::Part(call));
        self.run();
    }

    /// Events of parts since the last call.
    pub(crate) fn take_part_events(&mut self) -> Vec<PartEvent> {
        let by_part = self.take_part_events_by_part().into_iter();
        by_part.map(|(_, event)| event).collect()
    }

    /// Takes events of parts, likewise, with the part of each.
    pub(crate) fn take_part_events_by_part(&mut self) -> Vec<(PartId, PartEvent)> {
        std::iter::from_fn(|| self.world.next_told()).collect()
    }

    /// Appends and syncs a record that no shard has written.
    pub(crate) fn append(&mut self, build: impl FnOnce(&mut RecordBuilder<'_>)) {
        let mut buffer = RecordBuffer::new();
        build(&mut buffer.record());
        self.world.parts.engine.append(&buffer);
        self.sync();
    }

    /// Owners of states, except the node.
    pub(crate) fn owners(&self) -> Vec<u64> {
        let mut owners = Vec::new();
        self.world
            .parts
            .engine
            .states(|key, _, _| owners.push(key.owner));
        owners.retain(|owner| *owner != 0);
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Topics and payloads of retained messages.
    pub(crate) fn retained(&self) -> Vec<(String, String)> {
        let now_ms = self.world.now().mono_ms;
        let node = &self.world.parts.node;
        let page = node.retained(|store| store.page(TenantId(0), "#", None, None, 100, now_ms));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let messages = page.messages.iter();
        messages
            .map(|message| (message.topic().to_owned(), text(message.payload())))
            .collect()
    }

    /// Holds messages between shards until the node is restarted.
    pub(crate) fn hold_mail(&mut self) {
        self.world.hold_mail(true);
    }

    /// Releases the held messages of share groups and their members; held messages and answers of
    /// others are lost.
    pub(crate) fn release_mail_of_groups(&mut self) {
        self.world.lose_mail();
        self.world.hold_mail(false);
    }

    /// Allows only this number of the requested pages to be read; the others wait.
    pub(crate) fn let_read(&mut self, count: u64) {
        self.reads_left = count;
        self.run();
    }

    /// Bytes of messages in memory, of all shards.
    pub(crate) fn message_bytes(&self) -> usize {
        let shards = self.world.drivers().iter();
        shards.map(|driver| driver.shard().gauge().bytes()).sum()
    }

    /// Whether power is lost.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Number of messages dropped because the store had lost them.
    pub(crate) fn dropped_as_damaged(&self) -> u64 {
        self.counters().dropped[DropReason::StoreDamaged as usize]
    }

    /// Messages that a session waited for and that could not be read.
    pub(crate) fn lost(&self) -> &[LostMessage] {
        &self.world.parts.lost
    }

    /// Counters of all shards together.
    pub(crate) fn counters(&self) -> Counters {
        self.world.counters()
    }

    /// Number of records passed to the store since the node was opened.
    pub(crate) fn store_records(&self) -> u64 {
        self.world.parts.records
    }

    /// One tick of each shard, even without work.
    pub(crate) fn end_tick(&mut self) {
        for shard in self.shards() {
            self.world.tick(shard);
        }
        self.run();
    }

    /// States in the store.
    pub(crate) fn states(&self) -> usize {
        self.world.parts.engine.stats().states
    }

    /// Bodies in the store.
    pub(crate) fn bodies(&self) -> u64 {
        self.world.parts.engine.stats().bodies as u64
    }

    fn shards(&self) -> std::ops::Range<usize> {
        0..usize::from(self.world.shard_count())
    }

    /// Runs until no work is left at this time.
    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.dead || !self.step() {
                self.events.extend(self.world.take_events());
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    /// A tick of each shard that has work. If none has, the next step of the store.
    fn step(&mut self) -> bool {
        if self.world.round() {
            return true;
        }
        if let Some((shard, request)) = self.world.next_asked() {
            let answer = Box::new(self.users.answer(&request));
            let answer = Control::Authenticated(request.connection, answer);
            self.world.control(usize::from(shard), answer);
            return true;
        }
        if std::mem::take(&mut self.world.parts.unanswered) {
            self.sync();
            return true;
        }
        if self.reads_left > 0
            && let Some((shard, read)) = self.world.parts.reads.pop_front()
        {
            self.reads_left -= 1;
            self.fetch(shard, read);
            return true;
        }
        false
    }

    /// One group: everything appended becomes durable, or power fails.
    fn sync(&mut self) {
        let engine = &mut self.world.parts.engine;
        if engine.write().and_then(|()| engine.sync()).is_err() {
            self.dead = true;
            return;
        }
        for shard in self.shards() {
            self.world.answer(shard, u64::MAX);
        }
        let engine = &mut self.world.parts.engine;
        self.dead |= engine.housekeep(4096).is_err();
    }

    fn fetch(&mut self, shard: usize, read: QueueRead) {
        let gauge = self.world.drivers()[shard].shard().gauge();
        let making = Making {
            now: self.world.now(),
            gauge: &gauge,
            publishers: read
                .with_publishers
                .then_some(std::slice::from_ref(&self.listener)),
        };
        self.reads_done += 1;
        let engine = &self.world.parts.engine;
        let located = locate(engine, &read.messages);
        let pages = [(&located, making)];
        let messages = read_located(engine.disk(), &pages).remove(0).messages;
        assert!(messages.iter().map(|(id, _)| id).eq(&read.messages));
        let page = ReadPage {
            owner: read.owner,
            of: read.of,
            messages,
        };
        self.world.control(shard, Control::MessagesRead(page));
    }

    /// Lets time pass, from one due timer to the next.
    pub(crate) fn elapse(&mut self, ms: u64) {
        let until = self.world.now().mono_ms + ms;
        while let Some(due) = self.world.due_ms().filter(|due| *due < until) {
            let now_ms = self.world.now().mono_ms;
            self.world.set_clock(due.max(now_ms + 1).min(until));
            self.run();
            if self.world.now().mono_ms == until {
                break;
            }
        }
        self.world.set_clock(until);
        self.run();
    }
}

impl Stage for StoredNode {
    fn open(&mut self) -> Result<usize, String> {
        let shard = self.links.len() % self.shards().len();
        let peer = peer(&self.listener, self.links.len() as u64 + 1);
        self.links.push(self.world.open(shard, peer));
        self.run();
        Ok(self.links.len() - 1)
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Result<(), String> {
        self.world.send(self.links[link], bytes);
        self.run();
        Ok(())
    }

    fn end(&mut self, link: usize) {
        self.world.end(self.links[link], TransportEnd::EndOfStream);
        self.run();
    }

    fn set_reading(&mut self, link: usize, reading: bool) {
        let room = if reading { usize::MAX } else { 0 };
        self.world.set_room(self.links[link], room);
        self.run();
    }

    fn read(&mut self, link: usize, patience: Duration) -> Incoming {
        let link = self.links[link];
        for _ in 0..=patience.as_millis() {
            let bytes = self.world.take(link);
            if !bytes.is_empty() {
                return Incoming::Bytes(bytes);
            }
            if self.world.is_closed(link) {
                return Incoming::Closed;
            }
            if !patience.is_zero() && !self.dead {
                self.elapse(1);
            }
        }
        Incoming::Nothing
    }

    fn wait(&mut self, time: Duration) {
        self.elapse(time.as_millis() as u64);
    }

    fn settle(&mut self) {}

    fn patience(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(20)
    }
}
