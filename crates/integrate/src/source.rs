//! The interface to another system that messages come from.

use std::future::Future;

use martlet_broker::NewMessage;

/// Another system that messages come from. The runner publishes the messages one after the other,
/// and reports the result of each. The runner also handles pauses after failures, pause and
/// resume, and the commands of operators.
pub trait MessageSource: Send + 'static {
    /// Waits for the next message, and connects first if necessary. The runner may drop the future
    /// at any `await` and call again: no message may be lost by that.
    ///
    /// # Errors
    /// There is no connection; the reason. The next call comes after a pause.
    fn next(&mut self) -> impl Future<Output = Result<SourceMessage, String>> + Send;

    /// Reports the result of a message, after the event for which a PUBACK would be sent. If it
    /// cannot be sent now, it is sent over the next connection.
    fn answer(&mut self, number: u64, answer: SourceAnswer) -> impl Future<Output = ()> + Send;

    /// Stops taking messages until [`MessageSource::next`] is called again. Unanswered messages
    /// may still be answered.
    fn rest(&mut self);

    /// Tests whether the other system can be reached now.
    ///
    /// # Errors
    /// It cannot be reached; the reason.
    fn test(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// Number of messages that wait in the other system; `None` if unknown.
    fn waiting(&self) -> Option<u64>;
}

/// A message of a source.
#[derive(Clone, Debug)]
pub struct SourceMessage {
    /// Identifies it in the answer.
    pub number: u64,
    /// Place of the message in the other system, for the log.
    pub place: String,
    /// When the other system received it, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Whether it may have been published before.
    pub repeated: bool,
    /// The required action.
    pub what: What,
}

/// The action for a message of a source.
#[derive(Clone, Debug)]
pub enum What {
    /// Publish it. Its hops are the number of nodes it has passed.
    Publish(Box<NewMessage>),
    /// Publish nothing: it comes from this node, or has expired.
    Nothing,
    /// Already handled by the source. No answer is sent.
    Handled,
    /// Refuse it: it can never be published, for this reason.
    Refuse(String),
}

/// Result of a message of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAnswer {
    /// The node has accepted it.
    Done,
    /// The node will never accept it.
    Refused,
    /// The node does not accept it now: it must come again.
    Later,
}
