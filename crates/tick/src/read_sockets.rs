//! Sockets that have been read in a tick and whose bytes are not processed yet.

use martlet_broker::ConnectionId;

use crate::outside::Read;
use crate::socket_key::SocketKey;

/// A tick reads at most this number of bytes from one socket.
pub(crate) const READ_LEN: usize = 64 * 1024;

/// Sockets that are read before what they brought is processed, at most.
pub(crate) const GROUP: usize = 128;

/// Sockets that have been read, and what they brought.
#[derive(Debug)]
pub(crate) struct ReadSockets {
    pub(crate) sockets: Vec<Brought>,
    /// The bytes of one socket after those of the other.
    pub(crate) buffer: Box<[u8]>,
    /// Number of these bytes.
    pub(crate) used: usize,
}

/// What a socket of a group has brought.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) key: SocketKey,
    pub(crate) id: ConnectionId,
    pub(crate) read: Read,
}

impl ReadSockets {
    /// A group without sockets that takes the bytes of one that has much, or of many that have
    /// little.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            buffer: vec![0; 2 * READ_LEN].into_boxed_slice(),
            used: 0,
        }
    }

    /// Where the next socket may put its bytes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used..self.used + READ_LEN]
    }

    /// No other socket is read before what these brought is processed.
    pub(crate) fn is_full(&self) -> bool {
        self.sockets.len() == GROUP || self.buffer.len() - self.used < READ_LEN
    }
}
