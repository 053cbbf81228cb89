//! Carries out a shard's effects: records to the writer, then batches to the other shards, then
//! output to the sockets. `effect.rs` of the broker explains this order.

use std::time::Duration;

use martlet_broker::{ConnectionEffect, Guest, RecordNumber, ShardId, TransportEnd};

use crate::driver::Driver;
use crate::outside::{Arrival, Layers as _, Outside, SocketWrite, Stream};
use crate::socket::Socket;
use crate::socket_key::SocketKey;

/// Most rounds per tick in which effects of effects are carried out. The rest is carried out after
/// other input.
const ROUNDS_PER_TICK: usize = 4;

/// Fewest sockets with little output that a tick writes to; further sockets wait for their turn.
/// With a small number, more output shares one write when many messages for many clients arrive at
/// once.
const TURNS_PER_TICK: usize = 32;

/// Additional turns for each socket that the tick has read. If every client sends, each has too few
/// messages to be combined, and waiting would gain nothing.
const TURNS_PER_READ: usize = 2;

/// Size of output, in bytes, from which it does not wait for its turn. Shorter output is written in
/// the order of the packets that it answers. If the messages for a subscriber overtook the answers
/// to its publisher, QoS 2 handshakes would need more, and smaller, reads and writes.
const LONG_OUTPUT_BYTES: usize = 16 * 1024;

/// Time, in milliseconds, after which output is written without its turn.
const TURN_MAX_MS: u64 = 5;

/// Number of writes between two readings of the clock.
const WRITES_PER_LOOK: usize = 8;

