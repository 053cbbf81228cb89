//! Result of the delivery of a message by a sink.

use std::error::Error;
use std::time::Duration;

use crate::words::error_words;

/// Result of the delivery of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other system has accepted it.
    Done,
    /// The other system will never accept this message, for this reason. It becomes a dead letter.
    Refused(String),
    /// Retry it without end, for this reason: the other system cannot be reached, or accepts
    /// nothing now.
    Failed(String),
    /// As [`Outcome::Failed`], but the message may be the cause: after
    /// [`Settings::max_attempts`](crate::Settings::max_attempts) such outcomes it counts as
    /// refused.
    FailedAtMessage(String),
    /// As [`Outcome::FailedAtMessage`], but the other system may be unresponsive: such outcomes
    /// count only if it has accepted other messages since the first of them.
    NoAnswer(String),
    /// As [`Outcome::Failed`]; the other system requested a pause of this length.
    Later(String, Duration),
    /// The message was sent together with others, of which one failed: it is unknown whether the
    /// other system has it. It comes again, marked as repeated.
    SentWithOthers,
    /// The message was not tried and comes again: for sinks that deliver messages of several
    /// publishers in parallel, after one of them failed.
    NotTried,
}

/// Result of a delivery whose steps may fail.
pub type Attempt = Result<Outcome, Box<dyn Error + Send + Sync>>;

impl From<Attempt> for Outcome {
    /// An error means that the message is retried.
    fn from(attempt: Attempt) -> Self {
        attempt.unwrap_or_else(|error| Self::Failed(error_words(&*error)))
    }
}
