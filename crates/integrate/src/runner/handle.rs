//! How others read the state of a runner and send it commands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use martlet_broker::{OnFull, PartQueueState, TenantId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::settings::{Settings, own_name};
use crate::incoming::Incoming;
use crate::sink::AccessRefused;

/// Activity of an integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Not yet attached to the node, or attaching again; [`State::failure`] has the error if that
    /// fails.
    #[default]
    Starting,
    /// The integration delivers messages.
    Running,
    /// The last attempt failed; it is repeated after a pause. See [`State::failure`].
    Retrying,
    /// The integration delivers the messages that waited when the drain was requested, then pauses.
    Draining,
    /// An operator has paused it. Messages wait in the queue.
    Paused,
    /// A message was refused, and `on_reject` is `stop`. Messages wait in the queue until it is
    /// resumed.
    Stopped,
    /// The integration's task has ended: the node stops.
    Ended,
}

impl Activity {
    /// All activities.
    pub const ALL: &'static [Self] = &[
        Self::Starting,
        Self::Running,
        Self::Retrying,
        Self::Draining,
        Self::Paused,
        Self::Stopped,
        Self::Ended,
    ];

    /// Name for the API, metrics and texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// Counters since the start of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that the sink has accepted.
    pub delivered: u64,
    /// Of these, messages that may have been delivered before.
    pub repeated: u64,
    /// Of these, messages that were not sent, because they came from the other system.
    pub skipped: u64,
    /// Messages of the other system that the node has accepted, for a sink that also receives.
    pub incoming: u64,
    /// Messages of the other system that were dropped.
    pub incoming_dropped: u64,
    /// Messages that the sink has refused.
    pub refused: u64,
    /// Attempts that failed, each for a whole batch or the rest of one.
    pub failed_attempts: u64,
    /// Dead letters stored.
    pub dead_letters: u64,
    /// The oldest dead letters, of any integration, that were dropped to make room for these.
    pub dead_letters_dropped: u64,
}

/// A current failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Text of the last error.
    pub error: String,
    /// Time of the first error since the last success, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Number of failed attempts since then.
    pub attempts: u32,
}

impl Failure {
    /// Counts a failed attempt. Returns whether it is the first, or its error differs from the
    /// last one.
    pub(super) fn count(of: &mut Option<Self>, error: &str, now_ms: u64) -> bool {
        let failure = of.get_or_insert_with(|| Self {
            error: String::new(),
            since_ms: now_ms,
            attempts: 0,
        });
        let is_other = failure.attempts == 0 || failure.error != error;
        failure.attempts = failure.attempts.saturating_add(1);
        error.clone_into(&mut failure.error);
        is_other
    }
}

/// State of an integration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Activity of the integration.
    pub activity: Activity,
    /// Whether it is attached to the node, also while it is paused: then matching messages are at
    /// least queued.
    pub is_attached: bool,
    /// Why it has stopped; `None` unless it is [`Activity::Stopped`].
    pub stopped_because: Option<String>,
    /// Start of the pause, milliseconds since the Unix epoch; `None` unless it is
    /// [`Activity::Paused`].
    pub paused_since_ms: Option<u64>,
    /// Tenant whose messages it takes; `None` while its team does not exist.
    pub tenant: Option<TenantId>,
    /// Counters.
    pub counts: Counts,
    /// Messages handed over by the node and not settled.
    pub in_hand: usize,
    /// Messages that wait for it: in its queue, as of the last second, and in hand; `None` if
    /// unknown.
    pub lag: Option<u64>,
    /// State of its queue, as of the last second in which it was attached; `None` if unknown.
    pub queue: Option<PartQueueState>,
    /// Time of receipt of the oldest undelivered message, milliseconds since the Unix epoch: in
    /// hand, or in the queue as of the last second. `None` if there is none.
    pub oldest_received_ms: Option<u64>,
    /// The current failure: of the sink, the dead-letter store or the attachment to the node.
    pub failure: Option<Failure>,
    /// Last error and its time, milliseconds since the Unix epoch; kept after recovery.
    pub last_error: Option<(String, u64)>,
    /// Time of the last successful delivery, milliseconds since the Unix epoch.
    pub delivered_ms: Option<u64>,
    /// A warning of the sink although deliveries succeed; `None` if all is well.
    pub sink_health: Option<String>,
    /// The target refuses the credentials; `None` if it did not for the last message.
    pub access_refused: Option<AccessRefused>,
    /// The first clients whose messages are in hand while it does not deliver.
    pub clients_waiting: Vec<String>,
    /// Dead letters that wait to be sent again.
    pub sending_again: usize,
}

/// A command for a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop delivering until [`Command::Resume`]. Survives a restart.
    Pause,
    /// Deliver again, also after a stop.
    Resume,
    /// Deliver again after a stop; the message at which it stopped becomes a dead letter if it is
    /// refused again.
    Skip,
    /// If the last attempt failed, also to attach to the node, retry at once. Changes nothing
    /// else.
    Retry,
    /// Deliver the messages that wait now, then pause.
    Drain,
    /// Test whether the sink can reach the other system.
    Test,
    /// Read the health of the sink.
    Look,
    /// Show that it can connect to no address of its target, for this reason; `None`: it can, or
    /// that is not known.
    Unreachable(Option<String>),
    /// Send these dead letters again, also while paused. Accepted ones are removed.
    SendAgain(Vec<u64>),
}

