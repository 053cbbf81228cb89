//! Connection state of a session.

/// Connection state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection, or one that is being closed.
    Disconnected,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK accepted us.
    Connected,
}
