//! How others read the state of a runner and tell it something.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use martlet_broker::{OnFull, PartQueueState, TenantId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::settings::Settings;
use crate::incoming::Incoming;
use crate::sink::AccessRefused;

/// What an integration does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// It is not attached to the node yet, or attaches again; [`State::failure`] says why if that
    /// fails.
    #[default]
    Starting,
    /// It delivers what comes.
    Running,
    /// The last attempt failed; it is repeated after a pause. See [`State::failure`].
    Retrying,
    /// It delivers what waited when the drain was asked for, and pauses then.
    Draining,
    /// An operator has paused it. Messages wait in the queue.
    Paused,
    /// A message was refused, and `on_reject` is `stop`. Messages wait in the queue until it is
    /// resumed.
    Stopped,
    /// Its task has ended: the node stops.
    Ended,
}

impl Activity {
    /// All there are.
    pub const ALL: &'static [Self] = &[
        Self::Starting,
        Self::Running,
        Self::Retrying,
        Self::Draining,
        Self::Paused,
        Self::Stopped,
        Self::Ended,
    ];

    /// A word for the API, metrics and texts.
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
    /// Messages that the sink has taken.
    pub delivered: u64,
    /// Of these, messages that may have been delivered before.
    pub repeated: u64,
    /// Of these, messages that were not sent, since they came from the other system.
    pub skipped: u64,
    /// Messages of the other system that the node has taken, of a sink that brings such.
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

/// Something that fails now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The last error, in words.
    pub error: String,
    /// Time of the first error since the last success, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Attempts that failed since then.
    pub attempts: u32,
}

impl Failure {
    /// Counts one more attempt that failed. Returns whether it is the first, or has another error
    /// than the one before.
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
    /// What it does.
    pub activity: Activity,
    /// Whether it is attached to the node: what matches its filters waits for it at least. Also
    /// while it is paused.
    pub is_attached: bool,
    /// Why it has stopped, in words; none unless it is [`Activity::Stopped`].
    pub stopped_because: Option<String>,
    /// Since when it is paused, milliseconds since the Unix epoch; none unless it is
    /// [`Activity::Paused`].
    pub paused_since_ms: Option<u64>,
    /// Tenant whose messages it takes; none while its team does not exist.
    pub tenant: Option<TenantId>,
    /// Counters.
    pub counts: Counts,
    /// Messages handed over by the node and not settled.
    pub in_hand: usize,
    /// Messages that wait for it: in its queue, as of the last second, and in hand; none if
    /// unknown.
    pub lag: Option<u64>,
    /// Its queue, as of the last second in which it was attached; none if unknown.
    pub queue: Option<PartQueueState>,
    /// Time of receipt of the oldest message that is not delivered, milliseconds since the Unix
    /// epoch: in hand, or in the queue as of the last second. None if there is none.
    pub oldest_received_ms: Option<u64>,
    /// What fails now: the sink, the dead-letter store or the attachment to the node.
    pub failure: Option<Failure>,
    /// Last error and its time, milliseconds since the Unix epoch, also after recovery.
    pub last_error: Option<(String, u64)>,
    /// Time of the last successful delivery, milliseconds since the Unix epoch.
    pub delivered_ms: Option<u64>,
    /// What the sink itself says although deliveries succeed; none if all is well.
    pub sink_health: Option<String>,
    /// The target refuses the credentials; none if it has said nothing of the kind to the last
    /// message.
    pub access_refused: Option<AccessRefused>,
    /// Clients whose messages it has in hand while it does not deliver, the first of them.
    pub clients_waiting: Vec<String>,
    /// Dead letters that wait to be sent again.
    pub sending_again: usize,
}

