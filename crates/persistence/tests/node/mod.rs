//! A whole node in one thread over a store on a simulated disk: shards, the mailboxes between them,
//! connections as byte queues, restarts and losses of power. A stage for packet scripts.
//!
//! Does what a reactor and its store threads do, in their order, and nothing else.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its part of it; a failure ends the test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authenticated, ConnectionEffect, ConnectionId, Counters, Cx, DropReason, Effects, Event, Guest,
    ListenerPolicy, LostMessage, Node, Now, Peer, QueueRead, ReadPage, Settings, Shard, ShardId,
    ShardMessage, TenantId, TransportEnd,
};
use martlet_persistence::{
    ClockState, Making, RestoreError, RestoreReport, Shards, encode, fetch, locate, put_clock,
    read_located, restore,
};
use martlet_script::{
    Incoming, LocalNode, Script, Stage, Users, Value, Version, configure, decode, play,
};
use martlet_store::{Engine, OpenError, Options, RecordBuffer, RecordBuilder, Report, SimDisk};

/// Why a node did not open what is on its disk.
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
    /// Told to stop: clients are told, the store is closed.
    Stop,
    /// The process is killed; the machine goes on.
    Kill,
    /// The machine loses power, with this seed.
    PowerCut(u64),
}

#[derive(Debug, Default)]
struct Wire {
    at: Option<(u16, ConnectionId)>,
    received: Vec<u8>,
    closed: bool,
    closing: bool,
    paused: bool,
    deaf: bool,
    unread: Vec<u8>,
}

struct Slot {
    shard: Shard,
    effects: Effects,
}

/// A node and its disk.
pub(crate) struct StoredNode {
    pub(crate) disk: SimDisk,
    /// What opening the store and restoring found, last time.
    pub(crate) report: RestoreReport,
    /// What opening the store found, last time.
    pub(crate) found: Report,
    engine: Engine<SimDisk>,
    settings: Arc<Settings>,
    listener: Arc<ListenerPolicy>,
    users: Users,
    shared: LocalNode,
    slots: Vec<Slot>,
    wires: Vec<Wire>,
    links: BTreeMap<(u16, u32, u32), usize>,
    mail: VecDeque<(u16, u16, Vec<ShardMessage>)>,
    arrivals: VecDeque<(u16, usize, Box<Guest>)>,
    connections: VecDeque<(u16, ConnectionEffect)>,
    reads: VecDeque<(u16, QueueRead)>,
    answers: VecDeque<(u16, ConnectionId, Authenticated)>,
    /// Messages that a session waited for and that could not be read back.
    pub(crate) lost: Vec<LostMessage>,
    /// What was told to logs.
    pub(crate) events: Vec<Event>,
    now: Now,
    opened: u64,
    buffer: RecordBuffer,
    /// Shards have appended records since the last sync; these may have become nothing to store.
    unanswered: bool,
    store_records: u64,
    pub(crate) reads_done: u64,
    mail_held: bool,
    reads_left: u64,
    /// A call to the disk failed: the power is gone.
    dead: bool,
}

