//! The task of one source. It attaches a part that publishes, passes the messages of the source to
//! it, and answers the source when a PUBACK would be sent. Unanswered messages come again from the
//! other system: the node stores none of them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    HOPS_MAX, PartEvent, PartId, PartPublish, PartReach, PartSpec, Published, TenantId,
};
use martlet_codec::ReasonCode;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::handle::{
    Activity, Command, CommandError, Counts, EndsWith, Failure, Handle, RunnerCommand, Shared,
};
use super::settings::{Settings, TEST_WITHIN};
use crate::host::{Host, SavedState};
use crate::part::Part;
use crate::source::{MessageSource, SourceAnswer, SourceMessage, What};
use crate::words::{counted, not_permitted};

/// Pause before the runner tries the node again.
const NODE_PAUSE: Duration = Duration::from_secs(1);
/// Minimum interval of log lines about refused messages.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Time for which a refused message is shown as a warning.
const REFUSED_LATELY: Duration = Duration::from_secs(600);

/// Runs one source.
pub(crate) struct SourceRunner<S> {
    settings: Settings,
    source: S,
    host: Arc<dyn Host>,
    shared: Arc<Shared>,
    told: mpsc::UnboundedReceiver<RunnerCommand>,
    /// Whether its saved state is loaded.
    is_restored: bool,
    /// Start of the pause, milliseconds since the Unix epoch; `None`: not paused.
    paused_ms: Option<u64>,
    is_stopping: bool,
    tenant: Option<TenantId>,
    part: Option<Part>,
    is_attached: bool,
    /// When the node is tried again.
    node_at: Option<Instant>,
    /// When the source is called again after a failure.
    source_at: Option<Instant>,
    failure: Option<Failure>,
    last_error: Option<(String, u64)>,
    /// Messages that the node has not answered, with their times of receipt.
    in_hand: BTreeMap<u64, InHand>,
    counts: Counts,
    delivered_ms: Option<u64>,
    refusal_told: Option<Instant>,
    /// Number of refusals that are not logged yet.
    untold: u64,
    /// The last refusal and its time.
    refused_last: Option<(String, Instant)>,
}

/// A message that the node has not answered.
struct InHand {
    place: String,
    topic: Box<str>,
    received_ms: u64,
    repeated: bool,
}

/// The next event.
enum Came {
    Command(Option<RunnerCommand>),
    Node(Option<PartEvent>),
    Message(Result<SourceMessage, String>),
    Time,
}

impl<S: MessageSource> SourceRunner<S> {
    /// Starts a task that runs the source until [`Handle::stop`]. Needs a Tokio runtime.
    pub(crate) fn start(settings: Settings, source: S, host: Arc<dyn Host>) -> Handle {
        let shared = Arc::<Shared>::default();
        let (sender, told) = mpsc::unbounded_channel();
        let handle = Handle::new(&settings, Arc::clone(&shared), sender);
        let ends = EndsWith(Arc::clone(&shared));
        let runner = Self {
            settings,
            source,
            host,
            shared,
            told,
            is_restored: false,
            paused_ms: None,
            is_stopping: false,
            tenant: None,
            part: None,
            is_attached: false,
            node_at: None,
            source_at: None,
            failure: None,
            last_error: None,
            in_hand: BTreeMap::new(),
            counts: Counts::default(),
            delivered_ms: None,
            refusal_told: None,
            untold: 0,
            refused_last: None,
        };
        handle.with_task(tokio::spawn(async move {
            runner.run().await;
            drop(ends);
        }))
    }

    async fn run(mut self) {
        while !(self.is_stopping && self.in_hand.is_empty()) {
            self.prepare().await;
            self.show();
            match self.comes().await {
                Came::Command(Some(RunnerCommand::Command(command, answer))) => {
                    let done = self.obey(command).await;
                    self.show();
                    // The requester may have stopped waiting.
                    let _ = answer.send(done.map_err(CommandError::from));
                }
                // Messages in hand are still answered.
                Came::Command(Some(RunnerCommand::Stop) | None) => self.is_stopping = true,
                Came::Node(event) => self.node_tells(event).await,
                Came::Message(Ok(message)) => self.take(message).await,
                Came::Message(Err(why)) => self.fails(why),
                Came::Time => {}
            }
        }
    }