/// Why a command was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The command failed, for this reason.
    Failed(String),
    /// The state of the integration does not allow it, for this reason.
    NotNow(String),
    /// The runner did not answer in time: a delivery is in progress. It may be executed later.
    NoAnswer,
    /// The runner has ended: the node stops.
    Ended,
}

impl From<String> for CommandError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) | Self::NotNow(why) => f.write_str(why),
            Self::NoAnswer => f.write_str(
                "the integration did not answer in time: a delivery is under way; the command may \
                 be carried out later",
            ),
            Self::Ended => f.write_str("the integration has ended: the node stops"),
        }
    }
}

impl std::error::Error for CommandError {}

pub(super) type CommandReply = oneshot::Sender<Result<(), CommandError>>;

/// A message to the runner.
#[derive(Debug)]
pub(super) enum RunnerCommand {
    Command(Command, CommandReply),
    /// Finish the current delivery, settle, detach, end.
    Stop,
}

/// A command that was sent to the runner.
#[derive(Debug)]
pub struct ToldCommand(oneshot::Receiver<Result<(), CommandError>>);

impl ToldCommand {
    /// Whether it was executed, or never will be. Later it may return false again.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

/// Sends commands to a runner without waiting for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Teller(mpsc::UnboundedSender<RunnerCommand>);

impl Teller {
    /// Sends a command. Ignored if the runner has ended.
    pub(crate) fn tell(&self, command: Command) {
        let (answer, _) = oneshot::channel();
        let _ = self.0.send(RunnerCommand::Command(command, answer));
    }
}

/// The state that the runner writes and others read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all tasks that wait for a change.
    pub(super) fn tell_changed(&self) {
        self.changed.notify_waiters();
    }
}

/// A running integration, for its operators. Reading its state never waits.
#[derive(Debug)]
pub struct Handle {
    kind: &'static str,
    name: Box<str>,
    client_id: Box<str>,
    on_full: OnFull,
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    told: mpsc::UnboundedSender<RunnerCommand>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    pub(super) fn new(
        settings: &Settings,
        shared: Arc<Shared>,
        told: mpsc::UnboundedSender<RunnerCommand>,
    ) -> Self {
        Self {
            kind: settings.kind,
            name: settings.name.clone(),
            client_id: settings.client_id().into(),
            on_full: settings.queue.on_full,
            shared,
            incoming: Arc::default(),
            told,
            task: Mutex::new(None),
        }
    }

    /// Adds the task of the runner, which ends with this handle.
    pub(super) fn with_task(mut self, task: JoinHandle<()>) -> Self {
        self.task = Mutex::new(Some(task));
        self
    }

    /// Adds the counters in which its sink counts incoming messages.
    pub(crate) fn with_incoming(mut self, incoming: Arc<Incoming>) -> Self {
        self.incoming = incoming;
        self
    }

    /// Kind of the sink, such as `file`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Name; unique among integrations of this kind: `NAME` or `TEAM/NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name in its tenant, without the team.
    pub fn own_name(&self) -> &str {
        own_name(&self.name)
    }

    /// Client Identifier of its session, `$integration/KIND/NAME`; unique in its tenant.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns what happens when the queue is full.
    pub fn on_full(&self) -> OnFull {
        self.on_full
    }

    /// Returns the state now.
    pub fn state(&self) -> State {
        let mut state = self.shared.lock().clone();
        let counts = &mut state.counts;
        (counts.incoming, counts.incoming_dropped) = self.incoming.counts();
        state
    }

    /// A function that reads its activity, independent of this handle.
    pub(crate) fn activity_reader(&self) -> impl Fn() -> Activity + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.lock().activity
    }

    /// Waits until it is attached to the node, fails to be, or has ended.
    pub async fn attached(&self) {
        loop {
            // Before the state is read, so that no later change is missed.
            let changed = self.shared.changed.notified();
            let state = self.state();
            let is_over = state.activity == Activity::Ended || state.failure.is_some();
            if state.is_attached || is_over {
                return;
            }
            changed.await;
        }
    }

    /// Sends the runner a command without waiting for an answer.
    pub fn tell(&self, command: Command) -> ToldCommand {
        let (answer, answered) = oneshot::channel();
        // Ignored if the runner has ended.
        let _ = self.told.send(RunnerCommand::Command(command, answer));
        ToldCommand(answered)
    }

    /// A sender of commands to the runner, independent of this handle.
    pub(crate) fn teller(&self) -> Teller {
        Teller(self.told.clone())
    }

    /// Executes a command, and waits for the answer up to the given time.
    ///
    /// # Errors
    /// It failed, or the runner did not answer in time or has ended.
    pub async fn command(&self, command: Command, within: Duration) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.told.send(RunnerCommand::Command(command, answer));
        sent.map_err(|_| CommandError::Ended)?;
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(CommandError::Ended),
            Err(_) => Err(CommandError::NoAnswer),
        }
    }

    /// Ends the integration: finishes and settles the current delivery; the rest stays in the
    /// queue. It is aborted after the given time. Returns whether it ended in time.
    pub async fn stop(&self, within: Duration) -> bool {
        // Ignored if the runner has ended.
        let _ = self.told.send(RunnerCommand::Stop);
        let task = {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.take()
        };
        let Some(mut task) = task else {
            return true;
        };
        let ended = tokio::time::timeout(within, &mut task).await.is_ok();
        if !ended {
            task.abort();
        }
        ended
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Otherwise it would continue without a handle to stop it.
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Sets the state to ended when the task ends for any reason.
pub(super) struct EndsWith(pub(super) Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            (state.activity, state.is_attached) = (Activity::Ended, false);
        }
        self.0.tell_changed();
    }
}
