//! A whole node in one thread and in memory: the loops of its shards, the mailboxes between them,
//! connections as queues of bytes, and a clock that is set. For tests and measurements.
//!
//! [`World`] runs the loops; what is special to one kind of test, above all where records go, is in
//! its [`Parts`]. Nothing happens by itself: a test sends, sets the clock and calls ticks.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authentication, Counters, Cx, Effects, LostMessage, MemoryGauge, Node, Now, PartEvent, PartId,
    Peer, QueueRead, Record, RecordNumber, Report, Shard, ShardId, ShardMessage, Told,
    TransportEnd,
};

use crate::outside::{
    Arrival, Batch, Control, Mail, Newcomer, NoLayers, Notice, Outside, Read, Storage, Stream,
    Transport, Written,
};
use crate::{Driver, SocketKey};

/// Ticks in which a node must come to rest: far more than any test needs.
const TICKS_MAX: u32 = 10_000_000;

/// Messages of a batch, at most.
const BATCH_MESSAGES: usize = 1024;

/// What is special to one kind of node in memory.
pub trait Parts {
    /// What its shards share.
    type Node: Node;

    /// What its shards share.
    fn node(&self) -> &Self::Node;

    /// Makes a call into a shard: see [`Outside::call`].
    #[inline(always)]
    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, Self::Node>) -> T,
    ) -> T {
        let node = self.node();
        let mut cx = Cx { now, node, effects };
        call(shard, &mut cx)
    }

    /// Takes records of a shard: see [`Storage::append`].
    fn append(
        &mut self,
        shard: ShardId,
        records: &[Record],
        last: RecordNumber,
        now: Now,
    ) -> Option<RecordNumber>;

    /// Takes all `reads` of a shard: see [`Storage::read_back`].
    fn read_back(&mut self, shard: ShardId, reads: &mut Vec<QueueRead>) {
        let _ = shard;
        assert!(reads.is_empty(), "nothing is read back from this store");
    }

    /// Takes all of `lost`.
    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        lost.clear();
    }
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub usize);

/// The node's end of a connection.
#[derive(Debug)]
pub struct Wire(Link);

impl Stream for Wire {
    type Layers = NoLayers;
}

/// What is between a client and the node.
#[derive(Debug, Default)]
struct Line {
    /// The socket that it belongs to; none before the node has it, while it moves between shards
    /// and when it is over.
    at: Option<(usize, SocketKey)>,
    /// What the client has sent and the node has not read.
    unread: VecDeque<u8>,
    /// How the client has ended it.
    ended: Option<TransportEnd>,
    /// What the node has written and the client has not taken.
    received: Vec<u8>,
    /// Bytes that the node may write before it has to wait.
    room: usize,
    /// The node writes no more.
    closed: bool,
    /// The turn in which the first byte of `received` came.
    received_in: Option<u64>,
    /// The node has dropped it.
    dropped: bool,
    /// The client does not end its side when the node has ended its own.
    hangs: bool,
}

/// What waits for one shard.
#[derive(Default)]
struct Inbox {
    notices: Vec<(SocketKey, Notice)>,
    control: VecDeque<Control<Wire>>,
    batches: VecDeque<Batch>,
    durable: Option<RecordNumber>,
}

/// Connections and mailboxes.
#[derive(Default)]
struct Net {
    lines: Vec<Line>,
    inboxes: Vec<Inbox>,
    /// Each look at the clock takes a nanosecond, so that a test can set a limit of no time.
    moment: Cell<Duration>,
    /// Batches between shards do not arrive.
    is_mail_held: bool,
    /// Batches that a mailbox takes; none: any number.
    mailbox_batches: Option<usize>,
    reads: u64,
    writes: u64,
    turns: u64,
    events: Vec<Told>,
    reports: Vec<Report>,
    parts: VecDeque<(PartId, PartEvent)>,
    asked: VecDeque<(u16, Authentication)>,
}

impl Net {
    fn notice(&mut self, link: Link, notice: Notice) {
        if let Some((shard, key)) = self.lines[link.0].at {
            self.inboxes[shard].notices.push((key, notice));
        }
    }

    /// There is something to be read.
    fn is_readable(&self, link: Link) -> bool {
        let line = &self.lines[link.0];
        !line.unread.is_empty() || line.ended.is_some()
    }
}

const READABLE: Notice = Notice {
    readable: true,
    writable: false,
    read_closed: false,
    broken: false,
};

/// A node.
pub struct World<P> {
    /// What is special to it.
    pub parts: P,
    drivers: Vec<Driver<Wire>>,
    net: Net,
    now: Now,
}

