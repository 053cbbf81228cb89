//! The state of the loop, and the order of the steps of a tick.
//!
//! `input.rs` reads, `output.rs` carries out effects and writes, `ending.rs` closes sockets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use martlet_broker::{
    ConnectionEffect, ConnectionId, Cx, Effects, Now, Shard, ShardId, TransportEnd,
};

use crate::deadline::Deadline;
use crate::outbox::Outbox;
use crate::outside::{Arrival, Control, Layers, Newcomer, Outside, Stream};
use crate::read_sockets::ReadSockets;
use crate::socket::Sockets;
use crate::socket_key::SocketKey;
use crate::time_limits::TimeLimits;

/// Most certificates of connected clients that are checked again in one tick.
const RECHECKS_PER_TICK: usize = 32;

/// Most places of sockets that one tick examines for that.
pub(crate) const RECHECK_PLACES_PER_TICK: usize = 256;

/// Most batches of other shards that one tick takes.
pub(crate) const BATCHES_PER_TICK: usize = 256;

/// Interval at which sending to a full mailbox is retried, in milliseconds.
const CONGESTED_RETRY_MS: u64 = 1;

/// One shard with its connections.
pub struct Driver<S: Stream> {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    /// The time of this tick.
    pub(crate) now: Now,
    /// When this tick began.
    pub(crate) tick_at: Duration,
    pub(crate) outbox: Outbox,
    /// Whether the shard has been notified that other shards do not keep up.
    pub(crate) congested: bool,
    pub(crate) sockets: Sockets<S>,
    pub(crate) times: TimeLimits,
    /// How many more sockets with little output may be written to in this tick.
    pub(crate) turns: usize,
    /// Time at which this tick stops writing.
    pub(crate) writing_ends: Duration,
    /// Broken sockets to be dropped whose failure no read will detect.
    pub(crate) broken: VecDeque<(SocketKey, ConnectionId)>,
    /// Times at which closing sockets are dropped, whatever their peers do.
    pub(crate) deadlines: BinaryHeap<Reverse<Deadline>>,
    /// Sockets that have been read in this tick and whose bytes are not yet processed.
    pub(crate) group: ReadSockets,
    /// The MQTT bytes that layers have extracted.
    pub(crate) plain: Vec<u8>,
    /// How many more TLS handshakes may be processed in this tick.
    pub(crate) handshakes: usize,
    /// How many more connections without a client may be read in this tick although the shard's
    /// turn is over.
    pub(crate) newcomers: usize,
    /// Connections from the lobbies of other shards, to be adopted by the next tick.
    pub(crate) arrivals: Vec<Arrival<S>>,
    /// Messages sent in this tick: when they arrived, and how many.
    under_way: Vec<(Duration, u64)>,
    /// During a new check of client certificates, the place of the next socket.
    pub(crate) next_recheck: Option<SocketKey>,
    /// Empty lists for reuse by the next tick.
    pub(crate) spare_keys: Vec<SocketKey>,
    /// Sockets that have input and had no turn in this tick.
    pub(crate) put_off: Vec<SocketKey>,
    pub(crate) spare_effects: Vec<ConnectionEffect>,
    spare_newcomers: Vec<Newcomer<S>>,
    stopped: bool,
}

impl<S: Stream> Driver<S> {
    /// Creates the driver of shard `id` of `shard_count`. Batches for other shards have at most
    /// `batch_messages` messages.
    pub fn new(
        shard: Shard,
        id: ShardId,
        shard_count: u16,
        batch_messages: usize,
        now: Now,
    ) -> Self {
        Self {
            shard,
            effects: Effects::new(shard_count),
            now,
            tick_at: Duration::ZERO,
            outbox: Outbox::new(id, shard_count, batch_messages),
            congested: false,
            sockets: Sockets::default(),
            times: TimeLimits::default(),
            turns: 0,
            writing_ends: Duration::ZERO,
            broken: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            group: ReadSockets::new(),
            plain: Vec::new(),
            handshakes: 0,
            newcomers: 0,
            arrivals: Vec::new(),
            under_way: Vec::new(),
            next_recheck: None,
            spare_keys: Vec::new(),
            put_off: Vec::new(),
            spare_effects: Vec::new(),
            spare_newcomers: Vec::new(),
            stopped: false,
        }
    }

    /// Sets time limits for work whose duration depends on the number of clients.
    pub fn set_times(&mut self, times: TimeLimits) {
        self.times = times;
    }

    /// Sets the time for calls between two ticks.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The time of the last tick.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Lends the shard and its effects for restoring.
    pub fn lend(&mut self) -> (&mut Shard, &mut Effects) {
        (&mut self.shard, &mut self.effects)
    }

    /// Number of connections of this shard, including those that wait to be adopted and those being
    /// closed.
    pub fn connection_count(&self) -> usize {
        self.sockets.len() + self.arrivals.len()
    }

    /// Whether the driver has been stopped: no ticks follow.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Number of sockets that are read or written after all others.
    pub fn last_count(&self) -> usize {
        self.sockets.last_count() + self.sockets.ready_last_count()
    }