    /// Restores its state and attaches its part, if due.
    async fn prepare(&mut self) {
        let is_due = self.node_at.is_none_or(|at| at <= Instant::now());
        if !is_due || self.part.is_some() || self.is_stopping {
            return;
        }
        self.node_at = Some(Instant::now() + NODE_PAUSE);
        if !self.is_restored {
            let (kind, name) = (self.settings.kind, self.settings.name.clone());
            match self.host.saved_state(kind, &name).await {
                Ok(SavedState::Paused(since_ms)) => self.paused_ms = Some(since_ms),
                Ok(_) => self.paused_ms = None,
                Err(why) => {
                    let why = format!("its state before the restart cannot be read: {why}");
                    return self.note_failure(why);
                }
            }
            self.is_restored = true;
        }
        let team = self.settings.tenant.clone();
        self.tenant = self.host.tenant(&team);
        let Some(tenant) = self.tenant else {
            let why = self.host.why_no_tenant(&team);
            return self.note_failure(why);
        };
        let principal = self.settings.publish_as.as_ref();
        let principal = principal.map(|name| {
            let found = self.host.identity(tenant, name);
            found.map_err(|why| format!("it cannot publish as {name:?} (`publish_as`): {why}"))
        });
        let principal = match principal.transpose() {
            Ok(principal) => principal,
            Err(why) => return self.note_failure(why),
        };
        let spec = PartSpec {
            // The node assigns the ids of parts.
            id: PartId::default(),
            tenant,
            client_id: self.settings.client_id().into(),
            subscriptions: Vec::new(),
            credit: 1,
            session_expiry_secs: 0,
            keeps_qos0: false,
            queue: self.settings.queue,
            identity: principal,
            reach: PartReach::Node,
        };
        let host = Arc::clone(&self.host);
        self.part = Some(Part::attach(spec, |spec, outlet| host.attach(spec, outlet)));
    }

    /// Waits for the next event.
    async fn comes(&mut self) -> Came {
        let may_take = self.is_attached
            && self.paused_ms.is_none()
            && !self.is_stopping
            && self.in_hand.len() < usize::from(self.settings.batch_messages);
        let source_at = self.source_at.filter(|_| may_take);
        let node_at = self.node_at.filter(|_| self.part.is_none());
        let at = source_at.into_iter().chain(node_at).min();
        let takes = may_take && source_at.is_none_or(|at| at <= Instant::now());
        let Self {
            told, part, source, ..
        } = self;
        tokio::select! {
            biased;
            told = told.recv() => Came::Command(told),
            event = async {
                match part {
                    Some(part) => part.next().await,
                    None => pending().await,
                }
            } => Came::Node(event),
            message = source.next(), if takes => Came::Message(message),
            () = async {
                match at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            }, if !takes || node_at.is_some() => Came::Time,
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Pause | Command::Drain => {
                let since_ms = self.paused_ms.unwrap_or_else(|| self.host.now_ms());
                self.paused_ms = Some(since_ms);
                self.source.rest();
                self.save(SavedState::Paused(since_ms)).await
            }
            Command::Resume => {
                self.paused_ms = None;
                self.try_now();
                self.save(SavedState::Running).await
            }
            Command::Retry => {
                self.try_now();
                Ok(())
            }
            Command::Test => {
                let tested = self.source.test();
                let tested = tokio::time::timeout(TEST_WITHIN, tested).await;
                tested.unwrap_or_else(|_| Err("no answer in time".to_owned()))
            }
            // A source connects at once, and tells the error.
            Command::Look | Command::Unreachable(_) => Ok(()),
            Command::Skip => Err("a source does not stop at a message".to_owned()),
            Command::SendAgain(_) => Err("a source has no dead letters".to_owned()),
        }
    }

    fn try_now(&mut self) {
        (self.source_at, self.node_at) = (None, None);
    }

    async fn save(&mut self, state: SavedState) -> Result<(), String> {
        let (kind, name) = (self.settings.kind, &*self.settings.name);
        self.host.save_state(kind, name, state).await
    }

    /// Publishes a message, or answers at once if there is nothing to publish.
    async fn take(&mut self, message: SourceMessage) {
        self.works();
        let number = message.number;
        let publish = match message.what {
            What::Publish(publish) if publish.hops <= HOPS_MAX => publish,
            What::Publish(..) => {
                let why = format!("it has passed more than {HOPS_MAX} nodes");
                return self.refuse(number, &message.place, &why).await;
            }
            What::Handled => {
                self.counts.delivered += 1;
                self.delivered_ms = Some(self.host.now_ms());
                return;
            }
            What::Nothing => return self.source.answer(number, SourceAnswer::Done).await,
            What::Refuse(why) => return self.refuse(number, &message.place, &why).await,
        };
        let Some(part) = &self.part else {
            return self.source.answer(number, SourceAnswer::Later).await;
        };
        let topic = publish.topic.clone();
        part.publish(PartPublish {
            number,
            message: *publish,
            receipts: false,
        });
        let in_hand = InHand {
            place: message.place,
            topic,
            received_ms: message.received_ms,
            repeated: message.repeated,
        };
        self.in_hand.insert(number, in_hand);
    }

    async fn refuse(&mut self, number: u64, place: &str, why: &str) {
        self.counts.refused += 1;
        let now = Instant::now();
        self.untold += 1;
        if self.refusal_told.is_none_or(|at| now >= at + TOLD_EVERY) {
            self.refusal_told = Some(now);
            let messages = std::mem::take(&mut self.untold);
            let integration = self.settings.client_id();
            tracing::warn!(
                integration,
                message = place,
                messages,
                "messages are refused permanently, the last one because {why}"
            );
        }
        let why = format!("{place}: {why}");
        self.refused_last = Some((why.clone(), now));
        self.last_error = Some((why, self.host.now_ms()));
        self.source.answer(number, SourceAnswer::Refused).await;
    }

