//! A whole node in one thread and in memory: the loops of its shards, the mailboxes between them,
//! connections as queues of bytes, and a manual clock. For tests and measurements.
//!
//! [`World`] runs the loops. The parts that differ between kinds of tests, above all the storage of
//! records, are in its [`Parts`]. Nothing happens automatically: a test sends bytes, sets the clock
//! and calls ticks.

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

/// Limit of ticks in which a node must become idle: far more than any test needs.
const TICKS_MAX: u32 = 10_000_000;

/// Most messages in a batch.
const BATCH_MESSAGES: usize = 1024;

/// The time at which most tests begin.
pub const START: Now = Now {
    mono_ms: 1000,
    wall_ms: 1_700_000_000_000,
    record_ms: 1_700_000_000_000,
};

/// A client on this machine that connects to a listener. Its random bytes are derived from
/// `number`.
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
    /// The part that differs between kinds of tests.
    pub parts: P,
    drivers: Vec<Driver<Wire>>,
    net: Net,
    now: Now,
}

impl<P: Parts> World<P> {
    /// Creates a node of these shards, in the order of their numbers.
    pub fn new(parts: P, shards: Vec<Shard>, now: Now) -> Self {
        let count = shards.len() as u16;
        let drivers = shards
            .into_iter()
            .enumerate()
            .map(|(id, shard)| Driver::new(shard, ShardId(id as u16), count, BATCH_MESSAGES, now));
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

    /// Returns the loops of its shards.
    pub fn drivers(&self) -> &[Driver<Wire>] {
        &self.drivers
    }

    /// Lends the test-specific part and the loops of the shards, to be restored or inspected.
    pub fn lend(&mut self) -> (&mut P, &mut [Driver<Wire>]) {
        (&mut self.parts, &mut self.drivers)
    }

    /// Number of shards.
    pub fn shard_count(&self) -> u16 {
        self.drivers.len() as u16
    }

    /// The current time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets the current time.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Advances all clocks to this time.
    pub fn set_clock(&mut self, mono_ms: u64) {
        let ms = mono_ms.saturating_sub(self.now.mono_ms);
        self.now.wall_ms += ms;
        self.now.record_ms += ms;
        self.now.mono_ms += ms;
    }

    /// Whether input waits for this shard, or its next tick is due.
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

    /// Runs one tick of a shard.
    pub fn tick(&mut self, shard: usize) {
        let mut at = At {
            parts: &mut self.parts,
            net: &mut self.net,
            shard,
        };
        let moment = at.moment();
        self.drivers[shard].tick(&mut at, moment, self.now);
    }

    /// Runs one tick of each shard that is due. Returns false if none is.
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

    /// Runs ticks until no work is left at this time.
    pub fn run(&mut self) {
        for _ in 0..TICKS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    /// Calls into a shard between two ticks. The next tick carries out the effects.
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

    /// Connects a client to a shard.
    pub fn open(&mut self, shard: usize, peer: Peer) -> Link {
        self.open_line(shard, peer, false)
    }

    /// Connects a client with a layer between the connection and MQTT, whose rules the client may
    /// break.
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

    /// Releases a connection that the node has dropped. The link may be reused for another
    /// connection.
    pub fn forget(&mut self, link: Link) {
        assert!(self.is_dropped(link), "the node still has the connection");
        self.net.free.push(link);
    }

    /// Sends bytes from the client.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        let line = &mut self.net.lines[link.0];
        if line.dropped || line.ended.is_some() || bytes.is_empty() {
            return;
        }
        line.unread.extend(bytes);
        self.net.announce(link);
    }

    /// Ends the client's side of the connection. If there is a layer and `end` is a violation, the
    /// client breaks a rule of the layer.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        let line = &mut self.net.lines[link.0];
        if line.ended.is_some() {
            return;
        }
        line.ended = Some(end);
        if line.violation().is_some() {
            // This byte breaks the rule.
            line.unread.push_back(0);
        }
        self.net.announce(link);
    }

    /// Makes the client keep its side open when the node has ended its own.
    pub fn hang(&mut self, link: Link) {
        self.net.lines[link.0].hangs = true;
    }

    /// Sets the number of bytes that the node may write before it is blocked.
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

    /// Takes the bytes that the node has written.
    pub fn take(&mut self, link: Link) -> Vec<u8> {
        let line = &mut self.net.lines[link.0];
        line.received_in = None;
        std::mem::take(&mut line.received)
    }

