//! A call of the sink that is under way.

use std::time::Duration;

use crate::feed::Ticket;
use crate::outcome::Outcome;

/// What is known of the call under way.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) began: Duration,
    /// Messages that it has delivered.
    pub(super) delivered: usize,
    /// Messages that it has refused, and that wait to become dead letters.
    pub(super) refused: usize,
    /// What the sink has said, as far as it is looked at when the call is over.
    pub(super) kept: Vec<(Ticket, Outcome)>,
    /// Bytes of the messages that the sink has.
    pub(super) bytes: usize,
}
