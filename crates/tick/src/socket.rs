//! The sockets of one shard and the state of each in the loop: its connection, whether the
//! transport is ready, and how far it is closed.
//!
//! Notices are edge-triggered, so readiness is stored here: a socket that was announced as readable
//! stays readable until a read has emptied it. The content of the bytes is not inspected.

use std::collections::VecDeque;

use martlet_broker::{Arena, ConnectionId};

use crate::outside::{Layers as _, Notice, Stream};
use crate::socket_key::SocketKey;

const NONE: SocketKey = SocketKey::MAX;

/// State of closing a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Carries its connection.
    Open,
    /// The shard has requested the end. The remaining output is being written, and nothing is read.
    Closing,
    /// The shard has released the connection. Received bytes are discarded, so that the peer gets
    /// our last bytes and not a reset.
    Draining,
}

/// When to read from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// The socket is on no list.
    No,
    /// The socket is on no list. The next input is read after all others.
    NoLast,
    /// In the next tick.
    Next,
    /// After all others.
    Last,
}

impl Unread {
    /// Whether it is on a list.
    fn is_listed(self) -> bool {
        matches!(self, Self::Next | Self::Last)
    }
}

/// When to write to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwritten {
    /// Nothing to write.
    No,
    /// In its turn.
    InTurn,
    /// After all others.
    Last,
}

/// One socket. Its size matters: there may be a million, most of them idle.
pub(crate) struct Socket<S: Stream> {
    pub(crate) stream: S,
    /// The connection; when draining, the former connection. Unique among sockets.
    pub(crate) id: ConnectionId,
    pub(crate) layers: Option<Box<S::Layers>>,
    /// Bytes discarded while draining.
    pub(crate) discarded_bytes: u32,
    pub(crate) state: State,
    /// Whether the transport may have bytes to read.
    pub(crate) readable: bool,
    /// Whether the end of input has been announced. If so, a short read does not mean that the
    /// socket is empty.
    pub(crate) read_closed: bool,
    /// Whether the shard has paused reading.
    pub(crate) paused: bool,
    /// Whether the transport is blocked for output until its next notice.
    pub(crate) blocked: bool,
    /// Whether writing has ended: it failed, or the sending direction was shut down.
    pub(crate) write_ended: bool,
    /// The list of sockets to read from that it is on.
    unread: Unread,
    /// The list of sockets to write to that it is on.
    unwritten: Unwritten,
}

impl<S: Stream> Socket<S> {
    /// Whether the shard's output may be written: there is a connection, and the layers below it
    /// are open.
    pub(crate) fn carries_output(&self) -> bool {
        self.state != State::Draining && self.layers.as_ref().is_none_or(|layers| layers.is_open())
    }

    /// Whether the next input takes as long as hundreds of messages.
    pub(crate) fn is_handshaking(&self) -> bool {
        let layers = self.layers.as_ref();
        layers.is_some_and(|layers| layers.is_handshaking())
    }

    /// Whether it is written to after all others.
    pub(crate) fn is_written_last(&self) -> bool {
        self.unwritten == Unwritten::Last
    }

    /// Makes its next input be read after all others, unless the socket is on a list already.
    pub(crate) fn read_last_from_now_on(&mut self) {
        if self.unread == Unread::No {
            self.unread = Unread::NoLast;
        }
    }

    /// Whether a read now is useful.
    fn wants_reading(&self) -> bool {
        self.readable
            && match self.state {
                State::Open => !self.paused,
                State::Closing => false,
                State::Draining => true,
            }
    }
}

/// All sockets of a shard.
pub(crate) struct Sockets<S: Stream> {
    arena: Arena<Socket<S>>,
    /// Maps a connection's index to its socket.
    by_connection: Vec<SocketKey>,
    /// Sockets to read from in the next tick.
    ready: Vec<SocketKey>,
    /// Sockets to read from after all others.
    ready_last: VecDeque<SocketKey>,
    /// Sockets to write to, first come, first served, and since when they wait.
    unwritten: VecDeque<(SocketKey, u64)>,
    /// Sockets to write to after all others.
    last: VecDeque<SocketKey>,
}

