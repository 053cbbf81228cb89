//! When a socket is dropped, whatever its peer does.

use martlet_broker::ConnectionId;

use crate::socket_key::SocketKey;

/// When a socket is dropped, whatever its peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    /// Monotonic time.
    pub(crate) due_ms: u64,
    pub(crate) key: SocketKey,
    /// The connection of the socket that is meant: its place may have another by then.
    pub(crate) id: ConnectionId,
}
