//! Carrying out a shard's effects: records to the writer, then batches to the other shards, then
//! output to the sockets; see `effect.rs` of the broker for why in this order.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{ConnectionEffect, Guest, RecordNumber, ShardId, TransportEnd};

use super::Reactor;
use crate::authenticate::Answer;
use crate::mailbox::Control;
use crate::poll::Stream;
use crate::socket::{Socket, SocketKey};
use crate::tls::Tls;
use crate::websocket::{SERVER_HEADER_MAX, WebSocket, binary_header};

/// Rounds in one tick, at most, in which effects of effects are carried out; the rest is carried
/// out after other inputs.
const ROUNDS_PER_TICK: usize = 4;

/// Sockets with little output that a tick writes to, at least; more sockets wait for their turn.
/// With a small number, more output goes into one write when many messages for many clients come at
/// once.
const TURNS_PER_TICK: usize = 32;

/// Additional turns for each socket that the tick has read from: where every client sends
/// something, its messages are too few to be combined, and waiting would gain nothing.
const TURNS_PER_READ: usize = 2;

/// Output, in bytes, that does not wait for its turn.
const LONG_OUTPUT_BYTES: usize = 1024;

/// Time, in milliseconds, after which output is written without its turn.
const TURN_MAX_MS: u64 = 5;

/// Longest time that a tick writes, since answers for thousands of clients may leave the shard at
/// once. The sockets that wait come first in the next tick.
pub(super) const WRITING_MAX: Duration = Duration::from_micros(4000);

/// Time that a tick spends on the output of messages with many receivers, at most, unless other
/// effects have taken longer.
pub(super) const WRITING_LAST_MAX: Duration = Duration::from_micros(300);

/// Part of the time that other effects of a tick have taken, as a divisor, for which such output is
/// written in any case: so it goes out however much others have to do.
pub(super) const WRITING_LAST_PART: u32 = 2;

/// Writes between two looks at the clock.
const WRITES_PER_LOOK: usize = 8;

/// Longest payload of a WebSocket frame that is sent, in bytes: what a slow client may make us
/// copy.
const FRAME_PAYLOAD_MAX: usize = 256 * 1024;

impl Reactor {
    /// Carries out all effects of this tick.
    pub(super) fn carry_out(&mut self) {
        let began = Instant::now();
        self.writing_ends = began + self.times.writing;
        self.append_records();
        if self.driver.shard.has_work() {
            // Packets right behind a CONNECT that has just been accepted: their answers leave
            // with the CONNACK.
            self.driver.call(|shard, cx| shard.work(cx));
        }
        self.ask_who();
        for _ in 0..ROUNDS_PER_TICK {
            self.append_records();
            self.send_batches();
            self.carry_out_connections();
            self.write_in_turn();
            let effects = &self.driver.effects;
            if effects.connections.is_empty()
                && effects.records.is_empty()
                && (self.turns == 0 || self.sockets.unwritten_count() == 0)
            {
                break;
            }
        }
        self.write_last(began.elapsed());
        // Batches of the last round have records of their own round before them.
        self.append_records();
        self.send_batches();
        self.report();
    }

    /// Hands records over, and wishes to read behind them; what became durable with that may go out
    /// in this tick.
    pub(super) fn append_records(&mut self) {
        while !self.driver.effects.records.is_empty() {
            let (last, now) = (self.driver.shard.last_record(), self.driver.now);
            let records = &mut self.driver.effects.records;
            let before = RecordNumber(last.0 - records.len() as u64);
            let awaited = self.driver.shard.awaits_beyond(before);
            let up_to = self.writer.append(records, last, now, awaited);
            self.driver.shard.take_back(records);
            let Some(up_to) = up_to else {
                break;
            };
            self.driver.call(|shard, cx| shard.durable(cx, up_to));
        }
        if !self.driver.effects.reads.is_empty() {
            let (now, gauge) = (self.driver.now, self.driver.shard.gauge());
            self.writer.read(&mut self.driver.effects.reads, now, gauge);
        }
        if !self.driver.effects.lost.is_empty() {
            self.writer.lost(&mut self.driver.effects.lost);
        }
    }

    /// Asks for each client that has to be known before it is let in.
    fn ask_who(&mut self) {
        for authentication in self.driver.effects.authentications.drain(..) {
            let mailboxes = Arc::clone(&self.mailboxes);
            let answer = Answer::new(self.shard, authentication.connection, mailboxes);
            self.authenticator.ask(authentication, answer);
        }
    }

    fn send_batches(&mut self) {
        self.outbox.retry();
        for (to, messages) in self.driver.effects.batches.iter_mut().enumerate() {
            if !messages.is_empty() {
                self.outbox
                    .send(ShardId(to as u16), self.tick_at, messages, &self.mailbox);
                self.counters.batches_sent.add(1);
            }
        }
        let congested = self.outbox.is_congested();
        if congested != self.congested {
            self.congested = congested;
            self.counters.congestions.add(u64::from(congested));
            self.driver.call(|shard, cx| shard.congested(cx, congested));
        }
    }

