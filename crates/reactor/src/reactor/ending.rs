//! The end of a socket. One that the shard closes has its output written, then the sending side
//! ended, and is then only read from, with bounds, until the peer ends too: closing it at once
//! would answer bytes under way with a reset, and a reset takes our last packet from the peer.

use std::cmp::Reverse;

use martlet_broker::{ConnectionId, TransportEnd};

use super::Reactor;
use super::input::Read;
use crate::socket::{SocketKey, State};

/// How long a peer may take to accept the rest of the output of a connection that is closed,
/// milliseconds.
const CLOSING_MAX_MS: u64 = 5_000;

/// Time for which bytes are discarded after the end, at most, in milliseconds.
const DRAINING_MAX_MS: u64 = 2_000;

/// Bytes that are discarded after the end, at most.
const DISCARDED_BYTES_MAX: u32 = 1024 * 1024;

/// Sockets that are broken, and sockets whose time is over, that are dropped in one tick, at most.
const ENDED_PER_TICK: usize = 128;

/// When a socket is dropped, whatever its peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    /// Monotonic time.
    pub(super) due_ms: u64,
    key: SocketKey,
    /// Of the socket that is meant: its place may have another by then.
    id: ConnectionId,
}

impl Reactor {
    /// The shard wants the connection ended once its output has been written.
    pub(super) fn close(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if socket.write_ended {
            self.lose(key, TransportEnd::Error);
            return;
        }
        socket.state = State::Closing;
        self.write(key);
        if self
            .sockets
            .get(key)
            .is_some_and(|socket| socket.state == State::Closing)
        {
            self.set_deadline(key, CLOSING_MAX_MS);
        }
    }

    /// All output that there was has been written: takes the next step to the end, if the end it
    /// is to be.
    pub(super) fn go_on_ending(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        match socket.state {
            State::Open => {}
            State::Closing => {
                let id = socket.id;
                if let Some(layers) = &mut socket.layers {
                    layers.close();
                }
                self.drain(key);
                self.write(key);
                self.driver
                    .call(|shard, cx| shard.closed(cx, id, TransportEnd::Finished));
            }
            State::Draining => {
                if let Some(tls) = socket
                    .layers
                    .as_mut()
                    .and_then(|layers| layers.tls.as_mut())
                    && tls.close()
                {
                    return self.write_later(key);
                }
                socket.write_ended = true;
                if socket.stream.end_writing().is_err() {
                    self.drop_socket(key);
                }
            }
        }
    }

    /// A layer below MQTT is over, from the peer's side; its answer is yet to be written.
    pub(super) fn end_layer(&mut self, key: SocketKey, end: TransportEnd) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let id = socket.id;
        self.driver.call(|shard, cx| shard.closed(cx, id, end));
        self.drain(key);
        self.write_later(key);
    }

    /// Writing failed. What the peer sent before may still be there, its DISCONNECT for one, and
    /// decides whether its Will is sent; so it is read first.
    pub(super) fn fail_writing(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        socket.write_ended = true;
        if socket.state == State::Open && !socket.paused {
            socket.readable = true;
            socket.read_closed = true;
            self.sockets.read_if_wanted(key);
        } else {
            self.lose(key, TransportEnd::Error);
        }
    }

    /// The connection is gone, or was when the shard had no part in it any more.
    pub(super) fn lose(&mut self, key: SocketKey, end: TransportEnd) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let (id, state) = (socket.id, socket.state);
        self.drop_socket(key);
        if state != State::Draining {
            self.driver.call(|shard, cx| shard.closed(cx, id, end));
        }
    }

    /// Throws away what a peer sends after the end.
    pub(super) fn discard(&mut self, key: SocketKey) {
        match self.read(key) {
            Read::Empty => {}
            Read::Bytes(count) => {
                let Some(socket) = self.sockets.get_mut(key) else {
                    return;
                };
                socket.discarded_bytes = socket.discarded_bytes.saturating_add(count as u32);
                if socket.discarded_bytes > DISCARDED_BYTES_MAX {
                    self.drop_socket(key);
                }
            }
            Read::End | Read::Broken => self.drop_socket(key),
        }
    }

    /// Drops sockets that are broken; a bounded number in one tick.
    pub(super) fn drop_broken(&mut self) {
        for _ in 0..ENDED_PER_TICK {
            let Some((key, id)) = self.broken.pop_front() else {
                return;
            };
            if self.sockets.get(key).is_some_and(|socket| socket.id == id) {
                self.lose(key, TransportEnd::Error);
            }
        }
    }

    /// Drops the sockets whose time to end is over; a bounded number in one tick.
    pub(super) fn end_overdue(&mut self) {
        let now_ms = self.driver.now.mono_ms;
        for _ in 0..ENDED_PER_TICK {
            let Some(&Reverse(deadline)) = self.deadlines.peek() else {
                return;
            };
            if deadline.due_ms > now_ms {
                return;
            }
            self.deadlines.pop();
            let socket = self.sockets.get(deadline.key);
            if socket.is_some_and(|socket| socket.id == deadline.id) {
                self.lose(deadline.key, TransportEnd::Error);
            }
        }
    }

    /// Forgets the socket, which closes it.
    pub(super) fn drop_socket(&mut self, key: SocketKey) {
        if let Some(mut socket) = self.sockets.remove(key) {
            self.socket_count.lower();
            if let Some(layers) = &mut socket.layers {
                self.driver.shard.discharge_layers(layers.discharge());
            }
        }
    }

    fn drain(&mut self, key: SocketKey) {
        self.sockets.drain(key);
        self.set_deadline(key, DRAINING_MAX_MS);
    }

    fn set_deadline(&mut self, key: SocketKey, in_ms: u64) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let due_ms = self.driver.now.mono_ms + in_ms;
        self.deadlines.push(Reverse(Deadline {
            due_ms,
            key,
            id: socket.id,
        }));
    }
}