    /// Whether only work for many clients waits for the next tick. Then a short pause delays no
    /// client that waits for other work.
    pub fn may_rest(&self) -> bool {
        !self.sockets.is_turn_due() && self.arrivals.is_empty() && self.effects.is_empty()
    }

    /// When the next tick is due without new input, in milliseconds of monotonic time. 0 means now,
    /// `None` means never.
    pub fn due_ms(&self) -> Option<u64> {
        let busy = !self.arrivals.is_empty()
            || !self.broken.is_empty()
            || self.next_recheck.is_some()
            || !self.sockets.is_idle()
            || self.shard.has_work()
            || !self.effects.is_empty();
        if busy {
            return Some(0);
        }
        let due_ms = [
            self.shard.next_wakeup(),
            self.deadlines
                .peek()
                .map(|Reverse(deadline)| deadline.due_ms),
            self.congested
                .then_some(self.now.mono_ms + CONGESTED_RETRY_MS),
        ];
        due_ms.into_iter().flatten().min()
    }

    /// Runs one tick that begins `at` this moment, when the shard's time is `now`.
    pub fn tick<O: Outside<Stream = S>>(&mut self, outside: &mut O, at: Duration, now: Now) {
        self.tick_at = at;
        self.now = now;
        self.take_notices(outside);
        self.let_in(outside);
        self.take_control(outside);
        self.take_batches(outside);
        // Packets of an adopted connection, and postponed packets, are processed before the bytes
        // read now, which may be the end of the stream.
        self.append_records(outside);
        let before = self.shard.sent_at_once();
        self.work(outside);
        self.accept(outside);
        self.read_ready(outside);
        let sent = self.shard.sent_at_once() - before;
        self.note_under_way(self.tick_at, sent);
        let now_ms = self.now.mono_ms;
        if self
            .shard
            .next_wakeup()
            .is_some_and(|due_ms| due_ms <= now_ms)
        {
            self.call(outside, |shard, cx| shard.advance(cx));
        }
        self.recheck_certificates(outside);
        self.end_overdue(outside);
        self.carry_out(outside);
        self.tell_under_way(outside);
    }