impl<S: Stream> Default for Sockets<S> {
    fn default() -> Self {
        Self {
            arena: Arena::default(),
            by_connection: Vec::new(),
            ready: Vec::new(),
            ready_last: VecDeque::new(),
            unwritten: VecDeque::new(),
            last: VecDeque::new(),
        }
    }
}

impl<S: Stream> Sockets<S> {
    /// Upper bound of the keys of sockets.
    pub(crate) fn places(&self) -> SocketKey {
        self.arena.places()
    }

    /// Key of the next socket.
    pub(crate) fn next_key(&self) -> SocketKey {
        self.arena.next_index()
    }

    pub(crate) fn insert(
        &mut self,
        stream: S,
        id: ConnectionId,
        layers: Option<Box<S::Layers>>,
    ) -> SocketKey {
        let key = self.arena.insert(Socket {
            stream,
            id,
            layers,
            discarded_bytes: 0,
            state: State::Open,
            readable: false,
            read_closed: false,
            paused: false,
            blocked: false,
            write_ended: false,
            unread: Unread::No,
            unwritten: Unwritten::No,
        });
        let index = id.index as usize;
        if self.by_connection.len() <= index {
            self.by_connection.resize(index + 1, NONE);
        }
        self.by_connection[index] = key;
        key
    }

    /// Returns the socket that carries `id`, if there is one.
    pub(crate) fn key_of(&self, id: ConnectionId) -> Option<SocketKey> {
        let key = *self.by_connection.get(id.index as usize)?;
        let socket = self.arena.get(key)?;
        (socket.id == id && socket.state != State::Draining).then_some(key)
    }

    pub(crate) fn get(&self, key: SocketKey) -> Option<&Socket<S>> {
        self.arena.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: SocketKey) -> Option<&mut Socket<S>> {
        self.arena.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: SocketKey) -> Option<Socket<S>> {
        let socket = self.arena.remove(key)?;
        self.forget_connection(&socket, key);
        Some(socket)
    }

    /// Marks that the socket no longer carries a connection.
    pub(crate) fn drain(&mut self, key: SocketKey) {
        let Some(socket) = self.arena.get_mut(key) else {
            return;
        };
        socket.state = State::Draining;
        let id = socket.id;
        if self.by_connection.get(id.index as usize) == Some(&key) {
            self.by_connection[id.index as usize] = NONE;
        }
        self.read_if_wanted(key);
    }

    /// Stores a notice. Returns true if the connection is broken and no read will detect it.
    pub(crate) fn notice(&mut self, key: SocketKey, notice: &Notice, now_ms: u64) -> bool {
        let Some(socket) = self.arena.get_mut(key) else {
            return false;
        };
        if notice.readable || notice.read_closed {
            socket.readable = true;
        }
        socket.read_closed |= notice.read_closed;
        if notice.writable && socket.blocked {
            socket.blocked = false;
            self.write_later(key, now_ms);
        }
        self.read_if_wanted(key);
        notice.broken
            && self
                .arena
                .get(key)
                .is_some_and(|socket| !socket.wants_reading())
    }

    /// Puts the socket on the list to read from, if it has input and may be read.
    pub(crate) fn read_if_wanted(&mut self, key: SocketKey) {
        let Some(socket) = self.arena.get_mut(key) else {
            return;
        };
        if !socket.wants_reading() {
            return;
        }
        match socket.unread {
            Unread::No => {
                socket.unread = Unread::Next;
                self.ready.push(key);
            }
            Unread::NoLast => {
                socket.unread = Unread::Last;
                self.ready_last.push_back(key);
            }
            Unread::Next | Unread::Last => {}
        }
    }

