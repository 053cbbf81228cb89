//! What a runner holds, and what it is told: all but the sink itself. It reaches the node, the
//! tables and the time by [`Host`] and [`Clock`] alone, so that tests drive it in virtual time.
//!
//! * `attachment`, `attaching`: its part of the node
//! * `call`, `calling`: one call of the sink
//! * `delivery`: batches for the sink, and what becomes of their messages
//! * `letters`: dead letters
//! * `retry`, `retrying`: what fails and is tried again

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
use crate::sink::AccessRefused;
use crate::sink_message::SinkMessage;

/// Time that the tables may take to save the state of an integration.
const SAVED_WITHIN: Duration = Duration::from_secs(5);
/// Time between two questions whether a drain is over.
const DRAIN_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Whether it delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// Messages that were received until then are delivered.
    Draining {
        until_ms: u64,
        look_at: Duration,
    },
    Paused {
        /// Milliseconds since the Unix epoch.
        since_ms: u64,
    },
    /// For this reason. Whether that is saved yet.
    Stopped {
        why: String,
        is_saved: bool,
    },
}

/// A message that the sink has refused, and that is not in the dead-letter store yet.
#[derive(Debug)]
struct RefusedMessage {
    token: Token,
    message: SinkMessage,
    reason: String,
    why: PartRefusal,
    at_ms: u64,
}

/// Message to a runner, by its sender.
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
    /// Messages that the sink has in the call under way, in the order in which it got them.
    handed: VecDeque<UnsettledMessage>,
    next_ticket: u64,
    call: Call,
    /// When the sink was called last.
    called_at: Option<Duration>,
    /// Messages of that call.
    called_with: usize,
    /// In the order of their refusal.
    refused: VecDeque<RefusedMessage>,
    /// The first refusal of the next call does not stop the integration.
    skips: bool,
    /// Dead letters to be sent again.
    again: VecDeque<u64>,
    /// Those that the sink has been handed now.
    letters_under_way: usize,
    /// Messages that are handed over one by one, because the sink panicked at a batch with them.
    alone: usize,
    /// The same of dead letters.
    letters_alone: usize,
    /// Messages that were refused for panics since the last one that was delivered.
    panicked_in_a_row: u32,
    giving_up: GivingUp,
    /// Until when publishers wait at whose first message the sink failed while it took others, by
    /// [`UnsettledMessage::publisher`].
    waiting: HashMap<Box<str>, Duration>,
    /// The node hands over more than [`Settings::batch_messages`], see [`Core::lend_places`].
    lends_places: bool,
    /// What the node told while the sink was called, and that changes what is in hand.
    deferred: Option<Option<LaneEvent>>,
    /// An operator may have repaired the sink: one that was not called any more is called again.
    pub(super) has_been_repaired: bool,
    /// When it was logged last that dead letters were dropped.
    dropped_told: Option<Duration>,
    /// Until when the other system asks not to be called.
    asked_until: Option<Duration>,
    to_sink: Retry,
    /// Messages at which the sink fails while it takes others.
    to_messages: Retry,
    to_letters: Retry,
    to_store: Retry,
    to_node: Retry,
    /// When to look whether the team still has the same tenant.
    look_at_tenant: Duration,
    /// Tests that wait for the sink.
    pub(super) tests: Vec<CommandReply>,
    pub(super) sink_health: Option<String>,
    access_refused: Option<AccessRefused>,
    /// The other system cannot be reached, as the sink says.
    pub(super) outage: Option<Failure>,
    /// What the sink says of itself is to be read.
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
        (host, clock): (Arc<dyn Host>, Arc<dyn Clock>),
        shared: Arc<Shared>,
        told: UnboundedReceiver<RunnerCommand>,
    ) -> Self {
        let look_at_tenant = clock.now();
        Self {
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
            outage: None,
            looks_at_sink: false,
            queue: None,
            counts: Counts::default(),
            delivered_ms: None,
            last_error: None,
        }
    }

    /// Takes over the state from before the restart. Until that is known nothing is delivered.
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
                // A drain that a restart cuts off is a pause.
                self.save(SavedState::Paused(until_ms)).await
            }
            Command::SendAgain(ids) => self.queue_letters(ids),
        };
        self.show();
        // The one who asked may have given up.
        let _ = answer.send(done.map_err(CommandError::from));
    }

    /// Publishers whose messages waited alone need not wait any longer.
    fn end_waiting(&mut self) {
        let now = self.clock.now();
        self.waiting.values_mut().for_each(|until| *until = now);
    }

    /// Gives up the first message of each publisher at which the sink has failed; whether there is
    /// one.
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
        // An operator has repaired something: it is tried at once.
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

    /// Saves that it has stopped by itself.
    pub(super) async fn save_stop(&mut self) {
        let Mode::Stopped { why, is_saved } = &mut self.mode else {
            return;
        };
        if std::mem::replace(is_saved, true) {
            return;
        }
        let why = why.clone();
        // What is not saved is found again: the message comes again and is refused again.
        if let Err(error) = self.save(SavedState::Stopped(why)).await {
            warn!(integration = %self.client_id, error, "could not save that the integration has stopped");
        }
    }

    /// Pauses when all that waited when the drain began is delivered.
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
        // All messages in hand came later. So did all that wait in the lanes of these messages.
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

    /// Waits until somebody tells it something, while the sink is called: an operator, or the node
    /// if it is to be heard.
    pub(super) async fn hear(&mut self, hears_node: bool) -> RunnerMessage {
        let hears_node = hears_node && self.deferred.is_none();
        tokio::select! {
            biased;
            Some(told) = self.told.recv() => RunnerMessage::Operator(told),
            told = self.attachment.next_event(), if hears_node => RunnerMessage::Node(told),
            else => pending().await,
        }
    }

    /// Waits until there is something to do.
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

    /// When the sink is to be called for messages in hand that were received by then; none if there
    /// are none.
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

    /// Until when the publisher of a message waits.
    fn waits_until(&self, held: &UnsettledMessage) -> Option<Duration> {
        match self.waiting.is_empty() {
            true => None,
            false => self.waiting.get(held.publisher()).copied(),
        }
    }

    /// When there is something to do without being told.
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

    /// Takes over what the sink says of itself.
    pub(super) fn sink_said(&mut self, said: &SinkSaid) {
        self.sink_health.clone_from(&said.health);
        self.access_refused = said.access_refused;
        self.counts.skipped = said.skipped;
        let Some(why) = &said.outage else {
            self.outage = None;
            return;
        };
        let now_ms = self.host.now_ms();
        let since_ms = self.outage.as_ref().map_or(now_ms, |one| one.since_ms);
        if self.outage.as_ref().is_none_or(|one| one.error != *why) {
            self.last_error = Some((why.clone(), now_ms));
        }
        self.outage = Some(Failure {
            error: why.clone(),
            since_ms,
            attempts: 0,
        });
    }

    /// Shows its state to others.
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