impl<P: Parts> World<P> {
    /// A node of these shards, in the order of their numbers.
    pub fn new(parts: P, shards: Vec<Shard>, now: Now) -> Self {
        let count = shards.len() as u16;
        let drivers = shards.into_iter().enumerate().map(|(id, shard)| {
            Driver::new(shard, (ShardId(id as u16), count), BATCH_MESSAGES, now)
        });
        let net = Net {
            inboxes: (0..count).map(|_| Inbox::default()).collect(),
            ..Net::default()
        };
        Self {
            parts,
            drivers: drivers.collect(),
            net,
            now,
        }
    }

    /// The loops of its shards.
    pub fn drivers(&self) -> &[Driver<Wire>] {
        &self.drivers
    }

    /// The loops of its shards and what they share, to be restored or looked into.
    pub fn lend(&mut self) -> (&P::Node, &mut [Driver<Wire>]) {
        (self.parts.node(), &mut self.drivers)
    }

    /// The number of its shards.
    pub fn shard_count(&self) -> u16 {
        self.drivers.len() as u16
    }

    /// Its time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets its time.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Lets all clocks go on until then.
    pub fn set_clock(&mut self, mono_ms: u64) {
        let ms = mono_ms.saturating_sub(self.now.mono_ms);
        self.now.wall_ms += ms;
        self.now.record_ms += ms;
        self.now.mono_ms += ms;
    }

    /// Something waits for this shard, or it is time for its next tick.
    pub fn is_due(&self, shard: usize) -> bool {
        let inbox = &self.net.inboxes[shard];
        let mail = !self.net.is_mail_held && !inbox.batches.is_empty();
        let due_ms = self.drivers[shard].due_ms();
        mail || !inbox.notices.is_empty()
            || !inbox.control.is_empty()
            || inbox.durable.is_some()
            || due_ms.is_some_and(|due_ms| due_ms <= self.now.mono_ms)
    }

    /// When the next tick of any shard is due.
    pub fn due_ms(&self) -> Option<u64> {
        self.drivers.iter().filter_map(Driver::due_ms).min()
    }

    /// One tick of a shard.
    pub fn tick(&mut self, shard: usize) {
        let mut at = At {
            parts: &mut self.parts,
            net: &mut self.net,
            shard,
        };
        let moment = at.moment();
        self.drivers[shard].tick(&mut at, moment, self.now);
    }

    /// One tick of each shard that is due; false if none is.
    pub fn round(&mut self) -> bool {
        let mut is_any = false;
        for shard in 0..self.drivers.len() {
            if self.is_due(shard) {
                self.tick(shard);
                is_any = true;
            }
        }
        is_any
    }

    /// Ticks until nothing is left to be done at this time.
    pub fn run(&mut self) {
        for _ in 0..TICKS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    /// Calls into a shard between two ticks. What it asks for is done by its next one.
    pub fn call<T>(
        &mut self,
        shard: usize,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, P::Node>) -> T,
    ) -> T {
        let mut at = At {
            parts: &mut self.parts,
            net: &mut self.net,
            shard,
        };
        let driver = &mut self.drivers[shard];
        driver.set_now(self.now);
        driver.call(&mut at, call)
    }

    /// A client connects to a shard.
    pub fn open(&mut self, shard: usize, peer: Peer) -> Link {
        let link = Link(self.net.lines.len());
        self.net.lines.push(Line {
            room: usize::MAX,
            ..Line::default()
        });
        let newcomer = Newcomer {
            stream: Wire(link),
            layers: None,
            peer,
            refused: None,
        };
        self.control(shard, Control::Open(newcomer));
        link
    }

