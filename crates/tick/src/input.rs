//! Reads each ready socket once per tick and passes its bytes through TLS and WebSocket, if used,
//! to the shard.
//!
//! Sockets are read in groups: first all sockets of a group are read, then their bytes are
//! processed. So the code of the kernel and the code of the shard each stay in the processor's
//! cache for a while.

use std::time::Duration;

use martlet_broker::TransportEnd;

use crate::driver::Driver;
use crate::outside::{Layers as _, Outside, Read, Received, Stream};
use crate::read_sockets::{Brought, READ_LEN, ReadSockets};
use crate::socket::{Socket, State};
use crate::socket_key::SocketKey;

/// Most reads in one tick of TLS connections whose handshake has not completed.
const HANDSHAKES_PER_TICK: usize = 8;

/// Most reads in one tick of connections without a client after the shard's turn is over.
const NEWCOMERS_PER_TICK: usize = 16;

/// Divisor. A tick reads the sockets that come last for at least this part of the time spent on the
/// others.
const READING_LAST_PART: u32 = 2;

/// Units of layer work from which a socket's next input is read after all others. A client may send
/// thousands of tiny WebSocket frames or TLS records without MQTT.
pub(crate) const LAYERS_WORK_MAX: u64 = 512;

/// Number of reads between two readings of the clock, unless they belong to one group.
pub(crate) const READS_PER_LOOK: usize = 16;

/// Number of bytes read between two readings of the clock.
const BYTES_PER_LOOK: usize = READ_LEN;

/// Time that a tick has spent on reading from some sockets.
struct ReadingTime {
    began: Duration,
    /// Number of sockets that were read.
    sockets: usize,
    /// Number of sockets at the last reading of the clock.
    looked_at: usize,
    /// Bytes read since then.
    bytes: usize,
}

impl ReadingTime {
    fn begin(now: Duration) -> Self {
        Self {
            began: now,
            sockets: 0,
            looked_at: 0,
            bytes: 0,
        }
    }

    /// Whether `limit` has expired, after this number of further bytes. Reads the clock only now
    /// and then.
    fn is_over(&mut self, outside: &impl Outside, bytes: usize, limit: Duration) -> bool {
        self.bytes += bytes;
        let looks = self.sockets - self.looked_at >= READS_PER_LOOK || self.bytes >= BYTES_PER_LOOK;
        if looks {
            (self.looked_at, self.bytes) = (self.sockets, 0);
        }
        looks && outside.moment() - self.began > limit
    }
}