    async fn node_tells(&mut self, event: Option<PartEvent>) {
        match event {
            Some(PartEvent::Attached { .. }) => {
                (self.is_attached, self.failure) = (true, None);
            }
            Some(PartEvent::Published { number, outcome }) => self.published(number, outcome).await,
            Some(PartEvent::Ended { why, .. }) => self.detached(why).await,
            None => self.detached("the node stops").await,
            // It has no subscriptions.
            Some(
                PartEvent::Delivery(_)
                | PartEvent::Queue(_)
                | PartEvent::Run { .. }
                | PartEvent::Receipt(_)
                | PartEvent::Receivers { .. },
            ) => {}
        }
    }

    async fn published(&mut self, number: u64, outcome: Published) {
        let Some(in_hand) = self.in_hand.remove(&number) else {
            return;
        };
        let reason = outcome.reason;
        if !reason.is_error() {
            self.counts.delivered += 1;
            self.counts.repeated += u64::from(in_hand.repeated);
            self.delivered_ms = Some(self.host.now_ms());
            return self.source.answer(number, SourceAnswer::Done).await;
        }
        if is_for_good(reason) {
            let why = match &self.settings.publish_as {
                Some(name) if reason == ReasonCode::NotAuthorized => {
                    let topic = &in_hand.topic;
                    not_permitted(name, topic)
                }
                _ => format!("the node rejects it: {}", reason.name()),
            };
            return self.refuse(number, &in_hand.place, &why).await;
        }
        let why = match outcome.is_held {
            true => "the queue of an integration that holds clients back is full".to_owned(),
            false => format!("the node does not accept it now: {}", reason.name()),
        };
        self.counts.failed_attempts += 1;
        self.last_error = Some((format!("{}: {why}", in_hand.place), self.host.now_ms()));
        self.source.answer(number, SourceAnswer::Later).await;
    }

    /// The part has ended: it is unknown whether the node has the messages in hand, so they come
    /// again.
    async fn detached(&mut self, why: &str) {
        (self.part, self.is_attached) = (None, false);
        self.node_at = Some(Instant::now() + NODE_PAUSE);
        for number in std::mem::take(&mut self.in_hand).into_keys() {
            self.source.answer(number, SourceAnswer::Later).await;
        }
        if !self.is_stopping {
            self.note_failure(format!("it is detached from the node: {why}"));
        }
    }

    fn fails(&mut self, why: String) {
        self.note_failure(why);
        self.counts.failed_attempts += 1;
        let attempts = self.failure.as_ref().map_or(1, |failure| failure.attempts);
        let pause = self.settings.backoff.pause(attempts, self.host.random());
        self.source_at = Some(Instant::now() + pause);
    }

    fn note_failure(&mut self, error: String) {
        let now_ms = self.host.now_ms();
        self.last_error = Some((error.clone(), now_ms));
        if self.failure.is_none() {
            let integration = self.settings.client_id();
            tracing::warn!(integration, error, "the source fails; retrying");
        }
        Failure::count(&mut self.failure, &error, now_ms);
    }

    fn works(&mut self) {
        self.source_at = None;
        if self.failure.take().is_some() {
            let integration = self.settings.client_id();
            tracing::info!(integration, "the source works again");
        }
    }

    /// A warning although messages arrive: some were refused recently.
    fn health(&self) -> Option<String> {
        let (why, at) = self.refused_last.as_ref()?;
        (at.elapsed() < REFUSED_LATELY).then(|| {
            format!(
                "it has refused {} since the start, the last one because {why}",
                counted(self.counts.refused, "message")
            )
        })
    }

    fn show(&self) {
        let mut state = self.shared.lock();
        state.activity = match (self.paused_ms.is_some(), self.is_attached, &self.failure) {
            (true, ..) => Activity::Paused,
            (_, false, _) => Activity::Starting,
            (_, _, Some(_)) => Activity::Retrying,
            (_, _, None) => Activity::Running,
        };
        state.paused_since_ms = self.paused_ms;
        state.is_attached = self.is_attached;
        state.tenant = self.tenant;
        state.counts = self.counts;
        state.in_hand = self.in_hand.len();
        let in_hand = self.in_hand.len() as u64;
        state.lag = self.source.waiting().map(|waiting| waiting + in_hand);
        let received = self.in_hand.values().map(|one| one.received_ms);
        state.oldest_received_ms = received.min();
        state.failure.clone_from(&self.failure);
        state.sink_health = self.health();
        state.last_error.clone_from(&self.last_error);
        state.delivered_ms = self.delivered_ms;
        drop(state);
        self.shared.tell_changed();
    }
}

/// Whether a retry of the same message would be refused too.
pub fn is_for_good(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
    )
}