    /// The client sends.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        let line = &mut self.net.lines[link.0];
        if line.dropped || line.ended.is_some() || bytes.is_empty() {
            return;
        }
        line.unread.extend(bytes);
        self.net.notice(link, READABLE);
    }

    /// The client's end of the connection ends.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        let line = &mut self.net.lines[link.0];
        if line.ended.is_none() {
            line.ended = Some(end);
            let read_closed = true;
            self.net.notice(
                link,
                Notice {
                    read_closed,
                    ..READABLE
                },
            );
        }
    }

    /// The client will not end its side when the node has ended its own.
    pub fn hang(&mut self, link: Link) {
        self.net.lines[link.0].hangs = true;
    }

    /// The node may write this number of bytes before it has to wait.
    pub fn set_room(&mut self, link: Link, bytes: usize) {
        self.net.lines[link.0].room = bytes;
        if bytes > 0 {
            let writable = Notice {
                writable: true,
                ..Notice::default()
            };
            self.net.notice(link, writable);
        }
    }

    /// Takes what the node has written.
    pub fn take(&mut self, link: Link) -> Vec<u8> {
        let line = &mut self.net.lines[link.0];
        line.received_in = None;
        std::mem::take(&mut line.received)
    }

    /// What the node has written and the client has not taken.
    pub fn received(&self, link: Link) -> &[u8] {
        &self.net.lines[link.0].received
    }

    /// The turn in which the first byte came that the client has not taken.
    pub fn received_in(&self, link: Link) -> Option<u64> {
        self.net.lines[link.0].received_in
    }

    /// One of the two has ended the connection.
    pub fn is_closed(&self, link: Link) -> bool {
        let line = &self.net.lines[link.0];
        line.closed || line.ended.is_some()
    }

    /// The node has no more to do with the connection.
    pub fn is_dropped(&self, link: Link) -> bool {
        self.net.lines[link.0].dropped
    }

    /// The shard that has the connection.
    pub fn shard_of(&self, link: Link) -> Option<u16> {
        let (shard, _) = self.net.lines[link.0].at?;
        Some(shard as u16)
    }

    /// Puts something into the control lane of a shard.
    pub fn control(&mut self, shard: usize, control: Control<Wire>) {
        self.net.inboxes[shard].control.push_back(control);
    }

    /// All records of a shard up to this one are durable.
    pub fn durable(&mut self, shard: usize, up_to: RecordNumber) {
        self.net.inboxes[shard].durable = Some(up_to);
    }

    /// Puts a batch into the mailbox of a shard.
    pub fn mail(&mut self, to: usize, from: ShardId, messages: Vec<ShardMessage>) {
        let at = self.net.moment.get();
        let batch = Batch { from, at, messages };
        self.net.inboxes[to].batches.push_back(batch);
    }

    /// Keeps batches between shards from arriving, or lets those that wait arrive.
    pub fn hold_mail(&mut self, hold: bool) {
        self.net.is_mail_held = hold;
    }

    /// Batches between shards do not arrive.
    pub fn is_mail_held(&self) -> bool {
        self.net.is_mail_held
    }

    /// Mailboxes take this number of batches.
    pub fn limit_mailboxes(&mut self, batches: usize) {
        self.net.mailbox_batches = Some(batches);
    }

    /// Loses all batches that are on their way.
    pub fn lose_mail(&mut self) {
        for inbox in &mut self.net.inboxes {
            inbox.batches.clear();
        }
    }

    /// Batches that wait for a shard.
    pub fn batch_count(&self, shard: usize) -> usize {
        self.net.inboxes[shard].batches.len()
    }

    /// Reads and writes of sockets so far.
    pub fn reads_and_writes(&self) -> (u64, u64) {
        (self.net.reads, self.net.writes)
    }

    /// Turns of deferred work of all shards so far.
    pub fn turns(&self) -> u64 {
        self.net.turns
    }

    /// Events since the last call.
    pub fn take_events(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.net.events)
    }

    /// Reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.net.reports)
    }

    /// What a part was told next.
    pub fn next_told(&mut self) -> Option<(PartId, PartEvent)> {
        self.net.parts.pop_front()
    }

    /// The next client who waits to be known, and the number of the shard that asks.
    pub fn next_asked(&mut self) -> Option<(u16, Authentication)> {
        self.net.asked.pop_front()
    }

    /// Counters of all shards together.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let mut effects = Effects::default();
        for driver in &self.drivers {
            let cx = Cx {
                now: self.now,
                node: self.parts.node(),
                effects: &mut effects,
            };
            sum.add(&driver.shard().snapshot(&cx));
        }
        sum
    }
}

#[cfg(test)]
impl<P: Parts> World<P> {
    /// Lets a test go on in the middle of a tick.
    pub(crate) fn with_outside(
        &mut self,
        shard: usize,
        call: impl FnOnce(&mut Driver<Wire>, &mut At<'_, P>),
    ) {
        let mut at = At {
            parts: &mut self.parts,
            net: &mut self.net,
            shard,
        };
        call(&mut self.drivers[shard], &mut at);
    }
}

/// The node as the loop of one shard sees it.
pub(crate) struct At<'a, P> {
    parts: &'a mut P,
    net: &'a mut Net,
    shard: usize,
}