    /// Determines the number of sockets that are written to in this tick, after `read_count`
    /// sockets have been read from.
    pub(super) fn give_turns(&mut self, read_count: usize) {
        self.turns = TURNS_PER_TICK + TURNS_PER_READ * read_count;
    }

    /// Writes to the sockets whose turn it is.
    ///
    /// With many messages for many clients, nearly all of the time goes into writing a packet or
    /// two at a time. So what there is to read is read before all is written: what has come for a
    /// client until its turn leaves in one write. Nothing waits while there is nothing to do.
    fn write_in_turn(&mut self) {
        let now_ms = self.driver.now.mono_ms;
        // Those that are put on the list meanwhile come in the next round.
        for count in 0..self.sockets.unwritten_count() {
            if count % WRITES_PER_LOOK == WRITES_PER_LOOK - 1 && self.has_written_enough() {
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
            self.write(key);
        }
    }

    /// Whether the time is over that a tick has for writing.
    fn has_written_enough(&self) -> bool {
        Instant::now() > self.writing_ends
    }

    /// Writes what messages for many have left, for as long as a tick has for that: who waits for
    /// something of their own has been written to. Other effects of this tick have taken `others`.
    fn write_last(&mut self, others: Duration) {
        let began = Instant::now();
        let limit = (others / self.times.writing_last_part).max(self.times.writing_last);
        for count in 0..self.sockets.last_count() {
            let looks = count % WRITES_PER_LOOK == WRITES_PER_LOOK - 1;
            if looks && began.elapsed() > limit {
                return;
            }
            let Some(key) = self.sockets.take_last() else {
                return;
            };
            self.write(key);
        }
    }

    /// The socket is written to when its turn comes.
    pub(super) fn write_later(&mut self, key: SocketKey) {
        self.sockets.write_later(key, self.driver.now.mono_ms);
    }

    /// What is to become of connections is carried out before there is another one, which may get
    /// the place of one that the shard has let go: its socket would not be found any more, and its
    /// client would wait for ever.
    pub(super) fn make_way(&mut self) {
        if !self.driver.effects.connections.is_empty() {
            self.append_records();
            self.send_batches();
            self.carry_out_connections();
        }
    }

    fn carry_out_connections(&mut self) {
        let spare = std::mem::take(&mut self.spare_effects);
        let mut effects = std::mem::replace(&mut self.driver.effects.connections, spare);
        for effect in effects.drain(..) {
            self.carry_out_connection(effect);
        }
        self.spare_effects = effects;
    }

    fn carry_out_connection(&mut self, effect: ConnectionEffect) {
        let id = match &effect {
            ConnectionEffect::Write(id)
            | ConnectionEffect::WriteInTurn(id)
            | ConnectionEffect::PauseReading(id)
            | ConnectionEffect::ResumeReading(id)
            | ConnectionEffect::Close(id)
            | ConnectionEffect::Abort(id)
            | ConnectionEffect::Move { id, .. } => *id,
        };
        // It may have ended meanwhile.
        let Some(key) = self.sockets.key_of(id) else {
            return;
        };
        match effect {
            ConnectionEffect::Write(id) => {
                let is_short = self.driver.shard.output(id).len() < LONG_OUTPUT_BYTES;
                match is_short || self.has_written_enough() {
                    true => self.write_later(key),
                    false => self.write(key),
                }
            }
            ConnectionEffect::WriteInTurn(_) => self.sockets.write_last(key),
            ConnectionEffect::PauseReading(_) => self.pause(key, true),
            ConnectionEffect::ResumeReading(_) => self.pause(key, false),
            ConnectionEffect::Close(_) => self.close(key),
            ConnectionEffect::Abort(_) => self.drop_socket(key),
            ConnectionEffect::Move { to, guest, .. } => self.give_away(key, to, guest),
        }
    }

    fn pause(&mut self, key: SocketKey, paused: bool) {
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.paused = paused;
            if paused && socket.write_ended {
                self.lose(key, TransportEnd::Error);
                return;
            }
            self.sockets.read_if_wanted(key);
        }
    }

    /// Hands a connection to the shard that owns its session.
    fn give_away(&mut self, key: SocketKey, to: ShardId, guest: Box<Guest>) {
        let Some(Socket {
            mut stream,
            mut layers,
            ..
        }) = self.sockets.remove(key)
        else {
            return;
        };
        if let Some(layers) = &mut layers {
            self.driver.shard.discharge_layers(layers.discharge());
        }
        self.counters.moved.add(1);
        if self.poller.remove(&mut stream).is_err() {
            self.socket_count.lower();
            return;
        }
        self.mailboxes.control(
            to,
            Control::Adopt {
                stream,
                layers,
                guest,
            },
        );
    }

