//! What the worker of a bridge is asked.

use tokio::sync::oneshot;

use super::change::Change;
use super::outgoing::Messages;
use crate::outcome::Outcome;

/// What a worker is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// To send these messages.
    Send(Messages, oneshot::Sender<Vec<Outcome>>),
    /// To change the subscriptions of a named connection.
    Change(Change),
    /// To look whether a named connection is to be connected now.
    Look,
    /// To connect at once, if there is no connection.
    Connect,
    /// As [`Ask::Connect`], and to say what came of it.
    Test(oneshot::Sender<Result<(), String>>),
}
