//! The current call of the sink.

use std::time::Duration;

use crate::feed::Ticket;
use crate::outcome::Outcome;

/// State of the current call.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) began: Duration,
    /// Number of messages it has delivered.
    pub(super) delivered: usize,
    /// Number of messages it has refused, which wait to become dead letters.
    pub(super) refused: usize,
    /// Outcomes of the sink that are processed after the call.
    pub(super) kept: Vec<(Ticket, Outcome)>,
    /// Bytes of the messages in the sink.
    pub(super) bytes: usize,
}
