//! The messages of one call of a sink: those at its beginning, and those that arrive during it. So
//! a sink with several messages in flight need not wait for the end of a batch before it starts
//! the next.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Identifies a message within one call of a sink. Later messages have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// State shared by the sink and the runner during a call.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals that there are messages.
    for_sink: Notify,
    /// Signals that there are outcomes for the runner.
    for_runner: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Ticket, SinkMessage)>,
    outcomes: Vec<(Ticket, Outcome)>,
    /// Whether the sink takes messages that arrive during the call.
    takes_more: bool,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink takes more messages than it has. Notifies the runner once.
    fn takes_more(&self, state: &mut State) {
        if !std::mem::replace(&mut state.takes_more, true) {
            self.for_runner.notify_one();
        }
    }
}

/// Whether there is a next message.
enum NextMessage {
    Here,
    Later,
    Never,
}

/// The sink's side of a call.
#[derive(Debug)]
pub struct SinkMessages {
    shared: Arc<Shared>,
    /// Number of outcomes at which the runner is woken: a wake-up for each would cost too much.
    told_at: usize,
}

impl SinkMessages {
    /// The next message; `None` if there is none now. See [`SinkMessages::more`].
    pub fn take(&mut self) -> Option<(Ticket, SinkMessage)> {
        let mut state = self.shared.lock();
        let message = state.waiting.pop_front();
        if message.is_none() {
            self.shared.takes_more(&mut state);
        }
        message
    }

    /// Waits until [`SinkMessages::take`] has a message. If no more come in this call, it waits
    /// for ever: a sink must use it only while it has messages in flight, and return when it has
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

    /// Whether there is a message, or may be one later.
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

    /// Reports the outcome of a message. After [`Outcome::Done`] the node removes it at once,
    /// independent of the others. A message without an outcome at the end of the call counts as
    /// not tried.
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

    /// Fails the first message for this reason; the others are not tried.
    pub(crate) fn fail(&mut self, why: String) {
        if let Some((ticket, _)) = self.take() {
            self.tell(ticket, Outcome::Failed(why));
        }
    }

    /// All available messages: a batch.
    pub fn batch(&mut self) -> (Vec<Ticket>, Vec<SinkMessage>) {
        self.shared.lock().waiting.drain(..).unzip()
    }

    /// Reports the outcomes of the messages of a batch, in order.
    pub fn tell_all(&mut self, tickets: Vec<Ticket>, outcomes: Vec<Outcome>) {
        let has_failed = outcomes.iter().any(|outcome| *outcome != Outcome::Done);
        self.report(has_failed, tickets.into_iter().zip(outcomes));
    }
}

/// The runner's side of a call.
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

    /// Ends the input: no more messages in this call.
    pub(crate) fn close(&self) {
        self.0.lock().is_closed = true;
    }

    /// Whether the sink takes more messages in this call.
    pub(crate) fn takes_more(&self) -> bool {
        let state = self.0.lock();
        state.takes_more && !state.is_closed
    }

    /// Outcomes reported since the last call of this method.
    pub(crate) fn outcomes(&self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.0.lock().outcomes)
    }

    /// Waits until there are outcomes.
    pub(crate) async fn told(&self) {
        self.0.for_runner.notified().await;
    }
}

/// Runs `deliver` for a single batch. Outcomes are in the order of the batch; missing ones are
/// [`Outcome::NotTried`].
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