impl<P: Parts> Transport for At<'_, P> {
    type Stream = Wire;

    fn notices(&mut self, mut take: impl FnMut(SocketKey, Notice)) {
        for (key, notice) in self.net.inboxes[self.shard].notices.drain(..) {
            take(key, notice);
        }
    }

    fn add(&mut self, stream: &mut Wire, key: SocketKey) -> bool {
        self.net.lines[stream.0.0].at = Some((self.shard, key));
        if self.net.is_readable(stream.0) {
            self.net.notice(stream.0, READABLE);
        }
        true
    }

    fn read(&mut self, stream: &mut Wire, room: &mut [u8]) -> Read {
        self.net.reads += 1;
        let line = &mut self.net.lines[stream.0.0];
        let count = room.len().min(line.unread.len());
        if count > 0 {
            let (first, second) = line.unread.as_slices();
            let split = first.len().min(count);
            room[..split].copy_from_slice(&first[..split]);
            room[split..count].copy_from_slice(&second[..count - split]);
            line.unread.drain(..count);
            return Read::Bytes(count);
        }
        match line.ended {
            None => Read::Empty,
            Some(TransportEnd::EndOfStream) => Read::End,
            Some(_) => Read::Broken,
        }
    }

    fn write(&mut self, stream: &mut Wire, _: Option<&mut NoLayers>, output: &[u8]) -> Written {
        if output.is_empty() {
            return Written::Nothing;
        }
        self.net.writes += 1;
        let line = &mut self.net.lines[stream.0.0];
        let taken = output.len().min(line.room);
        if line.room < usize::MAX {
            line.room -= taken;
        }
        line.received.extend_from_slice(&output[..taken]);
        if taken > 0 {
            line.received_in.get_or_insert(self.net.turns);
        }
        Written::Some {
            taken,
            blocked: taken < output.len(),
        }
    }

    fn end_writing(&mut self, stream: &mut Wire) -> bool {
        let line = &mut self.net.lines[stream.0.0];
        line.closed = true;
        if !line.hangs {
            line.unread.clear();
            line.ended.get_or_insert(TransportEnd::EndOfStream);
            self.net.notice(stream.0, READABLE);
        }
        true
    }

    fn drop_stream(&mut self, stream: Wire) {
        let line = &mut self.net.lines[stream.0.0];
        (line.closed, line.dropped, line.at) = (true, true, None);
        line.unread = VecDeque::new();
    }
}

impl<P: Parts> Mail for At<'_, P> {
    fn next_durable(&mut self) -> Option<RecordNumber> {
        self.net.inboxes[self.shard].durable.take()
    }

    fn next_control(&mut self) -> Option<Control<Wire>> {
        self.net.inboxes[self.shard].control.pop_front()
    }

    fn batch_count(&self) -> usize {
        match self.net.is_mail_held {
            true => 0,
            false => self.net.inboxes[self.shard].batches.len(),
        }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        self.net.inboxes[self.shard].batches.pop_front()
    }

    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch> {
        let batches = &mut self.net.inboxes[usize::from(to.0)].batches;
        if self
            .net
            .mailbox_batches
            .is_some_and(|most| batches.len() >= most)
        {
            return Err(batch);
        }
        batches.push_back(batch);
        Ok(())
    }

    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        self.net.parts.extend(events.drain(..));
    }

    fn give_away(&mut self, to: ShardId, arrival: Arrival<Wire>) {
        self.net.lines[arrival.stream.0.0].at = None;
        let inbox = &mut self.net.inboxes[usize::from(to.0)];
        inbox.control.push_back(Control::Adopt(arrival));
    }
}

impl<P: Parts> Storage for At<'_, P> {
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        _: bool,
    ) -> Option<RecordNumber> {
        let shard = ShardId(self.shard as u16);
        self.parts.append(shard, records, last, now)
    }

    fn read_back(&mut self, reads: &mut Vec<QueueRead>, _: Now, _: Arc<MemoryGauge>) {
        self.parts.read_back(ShardId(self.shard as u16), reads);
    }

    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        self.parts.lost(lost);
    }
}

impl<P: Parts> Outside for At<'_, P> {
    type Node = P::Node;

    fn node(&self) -> &P::Node {
        self.parts.node()
    }

    fn moment(&self) -> Duration {
        let moment = self.net.moment.get() + Duration::from_nanos(1);
        self.net.moment.replace(moment)
    }

    #[inline(always)]
    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, P::Node>) -> T,
    ) -> T {
        self.parts.call(shard, effects, now, call)
    }

    fn worked(&mut self) {
        self.net.turns += 1;
    }

    fn ask(&mut self, authentication: Authentication) {
        self.net
            .asked
            .push_back((self.shard as u16, authentication));
    }

    fn tell(&mut self, events: &mut Vec<Told>) {
        self.net.events.append(events);
    }

    fn report(&mut self, report: Report) {
        self.net.reports.push(report);
    }
}
