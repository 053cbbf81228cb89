//! The interface of another system that messages come from.

use std::future::Future;

use martlet_broker::NewMessage;

/// Another system that messages come from. The runner publishes them one after the other, and says
/// what became of each. The runner also does pauses after failures, pause and resume, and the
/// commands of operators.
pub trait MessageSource: Send + 'static {
    /// Waits for the next message, and connects before if it has to. The runner drops the future at
    /// any `await` to do something else, and calls again: nothing may be lost by that.
    ///
    /// # Errors
    /// There is no connection; the reason in words. The next call comes after a pause.
    fn next(&mut self) -> impl Future<Output = Result<SourceMessage, String>> + Send;

    /// Says what became of a message: told after a PUBACK would be sent for it. What cannot be sent
    /// now is sent when there is a connection again.
    fn answer(&mut self, number: u64, answer: SourceAnswer) -> impl Future<Output = ()> + Send;

    /// Takes no more messages until [`MessageSource::next`] is called again. Messages that were not
    /// answered may be answered after it.
    fn rest(&mut self);

    /// Whether the other system can be reached now.
    ///
    /// # Errors
    /// It cannot be reached; the reason in words.
    fn test(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// Messages that wait in the other system; none if unknown.
    fn waiting(&self) -> Option<u64>;
}

/// A message of a source.
#[derive(Clone, Debug)]
pub struct SourceMessage {
    /// Names it in the answer.
    pub number: u64,
    /// Where it is in the other system, for the log.
    pub place: String,
    /// When the other system received it, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// It may have been published before.
    pub repeated: bool,
    /// Action that it asks for.
    pub what: What,
}

/// Action that a message of a source asks for.
#[derive(Clone, Debug)]
pub enum What {
    /// It is published. Its hops say how many nodes it has passed.
    Publish(Box<NewMessage>),
    /// It needs no publishing: it comes from this node, or has expired.
    Nothing,
    /// The source has done all that is to be done with it. It is not answered.
    Handled,
    /// It can never be published, for this reason.
    Refuse(String),
}

/// What became of a message of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAnswer {
    /// The node has it.
    Done,
    /// The node will never take it.
    Refused,
    /// The node does not take it now: it is to come again.
    Later,
}
