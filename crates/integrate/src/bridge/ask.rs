//! Requests to the worker of a bridge.

use std::fmt;

use martlet_codec::QoS;
use tokio::sync::oneshot;

use super::outgoing::Messages;
use crate::outcome::Outcome;

/// A request to the worker.
#[derive(Debug)]
pub(super) enum Ask {
    /// Send these messages.
    Send(Messages, oneshot::Sender<Vec<Outcome>>),
    /// Change the subscriptions of a named connection.
    Change(Change),
    /// Check whether a named connection should be connected now.
    Look,
    /// Connect at once, if there is no connection.
    Connect,
    /// As [`Ask::Connect`], and return the result.
    Test(oneshot::Sender<Result<(), String>>),
}

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
