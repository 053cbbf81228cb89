//! Reading: each ready socket once per tick, through WebSocket where it is one, into the shard.

use std::io;

use martlet_broker::TransportEnd;

use super::Reactor;
use crate::poll::SHORT_READ_MEANS_EMPTY;
use crate::socket::{SocketKey, State};
use crate::websocket::WebSocketEnd;

/// What one read of a socket came to.
pub(super) enum Read {
    /// So many bytes are in the read buffer.
    Bytes(usize),
    /// The kernel has nothing.
    Empty,
    /// The peer sends no more.
    End,
    /// The connection is broken.
    Broken,
}

impl Reactor {
    /// Reads once from each socket that was ready when the tick began. One that is not empty then
    /// has its next turn in the next tick, after all others.
    pub(super) fn read_ready(&mut self) {
        let mut keys = std::mem::take(&mut self.spare_keys);
        self.sockets.take_ready(&mut keys);
        self.give_turns(keys.len());
        for key in keys.drain(..) {
            match self
                .sockets
                .get(key)
                .map(|socket| (socket.state, socket.paused))
            {
                Some((State::Open, false)) => self.receive(key),
                Some((State::Draining, _)) => self.discard(key),
                _ => {}
            }
        }
        self.spare_keys = keys;
    }

    /// One read; the socket stays on the list unless that has emptied it.
    pub(super) fn read(&mut self, key: SocketKey) -> Read {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Read::Empty;
        };
        self.counters.reads.add(1);
        match socket.stream.read(&mut self.read_buffer) {
            Ok(0) => Read::End,
            Ok(count) => {
                self.counters.read_bytes.add(count as u64);
                socket.readable = count == self.read_buffer.len()
                    || socket.read_closed
                    || !SHORT_READ_MEANS_EMPTY;
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

    fn receive(&mut self, key: SocketKey) {
        match self.read(key) {
            Read::Bytes(count) => self.hand_over(key, count),
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

    /// Gives the shard the first `count` bytes of the read buffer: in one piece, even if they came
    /// in many frames, because the first of them may make the shard give the connection away.
    fn hand_over(&mut self, key: SocketKey, count: usize) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let id = socket.id;
        let bytes = &mut self.read_buffer[..count];
        let Some(web) = &mut socket.web else {
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
            Some(WebSocketEnd::Closed) => self.end_web_socket(key, TransportEnd::EndOfStream),
            Some(WebSocketEnd::Violation(what)) => {
                self.end_web_socket(key, TransportEnd::Violation(what));
            }
        }
    }
}