    /// Puts sockets that had no turn in this tick before the sockets that had one. Empties the
    /// list.
    pub(crate) fn read_first(&mut self, keys: &mut Vec<SocketKey>) {
        if keys.is_empty() {
            return;
        }
        keys.retain(|key| {
            let Some(socket) = self.arena.get_mut(*key) else {
                return false;
            };
            socket.readable = true;
            let comes = socket.wants_reading() && !socket.unread.is_listed();
            if comes {
                socket.unread = Unread::Next;
            }
            comes
        });
        keys.append(&mut self.ready);
        std::mem::swap(keys, &mut self.ready);
    }

    /// Puts the socket on the list to write to, unless it is already on it.
    pub(crate) fn write_later(&mut self, key: SocketKey, now_ms: u64) {
        let Some(socket) = self.arena.get_mut(key) else {
            return;
        };
        if socket.unwritten == Unwritten::No {
            socket.unwritten = Unwritten::InTurn;
            self.unwritten.push_back((key, now_ms));
        }
    }

    /// Swaps the list to read from with the empty `list`.
    pub(crate) fn take_ready(&mut self, list: &mut Vec<SocketKey>) {
        std::mem::swap(&mut self.ready, list);
        for key in &*list {
            if let Some(socket) = self.arena.get_mut(*key) {
                socket.unread = Unread::No;
            }
        }
    }

    /// Removes and returns the first socket to read from after all others.
    pub(crate) fn take_ready_last(&mut self) -> Option<SocketKey> {
        let key = self.ready_last.pop_front()?;
        if let Some(socket) = self.arena.get_mut(key) {
            socket.unread = Unread::No;
        }
        Some(key)
    }

    /// Removes and returns the socket that has waited longest to be written to, if it has waited
    /// since `since_ms` or longer.
    pub(crate) fn take_unwritten(&mut self, since_ms: u64) -> Option<SocketKey> {
        let (key, _) = self
            .unwritten
            .pop_front_if(|(_, waits_since_ms)| *waits_since_ms <= since_ms)?;
        if let Some(socket) = self.arena.get_mut(key) {
            socket.unwritten = Unwritten::No;
        }
        Some(key)
    }

    /// Puts the socket on the list to write to after all others, unless it is on a list.
    pub(crate) fn write_last(&mut self, key: SocketKey) {
        if let Some(socket) = self.arena.get_mut(key)
            && socket.unwritten == Unwritten::No
        {
            socket.unwritten = Unwritten::Last;
            self.last.push_back(key);
        }
    }

    /// Removes and returns the first socket of that list. Its next input is read after all others
    /// too: thousands of clients answer one message.
    pub(crate) fn take_last(&mut self) -> Option<SocketKey> {
        let key = self.last.pop_front()?;
        if let Some(socket) = self.arena.get_mut(key) {
            socket.unwritten = Unwritten::No;
            socket.read_last_from_now_on();
        }
        Some(key)
    }

    /// Number of sockets to write to after all others.
    pub(crate) fn last_count(&self) -> usize {
        self.last.len()
    }

    /// Number of sockets to read from after all others.
    pub(crate) fn ready_last_count(&self) -> usize {
        self.ready_last.len()
    }

    /// Whether no socket must be read from or written to at once.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_turn_due() && self.last.is_empty() && self.ready_last.is_empty()
    }

    /// Whether a socket must be read from in the next tick, or written to in its turn.
    pub(crate) fn is_turn_due(&self) -> bool {
        !self.ready.is_empty() || !self.unwritten.is_empty()
    }

    /// Number of sockets on the list to write to.
    pub(crate) fn unwritten_count(&self) -> usize {
        self.unwritten.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }

    fn forget_connection(&mut self, socket: &Socket<S>, key: SocketKey) {
        let index = socket.id.index as usize;
        if self.by_connection.get(index) == Some(&key) {
            self.by_connection[index] = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::NoLayers;

    /// Has the size of a stream of the reactor.
    struct Descriptor(#[allow(dead_code)] i32);

    impl Stream for Descriptor {
        type Layers = NoLayers;
    }

    #[test]
    fn an_idle_socket_costs_at_most_32_bytes() {
        assert!(size_of::<Socket<Descriptor>>() <= 32);
    }
}