impl<S: Stream> Driver<S> {
    /// Carries out all effects of this tick.
    pub(crate) fn carry_out<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let began = outside.moment();
        self.writing_ends = began + self.times.writing;
        self.append_records(outside);
        if self.shard.has_work() {
            // Processes packets right behind a CONNECT that has just been accepted. Their answers
            // are sent with the CONNACK.
            self.work(outside);
        }
        self.ask_who(outside);
        for _ in 0..ROUNDS_PER_TICK {
            self.append_records(outside);
            self.send_batches(outside);
            self.carry_out_connections(outside);
            self.write_in_turn(outside);
            let effects = &self.effects;
            if effects.connections.is_empty()
                && effects.records.is_empty()
                && (self.turns == 0 || self.sockets.unwritten_count() == 0)
            {
                break;
            }
        }
        self.write_last(outside, outside.moment() - began);
        // Records of the last round must be appended before its batches are sent.
        self.append_records(outside);
        self.send_batches(outside);
        self.report(outside);
    }

    /// Appends records, and then requests reads. Packets for records that are durable at once may
    /// be sent in this tick.
    pub(crate) fn append_records<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        while !self.effects.records.is_empty() {
            let (last, now) = (self.shard.last_record(), self.now);
            let records = &mut self.effects.records;
            let before = RecordNumber(last.0 - records.len() as u64);
            let awaited = self.shard.awaits_beyond(before);
            let up_to = outside.append(records, last, now, awaited);
            self.shard.take_back(records);
            let Some(up_to) = up_to else {
                break;
            };
            self.call(outside, |shard, cx| shard.durable(cx, up_to));
        }
        if !self.effects.reads.is_empty() {
            let (now, gauge) = (self.now, self.shard.gauge());
            outside.read_back(&mut self.effects.reads, now, gauge);
        }
        if !self.effects.lost.is_empty() {
            outside.lost(&mut self.effects.lost);
        }
    }

    /// Requests the identity of each client that must be authenticated, and a check of each message
    /// that must be screened before it is routed.
    fn ask_who<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        for authentication in self.effects.authentications.drain(..) {
            outside.ask(authentication);
        }
        for screening in self.effects.screenings.drain(..) {
            outside.screen(screening);
        }
    }

    fn send_batches<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        self.outbox.retry(outside);
        for (to, messages) in self.effects.batches.iter_mut().enumerate() {
            if !messages.is_empty() {
                let to = ShardId(to as u16);
                self.outbox.send(outside, to, self.tick_at, messages);
            }
        }
        let congested = self.outbox.is_congested();
        if congested != self.congested {
            self.congested = congested;
            outside.congested(congested);
            self.call(outside, |shard, cx| shard.congested(cx, congested));
        }
    }

    /// Sets the number of sockets that are written to in this tick, after `read_count` sockets have
    /// been read.
    pub(crate) fn give_turns(&mut self, read_count: usize) {
        self.turns = TURNS_PER_TICK + TURNS_PER_READ * read_count;
    }

    /// Writes to the sockets whose turn it is.
    ///
    /// With many messages for many clients, nearly all time is spent on writes of one or two
    /// packets. So input is read before all output is written: packets that arrive for a client
    /// before its turn share one write. Output does not wait while there is no other work.
    fn write_in_turn<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let now_ms = self.now.mono_ms;
        // Sockets that are added to the list meanwhile are written in the next round.
        for count in 0..self.sockets.unwritten_count() {
            if count % WRITES_PER_LOOK == WRITES_PER_LOOK - 1 && self.has_written_enough(outside) {
                self.turns = 0;
                return;
            }
            let since_ms = match self.turns {
                0 => now_ms.saturating_sub(TURN_MAX_MS),
                _ => now_ms,
            };
            let Some(key) = self.sockets.take_unwritten(since_ms) else {
                return;
            };
            self.turns = self.turns.saturating_sub(1);
            self.write(outside, key);
        }
    }

    /// Whether the tick's time for writing has expired.
    fn has_written_enough<O: Outside<Stream = S>>(&self, outside: &mut O) -> bool {
        outside.moment() > self.writing_ends
    }

    /// Writes the rest of messages for many clients, up to the time limit for that. Clients that
    /// wait for other output have been served. `others` is the time that other effects of this tick
    /// have taken.
    fn write_last<O: Outside<Stream = S>>(&mut self, outside: &mut O, others: Duration) {
        let began = outside.moment();
        let limit = (others / self.times.writing_last_part).max(self.times.writing_last);
        for count in 0..self.sockets.last_count() {
            let looks = count % WRITES_PER_LOOK == WRITES_PER_LOOK - 1;
            if looks && outside.moment() - began > limit {
                return;
            }
            let Some(key) = self.sockets.take_last() else {
                return;
            };
            self.write(outside, key);
        }
    }

    /// Lists the socket to be written to in its turn.
    pub(crate) fn write_later(&mut self, key: SocketKey) {
        self.sockets.write_later(key, self.now.mono_ms);
    }

    /// Carries out pending effects on connections before a new connection begins. A new connection
    /// may get the index of a released one; then the socket of the released one could not be found
    /// any more, and its client would wait for ever.
    pub(crate) fn make_way<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        if !self.effects.connections.is_empty() {
            self.append_records(outside);
            self.send_batches(outside);
            self.carry_out_connections(outside);
        }
    }

    fn carry_out_connections<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let spare = std::mem::take(&mut self.spare_effects);
        let mut effects = std::mem::replace(&mut self.effects.connections, spare);
        for effect in effects.drain(..) {
            self.carry_out_connection(outside, effect);
        }
        self.spare_effects = effects;
    }

    fn carry_out_connection<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        effect: ConnectionEffect,
    ) {
        let id = effect.connection();
        // The connection may have ended meanwhile.
        let Some(key) = self.sockets.key_of(id) else {
            return;
        };
        match effect {
            ConnectionEffect::Write(id) => {
                let is_short = self.shard.output(id).len() < LONG_OUTPUT_BYTES;
                match is_short || self.has_written_enough(outside) {
                    true => self.write_later(key),
                    false => self.write(outside, key),
                }
            }
            ConnectionEffect::WriteInTurn(_) => self.sockets.write_last(key),
            ConnectionEffect::PauseReading(_) => self.pause(outside, key, true),
            ConnectionEffect::ResumeReading(_) => self.pause(outside, key, false),
            ConnectionEffect::Close(_) => self.close(outside, key),
            ConnectionEffect::Abort(_) => self.drop_socket(outside, key),
            ConnectionEffect::Move { to, guest, .. } => self.give_away(outside, key, to, guest),
        }
    }

    fn pause<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey, paused: bool) {
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.paused = paused;
            if paused && socket.write_ended {
                self.lose(outside, key, TransportEnd::Error);
                return;
            }
            self.sockets.read_if_wanted(key);
        }
    }

    /// Hands a connection to the shard that owns its session.
    fn give_away<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
        to: ShardId,
        guest: Box<Guest>,
    ) {
        let Some(Socket {
            stream, mut layers, ..
        }) = self.sockets.remove(key)
        else {
            return;
        };
        if let Some(layers) = &mut layers {
            self.shard.discharge_layers(layers.discharge());
        }
        let arrival = Arrival {
            stream,
            layers,
            guest,
        };
        outside.give_away(to, arrival);
    }

    /// Writes pending output, unless the transport is blocked.
    pub(crate) fn write<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if socket.blocked || socket.write_ended {
            return;
        }
        let id = socket.id;
        let carries_output = socket.carries_output();
        let output = if carries_output {
            self.shard.output(id)
        } else {
            &[]
        };
        let layers = socket.layers.as_deref_mut();
        let (taken, blocked) = match outside.write(&mut socket.stream, layers, output) {
            SocketWrite::Nothing => (0, false),
            SocketWrite::Some { taken, blocked } => (taken, blocked),
            SocketWrite::Broken => return self.fail_writing(outside, key),
        };
        socket.blocked = blocked;
        if socket.layers.is_some() {
            self.charge_layers(outside, key);
        }
        // A blocked transport must be reported as well: from then on the output stalls.
        if taken > 0 || blocked && carries_output {
            self.call(outside, |shard, cx| shard.wrote(cx, id, taken));
        }
        if blocked {
            return;
        }
        // The shard may have filled the freed room at once, with or without an effect.
        let more = match self.sockets.get(key) {
            Some(socket) if socket.carries_output() => !self.shard.output(id).is_empty(),
            _ => false,
        };
        if more {
            self.write_later(key);
        } else {
            self.go_on_ending(outside, key);
        }
    }

    fn report<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        if !self.effects.events.is_empty() {
            outside.tell(&mut self.effects.events);
        }
        if !self.effects.parts.is_empty() {
            outside.tell_parts(&mut self.effects.parts);
        }
        for report in self.effects.reports.drain(..) {
            outside.report(report);
        }
    }
}
