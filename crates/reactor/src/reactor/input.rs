//! Reading: each ready socket once per tick, through TLS and WebSocket where they are, into the
//! shard.

use std::io;
use std::time::{Duration, Instant};

use martlet_broker::{Shard, TransportEnd};

use super::Reactor;
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

/// Reads between two readings of the clock.
const READS_PER_LOOK: usize = 16;

/// Result of one read of a socket.
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
    /// thousands of connections end at once for example, the rest comes first in the next tick.
    pub(super) fn read_ready(&mut self) {
        let mut keys = std::mem::take(&mut self.spare_keys);
        self.sockets.take_ready(&mut keys);
        self.handshakes = HANDSHAKES_PER_TICK;
        self.newcomers = NEWCOMERS_PER_TICK;
        let began = Instant::now();
        let mut is_over = false;
        let mut read = 0;
        for (count, key) in keys.drain(..).enumerate() {
            is_over |= count % READS_PER_LOOK == READS_PER_LOOK - 1
                && began.elapsed() > self.times.reading;
            if is_over {
                self.sockets.read_later(key);
                continue;
            }
            read += 1;
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
        self.give_turns(read);
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

    fn is_newcomer(&self, key: SocketKey) -> bool {
        let socket = self.sockets.get(key);
        socket.is_some_and(|socket| self.driver.shard.is_in_lobby(socket.id))
    }

    fn receive(&mut self, key: SocketKey) {
        if self.driver.shard.has_done_enough() && self.is_newcomer(key) {
            // Connected clients do not wait for all new connections.
            if self.newcomers == 0 {
                return self.sockets.read_later(key);
            }
            self.newcomers -= 1;
        }
        let tls = self.sockets.get(key).and_then(Socket::tls);
        if tls.is_some_and(|tls| !tls.is_open()) {
            // A handshake takes as long as hundreds of messages: few in one tick, so that nobody
            // waits long for those who come.
            if self.handshakes == 0 {
                return self.sockets.read_later(key);
            }
            self.handshakes -= 1;
        }
        match self.read(key) {
            Read::Bytes(count) => {
                let mut buffer = std::mem::take(&mut self.read_buffer);
                self.take_in(key, &mut buffer[..count]);
                self.read_buffer = buffer;
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
