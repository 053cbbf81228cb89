//! A message that the node handed over and that is not settled.

use std::time::Duration;

use super::giving_up::Failures;
use crate::feed::Ticket;
use crate::lanes::Token;
use crate::order::OrderKey;
use crate::sink_message::SinkMessage;

/// A message that is not settled.
#[derive(Debug)]
pub(super) struct UnsettledMessage {
    pub(super) token: Token,
    pub(super) message: SinkMessage,
    /// When it becomes too old to be delivered; `None`: never.
    pub(super) too_old_at: Option<Duration>,
    /// Number of panics of the sink when it was handed over alone.
    pub(super) panics: u32,
    pub(super) failures: Failures,
    /// Ticket of the message in the current call of the sink.
    pub(super) ticket: Ticket,
}

impl UnsettledMessage {
    /// Index of its lane.
    pub(super) fn lane(&self) -> usize {
        self.token.lane()
    }

    /// Messages with this key wait behind it while it is retried: those of its publisher, or
    /// whatever the order of the sink says.
    pub(super) fn order_key(&self) -> OrderKey<'_> {
        self.message.order_key()
    }
}
