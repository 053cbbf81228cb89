//! A change of the subscriptions of a named connection, and its errors.

use std::fmt;

use martlet_codec::QoS;
use tokio::sync::oneshot;

/// Why a subscription change failed.
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

/// A change of the subscriptions, with the channel for its result.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) filter: Box<str>,
    /// The new QoS; `None`: unsubscribe.
    pub(super) qos: Option<QoS>,
    pub(super) answer: oneshot::Sender<Result<(), ConnectionError>>,
}
