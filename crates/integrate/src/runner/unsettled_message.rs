//! A message that was handed over by the node and is not settled.

use std::time::Duration;

use super::giving_up::Failures;
use crate::feed::Ticket;
use crate::lanes::Token;
use crate::sink_message::SinkMessage;

/// A message that is not settled.
#[derive(Debug)]
pub(super) struct UnsettledMessage {
    pub(super) token: Token,
    pub(super) message: SinkMessage,
    /// When it is too old to be delivered; none: never.
    pub(super) too_old_at: Option<Duration>,
    /// Times that the sink panicked when it was handed over alone.
    pub(super) panics: u32,
    pub(super) failures: Failures,
    /// Ticket by which the sink names it in the call under way.
    pub(super) ticket: Ticket,
}

impl UnsettledMessage {
    /// Number of the lane that it came by.
    pub(super) fn lane(&self) -> usize {
        self.token.lane()
    }

    /// Client Identifier of its publisher; empty if that is not known.
    pub(super) fn publisher(&self) -> &str {
        self.message.client_id().unwrap_or_default()
    }
}