    /// Passes the bytes that the node has written to `take`; they count as taken.
    pub fn read(&mut self, link: Link, take: impl FnOnce(&[u8])) {
        let line = &mut self.net.lines[link.0];
        line.received_in = None;
        take(&line.received);
        line.received.clear();
    }

    /// Bytes that the node has written and the client has not taken.
    pub fn received(&self, link: Link) -> &[u8] {
        &self.net.lines[link.0].received
    }

    /// The turn in which the first byte arrived that the client has not taken.
    pub fn received_in(&self, link: Link) -> Option<u64> {
        self.net.lines[link.0].received_in
    }

    /// Whether either side has ended the connection.
    pub fn is_closed(&self, link: Link) -> bool {
        let line = &self.net.lines[link.0];
        line.closed || line.ended.is_some()
    }

    /// Whether the node has dropped the connection.
    pub fn is_dropped(&self, link: Link) -> bool {
        self.net.lines[link.0].dropped
    }

    /// The shard that has the connection.
    pub fn shard_of(&self, link: Link) -> Option<u16> {
        let (shard, _) = self.net.lines[link.0].at?;
        Some(shard as u16)
    }

    /// Puts an item into the control lane of a shard.
    pub fn control(&mut self, shard: usize, control: Control<Wire>) {
        self.net.inboxes[shard].control.push_back(control);
    }

    /// Notifies a shard that all its records up to this one are durable.
    pub fn durable(&mut self, shard: usize, up_to: RecordNumber) {
        let inbox = &mut self.net.inboxes[shard];
        (inbox.durable, inbox.answered) = (Some(up_to), up_to);
    }

    /// Makes the next `count` records of a shard durable, or all if there are fewer. Returns false
    /// if there are none.
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

    /// Holds back batches between shards, or releases the waiting ones.
    pub fn hold_mail(&mut self, hold: bool) {
        self.net.is_mail_held = hold;
    }

    /// Whether batches between shards are held back.
    pub fn is_mail_held(&self) -> bool {
        self.net.is_mail_held
    }

    /// Holds back connections that move between shards, or releases the waiting ones.
    pub fn hold_moves(&mut self, hold: bool) {
        self.net.are_moves_held = hold;
        for inbox in self.net.inboxes.iter_mut().filter(|_| !hold) {
            let arrivals = inbox.arrivals.drain(..).map(Control::Adopt);
            inbox.control.extend(arrivals);
        }
    }

    /// Delivers the first held-back item to a shard, a connection before a batch. Returns false if
    /// there is none.
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

    /// Sets the number of batches that a mailbox takes.
    pub fn limit_mailboxes(&mut self, batches: usize) {
        self.net.mailbox_batches = Some(batches);
    }

    /// Drops all batches that are on their way.
    pub fn lose_mail(&mut self) {
        for inbox in &mut self.net.inboxes {
            inbox.batches.clear();
            inbox.released = 0;
        }
    }

    /// Number of batches that wait for a shard.
    pub fn batch_count(&self, shard: usize) -> usize {
        self.net.inboxes[shard].batches.len()
    }

    /// Number of reads and writes of sockets so far.
    pub fn reads_and_writes(&self) -> (u64, u64) {
        (self.net.reads, self.net.writes)
    }

    /// Number of turns of deferred work of all shards so far.
    pub fn turns(&self) -> u64 {
        self.net.turns
    }

    /// Returns the events since the last call.
    pub fn take_events(&mut self) -> Vec<EventNotice> {
        std::mem::take(&mut self.net.events)
    }

    /// Returns the reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.net.reports)
    }

    /// Returns the next event for a part.
    pub fn next_told(&mut self) -> Option<(PartId, PartEvent)> {
        self.net.parts.pop_front()
    }

    /// Returns the next authentication request, and the number of its shard.
    pub fn next_asked(&mut self) -> Option<(u16, Authentication)> {
        self.net.asked.pop_front()
    }

    /// Returns the next request to check a message before it is routed, and the number of its
    /// shard.
    pub fn next_screening(&mut self) -> Option<(u16, Screening)> {
        self.net.screenings.pop_front()
    }

    /// Sum of the counters of all shards.
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
    /// Lets a test run code in the middle of a tick.
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
