//! The state of a runner and its events: everything except the sink. It reaches the node, the
//! tables and the time only by [`Host`] and [`Clock`], so that tests run it in virtual time.
//!
//! * `attachment`, `attaching`: its part of the node
//! * `call`, `calling`: one call of the sink
//! * `delivery`: batches for the sink, and the outcomes of their messages
//! * `letters`: dead letters
//! * `retry`, `retrying`: operations that failed and are retried

mod attaching;
mod attachment;
mod call;
mod calling;
mod delivery;
mod letters;
mod retry;
mod retrying;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{PartQueueState, PartRefusal, TenantId};
use martlet_fault::{self as fault, Fault};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use self::attachment::Attachment;
use self::call::Call;
use self::retry::{Retry, RetryTarget};
use super::caller::SinkSaid;
use super::clock::{Clock, answered, within};
use super::giving_up::GivingUp;
use super::handle::{
    Activity, Command, CommandError, CommandReply, Counts, Failure, RunnerCommand, Shared,
};
use super::settings::Settings;
use super::unsettled_message::UnsettledMessage;
use super::waiting;
use crate::host::{Host, PartSession, SavedState};
use crate::lanes::{LaneEvent, Token};
use crate::order::OrderKey;
use crate::sink::AccessRefused;
use crate::sink_message::SinkMessage;
use crate::target::Target;

/// Time limit for saving the state of an integration in the tables.
const SAVED_WITHIN: Duration = Duration::from_secs(5);
/// Interval of checks whether a drain is over.
const DRAIN_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Whether the runner delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// Delivers the messages that were received until then.
    Draining {
        until_ms: u64,
        look_at: Duration,
    },
    Paused {
        /// Milliseconds since the Unix epoch.
        since_ms: u64,
    },
    /// The reason, and whether it is saved.
    Stopped {
        why: String,
        is_saved: bool,
    },
}

/// A message that the sink has refused, and that is not yet in the dead-letter store.
#[derive(Debug)]
struct RefusedMessage {
    token: Token,
    message: SinkMessage,
    reason: String,
    why: PartRefusal,
    at_ms: u64,
}

/// A message to the runner, by its sender.
pub(super) enum RunnerMessage {
    Operator(RunnerCommand),
    Node(Option<LaneEvent>),
}

/// A runner without its sink.
pub(super) struct Core {
    pub(super) settings: Settings,
    client_id: Arc<str>,
    host: Arc<dyn Host>,
    pub(super) clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    pub(super) told: UnboundedReceiver<RunnerCommand>,
    pub(super) is_stopping: bool,
    mode: Mode,
    attachment: Attachment,
    tenant: Option<TenantId>,
    /// Messages in hand, in the order of the queue.
    held: VecDeque<UnsettledMessage>,
    /// Messages that were handed to the sink in the current call, in that order.
    handed: VecDeque<UnsettledMessage>,
    next_ticket: u64,
    call: Call,
    /// When the sink was called last.
    called_at: Option<Duration>,
    /// Number of messages of that call.
    called_with: usize,
    /// Refused messages, in the order of refusal.
    refused: VecDeque<RefusedMessage>,
    /// Whether the first refusal of the next call does not stop the integration.
    skips: bool,
    /// Dead letters to be sent again.
    again: VecDeque<u64>,
    /// Number of dead letters that were handed to the sink in this call.
    letters_under_way: usize,
    /// Number of messages to hand over one by one, because the sink panicked at a batch with them.
    alone: usize,
    /// Number of dead letters to hand over one by one, likewise.
    letters_alone: usize,
    /// Number of messages refused for panics since the last delivered one.
    panicked_in_a_row: u32,
    giving_up: GivingUp,
    /// Publishers whose first message failed while the sink accepted messages of others, with the
    /// end of their pause, by [`UnsettledMessage::order_key`].
    waiting: HashMap<OrderKey<'static>, Duration>,
    /// Whether the node hands over more than [`Settings::batch_messages`], see
    /// [`Core::lend_places`].
    lends_places: bool,
    /// An event of the node that came during a call of the sink and that changes the messages in
    /// hand.
    deferred: Option<Option<LaneEvent>>,
    /// Whether an operator may have repaired the sink: if its calls were stopped, it is called
    /// again.
    pub(super) has_been_repaired: bool,
    /// When the last dropped dead letters were logged.
    dropped_told: Option<Duration>,
    /// Time until which the other system requested no calls.
    asked_until: Option<Duration>,
    to_sink: Retry,
    /// Retry of messages at which the sink fails while it accepts others.
    to_messages: Retry,
    to_letters: Retry,
    to_store: Retry,
    to_node: Retry,
    /// When to check again whether the tenant of the team has changed.
    look_at_tenant: Duration,
    /// Tests that wait for the sink.
    pub(super) tests: Vec<CommandReply>,
    pub(super) sink_health: Option<String>,
    access_refused: Option<AccessRefused>,
    /// Why it can connect to no address of its target.
    unreachable: Option<String>,
    /// Outage that the sink reports, or of a target that is unreachable.
    pub(super) outage: Option<Failure>,
    /// Whether the health of the sink must be read.
    pub(super) looks_at_sink: bool,
    queue: Option<PartQueueState>,
    counts: Counts,
    delivered_ms: Option<u64>,
    last_error: Option<(String, u64)>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Core").field(&self.client_id).finish()
    }
}