    /// Writes what there is, unless the kernel has said that it takes no more for now.
    pub(super) fn write(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if socket.blocked || socket.write_ended {
            return;
        }
        let id = socket.id;
        let carries_output = socket.carries_output();
        let output = if carries_output {
            self.driver.shard.output(id)
        } else {
            &[]
        };
        let wrote = match write_output(socket, output) {
            None => Wrote::default(),
            Some(Ok(wrote)) => {
                self.counters.writes.add(1);
                self.counters.written_bytes.add(wrote.written as u64);
                wrote
            }
            Some(Err(_)) => {
                self.counters.writes.add(1);
                self.fail_writing(key);
                return;
            }
        };
        socket.blocked = wrote.blocked;
        if socket.layers.is_some() {
            self.charge_layers(key);
        }
        // A kernel that takes nothing is news as well: from then on the output stalls.
        if wrote.taken > 0 || wrote.blocked && carries_output {
            self.driver
                .call(|shard, cx| shard.wrote(cx, id, wrote.taken));
        }
        if wrote.blocked {
            return;
        }
        // Room made may have been filled at once, with or without an effect that says so.
        let more = match self.sockets.get(key) {
            Some(socket) if socket.carries_output() => !self.driver.shard.output(id).is_empty(),
            _ => false,
        };
        if more {
            self.write_later(key);
        } else {
            self.go_on_ending(key);
        }
    }

    fn report(&mut self) {
        self.events
            .send(&mut self.driver.effects.events, &self.counters);
        for report in self.driver.effects.reports.drain(..) {
            // It is not waited for any more when the node is being dropped.
            let _ = self.reports.send(report);
        }
    }
}

/// What one system call wrote.
#[derive(Clone, Copy, Debug, Default)]
struct Wrote {
    /// Bytes that the kernel took.
    written: usize,
    /// Bytes of the shard's output that need not be offered again.
    taken: usize,
    /// The kernel takes no more for now.
    blocked: bool,
}

/// Writes `output` and what stands before it; none if there is nothing to write.
fn write_output(socket: &mut Socket, output: &[u8]) -> Option<io::Result<Wrote>> {
    let Some(layers) = &mut socket.layers else {
        if output.is_empty() {
            return None;
        }
        let wrote = socket.stream.write(output).or_else(nothing_if_blocked);
        let all = output.len();
        return Some(wrote.map(|written| Wrote {
            written,
            taken: written,
            blocked: written < all,
        }));
    };
    let mut below = Below {
        stream: &mut socket.stream,
        tls: layers.tls.as_mut(),
    };
    match &mut layers.web {
        Some(web) => write_web_socket(&mut below, web, output),
        None if output.is_empty() && !below.has_output() => None,
        None => Some(below.write(&[IoSlice::new(output)])),
    }
}

/// What a WebSocket connection writes to.
struct Below<'a> {
    stream: &'a mut Stream,
    tls: Option<&'a mut Tls>,
}

impl Below<'_> {
    fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<Wrote> {
        if let Some(tls) = &mut self.tls {
            let wrote = tls.write(self.stream, parts)?;
            return Ok(Wrote {
                written: wrote.written,
                taken: wrote.taken,
                blocked: wrote.blocked,
            });
        }
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let written = self.stream.write_vectored(parts);
        let written = written.or_else(nothing_if_blocked)?;
        Ok(Wrote {
            written,
            taken: written,
            blocked: written < all,
        })
    }
}

/// Writes what the WebSocket connection has to say itself, and `output` as one binary frame
/// [MQTT-6.0.0-1]. A frame once begun is finished: what is not taken of it is kept.
fn write_web_socket(
    below: &mut Below<'_>,
    web: &mut WebSocket,
    output: &[u8],
) -> Option<io::Result<Wrote>> {
    web.answer_ping();
    let payload = &output[..output.len().min(FRAME_PAYLOAD_MAX)];
    if web.out.is_empty() && payload.is_empty() && !below.has_output() {
        return None;
    }
    let mut header = [0; SERVER_HEADER_MAX];
    let header_len = if payload.is_empty() {
        0
    } else {
        binary_header(payload.len(), &mut header)
    };
    let header = &header[..header_len];
    let parts = [
        IoSlice::new(&web.out),
        IoSlice::new(header),
        IoSlice::new(payload),
    ];
    let wrote = match below.write(&parts) {
        Ok(wrote) => wrote,
        Err(error) => return Some(Err(error)),
    };
    let (written, blocked) = (wrote.written, wrote.blocked);
    let before = web.out.len();
    let cut = wrote.taken < before + header_len + payload.len();
    let of_frame = wrote.taken.checked_sub(before);
    let Some(of_frame) = of_frame.filter(|of_frame| *of_frame > 0) else {
        web.out.drain(..wrote.taken);
        return Some(Ok(Wrote {
            written,
            taken: 0,
            blocked,
        }));
    };
    // An idle connection holds no buffer.
    web.out = Vec::new();
    if cut {
        web.out
            .extend_from_slice(&header[of_frame.min(header_len)..]);
        web.out
            .extend_from_slice(&payload[of_frame.saturating_sub(header_len)..]);
    }
    Some(Ok(Wrote {
        written,
        taken: payload.len(),
        blocked,
    }))
}

fn nothing_if_blocked(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock {
        Ok(0)
    } else {
        Err(error)
    }
}