impl<S: Stream> Driver<S> {
    /// Reads once from each socket that was ready when the tick began. A socket that is not empty
    /// then has its next turn in the next tick, after all others. If reading takes long, for
    /// example because thousands of connections end at once, the rest comes first in the next tick.
    /// So sockets that always have input do not keep the others from their turn.
    pub(crate) fn read_ready<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let mut keys = std::mem::take(&mut self.spare_keys);
        self.sockets.take_ready(&mut keys);
        self.handshakes = HANDSHAKES_PER_TICK;
        self.newcomers = NEWCOMERS_PER_TICK;
        let (mut time, mut is_over) = (ReadingTime::begin(outside.moment()), false);
        // While thousands of clients are served, other clients do not wait for the input of many of
        // them.
        let is_alone = self.serves_crowd();
        for key in keys.drain(..) {
            if is_over {
                self.put_off.push(key);
                continue;
            }
            time.sockets += 1;
            if self.read_into_group(outside, key) || is_alone {
                let bytes = self.process_group(outside);
                is_over = time.is_over(outside, bytes, self.times.reading);
            }
        }
        self.process_group(outside);
        self.spare_keys = keys;
        let last = match self.sockets.ready_last_count() {
            0 => 0,
            _ => self.read_last(outside, outside.moment() - time.began, is_alone),
        };
        self.sockets.read_first(&mut self.put_off);
        self.give_turns(time.sockets + last);
    }

    /// Reads from sockets that always have input, and answers to messages with many receivers:
    /// thousands of PUBACK packets may arrive at once, and a PINGREQ must not wait behind them.
    /// `others` is the time spent on the other sockets. Returns how many sockets it has read.
    fn read_last<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        others: Duration,
        is_alone: bool,
    ) -> usize {
        let left = match is_alone {
            true => self.times.reading_last,
            false => self.times.reading.saturating_sub(others),
        };
        let limit = (others / READING_LAST_PART).max(left);
        let mut time = ReadingTime::begin(outside.moment());
        for _ in 0..self.sockets.ready_last_count() {
            let Some(key) = self.sockets.take_ready_last() else {
                break;
            };
            time.sockets += 1;
            if self.read_into_group(outside, key) || is_alone {
                let bytes = self.process_group(outside);
                if time.is_over(outside, bytes, limit) {
                    break;
                }
            }
        }
        self.process_group(outside);
        time.sockets
    }

    /// Reads from a socket. Returns whether the group must be processed now: it is full, or this
    /// socket may take long, because its client is about to be admitted or has disconnected.
    fn read_into_group<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) -> bool {
        let Some(socket) = self.sockets.get(key) else {
            return false;
        };
        let (id, state, paused) = (socket.id, socket.state, socket.paused);
        match state {
            State::Open if !paused => {}
            State::Draining => {
                self.discard(outside, key);
                return true;
            }
            _ => return false,
        }
        let is_newcomer = self.shard.is_in_lobby(id);
        if !self.may_be_read(key, is_newcomer) {
            self.put_off.push(key);
            return false;
        }
        let read = self.read(outside, key);
        if let Read::Bytes(count) = read {
            self.group.used += count;
        }
        self.group.sockets.push(Brought { key, id, read });
        is_newcomer || matches!(read, Read::End | Read::Broken) || self.group.is_full()
    }

    /// Processes the bytes of the group's sockets. Returns the number of bytes.
    fn process_group<O: Outside<Stream = S>>(&mut self, outside: &mut O) -> usize {
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
            // The input of another socket of the group may have ended this connection.
            if self.sockets.key_of(id) == Some(key) {
                self.receive(outside, key, read, bytes);
            }
        }
        self.group = ReadSockets {
            sockets,
            buffer,
            used: 0,
        };
        bytes
    }

    /// Reads once, behind the bytes of the group. The socket stays on the list unless this read has
    /// emptied it.
    pub(crate) fn read<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) -> Read {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Read::Empty;
        };
        let read = outside.read(&mut socket.stream, self.group.room());
        match read {
            Read::Bytes(count) => {
                if count == READ_LEN {
                    socket.read_last_from_now_on();
                }
                socket.readable =
                    count == READ_LEN || socket.read_closed || !O::SHORT_READ_MEANS_EMPTY;
                self.sockets.read_if_wanted(key);
            }
            Read::Empty => {
                socket.readable = false;
                socket.read_closed = false;
            }
            Read::End | Read::Broken => {}
        }
        read
    }

    /// Whether a socket is read in this tick. Otherwise it has its turn in the next one.
    fn may_be_read(&mut self, key: SocketKey, is_newcomer: bool) -> bool {
        if is_newcomer && self.shard.has_done_enough() {
            // Connected clients must not wait for all new connections.
            if self.newcomers == 0 {
                return false;
            }
            self.newcomers -= 1;
        }
        if self.sockets.get(key).is_some_and(Socket::is_handshaking) {
            // A handshake takes as long as hundreds of messages. With few of them in one tick, no
            // client waits long for new connections.
            if self.handshakes == 0 {
                return false;
            }
            self.handshakes -= 1;
        }
        true
    }

    /// Processes the input of a socket.
    fn receive<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
        read: Read,
        bytes: &mut [u8],
    ) {
        match read {
            Read::Bytes(_) => {
                self.take_in(outside, key, bytes);
                self.charge_layers(outside, key);
                // The answers to its input do not wait behind messages that go to thousands of
                // clients.
                if self.sockets.get(key).is_some_and(Socket::is_written_last) {
                    self.write(outside, key);
                }
            }
            Read::Empty => {
                // Writing has failed; this read was to find what the peer had sent before.
                if self
                    .sockets
                    .get(key)
                    .is_some_and(|socket| socket.write_ended)
                {
                    self.lose(outside, key, TransportEnd::Error);
                }
            }
            Read::End => self.lose(outside, key, TransportEnd::EndOfStream),
            Read::Broken => self.lose(outside, key, TransportEnd::Error),
        }
    }

    /// Reports the memory of a socket's layers to the shard, if it has changed.
    pub(crate) fn charge_layers<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
    ) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let Some((bytes, before)) = socket.layers.as_mut().and_then(|layers| layers.charge())
        else {
            return;
        };
        let id = socket.id;
        self.call(outside, |shard, cx| {
            shard.charge_layers(cx, id, bytes, before)
        });
    }

    /// Passes the input of a socket to the shard, through the layers if there are any.
    fn take_in<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
        bytes: &mut [u8],
    ) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let id = socket.id;
        let Some(layers) = &mut socket.layers else {
            return self.call(outside, |shard, cx| shard.receive(cx, id, bytes));
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let shard = &self.shard;
        let received = outside.receive(layers, || shard.listener_of(id), bytes, &mut plain);
        let has_output = layers.has_output();
        if !layers.is_any() {
            let gone = layers.discharge();
            socket.layers = None;
            self.call(outside, |shard, cx| shard.charge_layers(cx, id, 0, gone));
        }
        let Received {
            source,
            certificate,
            data,
            end,
            work,
        } = received;
        self.shard.layers_have_done(work);
        if work > LAYERS_WORK_MAX
            && let Some(socket) = self.sockets.get_mut(key)
        {
            socket.read_last_from_now_on();
        }
        if let Some(source) = source {
            let address = (source.ip().to_canonical(), source.port());
            self.shard.comes_from(id, address);
        }
        if let Some(certificate) = certificate {
            self.shard.has_certificate(id, certificate);
        }
        if !data.is_empty() {
            self.call(outside, |shard, cx| shard.receive(cx, id, data));
        }
        self.plain = plain;
        if has_output {
            self.write_later(key);
        }
        if let Some(end) = end {
            self.end_layer(outside, key, end);
        }
    }
}
