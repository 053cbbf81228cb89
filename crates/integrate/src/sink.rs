//! The interface of another system that takes messages.

use std::future::Future;

use tokio::runtime::Handle;

use crate::feed::SinkMessages;
use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Another system that takes messages. Implement `deliver` and `test`; the runner does the rest:
/// batches, time limits, retries, dead letters, and what operators ask for. A system that answers
/// each message before it gets the next is simpler as [`OneByOne`](crate::OneByOne).
pub trait Sink: Send + 'static {
    /// Delivers a batch, which is never empty, and answers with one outcome for each message, in
    /// the order of the batch. [`Outcome::Done`] says that the message is safe in the other system:
    /// the node forgets it then.
    ///
    /// Messages of one publisher are in order. To keep that order, deliver nothing more of a
    /// publisher after a failure, and nothing at all after a refusal if the sink stops there
    /// ([`OnReject::Stop`](crate::OnReject)). Messages without an outcome count as not tried, and
    /// come again.
    ///
    /// Each sink has a thread of its own with a Tokio runtime, so that one which blocks holds up
    /// nothing but itself; use [`spawn_blocking`](tokio::task::spawn_blocking) all the same, since
    /// nothing can end a call that blocks. The runner drops the future after
    /// [`Settings::deliver_within`](crate::Settings), at any `await`, and counts a panic as a
    /// failure.
    fn deliver(&mut self, batch: &[SinkMessage]) -> impl Future<Output = Vec<Outcome>> + Send;

    /// As [`Sink::deliver`], for a sink that keeps messages under way and takes others as they are
    /// answered. It reports the outcome of each message by [`SinkMessages::tell`], and returns
    /// when it has none any more. After an outcome other than [`Outcome::Done`] the runner hands
    /// over nothing more in this call. It ends a call after some seconds too, so that it can do
    /// other work: a sink does not begin with what it has taken and not begun 10 s after the call
    /// began.
    ///
    /// Of a publisher, nothing follows a message that failed, as with [`Sink::deliver`].
    fn deliver_from(&mut self, feed: &mut SinkMessages) -> impl Future<Output = ()> + Send {
        async {
            let (tickets, batch) = feed.batch();
            let outcomes = self.deliver(&batch).await;
            feed.tell_all(tickets, outcomes);
        }
    }

    /// Whether the other system can be reached now. Delivers nothing.
    ///
    /// # Errors
    /// It cannot be reached; the reason in words.
    fn test(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// Something that operators should know although deliveries succeed, in words; none if all is
    /// well. Read after each delivery.
    fn health(&self) -> Option<String> {
        None
    }

    /// Why the other system cannot be reached, in words, where the sink knows that without a
    /// delivery; none if it can. Then the integration is *retrying*. Read after each delivery.
    fn outage(&self) -> Option<String> {
        None
    }

    /// That the other system refuses the credentials of the sink, where it has said so to the last
    /// message; none if not. Read after each delivery.
    fn access_refused(&self) -> Option<AccessRefused> {
        None
    }

    /// Messages that it did not send although it has taken them, since the other system has them:
    /// they came from there. Read after each delivery.
    fn skipped(&self) -> u64 {
        0
    }

    /// The runtime on which the sink is called, if it has one with a thread of its own. After a
    /// panic that is not unwound another sink is made, which has another one.
    fn runtime(&self) -> Option<Handle> {
        None
    }

    /// An operator has repaired something: a sink that waits until it connects again tries it at
    /// once.
    fn try_again(&mut self) {}
}

/// The other system refuses the credentials of a sink, so messages become dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRefused {
    /// The status of HTTP that it answers.
    pub status: u16,
    /// Time of the first such answer without another one since, milliseconds since the Unix epoch.
    pub since_ms: u64,
}
