//! What a runner holds, and what it is told: all but the sink itself.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    PartId, PartOutcome, PartQueueState, PartReach, PartSpec, PartSubscription, TenantId,
};
use martlet_codec::RetainHandling;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::attempt::Broken;
use super::handle::{Activity, Answer, Command, Counts, Failure, Shared, Told};
use super::{ALL_TENANTS, OnReject, Settings};
use crate::dead_letters::DeadLetter;
use crate::host::{Host, SavedState};
use crate::lanes::{Lanes, Token, Told as ToldByNode};
use crate::sink::{Outcome, SinkMessage};

/// Dead letters that wait to be sent again, at most.
const AGAIN_MAX: usize = 10_000;
/// Time that the tables may take to save the state of an integration.
const SAVED_WITHIN: Duration = Duration::from_secs(5);
/// Time between two questions whether a drain is over.
const DRAIN_LOOKS_EVERY: Duration = Duration::from_millis(250);
/// Panics of the sink on one message, handed over alone, after which the message is refused.
const PANICS_MAX: u32 = 3;

/// Whether it delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// Messages that were received until then are delivered.
    Draining {
        until_ms: u64,
        look_at: Instant,
    },
    Paused,
    /// For this reason. Whether that is saved yet.
    Stopped {
        why: String,
        is_saved: bool,
    },
}

/// Whether it is attached to the node.
#[derive(Debug)]
enum Attachment {
    Detached,
    Attaching(Lanes),
    Attached(Lanes),
}

/// A message that is not settled.
#[derive(Debug)]
pub(super) struct Held {
    token: Token,
    pub(super) message: SinkMessage,
    /// Times that the sink panicked when it was handed over alone.
    panics: u32,
}