    /// Calls into the shard at the time of this tick.
    #[inline(always)]
    pub fn call<O: Outside<Stream = S>, T>(
        &mut self,
        outside: &mut O,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, O::Node>) -> T,
    ) -> T {
        outside.call(&mut self.shard, &mut self.effects, self.now, call)
    }

    /// Continues deferred work.
    pub(crate) fn work<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        self.call(outside, |shard, cx| shard.work(cx));
        outside.worked();
    }

    /// Opens a connection in the lobby of this shard.
    pub fn open<O: Outside<Stream = S>>(&mut self, outside: &mut O, newcomer: Newcomer<S>) {
        let Newcomer {
            stream,
            layers,
            peer,
            refused,
        } = newcomer;
        self.make_way(outside);
        let id = self.call(outside, |shard, cx| shard.open(cx, peer));
        match refused {
            None => self.insert(outside, stream, id, layers),
            Some(end) => {
                outside.drop_stream(stream);
                self.call(outside, |shard, cx| shard.closed(cx, id, end));
            }
        }
    }

    /// Bytes of the shard's output that a socket has not yet accepted.
    pub fn unwritten(&self, key: SocketKey) -> usize {
        let socket = self.sockets.get(key);
        let socket = socket.filter(|socket| socket.carries_output());
        socket.map_or(0, |socket| self.shard.output(socket.id).len())
    }

    /// Whether there is work for thousands of clients.
    pub fn serves_crowd(&self) -> bool {
        self.last_count() >= CROWD || self.shard.serves_crowd()
    }

    fn take_notices<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let now_ms = self.now.mono_ms;
        let (sockets, broken) = (&mut self.sockets, &mut self.broken);
        outside.notices(|key, notice| {
            if sockets.notice(key, &notice, now_ms)
                && let Some(socket) = sockets.get(key)
            {
                broken.push_back((key, socket.id));
            }
        });
        self.drop_broken(outside);
    }

    /// Adopts connections that arrived before this tick. Before that, reads all readable sockets:
    /// bytes that a client sent before it reconnected, perhaps DISCONNECT, must be read before the
    /// new connection takes over. Otherwise its Will would be published although it sent DISCONNECT
    /// [MQTT-3.14.4-3].
    fn let_in<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        if self.arrivals.is_empty() {
            return;
        }
        // Here, too, postponed packets are processed before bytes read now.
        self.append_records(outside);
        self.work(outside);
        self.read_ready(outside);
        self.carry_out(outside);
        // Each connection may take over a session. Pending work of the old connection is done
        // first.
        self.shard.begin_turn();
        let mut arrivals = std::mem::take(&mut self.arrivals).into_iter();
        for arrival in arrivals.by_ref() {
            self.adopt(outside, arrival);
            if self.shard.has_done_enough() {
                break;
            }
        }
        // The next tick adopts the others.
        self.arrivals = arrivals.collect();
    }

    /// Handles items of the control lane until the turn is over, because thousands of clients may
    /// be authenticated at once. The rest follows in the next turn.
    fn take_control<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        self.shard.begin_turn();
        if let Some(up_to) = outside.next_durable() {
            self.call(outside, |shard, cx| shard.durable(cx, up_to));
        }
        while let Some(control) = outside.next_control() {
            match control {
                Control::Open(newcomer) => self.open(outside, newcomer),
                Control::Adopt(arrival) => self.arrivals.push(arrival),
                Control::Command(command) => {
                    self.call(outside, |shard, cx| shard.command(cx, command));
                }
                Control::Part(call) => {
                    self.call(outside, |shard, cx| shard.part_call(cx, call));
                }
                Control::MessagesRead(page) => {
                    self.call(outside, |shard, cx| shard.messages_read(cx, page));
                }
                Control::StoreIs(state, at_share) => self.shard.store_is(state, at_share),
                Control::Authenticated(id, answer) => {
                    self.call(outside, |shard, cx| shard.authenticated(cx, id, *answer));
                }
                Control::Screened(id, answer) => {
                    self.call(outside, |shard, cx| shard.screened(cx, id, *answer));
                }
                Control::RecheckCertificates => self.next_recheck = Some(0),
                Control::Stop => {
                    self.stopped = true;
                    return;
                }
            }
            if self.shard.has_done_enough() {
                return;
            }
        }
    }

    fn take_batches<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        self.shard.begin_turn();
        for _ in 0..outside.batch_count().min(BATCHES_PER_TICK) {
            if self.shard.is_behind() || self.shard.has_done_enough() {
                return;
            }
            let Some(mut batch) = outside.next_batch() else {
                return;
            };
            let (from, messages) = (batch.from, &mut batch.messages);
            let before = self.shard.sent_at_once();
            self.call(outside, |shard, cx| {
                shard.receive_batch(cx, from, messages);
            });
            let sent = self.shard.sent_at_once() - before;
            self.note_under_way(batch.at, sent);
            batch.messages.clear();
            outside.give_back(from, batch.messages);
        }
    }

    fn accept<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let mut accepted = std::mem::take(&mut self.spare_newcomers);
        outside.accept(self.now, &mut accepted);
        for newcomer in accepted.drain(..) {
            self.open(outside, newcomer);
        }
        self.spare_newcomers = accepted;
    }

    /// Takes over a connection from the lobby of another shard.
    fn adopt<O: Outside<Stream = S>>(&mut self, outside: &mut O, arrival: Arrival<S>) {
        let Arrival {
            stream,
            layers,
            guest,
        } = arrival;
        self.make_way(outside);
        let id = self.call(outside, |shard, cx| shard.adopt(cx, guest));
        self.insert(outside, stream, id, layers);
    }

    fn insert<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        mut stream: S,
        id: ConnectionId,
        layers: Option<Box<S::Layers>>,
    ) {
        // The socket is announced at once if it is readable now.
        if !outside.add(&mut stream, self.sockets.next_key()) {
            outside.drop_stream(stream);
            self.call(outside, |shard, cx| {
                shard.closed(cx, id, TransportEnd::Error);
            });
            return;
        }
        let unwritten = layers.as_ref().is_some_and(|layers| layers.has_output());
        let key = self.sockets.insert(stream, id, layers);
        self.charge_layers(outside, key);
        if unwritten {
            self.write_later(key);
        }
    }

    /// Disconnects clients whose certificates are no longer valid. Checks only a few per tick, so
    /// that other clients do not wait long.
    fn recheck_certificates<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let mut checked = 0;
        for _ in 0..RECHECK_PLACES_PER_TICK {
            let Some(key) = self.next_recheck.filter(|_| checked < RECHECKS_PER_TICK) else {
                return;
            };
            self.next_recheck = (key + 1 < self.sockets.places()).then_some(key + 1);
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            let Some(layers) = &socket.layers else {
                continue;
            };
            let id = socket.id;
            let Some(verdict) = outside.recheck(layers, self.shard.listener_of(id)) else {
                continue;
            };
            checked += 1;
            if let Err(fault) = verdict {
                self.call(outside, |shard, cx| {
                    shard.is_not_let_in(cx, id, fault.into())
                });
            }
        }
    }

    /// Counts packets in output buffers, of messages that arrived at `since`.
    fn note_under_way(&mut self, since: Duration, messages: u64) {
        if messages > 0 {
            self.under_way.push((since, messages));
        }
    }

    /// Reports the latency of messages that have been written.
    fn tell_under_way<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        if self.under_way.is_empty() {
            return;
        }
        let now = outside.moment();
        for (since, messages) in self.under_way.drain(..) {
            outside.under_way(now.saturating_sub(since), messages);
        }
    }
}

/// Number of sockets in the lists for "after all others" from which a shard serves a crowd.
pub const CROWD: usize = 1024;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
