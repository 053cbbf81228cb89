//! The time at which a socket is dropped, whatever its peer does.

use martlet_broker::ConnectionId;

use crate::socket_key::SocketKey;

/// The time at which a socket is dropped, whatever its peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    /// Monotonic time, in milliseconds.
    pub(crate) due_ms: u64,
    pub(crate) key: SocketKey,
    /// The connection of the socket, because its place may be reused by then.
    pub(crate) id: ConnectionId,
}
