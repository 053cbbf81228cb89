//! Reading: each ready socket once per tick, through TLS and WebSocket where they are, into the
//! shard.
//!
//! Sockets are read in groups: first all of a group, then what they brought is processed. So the
//! code of the kernel and that of the shard each stay in the processor's cache for a while.

use std::io;
use std::time::{Duration, Instant};

use martlet_broker::{ConnectionId, Shard, TransportEnd};

use super::{READ_LEN, Reactor};
use crate::poll::SHORT_READ_MEANS_EMPTY;
use crate::socket::{Socket, SocketKey, State};
use crate::tls::TlsEnd;
use crate::websocket::WebSocketEnd;

/// Reads of TLS connections whose handshake is not over, in one tick at most.
const HANDSHAKES_PER_TICK: usize = 8;

/// Reads of connections without a client after the shard's turn is over, in one tick at most.
const NEWCOMERS_PER_TICK: usize = 16;

/// How long a tick reads, at most.
pub(super) const READING_MAX: Duration = Duration::from_millis(2);

/// Time that a tick reads from sockets that come last, at most, while thousands are served, unless
/// it has read others for longer.
pub(super) const READING_LAST_MAX: Duration = Duration::from_micros(300);

/// Part of the time for which a tick has read others, as a divisor, for which it then reads from
/// those that come last, in any case.
const READING_LAST_PART: u32 = 2;

/// Sockets that are read before what they brought is processed, at most.
pub(super) const GROUP: usize = 128;

/// Reads between two readings of the clock, unless they are of one group.
pub(super) const READS_PER_LOOK: usize = 16;

/// Bytes that are read between two readings of the clock.
const BYTES_PER_LOOK: usize = READ_LEN;

/// How long a tick has read from some sockets.
struct ReadingTime {
    began: Instant,
    /// Sockets that were read from.
    sockets: usize,
    /// The same when the clock was read.
    looked_at: usize,
    /// Bytes since then.
    bytes: usize,
}

impl ReadingTime {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            sockets: 0,
            looked_at: 0,
            bytes: 0,
        }
    }

    /// Whether `limit` is over, after this number of bytes more; the clock is read now and then.
    fn is_over(&mut self, bytes: usize, limit: Duration) -> bool {
        self.bytes += bytes;
        let looks = self.sockets - self.looked_at >= READS_PER_LOOK || self.bytes >= BYTES_PER_LOOK;
        if looks {
            (self.looked_at, self.bytes) = (self.sockets, 0);
        }
        looks && self.began.elapsed() > limit
    }
}

/// Sockets that have been read, and what they brought.
#[derive(Debug)]
pub(super) struct Group {
    sockets: Vec<Brought>,
    /// The bytes of one socket after those of the other.
    buffer: Box<[u8]>,
    /// Number of these bytes.
    used: usize,
}

/// What a socket of a group has brought.
#[derive(Debug)]
struct Brought {
    key: SocketKey,
    id: ConnectionId,
    read: Read,
}

impl Group {
    /// A group without sockets that takes the bytes of one that has much, or of many that have
    /// little.
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            buffer: vec![0; 2 * READ_LEN].into_boxed_slice(),
            used: 0,
        }
    }

    /// Where the next socket may put its bytes.
    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used..self.used + READ_LEN]
    }

    fn is_full(&self) -> bool {
        self.sockets.len() == GROUP || self.buffer.len() - self.used < READ_LEN
    }
}

/// Result of one read of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// Number of bytes that are in the read buffer.
    Bytes(usize),
    /// The kernel has no bytes.
    Empty,
    /// The peer sends no more.
    End,
    /// The connection is broken.
    Broken,
}

impl Reactor {
    /// Reads once from each socket that was ready when the tick began. One that is not empty then
    /// has its next turn in the next tick, after all others. Where that takes long, because
    /// thousands of connections end at once for example, the rest comes first in the next tick, so
    /// that those that always have more do not keep the others from their turn.
    pub(super) fn read_ready(&mut self) {
        let mut keys = std::mem::take(&mut self.spare_keys);
        self.sockets.take_ready(&mut keys);
        self.handshakes = HANDSHAKES_PER_TICK;
        self.newcomers = NEWCOMERS_PER_TICK;
        let (mut time, mut is_over) = (ReadingTime::begin(), false);
        // While thousands are served, others do not wait for what many of them have brought.
        let is_alone = self.serves_crowd();
        for key in keys.drain(..) {
            if is_over {
                self.put_off.push(key);
                continue;
            }
            time.sockets += 1;
            if self.read_into_group(key) || is_alone {
                is_over = time.is_over(self.process_group(), self.times.reading);
            }
        }
        self.process_group();
        self.spare_keys = keys;
        let last = match self.sockets.ready_last_count() {
            0 => 0,
            _ => self.read_last(time.began.elapsed(), is_alone),
        };
        self.sockets.read_first(&mut self.put_off);
        self.give_turns(time.sockets + last);
    }