/// What a runner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deliver nothing more until [`Command::Resume`]. Survives a restart.
    Pause,
    /// Deliver again, also after a stop.
    Resume,
    /// Deliver again after a stop; the message that it stopped at becomes a dead letter if it is
    /// refused again.
    Skip,
    /// If the last attempt failed, also to attach to the node, try again at once. Changes nothing
    /// else.
    Retry,
    /// Deliver what waits now, then pause.
    Drain,
    /// Ask the sink whether the other system can be reached.
    Test,
    /// Read what the sink says of itself.
    Look,
    /// Send these dead letters again, also while paused. Those that are taken are removed.
    SendAgain(Vec<u64>),
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// It failed, for this reason.
    Failed(String),
    /// The integration is in no state in which it could be carried out, for this reason.
    NotNow(String),
    /// The runner did not answer in time: a delivery is under way. It may be carried out later.
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

/// What comes to the runner.
#[derive(Debug)]
pub(super) enum RunnerCommand {
    Command(Command, CommandReply),
    /// Finish the delivery under way, settle, detach, end.
    Stop,
}

/// A command that the runner was told.
#[derive(Debug)]
pub struct ToldCommand(oneshot::Receiver<Result<(), CommandError>>);

impl ToldCommand {
    /// Whether it has been carried out, or will never be. Later it may answer false again.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

/// Tells a runner commands, and waits for no answer.
#[derive(Clone, Debug)]
pub(crate) struct Teller(mpsc::UnboundedSender<RunnerCommand>);

impl Teller {
    /// Tells a command. If the runner has ended there is nothing to tell.
    pub(crate) fn tell(&self, command: Command) {
        let (answer, _) = oneshot::channel();
        let _ = self.0.send(RunnerCommand::Command(command, answer));
    }
}

/// A state that the runner writes and others read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for a change.
    pub(super) fn tell_changed(&self) {
        self.changed.notify_waiters();
    }
}

/// A running integration, for those who operate it. Reading its state waits for nothing.
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

    /// The task of the runner ends with this.
    pub(super) fn with_task(mut self, task: JoinHandle<()>) -> Self {
        self.task = Mutex::new(Some(task));
        self
    }

    /// Its sink counts here what comes in.
    pub(crate) fn with_incoming(mut self, incoming: Arc<Incoming>) -> Self {
        self.incoming = incoming;
        self
    }

    /// Kind of the sink, such as `file`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Name, which no other integration of this kind has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Client Identifier of its session, `$integration/KIND/NAME`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What happens when its queue is full.
    pub fn on_full(&self) -> OnFull {
        self.on_full
    }

    /// Its state now.
    pub fn state(&self) -> State {
        let mut state = self.shared.lock().clone();
        let counts = &mut state.counts;
        (counts.incoming, counts.incoming_dropped) = self.incoming.counts();
        state
    }

    /// Reads what it does, beside this handle.
    pub(crate) fn activity_reader(&self) -> impl Fn() -> Activity + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.lock().activity
    }

    /// Waits until it is attached to the node, fails to be, or has ended.
    pub async fn attached(&self) {
        loop {
            // Before the look: what changes after it is told.
            let changed = self.shared.changed.notified();
            let state = self.state();
            let is_over = state.activity == Activity::Ended || state.failure.is_some();
            if state.is_attached || is_over {
                return;
            }
            changed.await;
        }
    }

    /// Tells the runner a command, and waits for no answer.
    pub fn tell(&self, command: Command) -> ToldCommand {
        let (answer, answered) = oneshot::channel();
        // If it has ended already there is nothing to tell.
        let _ = self.told.send(RunnerCommand::Command(command, answer));
        ToldCommand(answered)
    }

    /// Tells the runner commands for as long as it runs, beside this handle.
    pub(crate) fn teller(&self) -> Teller {
        Teller(self.told.clone())
    }

    /// Carries out a command, and waits for the answer at most as long as given.
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

    /// Ends the integration: the delivery under way is finished and settled; the rest stays in the
    /// queue. After the given time it is broken off. Returns whether it ended in time.
    pub async fn stop(&self, within: Duration) -> bool {
        // If it has ended already there is nothing to tell.
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
        // It would run on without anybody who can stop it.
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}
