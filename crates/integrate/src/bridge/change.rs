//! A change of the subscriptions of a named connection, and why it is not made.

use std::fmt;

use martlet_codec::QoS;
use tokio::sync::oneshot;

/// Why a subscription is not made or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// There is no connection to the other broker, for this reason.
    NotConnected(String),
    /// The other broker or the connection rejects it, for this reason.
    Refused(String),
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotConnected(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for ConnectionError {}

/// A change of the subscriptions, and who waits for it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) filter: Box<str>,
    /// None: the subscription ends.
    pub(super) qos: Option<QoS>,
    pub(super) answer: oneshot::Sender<Result<(), ConnectionError>>,
}
