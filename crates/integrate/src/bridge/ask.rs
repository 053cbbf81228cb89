//! Requests to the worker of a bridge.

use tokio::sync::oneshot;

use super::change::Change;
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