/// Small, so that segments fill, checkpoints are taken and space is reclaimed in every longer test.
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
    /// A node of `shards` shards that has nothing stored.
    pub(crate) fn new(shards: u16) -> Self {
        Self::with_settings(shards, &[])
    }

    /// With settings as scripts write them.
    pub(crate) fn with_settings(shards: u16, pairs: &[(String, String)]) -> Self {
        let (mut settings, listener) = configure(pairs).unwrap();
        settings.node_seed = 1;
        Self::open(SimDisk::new(1), settings, listener, shards, start_time()).unwrap()
    }

    /// As [`StoredNode::with_settings`], with an event for each dropped message.
    pub(crate) fn telling_drops(shards: u16, pairs: &[(String, String)]) -> Self {
        let (mut settings, listener) = configure(pairs).unwrap();
        settings.node_seed = 1;
        settings.events.drops = true;
        Self::open(SimDisk::new(1), settings, listener, shards, start_time()).unwrap()
    }

    /// Opens what is on the disk, with default settings.
    pub(crate) fn reopen(disk: SimDisk, shards: u16) -> Result<Self, NotOpen> {
        let (mut settings, listener) = configure(&[]).unwrap();
        settings.node_seed = 1;
        Self::open(disk, settings, listener, shards, start_time())
    }

    /// Opens what is on the disk.
    pub(crate) fn open(
        disk: SimDisk,
        settings: Settings,
        listener: ListenerPolicy,
        shards: u16,
        now: Now,
    ) -> Result<Self, NotOpen> {
        let settings = Arc::new(settings);
        let shared = LocalNode::new(1, settings.limits.memory_bytes);
        let (mut engine, found) = Engine::open(disk.clone(), options())?;
        let mut slots: Vec<Slot> = (0..shards)
            .map(|id| Slot {
                shard: Shard::new(Arc::clone(&settings), ShardId(id), shards, 1),
                effects: Effects::new(shards),
            })
            .collect();
        let lent = slots
            .iter_mut()
            .map(|slot| (&mut slot.shard, &mut slot.effects));
        let lent = Shards {
            settings: &settings,
            node: &shared,
            now,
            shards: lent.collect(),
        };
        let report = restore(&mut engine, lent)?;
        let record_ms = report.record_ms;
        let now = Now { record_ms, ..now };
        let mut node = Self {
            disk,
            report,
            found,
            engine,
            settings,
            listener: Arc::new(listener),
            users: Users::default(),
            shared,
            slots,
            wires: Vec::new(),
            links: BTreeMap::new(),
            mail: VecDeque::new(),
            arrivals: VecDeque::new(),
            connections: VecDeque::new(),
            reads: VecDeque::new(),
            answers: VecDeque::new(),
            lost: Vec::new(),
            events: Vec::new(),
            now,
            opened: 0,
            buffer: RecordBuffer::new(),
            unanswered: false,
            store_records: 0,
            reads_done: 0,
            mail_held: false,
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
        self.now.wall_ms -= ms;
    }

    /// Sets the wall clock forward.
    pub(crate) fn set_wall_clock_forward(&mut self, ms: u64) {
        self.now.wall_ms += ms;
    }

    /// What the thread that writes does now and then.
    pub(crate) fn record_clock(&mut self) {
        let mut records = RecordBuffer::new();
        put_clock(ClockState::of(self.now), &mut records);
        self.engine.append(&records);
        self.engine.write().unwrap();
        self.engine.sync().unwrap();
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
            for shard in 0..self.slots.len() as u16 {
                self.call(shard, |shard, cx| {
                    shard.command(cx, martlet_broker::Command::Shutdown);
                });
            }
            self.run();
        }
        let mut now = self.now;
        now.wall_ms += away_ms;
        // A new process has a clock of its own.
        now.mono_ms = 77;
        let Self { engine, users, .. } = self;
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

    /// Whose clients have to say who they are, with rules that hold from now on.
    pub(crate) fn with_users(mut self, users: Users) -> Self {
        if users.is_empty() {
            return self;
        }
        let mut listener = ListenerPolicy::clone(&self.listener);
        listener.authenticate = true;
        self.listener = Arc::new(listener);
        for slot in &mut self.slots {
            slot.shard.set_rule_book(Arc::new(users.clone()));
        }
        self.users = users;
        self
    }

    /// Plays a script; clients of scripts before are gone or do not matter.
    pub(crate) fn play(&mut self, text: &str) {
        let script = Script::parse("part", text).unwrap();
        if let Err(mismatch) = play(self, &script, Version::V5, "stored node") {
            panic!("{mismatch}");
        }
    }

    /// As [`StoredNode::play`]; false if the power went while it was played.
    pub(crate) fn try_play(&mut self, text: &str) -> bool {
        let script = Script::parse("part", text).unwrap();
        match play(self, &script, Version::V5, "stored node") {
            Ok(()) => !self.dead,
            Err(_) if self.dead => false,
            Err(mismatch) => panic!("{mismatch}"),
        }
    }

    /// Resumes a session and acknowledges all that comes: Session Present, and the payloads.
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

    /// Appends a record that no shard has made, and syncs it.
    pub(crate) fn append(&mut self, build: impl FnOnce(&mut RecordBuilder<'_>)) {
        let mut buffer = RecordBuffer::new();
        build(&mut buffer.record());
        self.engine.append(&buffer);
        self.sync();
    }

    /// Who owns states, but the node.
    pub(crate) fn owners(&self) -> Vec<u64> {
        let mut owners = Vec::new();
        self.engine.states(|key, _, _| owners.push(key.owner));
        owners.retain(|owner| *owner != 0);
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Topics and payloads of what is retained.
    pub(crate) fn retained(&self) -> Vec<(String, String)> {
        let now_ms = self.now.mono_ms;
        let page = self
            .shared
            .retained(|store| store.page(TenantId(0), "#", None, None, 100, now_ms));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let messages = page.messages.iter();
        messages
            .map(|message| (message.topic().to_owned(), text(message.payload())))
            .collect()
    }

    /// Keeps messages between shards from arriving until the node is restarted.
    pub(crate) fn hold_mail(&mut self) {
        self.mail_held = true;
    }

    /// Lets pass what share groups and their members tell each other; messages and answers that
    /// were held are lost.
    pub(crate) fn release_mail_of_groups(&mut self) {
        self.mail.clear();
        self.mail_held = false;
    }

    /// Allows only this number of the requested pages to be read; the others wait.
    pub(crate) fn let_read(&mut self, count: u64) {
        self.reads_left = count;
        self.run();
    }

    /// Bytes of messages in memory, of all shards.
    pub(crate) fn message_bytes(&self) -> usize {
        let gauges = self.slots.iter().map(|slot| slot.shard.gauge().bytes());
        gauges.sum()
    }

    /// The power is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// How many messages were dropped because the store had lost them.
    pub(crate) fn dropped_as_damaged(&mut self) -> u64 {
        self.counters().dropped[DropReason::StoreDamaged as usize]
    }

    /// Counters of all shards together.
    pub(crate) fn counters(&mut self) -> Counters {
        let mut sum = Counters::default();
        for shard in 0..self.slots.len() as u16 {
            sum.add(&self.call(shard, |shard, cx| shard.snapshot(cx)));
        }
        sum
    }

    /// Records that the store was given since the node was opened.
    pub(crate) fn store_records(&self) -> u64 {
        self.store_records
    }

    /// Ends a tick of each shard, as a reactor does though no work waits.
    pub(crate) fn end_tick(&mut self) {
        for shard in 0..self.slots.len() as u16 {
            self.call(shard, |shard, cx| shard.work(cx));
        }
        self.run();
    }

    /// States in the store.
    pub(crate) fn states(&self) -> usize {
        self.engine.stats().states
    }

    /// Bodies in the store.
    pub(crate) fn bodies(&self) -> u64 {
        self.engine.stats().bodies as u64
    }

    /// Works until nothing is left to be done at this time.
    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.dead || !self.step() {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    fn step(&mut self) -> bool {
        if let Some((shard, effect)) = self.connections.pop_front() {
            self.carry_out(shard, effect);
            return true;
        }
        if let Some((to, link, guest)) = self.arrivals.pop_front() {
            let id = self.call(to, |shard, cx| shard.adopt(cx, guest));
            self.place(link, to, id);
            self.read_wire(link);
            return true;
        }
        if !self.mail_held
            && let Some((from, to, mut batch)) = self.mail.pop_front()
        {
            self.call(to, |shard, cx| {
                shard.receive_batch(cx, ShardId(from), &mut batch);
            });
            return true;
        }
        if let Some((shard, id, answer)) = self.answers.pop_front() {
            self.call(shard, |shard, cx| shard.authenticated(cx, id, answer));
            return true;
        }
        if std::mem::take(&mut self.unanswered) {
            self.sync();
            return true;
        }
        if self.reads_left > 0
            && let Some((shard, read)) = self.reads.pop_front()
        {
            self.reads_left -= 1;
            self.fetch(shard, read);
            return true;
        }
        for index in 0..self.slots.len() as u16 {
            let shard = &self.slots[usize::from(index)].shard;
            let due = shard.next_wakeup();
            if shard.has_work() || due.is_some_and(|due| due <= self.now.mono_ms) {
                self.call(index, |shard, cx| {
                    shard.advance(cx);
                    shard.work(cx);
                });
                return true;
            }
        }
        false
    }

    /// One group: all that was appended is durable, or the power is gone.
    fn sync(&mut self) {
        let synced = self.engine.write().and_then(|()| self.engine.sync());
        if synced.is_err() {
            self.dead = true;
            return;
        }
        for index in 0..self.slots.len() as u16 {
            let last = self.slots[usize::from(index)].shard.last_record();
            self.call(index, |shard, cx| shard.durable(cx, last));
        }
        if self.engine.housekeep(4096).is_err() {
            self.dead = true;
        }
    }

    fn fetch(&mut self, shard: u16, read: QueueRead) {
        let gauge = self.slots[usize::from(shard)].shard.gauge();
        let making = Making {
            now: self.now,
            gauge: &gauge,
        };
        // A reactor reads a page in one of two ways; here by turns.
        self.reads_done += 1;
        let located = locate(&self.engine, &read.messages);
        let messages = if self.reads_done.is_multiple_of(2) && located.is_complete() {
            let pages = [(&located, making)];
            let mut read = read_located(self.engine.disk(), &pages);
            read.pop().unwrap().messages
        } else {
            fetch(&self.engine, &read.messages, making)
        };
        assert!(messages.iter().map(|(id, _)| id).eq(&read.messages));
        self.call(shard, |shard, cx| {
            let (owner, of) = (read.owner, read.of);
            shard.messages_read(
                cx,
                ReadPage {
                    owner,
                    of,
                    messages,
                },
            );
        });
    }

    /// Calls into a shard; its records are appended before anything else of it is carried out.
    fn call<T>(
        &mut self,
        index: u16,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, LocalNode>) -> T,
    ) -> T {
        let slot = &mut self.slots[usize::from(index)];
        let mut cx = Cx {
            now: self.now,
            node: &self.shared,
            effects: &mut slot.effects,
        };
        let result = call(&mut slot.shard, &mut cx);
        assert!(slot.shard.accounts_balance(), "accounts of shard {index}");
        self.unanswered |= !slot.effects.records.is_empty();
        encode(&slot.effects.records, self.now, &mut self.buffer);
        slot.effects.records.clear();
        self.engine.append(&self.buffer);
        self.store_records += self.buffer.count() as u64;
        self.buffer.clear();
        for (to, batch) in slot.effects.batches.iter_mut().enumerate() {
            if !batch.is_empty() {
                let batch = std::mem::take(batch);
                self.mail.push_back((index, to as u16, batch));
            }
        }
        let effects = slot.effects.connections.drain(..);
        self.connections
            .extend(effects.map(|effect| (index, effect)));
        let reads = slot.effects.reads.drain(..);
        self.reads.extend(reads.map(|read| (index, read)));
        for asked in slot.effects.authentications.drain(..) {
            let answer = self.users.answer(&asked);
            self.answers.push_back((index, asked.connection, answer));
        }
        let told = slot.effects.events.drain(..);
        self.events.extend(told.map(|told| told.event));
        self.lost.append(&mut slot.effects.lost);
        result
    }

    fn carry_out(&mut self, shard: u16, effect: ConnectionEffect) {
        let id = effect.connection();
        let Some(&link) = self.links.get(&(shard, id.index, id.generation)) else {
            return;
        };
        match effect {
            ConnectionEffect::Write(_) | ConnectionEffect::WriteInTurn(_) => self.write_wire(link),
            ConnectionEffect::PauseReading(_) => self.wires[link].paused = true,
            ConnectionEffect::ResumeReading(_) => {
                self.wires[link].paused = false;
                self.read_wire(link);
            }
            ConnectionEffect::Close(_) => {
                self.wires[link].closing = true;
                self.write_wire(link);
            }
            ConnectionEffect::Abort(_) => {
                self.unplace(link);
                self.wires[link].closed = true;
            }
            ConnectionEffect::Move { to, guest, .. } => {
                self.unplace(link);
                self.arrivals.push_back((to.0, link, guest));
            }
        }
    }

    fn read_wire(&mut self, link: usize) {
        let wire = &mut self.wires[link];
        let Some((shard, id)) = wire.at else { return };
        if wire.paused || wire.closing || wire.unread.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut wire.unread);
        self.call(shard, |shard, cx| shard.receive(cx, id, &bytes));
    }

    fn write_wire(&mut self, link: usize) {
        let wire = &mut self.wires[link];
        let Some((shard, id)) = wire.at else { return };
        if wire.deaf {
            return self.call(shard, |shard, cx| shard.wrote(cx, id, 0));
        }
        let closing = wire.closing;
        let output = self.slots[usize::from(shard)].shard.output(id);
        let count = output.len();
        wire.received.extend_from_slice(output);
        if count > 0 {
            self.call(shard, |shard, cx| shard.wrote(cx, id, count));
        }
        if closing {
            self.unplace(link);
            self.wires[link].closed = true;
            self.call(shard, |shard, cx| {
                shard.closed(cx, id, TransportEnd::Finished);
            });
        }
    }

    fn place(&mut self, link: usize, shard: u16, id: ConnectionId) {
        self.wires[link].at = Some((shard, id));
        self.links.insert((shard, id.index, id.generation), link);
    }

    fn unplace(&mut self, link: usize) -> Option<(u16, ConnectionId)> {
        let (shard, id) = self.wires[link].at.take()?;
        self.links.remove(&(shard, id.index, id.generation));
        Some((shard, id))
    }

    fn set_clock(&mut self, mono_ms: u64) {
        self.now.wall_ms += mono_ms - self.now.mono_ms;
        self.now.record_ms += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }

    /// Lets time pass, from one due timer to the next.
    pub(crate) fn elapse(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        loop {
            let due = self
                .slots
                .iter()
                .filter_map(|slot| slot.shard.next_wakeup());
            match due.min().filter(|due| *due < until) {
                Some(due) => self.set_clock(due.max(self.now.mono_ms + 1).min(until)),
                None => break,
            }
            self.run();
        }
        self.set_clock(until.max(self.now.mono_ms));
        self.run();
    }
}

fn start_time() -> Now {
    Now {
        mono_ms: 1000,
        wall_ms: 1_700_000_000_000,
        record_ms: 1_700_000_000_000,
    }
}

impl Stage for StoredNode {
    fn open(&mut self) -> Result<usize, String> {
        let link = self.wires.len();
        self.wires.push(Wire::default());
        let shard = (self.opened % self.slots.len() as u64) as u16;
        self.opened += 1;
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&self.opened.to_be_bytes());
        let peer = Peer {
            address: Some(([127, 0, 0, 1].into(), 10_000)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let id = self.call(shard, |shard, cx| shard.open(cx, peer));
        self.place(link, shard, id);
        self.run();
        Ok(link)
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Result<(), String> {
        self.wires[link].unread.extend_from_slice(bytes);
        if !self.dead {
            self.read_wire(link);
            self.run();
        }
        Ok(())
    }

    fn end(&mut self, link: usize) {
        if let Some((shard, id)) = self.unplace(link) {
            self.call(shard, |shard, cx| {
                shard.closed(cx, id, TransportEnd::EndOfStream);
            });
        }
        self.wires[link].closed = true;
        self.run();
    }

    fn set_reading(&mut self, link: usize, reading: bool) {
        self.wires[link].deaf = !reading;
        if reading {
            self.write_wire(link);
            self.run();
        }
    }

    fn read(&mut self, link: usize, patience: Duration) -> Incoming {
        for _ in 0..=patience.as_millis() {
            let bytes = std::mem::take(&mut self.wires[link].received);
            if !bytes.is_empty() {
                return Incoming::Bytes(bytes);
            }
            if self.wires[link].closed {
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