    /// Reads from sockets that always have more, and answers to messages with many receivers:
    /// thousands of PUBACK packets may come at once, and a PINGREQ does not wait behind them.
    /// Others were read from for `others`. Answers how many sockets it has read from.
    fn read_last(&mut self, others: Duration, is_alone: bool) -> usize {
        let left = match is_alone {
            true => self.times.reading_last,
            false => self.times.reading.saturating_sub(others),
        };
        let limit = (others / READING_LAST_PART).max(left);
        let mut time = ReadingTime::begin();
        for _ in 0..self.sockets.ready_last_count() {
            let Some(key) = self.sockets.take_ready_last() else {
                break;
            };
            time.sockets += 1;
            if (self.read_into_group(key) || is_alone) && time.is_over(self.process_group(), limit)
            {
                break;
            }
        }
        self.process_group();
        time.sockets
    }

    /// Reads from a socket. Answers whether the group is to be processed now: it is full, or this
    /// socket may take long, because its client is about to be let in or has gone.
    fn read_into_group(&mut self, key: SocketKey) -> bool {
        let Some(socket) = self.sockets.get(key) else {
            return false;
        };
        let (id, state, paused) = (socket.id, socket.state, socket.paused);
        match state {
            State::Open if !paused => {}
            State::Draining => {
                self.discard(key);
                return true;
            }
            _ => return false,
        }
        let is_newcomer = self.driver.shard.is_in_lobby(id);
        if !self.may_be_read(key, is_newcomer) {
            self.put_off.push(key);
            return false;
        }
        let read = self.read(key);
        if let Read::Bytes(count) = read {
            self.group.used += count;
        }
        self.group.sockets.push(Brought { key, id, read });
        is_newcomer || matches!(read, Read::End | Read::Broken) || self.group.is_full()
    }

    /// Processes what the sockets of the group have brought: this number of bytes.
    fn process_group(&mut self) -> usize {
        let bytes = self.group.used;
        if self.group.sockets.is_empty() {
            return bytes;
        }
        let mut sockets = std::mem::take(&mut self.group.sockets);
        let mut buffer = std::mem::take(&mut self.group.buffer);
        let mut rest = &mut *buffer;
        for Brought { key, id, read } in sockets.drain(..) {
            let count = match read {
                Read::Bytes(count) => count,
                Read::Empty | Read::End | Read::Broken => 0,
            };
            let (bytes, others) = rest.split_at_mut(count);
            rest = others;
            // What another one of the group brought may have ended it.
            if self.sockets.key_of(id) == Some(key) {
                self.receive(key, read, bytes);
            }
        }
        self.group = Group {
            sockets,
            buffer,
            used: 0,
        };
        bytes
    }