impl Core {
    pub(super) fn new(
        settings: Settings,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
        told: UnboundedReceiver<RunnerCommand>,
    ) -> Self {
        let look_at_tenant = clock.now();
        let unreachable = settings.target.as_ref().and_then(Target::refused_all);
        let mut core = Self {
            client_id: settings.client_id().into(),
            giving_up: GivingUp::after(settings.max_attempts),
            waiting: HashMap::new(),
            lends_places: false,
            deferred: None,
            has_been_repaired: false,
            settings,
            host,
            clock,
            shared,
            told,
            is_stopping: false,
            mode: Mode::Running,
            attachment: Attachment::Detached,
            tenant: None,
            held: VecDeque::new(),
            handed: VecDeque::new(),
            next_ticket: 0,
            call: Call::default(),
            called_at: None,
            called_with: 0,
            refused: VecDeque::new(),
            skips: false,
            again: VecDeque::new(),
            letters_under_way: 0,
            alone: 0,
            letters_alone: 0,
            panicked_in_a_row: 0,
            dropped_told: None,
            asked_until: None,
            look_at_tenant,
            to_sink: Retry::default(),
            to_messages: Retry::default(),
            to_letters: Retry::default(),
            to_store: Retry::default(),
            to_node: Retry::default(),
            tests: Vec::new(),
            sink_health: None,
            access_refused: None,
            looks_at_sink: false,
            queue: None,
            counts: Counts::default(),
            delivered_ms: None,
            last_error: None,
            unreachable: None,
            outage: None,
        };
        core.note_unreachable(unreachable);
        core.note_outage(None);
        core
    }

    fn note_unreachable(&mut self, why: Option<String>) {
        if let Some(error) = &why {
            warn!(integration = %self.client_id, error, "an integration cannot deliver");
        }
        self.unreachable = why;
    }

    /// Restores the state from before the restart. Nothing is delivered before that.
    pub(super) async fn restore(&mut self) {
        loop {
            let (kind, name) = (self.settings.kind, self.settings.name.clone());
            let saved = self.host.saved_state(kind, &name);
            match answered(&*self.clock, SAVED_WITHIN, saved).await {
                Ok(SavedState::Running) => self.mode = Mode::Running,
                Ok(SavedState::Paused(since_ms)) => self.mode = Mode::Paused { since_ms },
                Ok(SavedState::Stopped(why)) => {
                    let is_saved = true;
                    self.mode = Mode::Stopped { why, is_saved };
                }
                Err(why) => {
                    let error = format!("its state before the restart cannot be read: {why}");
                    self.fail(RetryTarget::Node, error);
                    self.show();
                    let at = self.to_node.at.unwrap_or_else(|| self.clock.now());
                    let clock = Arc::clone(&self.clock);
                    tokio::select! {
                        biased;
                        told = self.told.recv() => match told {
                            Some(RunnerCommand::Stop) | None => self.is_stopping = true,
                            Some(RunnerCommand::Command(_, answer)) => {
                                let why = "the integration is not started yet".to_owned();
                                let _ = answer.send(Err(CommandError::NotNow(why)));
                            }
                        },
                        () = clock.sleep_until(at) => {}
                    }
                    if self.is_stopping {
                        return;
                    }
                    continue;
                }
            }
            return self.succeed(RetryTarget::Node);
        }
    }

