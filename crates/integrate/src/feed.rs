//! The messages of one call of a sink: those that it begins with, and those that come while it
//! delivers them. So a sink with several messages under way need not wait for the last of a batch
//! before it begins with the next.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Names a message within one call of a sink. Later messages have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// What the sink and the runner share during a call.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There are messages.
    for_sink: Notify,
    /// There are outcomes that the runner should see soon.
    for_runner: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Ticket, SinkMessage)>,
    outcomes: Vec<(Ticket, Outcome)>,
    /// The sink takes messages that come during the call.
    takes_more: bool,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink takes more than it has. The runner is told once.
    fn takes_more(&self, state: &mut State) {
        if !std::mem::replace(&mut state.takes_more, true) {
            self.for_runner.notify_one();
        }
    }
}

/// When there is a message.
enum NextMessage {
    Here,
    Later,
    Never,
}

/// The messages of a call, as the sink sees them.
#[derive(Debug)]
pub struct SinkMessages {
    shared: Arc<Shared>,
    /// Number of outcomes with which the runner is woken: to wake it for each costs more than the
    /// outcome is worth.
    told_at: usize,
}

impl SinkMessages {
    /// The next message; none if there is none now. See [`SinkMessages::more`].
    pub fn take(&mut self) -> Option<(Ticket, SinkMessage)> {
        let mut state = self.shared.lock();
        let message = state.waiting.pop_front();
        if message.is_none() {
            self.shared.takes_more(&mut state);
        }
        message
    }

    /// Waits until [`SinkMessages::take`] has a message. If no more come in this call, it waits for
    /// ever: a sink waits for it only while it has messages under way, and returns when it has
    /// none.
    pub async fn more(&mut self) {
        loop {
            match self.wants() {
                NextMessage::Here => return,
                NextMessage::Later => self.shared.for_sink.notified().await,
                NextMessage::Never => pending().await,
            }
        }
    }

    /// Whether there is a message, or will be one.
    fn wants(&self) -> NextMessage {
        let mut state = self.shared.lock();
        if !state.waiting.is_empty() {
            return NextMessage::Here;
        }
        self.shared.takes_more(&mut state);
        match state.is_closed {
            true => NextMessage::Never,
            false => NextMessage::Later,
        }
    }

    /// Reports the outcome of a message. After [`Outcome::Done`] the node forgets it at once,
    /// whatever happens to the others. A message that has no outcome when the call ends was not
    /// tried.
    pub fn tell(&mut self, ticket: Ticket, outcome: Outcome) {
        self.report(outcome != Outcome::Done, [(ticket, outcome)]);
    }

    fn report(&mut self, has_failed: bool, outcomes: impl IntoIterator<Item = (Ticket, Outcome)>) {
        let mut state = self.shared.lock();
        state.outcomes.extend(outcomes);
        let is_told = has_failed || state.outcomes.len() >= self.told_at;
        drop(state);
        if is_told {
            self.shared.for_runner.notify_one();
        }
    }

    /// The first message fails for this reason, and nothing is tried.
    pub(crate) fn fail(&mut self, why: String) {
        if let Some((ticket, _)) = self.take() {
            self.tell(ticket, Outcome::Failed(why));
        }
    }

    /// All messages that are there: a batch.
    pub fn batch(&mut self) -> (Vec<Ticket>, Vec<SinkMessage>) {
        self.shared.lock().waiting.drain(..).unzip()
    }

    /// Reports the outcomes of the messages of a batch, in its order.
    pub fn tell_all(&mut self, tickets: Vec<Ticket>, outcomes: Vec<Outcome>) {
        let has_failed = outcomes.iter().any(|outcome| *outcome != Outcome::Done);
        self.report(has_failed, tickets.into_iter().zip(outcomes));
    }
}

/// The messages of a call, as the runner sees them.
#[derive(Debug)]
pub(crate) struct Feeder(Arc<Shared>);

impl Feeder {
    /// For a call in which the sink may have this number of messages at once.
    pub(crate) fn new(messages_max: usize) -> (Self, SinkMessages) {
        let shared = Arc::<Shared>::default();
        let feed = SinkMessages {
            shared: Arc::clone(&shared),
            told_at: (messages_max / 4).max(1),
        };
        (Self(shared), feed)
    }

    /// Hands messages over.
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = (Ticket, SinkMessage)>) {
        self.0.lock().waiting.extend(messages);
        self.0.for_sink.notify_one();
    }

    /// No more messages come in this call.
    pub(crate) fn close(&self) {
        self.0.lock().is_closed = true;
    }

    /// Whether the sink takes more messages in this call.
    pub(crate) fn takes_more(&self) -> bool {
        let state = self.0.lock();
        state.takes_more && !state.is_closed
    }

    /// What the sink has said since this was asked last.
    pub(crate) fn outcomes(&self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.0.lock().outcomes)
    }

    /// Waits until there are outcomes to be looked at.
    pub(crate) async fn told(&self) {
        self.0.for_runner.notified().await;
    }
}

/// Has `deliver` work off a batch and nothing else. Outcomes are in the order of the batch; those
/// that it has not said are [`Outcome::NotTried`].
pub(crate) async fn deliver_batch(
    batch: &[SinkMessage],
    deliver: impl AsyncFnOnce(&mut SinkMessages),
) -> Vec<Outcome> {
    let (feeder, mut feed) = Feeder::new(batch.len());
    let numbered = (0..).map(Ticket).zip(batch.iter().cloned());
    feeder.push(numbered);
    feeder.close();
    deliver(&mut feed).await;
    let mut outcomes = vec![Outcome::NotTried; batch.len()];
    for (Ticket(place), outcome) in feeder.outcomes() {
        if let Some(of_message) = outcomes.get_mut(place as usize) {
            *of_message = outcome;
        }
    }
    outcomes
}