    /// One read, behind what the group has read; the socket stays on the list unless that has
    /// emptied it.
    pub(super) fn read(&mut self, key: SocketKey) -> Read {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Read::Empty;
        };
        self.counters.reads.add(1);
        match socket.stream.read(self.group.room()) {
            Ok(0) => Read::End,
            Ok(count) => {
                self.counters.read_bytes.add(count as u64);
                if count == READ_LEN {
                    socket.read_last_from_now_on();
                }
                socket.readable =
                    count == READ_LEN || socket.read_closed || !SHORT_READ_MEANS_EMPTY;
                self.sockets.read_if_wanted(key);
                Read::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.readable = false;
                socket.read_closed = false;
                Read::Empty
            }
            Err(_) => Read::Broken,
        }
    }

    /// Whether a socket is read in this tick. One that is not has its turn in the next one.
    fn may_be_read(&mut self, key: SocketKey, is_newcomer: bool) -> bool {
        if is_newcomer && self.driver.shard.has_done_enough() {
            // Connected clients do not wait for all new connections.
            if self.newcomers == 0 {
                return false;
            }
            self.newcomers -= 1;
        }
        let tls = self.sockets.get(key).and_then(Socket::tls);
        if tls.is_some_and(|tls| !tls.is_open()) {
            // A handshake takes as long as hundreds of messages: few in one tick, so that nobody
            // waits long for those who come.
            if self.handshakes == 0 {
                return false;
            }
            self.handshakes -= 1;
        }
        true
    }

    /// Processes what a socket has brought.
    fn receive(&mut self, key: SocketKey, read: Read, bytes: &mut [u8]) {
        match read {
            Read::Bytes(_) => {
                self.take_in(key, bytes);
                self.charge_layers(key);
                // Its answers do not wait behind messages that go to thousands.
                if self.sockets.get(key).is_some_and(Socket::is_written_last) {
                    self.write(key);
                }
            }
            Read::Empty => {
                // Writing failed and reading was to find what the peer sent before.
                if self
                    .sockets
                    .get(key)
                    .is_some_and(|socket| socket.write_ended)
                {
                    self.lose(key, TransportEnd::Error);
                }
            }
            Read::End => self.lose(key, TransportEnd::EndOfStream),
            Read::Broken => self.lose(key, TransportEnd::Error),
        }
    }

    /// Tells the shard how much memory is taken by what lies between a socket and MQTT, if that has
    /// changed.
    pub(super) fn charge_layers(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let Some((bytes, before)) = socket.layers.as_mut().and_then(|layers| layers.charge())
        else {
            return;
        };
        let id = socket.id;
        self.driver
            .call(|shard, cx| shard.charge_layers(cx, id, bytes, before));
    }

    /// What a socket has brought first: where it comes from, if a proxy says that. Answers how many
    /// bytes that was; none: more of it is to come, or the connection is over.
    fn take_proxy_header(&mut self, key: SocketKey, bytes: &[u8]) -> Option<usize> {
        let socket = self.sockets.get_mut(key)?;
        let id = socket.id;
        let Some(layers) = &mut socket.layers else {
            return Some(0);
        };
        let Some(header) = &mut layers.proxy else {
            return Some(0);
        };
        match header.receive(bytes) {
            Ok(None) => None,
            Ok(Some(found)) => {
                layers.proxy = None;
                if !layers.is_any() {
                    let gone = layers.discharge();
                    socket.layers = None;
                    self.driver
                        .call(|shard, cx| shard.charge_layers(cx, id, 0, gone));
                }
                if let Some(source) = found.source {
                    let address = (source.ip().to_canonical(), source.port());
                    self.driver.shard.comes_from(id, address);
                }
                Some(found.taken)
            }
            Err(why) => {
                self.end_layer(key, TransportEnd::Violation(why));
                None
            }
        }
    }

    /// What a socket has brought, through TLS where it is one.
    fn take_in(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let Some(said) = self.take_proxy_header(key, bytes) else {
            return;
        };
        let bytes = &mut bytes[said..];
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        let id = socket.id;
        let Some(tls) = socket
            .layers
            .as_mut()
            .and_then(|layers| layers.tls.as_mut())
        else {
            return self.hand_over(key, bytes);
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let decrypted = tls.receive(bytes, &mut plain);
        let has_output = tls.has_output();
        if decrypted.opened {
            let listener = self.driver.shard.listener_of(id);
            let entrance = listener.and_then(|number| self.entrances.get(usize::from(number)));
            let settings = entrance.and_then(|entrance| entrance.tls.as_ref());
            let settings = settings.filter(|settings| tls.needs_recheck(settings));
            if let Some(Err(why)) = settings.map(|settings| tls.recheck(settings)) {
                self.plain = plain;
                return self.end_handshake(key, why);
            }
        }
        if decrypted.opened
            && let Some(certificate) = tls.certificate()
        {
            let call = |shard: &mut Shard| shard.has_certificate(id, certificate);
            call(&mut self.driver.shard);
        }
        if has_output {
            self.write_later(key);
        }
        if !plain.is_empty() {
            self.hand_over(key, &mut plain);
        }
        self.plain = plain;
        // What was handed over may have ended it.
        if self.sockets.key_of(id) != Some(key) {
            return;
        }
        match decrypted.end {
            None => {}
            Some(TlsEnd::Closed) => self.end_layer(key, TransportEnd::EndOfStream),
            Some(TlsEnd::Failed(why)) => self.end_handshake(key, why),
        }
    }

    /// TLS has failed. Whose certificate that is for, if it is for one, the verifier knows.
    fn end_handshake(&mut self, key: SocketKey, why: &'static str) {
        let end = match (self.refused_name)() {
            None => TransportEnd::Violation(why),
            Some(name) => TransportEnd::BadCertificate {
                why,
                claims: Some(name.into()),
            },
        };
        self.end_layer(key, end);
    }

    /// Gives the shard these bytes: in one piece, even if they came in many frames, because the
    /// first of them may make the shard give the connection away.
    fn hand_over(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let id = socket.id;
        let Some(web) = socket
            .layers
            .as_mut()
            .and_then(|layers| layers.web.as_mut())
        else {
            self.driver.call(|shard, cx| shard.receive(cx, id, bytes));
            return;
        };
        let received = web.receive(bytes);
        let answers = web.has_answers();
        if received.data_len > 0 {
            let data = &bytes[..received.data_len];
            self.driver.call(|shard, cx| shard.receive(cx, id, data));
        }
        if answers {
            self.write_later(key);
        }
        match received.end {
            None => {}
            Some(WebSocketEnd::Closed) => self.end_layer(key, TransportEnd::EndOfStream),
            Some(WebSocketEnd::Violation(what)) => {
                self.end_layer(key, TransportEnd::Violation(what));
            }
        }
    }
}
