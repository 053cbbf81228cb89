//! Closing a socket. When the shard closes a connection, its output is written and the sending
//! direction is shut down. Then the socket is only read from, within limits, until the peer ends
//! too. Closing it at once would answer bytes in transit with a reset, and a reset could discard
//! our last packet at the peer.

use std::cmp::Reverse;

use martlet_broker::TransportEnd;

use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::outside::{Layers as _, Outside, Read, Stream};
use crate::socket::{Socket, State};
use crate::socket_key::SocketKey;

/// Longest time, in milliseconds, that a peer may take to accept the remaining output of a closing
/// connection.
const CLOSING_MAX_MS: u64 = 5_000;

/// Longest time, in milliseconds, for which bytes are discarded after the end.
const DRAINING_MAX_MS: u64 = 2_000;

/// Most bytes that are discarded after the end.
const DISCARDED_BYTES_MAX: u32 = 1024 * 1024;

/// Most broken sockets, and most expired sockets, that are dropped in one tick.
const ENDED_PER_TICK: usize = 128;

impl<S: Stream> Driver<S> {
    /// Closes the connection after its output has been written, as the shard requested.
    pub(crate) fn close<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if socket.write_ended {
            self.lose(outside, key, TransportEnd::Error);
            return;
        }
        socket.state = State::Closing;
        self.write(outside, key);
        if self
            .sockets
            .get(key)
            .is_some_and(|socket| socket.state == State::Closing)
        {
            self.set_deadline(key, CLOSING_MAX_MS);
        }
    }

    /// Takes the next step of closing, if the socket is closing. All output has been written.
    pub(crate) fn go_on_ending<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
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
                self.write(outside, key);
                self.call(outside, |shard, cx| {
                    shard.closed(cx, id, TransportEnd::Finished)
                });
            }
            State::Draining => {
                if let Some(layers) = &mut socket.layers
                    && layers.say_end()
                {
                    return self.write_later(key);
                }
                socket.write_ended = true;
                if !outside.end_writing(&mut socket.stream) {
                    self.drop_socket(outside, key);
                }
            }
        }
    }

    /// Notes that the peer has ended a layer below MQTT. The layer's response still has to be
    /// written.
    pub(crate) fn end_layer<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
        end: TransportEnd,
    ) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let id = socket.id;
        self.call(outside, |shard, cx| shard.closed(cx, id, end));
        self.drain(key);
        self.write_later(key);
    }

    /// Handles a failed write. Bytes that the peer sent before may still be unread, for example a
    /// DISCONNECT, which decides whether its Will is sent; so they are read first.
    pub(crate) fn fail_writing<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        socket.write_ended = true;
        if socket.state == State::Open && !socket.paused {
            socket.readable = true;
            socket.read_closed = true;
            self.sockets.read_if_wanted(key);
        } else {
            self.lose(outside, key, TransportEnd::Error);
        }
    }

    /// Notes that the connection is lost, or was lost after the shard had released it.
    pub(crate) fn lose<O: Outside<Stream = S>>(
        &mut self,
        outside: &mut O,
        key: SocketKey,
        end: TransportEnd,
    ) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let (id, state) = (socket.id, socket.state);
        let layers = socket.layers.as_ref().filter(|_| state == State::Open);
        let fault = layers.and_then(|layers| layers.fault_at_end());
        let end = fault.map_or(end, |fault| TransportEnd::Violation(fault.into()));
        self.drop_socket(outside, key);
        if state != State::Draining {
            self.call(outside, |shard, cx| shard.closed(cx, id, end));
        }
    }

    /// Discards bytes that a peer sends after the end.
    pub(crate) fn discard<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
        match self.read(outside, key) {
            Read::Empty => {}
            Read::Bytes(count) => {
                let Some(socket) = self.sockets.get_mut(key) else {
                    return;
                };
                socket.discarded_bytes = socket.discarded_bytes.saturating_add(count as u32);
                if socket.discarded_bytes > DISCARDED_BYTES_MAX {
                    self.drop_socket(outside, key);
                }
            }
            Read::End | Read::Broken => self.drop_socket(outside, key),
        }
    }

    /// Drops broken sockets; a limited number per tick.
    pub(crate) fn drop_broken<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        for _ in 0..ENDED_PER_TICK {
            let Some((key, id)) = self.broken.pop_front() else {
                return;
            };
            if self.sockets.get(key).is_some_and(|socket| socket.id == id) {
                self.lose(outside, key, TransportEnd::Error);
            }
        }
    }

    /// Drops sockets whose time to close has expired; a limited number per tick.
    pub(crate) fn end_overdue<O: Outside<Stream = S>>(&mut self, outside: &mut O) {
        let now_ms = self.now.mono_ms;
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
                self.lose(outside, deadline.key, TransportEnd::Error);
            }
        }
    }

    /// Removes the socket, which closes it.
    pub(crate) fn drop_socket<O: Outside<Stream = S>>(&mut self, outside: &mut O, key: SocketKey) {
        if let Some(Socket {
            stream, mut layers, ..
        }) = self.sockets.remove(key)
        {
            if let Some(layers) = &mut layers {
                self.shard.discharge_layers(layers.discharge());
            }
            outside.drop_stream(stream);
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
        let due_ms = self.now.mono_ms + in_ms;
        self.deadlines.push(Reverse(Deadline {
            due_ms,
            key,
            id: socket.id,
        }));
    }
}