/// Something that is tried again after a pause.
#[derive(Debug, Default)]
struct Retry {
    failure: Option<Failure>,
    at: Option<Instant>,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

/// A runner without its sink.
pub(super) struct Core {
    pub(super) settings: Settings,
    client_id: Arc<str>,
    host: Arc<dyn Host>,
    shared: Arc<Shared>,
    pub(super) told: UnboundedReceiver<Told>,
    pub(super) is_stopping: bool,
    mode: Mode,
    attachment: Attachment,
    tenant: Option<TenantId>,
    /// Messages in hand, in the order of the queue.
    held: VecDeque<Held>,
    /// Messages that were refused and are not in the dead-letter store yet.
    refused: Vec<(Token, DeadLetter)>,
    /// Dead letters to be sent again.
    again: VecDeque<u64>,
    /// Messages that are handed over one by one, because the sink panicked at a batch with them.
    alone: usize,
    to_sink: Retry,
    to_store: Retry,
    to_node: Retry,
    /// Tests that wait for the sink.
    pub(super) tests: Vec<Answer>,
    pub(super) sink_health: Option<String>,
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
        shared: Arc<Shared>,
        told: UnboundedReceiver<Told>,
    ) -> Self {
        Self {
            client_id: settings.client_id().into(),
            settings,
            host,
            shared,
            told,
            is_stopping: false,
            mode: Mode::Running,
            attachment: Attachment::Detached,
            tenant: None,
            held: VecDeque::new(),
            refused: Vec::new(),
            again: VecDeque::new(),
            alone: 0,
            to_sink: Retry::default(),
            to_store: Retry::default(),
            to_node: Retry::default(),
            tests: Vec::new(),
            sink_health: None,
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
            let saved = timeout(SAVED_WITHIN, self.host.saved_state(kind, &name)).await;
            match saved.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(SavedState::Running) => self.mode = Mode::Running,
                Ok(SavedState::Paused) => self.mode = Mode::Paused,
                Ok(SavedState::Stopped(why)) => {
                    let is_saved = true;
                    self.mode = Mode::Stopped { why, is_saved };
                }
                Err(why) => {
                    let error = format!("its state before the restart cannot be read: {why}");
                    self.fail(What::Node, error);
                    self.show();
                    let at = self.to_node.at.unwrap_or_else(Instant::now);
                    tokio::select! {
                        told = self.told.recv() => match told {
                            Some(Told::Stop) | None => self.is_stopping = true,
                            Some(Told::Command(_, answer)) => {
                                let why = "the integration is not started yet";
                                let _ = answer.send(Err(why.to_owned()));
                            }
                        },
                        () = sleep_until(at) => {}
                    }
                    if self.is_stopping {
                        return;
                    }
                    continue;
                }
            }
            return self.succeed(What::Node);
        }
    }

    pub(super) async fn obey_all(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.obey(told).await;
        }
    }

    pub(super) async fn obey(&mut self, told: Told) {
        let (command, answer) = match told {
            Told::Stop => {
                self.is_stopping = true;
                return;
            }
            Told::Command(command, answer) => (command, answer),
        };
        let done = match command {
            Command::Test => return self.tests.push(answer),
            Command::Pause => {
                self.mode = Mode::Paused;
                self.save(SavedState::Paused).await
            }
            Command::Resume => {
                self.mode = Mode::Running;
                // Who resumes it has repaired something: it is tried at once.
                (self.to_sink.at, self.to_store.at) = (None, None);
                self.save(SavedState::Running).await
            }
            Command::Retry => {
                self.to_sink.at = None;
                Ok(())
            }
            Command::Drain => {
                self.mode = Mode::Draining {
                    until_ms: self.host.now_ms(),
                    look_at: Instant::now(),
                };
                // A drain that a restart cuts off is a pause.
                self.save(SavedState::Paused).await
            }
            Command::SendAgain(ids) => self.queue_letters(ids),
        };
        self.show();
        // The one who asked may have given up.
        let _ = answer.send(done);
    }

    async fn save(&self, state: SavedState) -> Result<(), String> {
        let (kind, name) = (self.settings.kind, &*self.settings.name);
        let saved = timeout(SAVED_WITHIN, self.host.save_state(kind, name, state)).await;
        let saved = saved.unwrap_or_else(|_| Err("no answer in time".to_owned()));
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
            warn!(integration = %self.client_id, error, "that it has stopped was not saved");
        }
    }

    pub(super) async fn attach_if_due(&mut self) {
        let is_detached = matches!(self.attachment, Attachment::Detached);
        if !is_detached || !self.to_node.is_due(Instant::now()) {
            return;
        }
        self.tenant = self.host.tenant(&self.settings.tenant);
        let Some(tenant) = self.tenant else {
            let team = &self.settings.tenant;
            let why = format!("there is no team {team:?} with a tenant of its own");
            return self.fail(What::Node, why);
        };
        let sessions = timeout(SAVED_WITHIN, self.host.sessions(tenant, &self.client_id)).await;
        let Ok(Some(sessions)) = sessions else {
            let why = "the node does not say which sessions it has";
            return self.fail(What::Node, why.to_owned());
        };
        let sessions: Vec<String> = sessions.into_iter().map(|one| one.client_id).collect();
        let filters = self.settings.filters.iter();
        let spec = PartSpec {
            // The node numbers its parts.
            id: PartId::default(),
            tenant,
            client_id: Arc::clone(&self.client_id),
            subscriptions: filters
                .map(|filter| PartSubscription {
                    filter: filter.clone(),
                    identifier: 0,
                    // It takes what is published, and not again what was there.
                    retain_handling: RetainHandling::DoNotSend,
                })
                .collect(),
            credit: self.settings.batch_messages,
            session_expiry_secs: u32::MAX,
            keeps_qos0: self.settings.keeps_qos0,
            queue: self.settings.queue,
            identity: None,
            reach: match &*self.settings.tenant {
                ALL_TENANTS => PartReach::LaneOfAllTenants,
                _ => PartReach::Lane,
            },
        };
        let among = (self.host.shards(), &*sessions);
        let lanes = Lanes::attach(&spec, among, |spec, outlet| self.host.attach(spec, outlet));
        self.attachment = Attachment::Attaching(lanes);
    }

    /// Takes all events that are there.
    pub(super) fn take_ready(&mut self) {
        while let Attachment::Attaching(lanes) | Attachment::Attached(lanes) = &mut self.attachment
            && let Some(told) = lanes.next_now()
        {
            self.take(Some(told));
        }
    }

    fn take(&mut self, told: Option<ToldByNode>) {
        match told {
            Some(ToldByNode::Attached(granted)) => self.attached(&granted),
            Some(ToldByNode::Delivery(token, delivery)) => self.held.push_back(Held {
                token,
                message: self.with_team(SinkMessage::delivered(&delivery)),
                panics: 0,
            }),
            Some(ToldByNode::Queue(queue)) => self.queue = Some(queue),
            Some(ToldByNode::Ended(why)) => self.detached(why),
            None => self.detached("the node stops"),
        }
    }

    /// A sink of all tenants is told the team of each message.
    pub(super) fn with_team(&self, message: SinkMessage) -> SinkMessage {
        match &*self.settings.tenant {
            ALL_TENANTS => {
                let team = self.host.team_of(message.tenant());
                message.with_team(team)
            }
            _ => message,
        }
    }

    fn attached(&mut self, granted: &[martlet_codec::ReasonCode]) {
        let filters = self.settings.filters.iter().zip(granted);
        let mut refused = filters.filter(|(_, reason)| reason.is_error());
        if let Some((filter, reason)) = refused.next() {
            let error = format!("the filter {filter:?} is not granted: {}", reason.name());
            self.attachment = Attachment::Detached;
            return self.fail(What::Node, error);
        }
        let before = std::mem::replace(&mut self.attachment, Attachment::Detached);
        if let Attachment::Attaching(lanes) | Attachment::Attached(lanes) = before {
            self.attachment = Attachment::Attached(lanes);
        }
        self.succeed(What::Node);
    }

    /// What was in hand comes again with the next attachment.
    fn detached(&mut self, why: &str) {
        self.attachment = Attachment::Detached;
        self.held.clear();
        self.refused.clear();
        self.alone = 0;
        self.fail(What::Node, format!("not attached to the node: {why}"));
    }

    /// The next messages for the sink; empty: there are none, or it is not to be called now.
    pub(super) fn batch(&mut self, now: Instant) -> Vec<SinkMessage> {
        let until_ms = match self.mode {
            Mode::Running => u64::MAX,
            Mode::Draining { until_ms, .. } => until_ms,
            Mode::Paused | Mode::Stopped { .. } => return Vec::new(),
        };
        if !self.to_sink.is_due(now) {
            return Vec::new();
        }
        let messages_max = match self.alone {
            0 => usize::from(self.settings.batch_messages.max(1)),
            _ => 1,
        };
        let mut batch = Vec::new();
        let mut bytes = 0;
        for held in &self.held {
            bytes += held.message.bytes();
            let is_full = batch.len() >= messages_max || bytes > self.settings.batch_bytes;
            let is_later = held.message.received_ms() > until_ms;
            if is_later || (is_full && !batch.is_empty()) {
                break;
            }
            batch.push(held.message.clone());
        }
        batch
    }

    /// The sink was handed the first messages in hand.
    pub(super) fn delivered(&mut self, handed: usize, done: Result<Vec<Outcome>, Broken>) {
        let (outcomes, mut error) = self.outcomes(handed, done);
        let now_ms = self.host.now_ms();
        let (mut settled, mut left, mut stop) = (Vec::new(), Vec::new(), None);
        let (mut delivered, mut tried) = (0_usize, 0_usize);
        let mut after = Duration::ZERO;
        let first: Vec<Held> = self.held.drain(..handed.min(self.held.len())).collect();
        let mut outcomes = outcomes.into_iter();
        for mut held in first {
            let outcome = outcomes.next();
            tried += usize::from(!matches!(outcome, None | Some(Outcome::NotTried)));
            match outcome {
                Some(Outcome::Done) => {
                    delivered += 1;
                    self.counts.repeated += u64::from(held.message.repeated());
                    settled.push((held.token, PartOutcome::Done));
                }
                Some(Outcome::Refused(reason)) => {
                    self.counts.refused += 1;
                    if self.settings.on_reject == OnReject::Stop {
                        stop.get_or_insert_with(|| stop_text(&held.message, &reason));
                        held.message.repeated = true;
                        left.push(held);
                    } else {
                        let letter = self.letter(&held.message, &reason, now_ms);
                        self.refused.push((held.token, letter));
                    }
                }
                Some(Outcome::Failed(why)) => {
                    error.get_or_insert(why);
                    held.message.repeated = true;
                    left.push(held);
                }
                Some(Outcome::Later(why, time)) => {
                    error.get_or_insert(why);
                    after = after.max(time);
                    held.message.repeated = true;
                    left.push(held);
                }
                Some(Outcome::NotTried) | None => left.push(held),
            }
        }
        self.alone = self.alone.saturating_sub(handed - left.len());
        for held in left.into_iter().rev() {
            self.held.push_front(held);
        }
        self.settle(settled);
        if delivered > 0 {
            self.counts.delivered += delivered as u64;
            self.delivered_ms = Some(now_ms);
        }
        if error.is_none() && tried == 0 {
            error = Some("the sink returned no outcome".to_owned());
        }
        match error {
            Some(error) => {
                self.counts.failed_attempts += 1;
                // It makes progress: the pauses begin anew.
                if let Some(failure) = self.to_sink.failure.as_mut().filter(|_| delivered > 0) {
                    failure.attempts = 0;
                }
                self.fail(What::Sink, error);
                self.pause_sink(after);
            }
            None => self.succeed(What::Sink),
        }
        if let Some(why) = stop {
            error!(integration = %self.client_id, why, "the integration has stopped: resume it to go on");
            self.last_error = Some((why.clone(), now_ms));
            let is_saved = false;
            self.mode = Mode::Stopped { why, is_saved };
        }
    }

    /// The other system asks not to be called for that time.
    fn pause_sink(&mut self, time: Duration) {
        let asked = Instant::now() + time;
        self.to_sink.at = self.to_sink.at.map(|at| at.max(asked));
    }

    /// Outcomes of a call; one that broke off has none, or fails for all messages.
    fn outcomes(
        &mut self,
        handed: usize,
        done: Result<Vec<Outcome>, Broken>,
    ) -> (Vec<Outcome>, Option<String>) {
        let broken = match done {
            Ok(outcomes) => return (outcomes, None),
            Err(broken) => broken,
        };
        let error = broken.to_string();
        let failed = vec![Outcome::Failed(error.clone()); handed];
        if matches!(broken, Broken::Late(_)) {
            return (failed, Some(error));
        }
        // One of these messages may be at fault: each comes alone until all of them are through.
        if handed > 1 {
            self.alone = self.alone.max(handed);
            return (failed, Some(error));
        }
        let Some(held) = self.held.front_mut() else {
            return (failed, Some(error));
        };
        held.panics += 1;
        match held.panics >= PANICS_MAX {
            true => {
                let reason = format!("{error} ({PANICS_MAX} times at this message)");
                (vec![Outcome::Refused(reason)], None)
            }
            false => (failed, Some(error)),
        }
    }

    fn letter(&self, message: &SinkMessage, reason: &str, now_ms: u64) -> DeadLetter {
        let of = (self.settings.kind, &*self.settings.name);
        DeadLetter::new(of, message, reason, now_ms)
    }

    fn settle(&self, settled: Vec<(Token, PartOutcome)>) {
        if let Attachment::Attached(lanes) = &self.attachment {
            lanes.settle_all(settled);
        }
    }

    /// Stores what was refused, and settles it then.
    pub(super) async fn store_letters_if_due(&mut self) {
        if self.refused.is_empty() || !self.to_store.is_due(Instant::now()) {
            return;
        }
        let letters: Vec<DeadLetter> = self.refused.iter().map(|(_, one)| one.clone()).collect();
        let count = letters.len() as u64;
        let within = self.settings.deliver_within;
        let put = timeout(within, self.host.dead_letters().put(letters)).await;
        match put.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(dropped) => {
                self.counts.dead_letters += count;
                self.counts.dead_letters_dropped += dropped;
                let stored = std::mem::take(&mut self.refused);
                for (_, letter) in &stored {
                    let head = &letter.head;
                    let (topic, reason) = (&head.topic, &head.reason);
                    debug!(integration = %self.client_id, topic, reason, "a message was refused");
                }
                let settled = stored
                    .iter()
                    .map(|(token, _)| (*token, PartOutcome::Refused));
                self.settle(settled.collect());
                self.succeed(What::Store);
            }
            Err(why) => {
                let error = format!("the dead-letter store cannot be written: {why}");
                self.fail(What::Store, error);
            }
        }
    }

    fn queue_letters(&mut self, ids: Vec<u64>) -> Result<(), String> {
        let new: Vec<u64> = ids
            .into_iter()
            .filter(|id| !self.again.contains(id))
            .collect();
        if self.again.len() + new.len() > AGAIN_MAX {
            let waiting = self.again.len();
            return Err(format!(
                "{waiting} dead letters wait to be sent again already, and {AGAIN_MAX} may: \
                 send fewer at once"
            ));
        }
        self.again.extend(new);
        Ok(())
    }

    pub(super) fn has_letters_to_send(&self, now: Instant) -> bool {
        !self.again.is_empty() && self.to_sink.is_due(now) && self.to_store.is_due(now)
    }

    /// The next dead letters to be sent again; none if they cannot be read.
    pub(super) async fn load_letters(&mut self) -> Option<Vec<DeadLetter>> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while let Some(id) = self.again.front().copied() {
            let read = timeout(SAVED_WITHIN, self.host.dead_letters().get(id)).await;
            let read = read.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            match read {
                Ok(Some(letter)) if self.is_own(&letter) => {
                    bytes += letter.payload.len();
                    let is_full = letters.len() >= usize::from(self.settings.batch_messages)
                        || bytes > self.settings.batch_bytes;
                    if is_full && !letters.is_empty() {
                        break;
                    }
                    letters.push(letter);
                }
                // It was dropped meanwhile.
                Ok(_) => {}
                Err(why) => {
                    for letter in letters.into_iter().rev() {
                        self.again.push_front(letter.head.id);
                    }
                    let error = format!("the dead-letter store cannot be read: {why}");
                    self.fail(What::Store, error);
                    return None;
                }
            }
            self.again.pop_front();
        }
        Some(letters)
    }

    fn is_own(&self, letter: &DeadLetter) -> bool {
        letter.head.kind == self.settings.kind && *letter.head.name == *self.settings.name
    }

    /// Dead letters were handed to the sink.
    pub(super) async fn letters_sent(
        &mut self,
        letters: Vec<DeadLetter>,
        done: Result<Vec<Outcome>, Broken>,
    ) {
        let (outcomes, mut error) = match done {
            Ok(outcomes) => (outcomes, None),
            Err(broken) => (Vec::new(), Some(broken.to_string())),
        };
        let now_ms = self.host.now_ms();
        let (mut removed, mut refused, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let is_empty = outcomes.is_empty();
        let mut after = Duration::ZERO;
        let mut outcomes = outcomes.into_iter();
        for mut letter in letters {
            match outcomes.next() {
                Some(Outcome::Done) => removed.push(letter.head.id),
                Some(Outcome::Refused(reason)) => {
                    (letter.head.reason, letter.head.refused_ms) = (reason, now_ms);
                    letter.head.refusals = letter.head.refusals.saturating_add(1);
                    refused.push(letter);
                }
                Some(Outcome::Failed(why)) => {
                    error.get_or_insert(why);
                    left.push(letter.head.id);
                }
                Some(Outcome::Later(why, time)) => {
                    error.get_or_insert(why);
                    after = after.max(time);
                    left.push(letter.head.id);
                }
                Some(Outcome::NotTried) | None => left.push(letter.head.id),
            }
        }
        let delivered = removed.len() as u64;
        self.counts.delivered += delivered;
        self.counts.repeated += delivered;
        self.counts.refused += refused.len() as u64;
        for id in left.into_iter().rev() {
            self.again.push_front(id);
        }
        if is_empty && error.is_none() {
            error = Some("the sink returned no outcome".to_owned());
        }
        match error {
            Some(error) => {
                self.counts.failed_attempts += 1;
                self.fail(What::Sink, error);
                self.pause_sink(after);
            }
            None => self.succeed(What::Sink),
        }
        if delivered > 0 {
            self.delivered_ms = Some(now_ms);
        }
        // A letter that is delivered and not removed is there still: it may be sent twice.
        if let Err(why) = self.tidy_letters(removed, refused).await {
            let error = format!("the dead-letter store cannot be written: {why}");
            self.fail(What::Store, error);
        }
    }

    async fn tidy_letters(
        &self,
        removed: Vec<u64>,
        refused: Vec<DeadLetter>,
    ) -> Result<(), String> {
        let store = self.host.dead_letters();
        let work = async {
            if !removed.is_empty() {
                store.remove(removed).await?;
            }
            if !refused.is_empty() {
                store.put(refused).await?;
            }
            Ok(())
        };
        let done = timeout(self.settings.deliver_within, work).await;
        done.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// Pauses when all that waited is delivered.
    pub(super) async fn drain_if_due(&mut self) {
        let Mode::Draining { until_ms, look_at } = &mut self.mode else {
            return;
        };
        let front = self.held.front();
        let is_later = front.is_some_and(|held| held.message.received_ms() > *until_ms);
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        let has_nothing = self.held.is_empty() && self.refused.is_empty() && is_attached;
        if is_later && self.refused.is_empty() {
            self.mode = Mode::Paused;
        } else if has_nothing && *look_at <= Instant::now() {
            *look_at = Instant::now() + DRAIN_LOOKS_EVERY;
            let Some(tenant) = self.tenant else {
                return;
            };
            let sessions = self.host.sessions(tenant, &self.client_id).await;
            if sessions.is_some_and(|all| all.iter().all(|one| one.messages == 0)) {
                self.mode = Mode::Paused;
            }
        }
    }

    /// Waits until there is something to do.
    pub(super) async fn wait(&mut self) {
        let at = self.next_due();
        let sleep = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            told = self.told.recv() => match told {
                Some(told) => self.obey(told).await,
                None => self.is_stopping = true,
            },
            event = next_event(&mut self.attachment) => self.take(event),
            () = sleep => {}
        }
    }

    /// When there is something to do without being told.
    fn next_due(&self) -> Option<Instant> {
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        let is_detached = matches!(self.attachment, Attachment::Detached);
        let front = self.held.front().map(|held| held.message.received_ms());
        let (has_work, look) = match &self.mode {
            Mode::Running => (front.is_some(), None),
            Mode::Draining { until_ms, look_at } => {
                let has_nothing = front.is_none() && self.refused.is_empty() && is_attached;
                let has_work = front.is_some_and(|at_ms| at_ms <= *until_ms);
                (has_work, has_nothing.then_some(*look_at))
            }
            Mode::Paused | Mode::Stopped { .. } => (false, None),
        };
        let now = Instant::now();
        let due = |retry: &Retry| retry.at.unwrap_or(now);
        let (sink, store) = (due(&self.to_sink), due(&self.to_store));
        let all = [
            is_detached.then(|| due(&self.to_node)),
            has_work.then_some(sink),
            (!self.again.is_empty()).then(|| sink.max(store)),
            (!self.refused.is_empty()).then_some(store),
            look,
        ];
        all.into_iter().flatten().min()
    }

    fn retry(&mut self, what: What) -> &mut Retry {
        match what {
            What::Sink => &mut self.to_sink,
            What::Store => &mut self.to_store,
            What::Node => &mut self.to_node,
        }
    }

    fn fail(&mut self, what: What, error: String) {
        let (now_ms, random) = (self.host.now_ms(), self.host.random());
        let backoff = self.settings.backoff;
        self.last_error = Some((error.clone(), now_ms));
        let retry = self.retry(what);
        let is_new = retry.failure.is_none();
        let failure = retry.failure.get_or_insert_with(|| Failure {
            error: String::new(),
            since_ms: now_ms,
            attempts: 0,
        });
        failure.attempts = failure.attempts.saturating_add(1);
        let is_other = failure.error != error;
        failure.error = error.clone();
        retry.at = Some(Instant::now() + backoff.pause(failure.attempts, random));
        if (is_new || is_other) && !self.is_stopping {
            warn!(integration = %self.client_id, error, "an integration failed and is tried again");
        }
    }

    fn succeed(&mut self, what: What) {
        let retry = self.retry(what);
        retry.at = None;
        if let Some(failure) = retry.failure.take() {
            let attempts = failure.attempts;
            info!(integration = %self.client_id, attempts, "an integration works again");
        }
    }

    /// Shows its state to others.
    pub(super) fn show(&self) {
        let failure = [&self.to_sink, &self.to_store, &self.to_node];
        let failure = failure.into_iter().find_map(|retry| retry.failure.clone());
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        let (activity, stopped_because) = match &self.mode {
            Mode::Paused => (Activity::Paused, None),
            Mode::Stopped { why, .. } => (Activity::Stopped, Some(why.clone())),
            _ if !is_attached => (Activity::Starting, None),
            Mode::Draining { .. } => (Activity::Draining, None),
            Mode::Running if failure.is_some() => (Activity::Retrying, None),
            Mode::Running => (Activity::Running, None),
        };
        let front = self.held.front().map(|held| held.message.received_ms());
        let refused = self.refused.iter().map(|(_, one)| one.head.received_ms);
        let mut state = self.shared.lock();
        state.activity = activity;
        state.is_attached = is_attached;
        state.stopped_because = stopped_because;
        state.tenant = self.tenant;
        state.counts = self.counts;
        state.in_hand = self.held.len() + self.refused.len();
        state.queue = self.queue;
        let in_hand = state.in_hand as u64;
        state.lag = self.queue.map(|queue| queue.messages + in_hand);
        state.oldest_received_ms = refused.chain(front).min();
        state.failure = failure;
        state.clients_waiting = super::waiting::clients(activity, &self.held);
        state.last_error.clone_from(&self.last_error);
        state.delivered_ms = self.delivered_ms;
        state.sink_health.clone_from(&self.sink_health);
        state.sending_again = self.again.len();
        drop(state);
        self.shared.tell_changed();
    }
}

/// What is tried again.
#[derive(Clone, Copy, Debug)]
enum What {
    Sink,
    Store,
    Node,
}

fn stop_text(message: &SinkMessage, reason: &str) -> String {
    let (id, topic) = (message.id(), message.topic());
    format!("the message {id} on {topic:?} was refused: {reason}")
}

async fn next_event(attachment: &mut Attachment) -> Option<ToldByNode> {
    match attachment {
        Attachment::Detached => pending().await,
        Attachment::Attaching(lanes) | Attachment::Attached(lanes) => lanes.next().await,
    }
}
