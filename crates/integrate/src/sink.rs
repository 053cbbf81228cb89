//! The interface to another system that takes messages.

use std::future::Future;

use tokio::runtime::Handle;

use crate::feed::SinkMessages;
use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Another system that takes messages. Implement `deliver` and `test`; the runner does the rest:
/// batches, time limits, retries, dead letters, and commands of operators. For a system that
/// answers each message before the next, [`OneByOne`](crate::OneByOne) is simpler.
pub trait Sink: Send + 'static {
    /// Delivers a batch, which is never empty, and returns one outcome for each message, in the
    /// order of the batch. [`Outcome::Done`] means that the other system stores the message
    /// safely: the node then removes it.
    ///
    /// Messages of one publisher are in order. To keep that order, deliver nothing more of a
    /// publisher after a failure, and nothing at all after a refusal if the sink stops there
    /// ([`OnReject::Stop`](crate::OnReject)). Messages without an outcome count as not tried, and
    /// come again.
    ///
    /// Each sink has its own thread with a Tokio runtime, so that a blocking sink delays only
    /// itself. Use [`spawn_blocking`](tokio::task::spawn_blocking) nevertheless, since a blocking
    /// call cannot be cancelled. The runner drops the future after
    /// [`Settings::deliver_within`](crate::Settings), at any `await`, and counts a panic as a
    /// failure.
    fn deliver(&mut self, batch: &[SinkMessage]) -> impl Future<Output = Vec<Outcome>> + Send;

    /// As [`Sink::deliver`], for a sink that keeps messages in flight and takes others as they are
    /// answered. It reports the outcome of each message by [`SinkMessages::tell`], and returns
    /// when it has no more messages. After an outcome other than [`Outcome::Done`] the runner
    /// hands over nothing more in this call. It also ends a call after some seconds, so that it
    /// can do other work: from 10 s after the begin of the call, a sink must not start messages
    /// that it has taken but not started.
    ///
    /// As with [`Sink::deliver`], nothing of a publisher may follow its failed message.
    fn deliver_from(&mut self, feed: &mut SinkMessages) -> impl Future<Output = ()> + Send {
        async {
            let (tickets, batch) = feed.batch();
            let outcomes = self.deliver(&batch).await;
            feed.tell_all(tickets, outcomes);
        }
    }

    /// Tests whether the other system can be reached now. Delivers nothing.
    ///
    /// # Errors
    /// It cannot be reached; the reason.
    fn test(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// A warning for operators although deliveries succeed; `None` if there is none. Read after
    /// each delivery.
    fn health(&self) -> Option<String> {
        None
    }

    /// Why the other system cannot be reached, if the sink detects that without a delivery; `None`
    /// if it can be reached. The integration is then *retrying*. Read after each delivery.
    fn outage(&self) -> Option<String> {
        None
    }

    /// The refusal of the sink's credentials by the other system, if its last answer was one; else
    /// `None`. Read after each delivery.
    fn access_refused(&self) -> Option<AccessRefused> {
        None
    }

    /// Number of messages that were accepted but not sent, because they came from the other
    /// system. Read after each delivery.
    fn skipped(&self) -> u64 {
        0
    }

    /// The runtime on which the sink is called, if it provides one with its own thread. After a
    /// panic that is not unwound a new sink is created, which has a new runtime.
    fn runtime(&self) -> Option<Handle> {
        None
    }

    /// After a repair by an operator: a sink that waits to reconnect tries at once.
    fn try_again(&mut self) {}
}

/// The other system refuses the credentials of a sink, so messages become dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRefused {
    /// The HTTP status of its answers.
    pub status: u16,
    /// Time of the first such answer without a different one since, milliseconds since the Unix
    /// epoch.
    pub since_ms: u64,
}
