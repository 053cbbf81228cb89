//! The node's ends of connections: received bytes, room for sent ones, and how far each end has
//! been closed.

use martlet_broker::TransportEnd;
use martlet_tick::{NoLayers, Notice, Read, SocketKey, SocketWrite, Stream};

use super::LinkIndex;

/// The stream of one connection, as its shard's loop holds it.
#[derive(Debug)]
pub(super) struct Wire(pub(super) LinkIndex);

impl Stream for Wire {
    type Layers = NoLayers;
}

/// One end of a connection, as the system holds it.
#[derive(Debug, Default)]
pub(super) struct Socket {
    /// The shard and key of its loop; `None` in transit between shards.
    pub(super) at: Option<(usize, SocketKey)>,
    /// Arrived and not yet read.
    inbound: Vec<u8>,
    /// Bytes that the network accepts.
    room: usize,
    /// Bytes that the network has accepted.
    written: u64,
    /// Whether the node had more to write than there was room for.
    blocked: bool,
    /// How the client's side has ended.
    ended: Option<TransportEnd>,
    /// Whether the node writes no more, and only waits for the end of the client's side.
    finished: bool,
    /// Whether the node has dropped it.
    dropped: bool,
}

impl Socket {
    /// An open socket with `room` bytes towards the network.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    /// Whether a shard still uses it.
    pub(super) fn is_in_use(&self) -> bool {
        !self.finished && !self.dropped
    }

    /// The first notice of a poller, if there is already an event.
    pub(super) fn first_notice(&self) -> Option<Notice> {
        let has_news = !self.inbound.is_empty() || self.ended.is_some();
        has_news.then(|| self.notice())
    }

    /// The notice of a poller.
    pub(super) fn notice(&self) -> Notice {
        Notice {
            readable: true,
            writable: false,
            read_closed: self.ended.is_some(),
            broken: self.ended == Some(TransportEnd::Error),
        }
    }

    /// Receives bytes of the client.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if !self.dropped {
            self.inbound.extend_from_slice(bytes);
        }
    }

    /// Ends the client's side.
    pub(super) fn end(&mut self, end: TransportEnd) {
        self.ended.get_or_insert(end);
    }

    /// Adds room in the network; true if the node has waited for it.
    pub(super) fn give_room(&mut self, bytes: usize) -> bool {
        self.room += bytes;
        self.blocked
    }

    /// Bytes that the network has accepted.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn read(&mut self, room: &mut [u8]) -> Read {
        if self.inbound.is_empty() {
            return match &self.ended {
                None => Read::Empty,
                Some(TransportEnd::EndOfStream) => Read::End,
                Some(_) => Read::Broken,
            };
        }
        let count = self.inbound.len().min(room.len());
        room[..count].copy_from_slice(&self.inbound[..count]);
        self.inbound.drain(..count);
        Read::Bytes(count)
    }

    pub(super) fn write(&mut self, output: &[u8]) -> SocketWrite {
        if output.is_empty() {
            return SocketWrite::Nothing;
        }
        if self.ended == Some(TransportEnd::Error) {
            return SocketWrite::Broken;
        }
        let taken = output.len().min(self.room);
        self.room -= taken;
        self.written += taken as u64;
        self.blocked = taken < output.len();
        SocketWrite::Some {
            taken,
            blocked: self.blocked,
        }
    }

    /// Ends writing; false if the connection is broken.
    pub(super) fn finish(&mut self) -> bool {
        self.finished = true;
        self.ended != Some(TransportEnd::Error)
    }

    /// Drops it. Returns whether it existed until now.
    pub(super) fn forget(&mut self) -> bool {
        let was_there = !self.dropped;
        *self = Self {
            dropped: true,
            written: self.written,
            ..Self::default()
        };
        was_there
    }
}
