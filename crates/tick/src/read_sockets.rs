//! Sockets that have been read in a tick and whose bytes are not yet processed.

use martlet_broker::ConnectionId;

use crate::outside::Read;
use crate::socket_key::SocketKey;

/// Most bytes that a tick reads from one socket.
pub(crate) const READ_LEN: usize = 64 * 1024;

/// Most sockets that are read before their bytes are processed.
pub(crate) const GROUP: usize = 128;

/// Sockets that have been read, and their bytes.
#[derive(Debug)]
pub(crate) struct ReadSockets {
    pub(crate) sockets: Vec<Brought>,
    /// The bytes of all sockets, one socket after the other.
    pub(crate) buffer: Box<[u8]>,
    /// Number of bytes in use.
    pub(crate) used: usize,
}

/// Result of reading one socket of a group.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) key: SocketKey,
    pub(crate) id: ConnectionId,
    pub(crate) read: Read,
}

impl ReadSockets {
    /// Creates an empty group. Its buffer fits the bytes of one socket with much input, or of many
    /// with little.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            buffer: vec![0; 2 * READ_LEN].into_boxed_slice(),
            used: 0,
        }
    }

    /// Free space for the bytes of the next socket.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used..self.used + READ_LEN]
    }

    /// Whether these bytes must be processed before another socket is read.
    pub(crate) fn is_full(&self) -> bool {
        self.sockets.len() == GROUP || self.buffer.len() - self.used < READ_LEN
    }
}
