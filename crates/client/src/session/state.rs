//! Where the connection of a session stands.

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection, or one that is being closed.
    Disconnected,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK accepted us.
    Connected,
}
