//! A whole node in one thread and in memory: the loops of its shards, the mailboxes between them,
//! connections as queues of bytes, and a clock that is set. For tests and measurements.
//!
//! [`World`] runs the loops; what is special to one kind of test, above all where records go, is in
//! its [`Parts`]. Nothing happens by itself: a test sends, sets the clock and calls ticks.

mod at;
mod net;
mod parts;

use std::sync::Arc;

use martlet_broker::{
    Authentication, Counters, Cx, Effects, EventNotice, ListenerPolicy, Now, PartEvent, PartId,
    Peer, RecordNumber, Report, Screening, Shard, ShardId, ShardMessage, TransportEnd,
};

use self::at::At;
use self::net::{Inbox, LocalConnection, Net};
pub use self::net::{Layer, Link, Wire};
pub use self::parts::Parts;
use crate::Driver;
use crate::outside::{Batch, Control, Newcomer, Notice, Outside as _};

/// Ticks in which a node must come to rest: far more than any test needs.
const TICKS_MAX: u32 = 10_000_000;

/// Messages of a batch, at most.
const BATCH_MESSAGES: usize = 1024;

/// The time at which most tests begin.
pub const START: Now = Now {
    mono_ms: 1000,
    wall_ms: 1_700_000_000_000,
    record_ms: 1_700_000_000_000,
};

/// A client of this machine that comes by a listener; its random bytes are made from `number`.
pub fn peer(listener: &Arc<ListenerPolicy>, number: u64) -> Peer {
    let mut entropy = [0; 16];
    entropy[8..].copy_from_slice(&number.to_be_bytes());
    Peer {
        address: Some(([127, 0, 0, 1].into(), 10_000)),
        listener: Arc::clone(listener),
        entropy,
    }
}

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

    /// What is special to it and the loops of its shards, to be restored or looked into.
    pub fn lend(&mut self) -> (&mut P, &mut [Driver<Wire>]) {
        (&mut self.parts, &mut self.drivers)
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
        let due_ms = self.drivers[shard].due_ms();
        self.net.arrived(shard) > 0
            || !inbox.notices.is_empty()
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
        self.open_line(shard, peer, false)
    }

    /// The same with a layer between the connection and MQTT, whose rules the client may break.
    pub fn open_layered(&mut self, shard: usize, peer: Peer) -> Link {
        self.open_line(shard, peer, true)
    }

    fn open_line(&mut self, shard: usize, peer: Peer, layered: bool) -> Link {
        let line = LocalConnection {
            room: usize::MAX,
            layered,
            ..LocalConnection::default()
        };
        let link = match self.net.free.pop() {
            Some(link) => {
                self.net.lines[link.0] = line;
                link
            }
            None => {
                self.net.lines.push(line);
                Link(self.net.lines.len() - 1)
            }
        };
        let newcomer = Newcomer {
            stream: Wire(link),
            layers: layered.then(|| Box::new(Layer::new(link))),
            peer,
            refused: None,
        };
        self.control(shard, Control::Open(newcomer));
        link
    }

    /// The client has no more to do with a connection that the node has dropped: the link may be
    /// that of another one from now on.
    pub fn forget(&mut self, link: Link) {
        assert!(self.is_dropped(link), "the node still has the connection");
        self.net.free.push(link);
    }

    /// The client sends.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        let line = &mut self.net.lines[link.0];
        if line.dropped || line.ended.is_some() || bytes.is_empty() {
            return;
        }
        line.unread.extend(bytes);
        self.net.announce(link);
    }

    /// The client's end of the connection ends; breaking a rule of the layer, if there is one and
    /// `end` says so.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        let line = &mut self.net.lines[link.0];
        if line.ended.is_some() {
            return;
        }
        line.ended = Some(end);
        if line.violation().is_some() {
            // The byte that breaks the rule.
            line.unread.push_back(0);
        }
        self.net.announce(link);
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

    /// Hands over what the node has written, which counts as taken.
    pub fn read(&mut self, link: Link, take: impl FnOnce(&[u8])) {
        let line = &mut self.net.lines[link.0];
        line.received_in = None;
        take(&line.received);
        line.received.clear();
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
        let inbox = &mut self.net.inboxes[shard];
        (inbox.durable, inbox.answered) = (Some(up_to), up_to);
    }

    /// The next `count` records of a shard are durable, or all if there are fewer; false if there
    /// are none.
    pub fn answer(&mut self, shard: usize, count: u64) -> bool {
        let inbox = &self.net.inboxes[shard];
        let up_to = inbox
            .appended
            .min(RecordNumber(inbox.answered.0.saturating_add(count)));
        let is_any = up_to > inbox.answered;
        if is_any {
            self.durable(shard, up_to);
        }
        is_any
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

    /// Keeps connections that move between shards from arriving, or lets those that wait arrive.
    pub fn hold_moves(&mut self, hold: bool) {
        self.net.are_moves_held = hold;
        for inbox in self.net.inboxes.iter_mut().filter(|_| !hold) {
            let arrivals = inbox.arrivals.drain(..).map(Control::Adopt);
            inbox.control.extend(arrivals);
        }
    }

    /// Lets the first of what is held arrive at a shard, a connection before a batch; false if
    /// nothing is.
    pub fn deliver(&mut self, shard: usize) -> bool {
        let inbox = &mut self.net.inboxes[shard];
        if let Some(arrival) = inbox.arrivals.pop_front() {
            inbox.control.push_back(Control::Adopt(arrival));
            return true;
        }
        let is_any = inbox.released < inbox.batches.len();
        inbox.released += usize::from(is_any);
        is_any
    }

    /// Mailboxes take this number of batches.
    pub fn limit_mailboxes(&mut self, batches: usize) {
        self.net.mailbox_batches = Some(batches);
    }

    /// Loses all batches that are on their way.
    pub fn lose_mail(&mut self) {
        for inbox in &mut self.net.inboxes {
            inbox.batches.clear();
            inbox.released = 0;
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
    pub fn take_events(&mut self) -> Vec<EventNotice> {
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

    /// The next message that is looked at before it is routed, and the number of the shard that
    /// asks.
    pub fn next_screening(&mut self) -> Option<(u16, Screening)> {
        self.net.screenings.pop_front()
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
