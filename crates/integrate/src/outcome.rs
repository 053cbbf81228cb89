//! What became of a message that a sink was to deliver.

use std::error::Error;
use std::time::Duration;

use crate::words::error_words;

/// Result of the delivery of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other system has it.
    Done,
    /// The other system will never take this message, for this reason. It becomes a dead letter.
    Refused(String),
    /// It is to be tried again, without end, for this reason: the other system cannot be reached,
    /// or takes nothing now.
    Failed(String),
    /// As [`Outcome::Failed`], and the message may be the cause: after as many such outcomes as
    /// [`Settings::max_attempts`](crate::Settings::max_attempts) it counts as refused.
    FailedAtMessage(String),
    /// As [`Outcome::FailedAtMessage`], and the other system may not answer at all: such outcomes
    /// count only if it has taken other messages since the first of them.
    NoAnswer(String),
    /// As [`Outcome::Failed`], and the other system asks not to be called for that time.
    Later(String, Duration),
    /// It was sent together with others, of which one failed: whether the other system has it is
    /// not known. It comes again, and is marked as repeated.
    SentWithOthers,
    /// It was not tried and comes again: for sinks that deliver messages of several publishers at
    /// once, and one of them failed.
    NotTried,
}

/// Result of a delivery in whose steps errors may happen.
pub type Attempt = Result<Outcome, Box<dyn Error + Send + Sync>>;

impl From<Attempt> for Outcome {
    /// An error says that the message is to be tried again.
    fn from(attempt: Attempt) -> Self {
        attempt.unwrap_or_else(|error| Self::Failed(error_words(&*error)))
    }
}
