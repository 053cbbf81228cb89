//! What a runner holds, and what it is told: all but the sink itself.

use std::collections::{BTreeSet, VecDeque};
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
use super::giving_up::GivingUp;
use super::handle::{Activity, Answer, Command, Counts, Failure, Shared, Told};
use super::{ALL_TENANTS, OnReject, Settings};
use crate::dead_letters::DeadLetter;
use crate::host::{Host, PartSession, SavedState};
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
/// Messages in a row that are refused for panics. After that the sink is at fault, not the
/// messages: they wait.
const PANICKED_IN_A_ROW_MAX: u32 = 3;
/// Time between two lines of the log about dead letters that were dropped.
const DROPPED_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Time between two looks whether the team still has the same tenant.
const TENANT_LOOKS_EVERY: Duration = Duration::from_secs(2);

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

/// Messages for one call of the sink.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<SinkMessage>,
    /// Where each of them stands among the messages in hand, in order.
    pub(super) places: Vec<usize>,
}

/// A message that the sink has refused, and that is not in the dead-letter store yet.
#[derive(Debug)]
struct Refused {
    token: Token,
    message: SinkMessage,
    reason: String,
    at_ms: u64,
}

/// A message that is not settled.
#[derive(Debug)]
pub(super) struct Held {
    token: Token,
    pub(super) message: SinkMessage,
    /// Times that the sink panicked when it was handed over alone.
    panics: u32,
    /// Times that the sink failed at it.
    failures: u32,
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
    /// In the order of their refusal.
    refused: VecDeque<Refused>,
    /// The first refusal of the next call does not stop the integration.
    skips: bool,
    /// Dead letters to be sent again.
    again: VecDeque<u64>,
    /// Messages that are handed over one by one, because the sink panicked at a batch with them.
    alone: usize,
    /// The same of dead letters.
    letters_alone: usize,
    /// Messages that were refused for panics since the last one that was delivered.
    panicked_in_a_row: u32,
    giving_up: GivingUp,
    /// An operator may have repaired the sink: one that was not called any more is called again.
    pub(super) has_been_repaired: bool,
    /// When it was logged last that dead letters were dropped.
    dropped_told: Option<Instant>,
    /// Until when the other system asks not to be called.
    asked_until: Option<Instant>,
    to_sink: Retry,
    to_letters: Retry,
    to_store: Retry,
    to_node: Retry,
    /// When to look whether the team still has the same tenant.
    look_at_tenant: Instant,
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
            giving_up: GivingUp::after(settings.max_attempts),
            has_been_repaired: false,
            settings,
            host,
            shared,
            told,
            is_stopping: false,
            mode: Mode::Running,
            attachment: Attachment::Detached,
            tenant: None,
            held: VecDeque::new(),
            refused: VecDeque::new(),
            skips: false,
            again: VecDeque::new(),
            alone: 0,
            letters_alone: 0,
            panicked_in_a_row: 0,
            dropped_told: None,
            asked_until: None,
            look_at_tenant: Instant::now(),
            to_sink: Retry::default(),
            to_letters: Retry::default(),
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
            Command::Resume => self.resume().await,
            Command::Skip => {
                self.skips = matches!(self.mode, Mode::Stopped { .. });
                self.resume().await
            }
            Command::Retry => {
                (self.to_sink.at, self.to_letters.at, self.to_node.at) = (None, None, None);
                (self.look_at_tenant, self.has_been_repaired) = (Instant::now(), true);
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

    async fn resume(&mut self) -> Result<(), String> {
        self.mode = Mode::Running;
        // An operator has repaired something: it is tried at once.
        (self.to_sink.at, self.to_letters.at, self.to_store.at) = (None, None, None);
        (self.to_node.at, self.has_been_repaired) = (None, true);
        self.giving_up = GivingUp::after(self.settings.max_attempts);
        self.save(SavedState::Running).await
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
            let why = self.host.why_no_tenant(&self.settings.tenant);
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

    /// Detaches if its team has another tenant than when it was attached: one that was removed for
    /// good and added again has.
    pub(super) fn look_at_tenant_if_due(&mut self) {
        let now = Instant::now();
        if !self.has_team() || self.look_at_tenant > now {
            return;
        }
        self.look_at_tenant = now + TENANT_LOOKS_EVERY;
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        if is_attached && self.host.tenant(&self.settings.tenant) != self.tenant {
            self.queue = None;
            self.detached("its team has another tenant now");
        }
    }

    fn has_team(&self) -> bool {
        !self.settings.tenant.is_empty() && *self.settings.tenant != *ALL_TENANTS
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
                failures: 0,
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
    pub(super) fn batch(&mut self, now: Instant) -> Batch {
        let until_ms = match self.mode {
            Mode::Running => u64::MAX,
            Mode::Draining { until_ms, .. } => until_ms,
            Mode::Paused | Mode::Stopped { .. } => return Batch::default(),
        };
        if !self.to_sink.is_due(now) {
            return Batch::default();
        }
        let messages_max = match self.alone {
            0 => usize::from(self.settings.batch_messages.max(1)),
            _ => 1,
        };
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (place, held) in self.held.iter().enumerate() {
            // A drain leaves what came after it; other lanes may have older messages behind that.
            if held.message.received_ms() > until_ms {
                continue;
            }
            bytes += held.message.bytes();
            let is_full = batch.places.len() >= messages_max || bytes > self.settings.batch_bytes;
            if is_full && !batch.places.is_empty() {
                break;
            }
            batch.messages.push(held.message.clone());
            batch.places.push(place);
        }
        batch
    }

    /// Takes the messages of a batch out of those in hand.
    fn take_out(&mut self, places: &[usize]) -> Vec<Held> {
        if places.last().is_none_or(|last| last + 1 == places.len()) {
            return self.held.drain(..places.len()).collect();
        }
        let mut wanted = places.iter().copied().peekable();
        let (mut taken, mut kept) = (Vec::with_capacity(places.len()), VecDeque::new());
        for (place, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
            match wanted.next_if_eq(&place) {
                Some(_) => taken.push(held),
                None => kept.push_back(held),
            }
        }
        self.held = kept;
        taken
    }

    /// The sink was handed these messages of those in hand.
    pub(super) fn delivered(&mut self, places: &[usize], done: Result<Vec<Outcome>, Broken>) {
        let (outcomes, mut error) = self.outcomes(places, done);
        let now_ms = self.host.now_ms();
        let (mut settled, mut left, mut stop) = (Vec::new(), Vec::new(), None);
        let (mut delivered, mut tried) = (0_usize, 0_usize);
        let mut after = Duration::ZERO;
        let mut skips = std::mem::take(&mut self.skips);
        let mut outcomes = outcomes.into_iter();
        for mut held in self.take_out(places) {
            let outcome = outcomes.next();
            let outcome = outcome.map(|one| self.giving_up.judged(&mut held.failures, one));
            tried += usize::from(!matches!(outcome, None | Some(Outcome::NotTried)));
            match outcome {
                Some(Outcome::Done) => {
                    delivered += 1;
                    self.counts.repeated += u64::from(held.message.repeated());
                    settled.push((held.token, PartOutcome::Done));
                }
                Some(Outcome::Refused(reason)) => {
                    self.counts.refused += 1;
                    let stops = self.settings.on_reject == OnReject::Stop;
                    if stops && !std::mem::take(&mut skips) {
                        stop.get_or_insert_with(|| stop_text(&held.message, &reason));
                        held.message.repeated = true;
                        left.push(held);
                    } else {
                        self.refused.push_back(Refused {
                            token: held.token,
                            message: held.message,
                            reason,
                            at_ms: now_ms,
                        });
                    }
                }
                Some(Outcome::Failed(why) | Outcome::FailedAtMessage(why)) => {
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
        self.alone = self.alone.saturating_sub(places.len() - left.len());
        for held in left.into_iter().rev() {
            self.held.push_front(held);
        }
        self.settle(settled);
        if delivered > 0 {
            self.counts.delivered += delivered as u64;
            self.delivered_ms = Some(now_ms);
            self.panicked_in_a_row = 0;
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

    /// A call that blocked has ended: the sink is tried at once.
    pub(super) fn sink_returned(&mut self) {
        (self.to_sink.at, self.to_letters.at) = (self.asked_until, self.asked_until);
    }

    /// The other system asks not to be called for that time.
    fn pause_sink(&mut self, time: Duration) {
        if time > Duration::ZERO {
            let asked = Instant::now() + time;
            self.asked_until = Some(asked);
            self.to_sink.at = Some(self.to_sink.at.map_or(asked, |at| at.max(asked)));
        }
    }

    /// Outcomes of a call; one that broke off has none, or fails for all messages.
    fn outcomes(
        &mut self,
        places: &[usize],
        done: Result<Vec<Outcome>, Broken>,
    ) -> (Vec<Outcome>, Option<String>) {
        let broken = match done {
            Ok(outcomes) => return (outcomes, None),
            Err(broken) => broken,
        };
        let error = broken.to_string();
        let failed = vec![Outcome::Failed(error.clone()); places.len()];
        let Broken::Panicked(_) = broken else {
            return (failed, Some(error));
        };
        // One of these messages may be at fault: each comes alone until all of them are through.
        if places.len() > 1 {
            self.alone = self.alone.max(places.len());
            return (failed, Some(error));
        }
        let held = places.first().and_then(|place| self.held.get_mut(*place));
        let Some(held) = held else {
            return (failed, Some(error));
        };
        held.panics += 1;
        if held.panics < PANICS_MAX || self.panicked_in_a_row >= PANICKED_IN_A_ROW_MAX {
            return (failed, Some(error));
        }
        self.panicked_in_a_row += 1;
        let reason = format!("{error} ({PANICS_MAX} times at this message)");
        (vec![Outcome::Refused(reason)], None)
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
        let letters = self.next_letters();
        let count = letters.len();
        let within = self.settings.deliver_within;
        let put = timeout(within, self.host.dead_letters().put(letters)).await;
        match put.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(dropped) => {
                self.counts.dead_letters += count as u64;
                self.counts.dead_letters_dropped += dropped;
                if dropped > 0 {
                    self.tell_dropped_letters();
                }
                let stored = self.refused.drain(..count);
                let settled = stored.map(|one| {
                    let (topic, reason) = (one.message.topic(), &one.reason);
                    debug!(integration = %self.client_id, topic, reason, "a message was refused");
                    (one.token, PartOutcome::Refused)
                });
                let settled = settled.collect();
                self.settle(settled);
                self.succeed(What::Store);
            }
            Err(why) => {
                let error = format!("the dead-letter store cannot be written: {why}");
                self.fail(What::Store, error);
            }
        }
    }

    /// Logs that the oldest dead letters were dropped, at most once a minute.
    fn tell_dropped_letters(&mut self) {
        let now = Instant::now();
        if self
            .dropped_told
            .is_some_and(|told| now - told < DROPPED_TOLD_EVERY)
        {
            return;
        }
        self.dropped_told = Some(now);
        let (dropped, integration) = (self.counts.dead_letters_dropped, &self.client_id);
        warn!(%integration, dropped, "the dead-letter store is full: the oldest were dropped");
    }

    /// The first messages that were refused, as letters: as many bytes as a batch may have.
    fn next_letters(&self) -> Vec<DeadLetter> {
        let of = (self.settings.kind, &*self.settings.name);
        let mut bytes = 0;
        let part = self.refused.iter().enumerate().take_while(|(at, one)| {
            bytes += one.message.bytes();
            *at == 0 || bytes <= self.settings.batch_bytes
        });
        let part = part.map(|(_, one)| DeadLetter::new(of, &one.message, &one.reason, one.at_ms));
        part.collect()
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
        !self.again.is_empty() && self.letters_due(now) <= now
    }

    /// When dead letters may be sent again, if it is `now`. They have pauses of their own, so that
    /// one which the other system does not take holds up no message.
    fn letters_due(&self, now: Instant) -> Instant {
        let at = [self.to_letters.at, self.to_store.at, self.asked_until];
        at.into_iter().flatten().max().unwrap_or(now)
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
                        || bytes > self.settings.batch_bytes
                        || self.letters_alone > 0;
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
        self.store_works();
        Some(letters)
    }

    /// The dead-letter store was read or written. If letters wait to be stored, only storing them
    /// says that it works.
    fn store_works(&mut self) {
        if self.refused.is_empty() {
            self.succeed(What::Store);
        }
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
            Err(broken) if letters.len() == 1 && matches!(broken, Broken::Panicked(_)) => {
                (vec![Outcome::Refused(broken.to_string())], None)
            }
            Err(broken) => {
                if matches!(broken, Broken::Panicked(_)) {
                    self.letters_alone = letters.len();
                }
                (Vec::new(), Some(broken.to_string()))
            }
        };
        let now_ms = self.host.now_ms();
        let (mut removed, mut refused, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let is_empty = outcomes.is_empty();
        let mut after = Duration::ZERO;
        let mut outcomes = outcomes.into_iter();
        for mut letter in letters {
            match outcomes.next() {
                Some(Outcome::Done) => removed.push(letter.head.id),
                // Whoever has it sent again looks at it.
                Some(Outcome::Refused(reason) | Outcome::FailedAtMessage(reason)) => {
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
        let ended = removed.len() + refused.len();
        self.letters_alone = self.letters_alone.saturating_sub(ended);
        // Behind the others, which may be taken.
        self.again.extend(left);
        if is_empty && error.is_none() {
            error = Some("the sink returned no outcome".to_owned());
        }
        match error {
            Some(error) => {
                self.counts.failed_attempts += 1;
                self.fail(What::Letters, error);
                self.pause_sink(after);
            }
            None => self.succeed(What::Letters),
        }
        if delivered > 0 {
            self.delivered_ms = Some(now_ms);
        }
        // A letter that is delivered and not removed is there still: it may be sent twice.
        match self.tidy_letters(removed, refused).await {
            Ok(()) => self.store_works(),
            Err(why) => {
                let error = format!("the dead-letter store cannot be written: {why}");
                self.fail(What::Store, error);
            }
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

    /// Pauses when all that waited when the drain began is delivered.
    pub(super) async fn drain_if_due(&mut self) {
        let Mode::Draining { until_ms, look_at } = self.mode else {
            return;
        };
        let (Attachment::Attached(lanes), Some(tenant)) = (&self.attachment, self.tenant) else {
            return;
        };
        let now = Instant::now();
        if self.has_work_until(until_ms) || !self.refused.is_empty() || look_at > now {
            return;
        }
        // All messages in hand came later. So did all that wait in the lanes of these messages.
        let are_later = self.held.iter().map(|held| held.token.lane());
        let are_later: BTreeSet<&str> = are_later.filter_map(|at| lanes.client_id(at)).collect();
        let sessions = timeout(SAVED_WITHIN, self.host.sessions(tenant, &self.client_id)).await;
        let is_drained = sessions.ok().flatten().is_some_and(|sessions| {
            let has_more = |one: &PartSession| one.messages > 0;
            let mut left = sessions.iter().filter(|one| has_more(one));
            left.all(|one| are_later.contains(&*one.client_id))
        });
        self.mode = match is_drained {
            true => Mode::Paused,
            false => {
                let look_at = now + DRAIN_LOOKS_EVERY;
                Mode::Draining { until_ms, look_at }
            }
        };
    }

    /// A message in hand was received by then.
    fn has_work_until(&self, until_ms: u64) -> bool {
        let mut held = self.held.iter();
        held.any(|held| held.message.received_ms() <= until_ms)
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
        let (has_work, look) = match &self.mode {
            Mode::Running => (!self.held.is_empty(), None),
            Mode::Draining { until_ms, look_at } => {
                let has_work = self.has_work_until(*until_ms);
                let looks = !has_work && self.refused.is_empty() && is_attached;
                (has_work, looks.then_some(*look_at))
            }
            Mode::Paused | Mode::Stopped { .. } => (false, None),
        };
        let now = Instant::now();
        let due = |retry: &Retry| retry.at.unwrap_or(now);
        let all = [
            is_detached.then(|| due(&self.to_node)),
            has_work.then(|| due(&self.to_sink)),
            (!self.again.is_empty()).then(|| self.letters_due(now)),
            (!self.refused.is_empty()).then(|| due(&self.to_store)),
            (is_attached && self.has_team()).then_some(self.look_at_tenant),
            look,
        ];
        all.into_iter().flatten().min()
    }

    fn retry(&mut self, what: What) -> &mut Retry {
        match what {
            What::Sink => &mut self.to_sink,
            What::Letters => &mut self.to_letters,
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
        let held = self.held.iter().map(|held| held.message.received_ms());
        let refused = self.refused.iter().map(|one| one.message.received_ms());
        let queued = self.queue.and_then(|queue| queue.oldest_wall_ms);
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
        state.oldest_received_ms = refused.chain(held).chain(queued).min();
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
    Letters,
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