    pub(super) async fn obey_all(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.obey(told).await;
        }
    }

    pub(super) async fn obey(&mut self, told: RunnerCommand) {
        let (command, answer) = match told {
            RunnerCommand::Stop => {
                self.is_stopping = true;
                return;
            }
            RunnerCommand::Command(command, answer) => (command, answer),
        };
        let done = match command {
            Command::Test => return self.tests.push(answer),
            Command::Look => {
                self.looks_at_sink = true;
                Ok(())
            }
            Command::Pause => {
                let since_ms = match self.mode {
                    Mode::Paused { since_ms } => since_ms,
                    _ => self.host.now_ms(),
                };
                self.mode = Mode::Paused { since_ms };
                self.save(SavedState::Paused(since_ms)).await
            }
            Command::Resume => self.resume().await,
            Command::Skip => {
                self.skips = matches!(self.mode, Mode::Stopped { .. });
                if !self.skips && !self.skip_failing() {
                    let why = "there is no message at which it has failed".to_owned();
                    let _ = answer.send(Err(CommandError::NotNow(why)));
                    return;
                }
                self.resume().await
            }
            Command::Retry => {
                (self.to_sink.at, self.to_letters.at, self.to_node.at) = (None, None, None);
                self.end_waiting();
                (self.look_at_tenant, self.has_been_repaired) = (self.clock.now(), true);
                Ok(())
            }
            Command::Drain => {
                let until_ms = self.host.now_ms();
                self.mode = Mode::Draining {
                    until_ms,
                    look_at: self.clock.now(),
                };
                // A drain that is interrupted by a restart becomes a pause.
                self.save(SavedState::Paused(until_ms)).await
            }
            Command::Unreachable(why) => {
                self.note_unreachable(why);
                self.looks_at_sink = true;
                Ok(())
            }
            Command::SendAgain(ids) => self.queue_letters(ids),
        };
        self.show();
        // The requester may have stopped waiting.
        let _ = answer.send(done.map_err(CommandError::from));
    }

    /// Ends the pauses of publishers whose messages waited alone.
    fn end_waiting(&mut self) {
        let now = self.clock.now();
        self.waiting.values_mut().for_each(|until| *until = now);
    }

    /// Skips the first message of each publisher at which the sink has failed; returns whether
    /// there was one.
    fn skip_failing(&mut self) -> bool {
        let mut is_any = false;
        let failing = self.handed.iter_mut().chain(&mut self.held);
        for held in failing.filter(|held| held.failures.are_any()) {
            held.failures.is_skipped = true;
            is_any = true;
        }
        is_any
    }

    async fn resume(&mut self) -> Result<(), String> {
        self.mode = Mode::Running;
        // An operator has repaired something: retry at once.
        (self.to_sink.at, self.to_letters.at, self.to_store.at) = (None, None, None);
        self.end_waiting();
        (self.to_node.at, self.has_been_repaired) = (None, true);
        self.giving_up = GivingUp::after(self.settings.max_attempts);
        self.save(SavedState::Running).await
    }

    async fn save(&self, state: SavedState) -> Result<(), String> {
        let (kind, name) = (self.settings.kind, &*self.settings.name);
        let saved = self.host.save_state(kind, name, state);
        let saved = answered(&*self.clock, SAVED_WITHIN, saved).await;
        saved.map_err(|why| {
            format!("it is done, but a restart undoes it, because it could not be saved: {why}")
        })
    }

    /// Saves the state after the integration has stopped by itself.
    pub(super) async fn save_stop(&mut self) {
        let Mode::Stopped { why, is_saved } = &mut self.mode else {
            return;
        };
        if std::mem::replace(is_saved, true) {
            return;
        }
        let why = why.clone();
        // If saving fails, the message comes again after a restart and is refused again.
        if let Err(error) = self.save(SavedState::Stopped(why)).await {
            warn!(integration = %self.client_id, error, "could not save that the integration has stopped");
        }
    }

    /// Pauses when all messages that waited at the begin of the drain are delivered.
    pub(super) async fn drain_if_due(&mut self) {
        let Mode::Draining { until_ms, look_at } = self.mode else {
            return;
        };
        let (Attachment::Attached(lanes), Some(tenant)) = (&self.attachment, self.tenant) else {
            return;
        };
        let now = self.clock.now();
        if self.work_due(until_ms).is_some() || !self.refused.is_empty() || look_at > now {
            return;
        }
        // All messages in hand arrived later, and so did all that wait in their lanes.
        let are_later = self.held.iter().map(|held| held.token.lane());
        let are_later: BTreeSet<&str> = are_later.filter_map(|at| lanes.client_id(at)).collect();
        let sessions = within(
            &*self.clock,
            SAVED_WITHIN,
            self.host.sessions(tenant, &self.client_id),
        )
        .await;
        let is_believed = fault::is(Fault::SinkDrainLooksInHand);
        let is_drained = sessions.flatten().is_some_and(|sessions| {
            let has_more = |one: &PartSession| one.messages > 0;
            let mut left = sessions.iter().filter(|one| has_more(one));
            is_believed || left.all(|one| are_later.contains(&*one.client_id))
        });
        self.mode = match is_drained {
            true => Mode::Paused {
                since_ms: self.host.now_ms(),
            },
            false => {
                let look_at = now + DRAIN_LOOKS_EVERY;
                Mode::Draining { until_ms, look_at }
            }
        };
    }

    /// Waits for a message while the sink is called: from an operator, or from the node if
    /// `hears_node`.
    pub(super) async fn hear(&mut self, hears_node: bool) -> RunnerMessage {
        let hears_node = hears_node && self.deferred.is_none();
        tokio::select! {
            biased;
            Some(told) = self.told.recv() => RunnerMessage::Operator(told),
            told = self.attachment.next_event(), if hears_node => RunnerMessage::Node(told),
            else => pending().await,
        }
    }

    /// Waits until work is due.
    pub(super) async fn wait(&mut self) {
        let at = self.next_due();
        let clock = Arc::clone(&self.clock);
        let sleep = async {
            match at {
                Some(at) => clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            told = self.told.recv() => match told {
                Some(told) => self.obey(told).await,
                None => self.is_stopping = true,
            },
            event = self.attachment.next_event() => self.take(event),
            () = sleep => {}
        }
    }

    /// When to call the sink for messages in hand that were received by then; `None`: there are
    /// none.
    fn work_due(&self, until_ms: u64) -> Option<Duration> {
        let by_then = self.held.iter();
        let mut by_then = by_then.filter(|held| held.message.received_ms() <= until_ms);
        let sink = self.to_sink.at.unwrap_or_else(|| self.clock.now());
        let due = |held: &UnsettledMessage| match self.waits_until(held) {
            Some(at) => sink.max(at),
            None => sink,
        };
        match self.waiting.is_empty() {
            true => by_then.next().map(due),
            false => by_then.map(due).min(),
        }
    }

    /// End of the pause of a message's publisher.
    fn waits_until(&self, held: &UnsettledMessage) -> Option<Duration> {
        match self.waiting.is_empty() {
            true => None,
            false => self.waiting.get(&held.order_key()).copied(),
        }
    }

    /// The next time at which work is due without an event.
    fn next_due(&self) -> Option<Duration> {
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        let is_detached = matches!(self.attachment, Attachment::Detached);
        let (work, look) = match &self.mode {
            Mode::Running => (self.work_due(u64::MAX), None),
            Mode::Draining { until_ms, look_at } => {
                let work = self.work_due(*until_ms);
                let looks = work.is_none() && self.refused.is_empty() && is_attached;
                (work, looks.then_some(*look_at))
            }
            Mode::Paused { .. } | Mode::Stopped { .. } => (None, None),
        };
        let now = self.clock.now();
        let due = |retry: &Retry| retry.at.unwrap_or(now);
        let all = [
            is_detached.then(|| due(&self.to_node)),
            work,
            (!self.again.is_empty()).then(|| self.letters_due(now)),
            (!self.refused.is_empty()).then(|| due(&self.to_store)),
            (is_attached && self.settings.is_of_team()).then_some(self.look_at_tenant),
            look,
            self.next_too_old(),
        ];
        all.into_iter().flatten().min()
    }

    /// Updates the state from the health of the sink.
    pub(super) fn sink_said(&mut self, said: &SinkSaid) {
        self.sink_health.clone_from(&said.health);
        self.access_refused = said.access_refused;
        self.counts.skipped = said.skipped;
        self.note_outage(said.outage.clone());
    }

    /// Notes the outage that the sink reports, or that of an unreachable target.
    fn note_outage(&mut self, of_sink: Option<String>) {
        let Some(why) = of_sink.or_else(|| self.unreachable.clone()) else {
            self.outage = None;
            return;
        };
        let now_ms = self.host.now_ms();
        let since_ms = self.outage.as_ref().map_or(now_ms, |one| one.since_ms);
        if self.outage.as_ref().is_none_or(|one| one.error != why) {
            self.last_error = Some((why.clone(), now_ms));
        }
        self.outage = Some(Failure {
            error: why,
            since_ms,
            attempts: 0,
        });
    }

    /// Publishes the state for readers.
    pub(super) fn show(&self) {
        let failure = [
            &self.to_sink,
            &self.to_messages,
            &self.to_store,
            &self.to_node,
        ];
        let failure = failure.into_iter().find_map(|retry| retry.failure.clone());
        let failure = failure.or_else(|| self.outage.clone());
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        let (activity, stopped_because) = match &self.mode {
            Mode::Paused { .. } => (Activity::Paused, None),
            Mode::Stopped { why, .. } => (Activity::Stopped, Some(why.clone())),
            _ if !is_attached => (Activity::Starting, None),
            Mode::Draining { .. } => (Activity::Draining, None),
            Mode::Running if failure.is_some() => (Activity::Retrying, None),
            Mode::Running => (Activity::Running, None),
        };
        let held = self.handed.iter().chain(&self.held);
        let held = held.map(|held| held.message.received_ms());
        let refused = self.refused.iter().map(|one| one.message.received_ms());
        let queued = self.queue.and_then(|queue| queue.oldest_wall_ms);
        let mut state = self.shared.lock();
        state.activity = activity;
        state.is_attached = is_attached;
        state.stopped_because = stopped_because;
        state.paused_since_ms = match self.mode {
            Mode::Paused { since_ms } => Some(since_ms),
            _ => None,
        };
        state.tenant = self.tenant;
        state.counts = self.counts;
        state.in_hand = self.handed.len() + self.held.len() + self.refused.len();
        state.queue = self.queue;
        let in_hand = state.in_hand as u64;
        state.lag = self.queue.map(|queue| queue.messages + in_hand);
        state.oldest_received_ms = refused.chain(held).chain(queued).min();
        state.failure = failure;
        state.clients_waiting = waiting::clients(activity, self.handed.iter().chain(&self.held));
        state.last_error.clone_from(&self.last_error);
        state.delivered_ms = self.delivered_ms;
        state.sink_health.clone_from(&self.sink_health);
        state.access_refused = self.access_refused;
        state.sending_again = self.again.len() + self.letters_under_way;
        drop(state);
        self.shared.tell_changed();
    }
}
