//! The runner's view of the node, the tables and the time, in virtual time. The tables survive the
//! node; data in transit does not.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use martlet_broker::{
    ClientPage, MessageId, PartCall, PartEvent, PartId, PartLine, PartOutlet, PartPublish,
    PartSpec, Settlement, TenantId, lane_of,
};
use martlet_codec::PacketId;
use martlet_integrate::{
    ALL_TENANTS, Clock, DeadLetter, DeadLetterStore, Host, HostFuture, PartSession, SavedState,
    StoredLetter,
};

use super::{SinkFact, SinkPlan, attachment_of, team_of};
use crate::client::outbound::message_of;
use crate::facts::SinkIndex;
use crate::people::TENANTS;
use crate::random::Random;

/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// Everything that a runner can access, and its pending requests.
pub(super) struct Outside {
    pub(super) plan: SinkPlan,
    pub(super) random: Random,
    /// Virtual time, microseconds.
    pub(super) now_us: u64,
    pub(super) wall_ms: u64,
    /// When the runner must be called again.
    pub(super) wakes_us: u64,
    pub(super) shards: u16,
    attachments: u64,
    /// Outlets of the attached lanes, with their Client Identifiers.
    outlets: BTreeMap<PartId, (String, Box<dyn PartOutlet>)>,
    /// The message of each token.
    tokens: BTreeMap<(PartId, PacketId), MessageId>,
    /// Calls of the runner to the shards of its lanes.
    pub(super) calls: Vec<(String, PartCall)>,
    pub(super) facts: Vec<SinkFact>,
    /// Questions for all shards: how many messages wait in sessions of the lanes.
    pub(super) questions: Vec<u64>,
    last_question: u64,
    /// Answers per question: the number of missing answers, and the sessions so far.
    answers: BTreeMap<u64, (u16, Vec<PartSession>)>,
    /// The tables.
    pub(super) letters: BTreeMap<u64, DeadLetter>,
    last_letter: u64,
    saved: SavedState,
    /// Number of accepted messages reported by the target, in the current run of the node.
    pub(super) taken: u64,
    /// Whether disturbances are over.
    pub(super) is_well: bool,
}

/// The environment of one runner, shared with it.
#[derive(Clone)]
pub(super) struct Shared {
    index: SinkIndex,
    outside: Arc<Mutex<Outside>>,
}

impl Shared {
    pub(super) fn new(index: SinkIndex, plan: SinkPlan, random: Random) -> Self {
        let outside = Outside {
            plan,
            random,
            now_us: 0,
            wall_ms: 0,
            wakes_us: NEVER,
            shards: 0,
            attachments: 0,
            outlets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            calls: Vec::new(),
            facts: Vec::new(),
            questions: Vec::new(),
            last_question: 0,
            answers: BTreeMap::new(),
            letters: BTreeMap::new(),
            last_letter: 0,
            saved: SavedState::Running,
            taken: 0,
            is_well: false,
        };
        Self {
            index,
            outside: Arc::new(Mutex::new(outside)),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an event of the node to a lane.
    pub(super) fn tell(&self, id: PartId, event: PartEvent) {
        let mut outside = self.lock();
        if let PartEvent::Delivery(delivery) = &event {
            let message = delivery.message.id();
            outside.tokens.insert((id, delivery.token), message);
        }
        if let Some((_, outlet)) = outside.outlets.get_mut(&id) {
            outlet.notify(event);
        }
    }

    /// The attached lanes.
    pub(super) fn attached(&self) -> Vec<(String, PartId)> {
        let outside = self.lock();
        let lanes = outside.outlets.iter();
        lanes.map(|(id, (name, _))| (name.clone(), *id)).collect()
    }

    /// The node has ended, with all data in transit.
    pub(super) fn forget_node(&self) {
        let mut outside = self.lock();
        outside.outlets.clear();
        outside.tokens.clear();
        outside.calls.clear();
        outside.questions.clear();
        outside.answers.clear();
        outside.taken = 0;
    }

    /// Handles a shard's answer to a question about sessions.
    pub(super) fn answer(&self, question: u64, page: ClientPage) {
        let mut outside = self.lock();
        // The runner may have stopped waiting.
        if let Some((left, sessions)) = outside.answers.get_mut(&question) {
            *left -= 1;
            sessions.extend(page.clients.into_iter().map(|one| PartSession {
                client_id: one.client_id.to_string(),
                messages: (one.queued + one.in_flight) as u64,
            }));
        }
    }

    /// Waits for the time of an answer.
    async fn wait_for_answer(&self) {
        let at_us = {
            let mut outside = self.lock();
            let most_us = outside.plan.answer_us + 1;
            outside.now_us + outside.random.below(most_us)
        };
        self.until(at_us).await;
    }

    pub(super) fn until(&self, at_us: u64) -> Until {
        Until {
            shared: self.clone(),
            at_us,
        }
    }

    /// Requests the sessions of the lanes from all shards.
    fn ask_shards(&self) -> Answered {
        let mut outside = self.lock();
        outside.last_question += 1;
        let question = attachment_of(self.index, outside.last_question).0;
        let shards = outside.shards;
        outside.answers.insert(question, (shards, Vec::new()));
        outside.questions.push(question);
        Answered {
            shared: self.clone(),
            question,
        }
    }

    /// Whether this operation fails.
    fn fails(&self) -> bool {
        let mut outside = self.lock();
        let percent = outside.plan.tables_fail_percent;
        outside.random.percent(percent) && !outside.is_well
    }
}

/// Waits until a time.
pub(super) struct Until {
    shared: Shared,
    at_us: u64,
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut outside = self.shared.lock();
        if outside.now_us >= self.at_us {
            return Poll::Ready(());
        }
        outside.wakes_us = outside.wakes_us.min(self.at_us);
        Poll::Pending
    }
}

/// Waits until all shards have answered a question.
struct Answered {
    shared: Shared,
    question: u64,
}

impl Future for Answered {
    type Output = Vec<PartSession>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Vec<PartSession>> {
        let mut outside = self.shared.lock();
        let answer = outside.answers.get_mut(&self.question);
        match answer.filter(|(left, _)| *left == 0) {
            Some((_, sessions)) => Poll::Ready(core::mem::take(sessions)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.shared.lock().answers.remove(&self.question);
    }
}

impl Clock for Shared {
    fn now(&self) -> Duration {
        Duration::from_micros(self.lock().now_us)
    }

    fn sleep_until(&self, at: Duration) -> HostFuture<'_, ()> {
        let at_us = u64::try_from(at.as_nanos().div_ceil(1000)).unwrap_or(NEVER);
        Box::pin(self.until(at_us))
    }
}

/// The line of a runner to the shard of a lane.
struct Line {
    shared: Shared,
    client_id: String,
    id: PartId,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Line").field(&self.client_id).finish()
    }
}

impl Line {
    fn call(&self, call: PartCall) {
        let mut outside = self.shared.lock();
        outside.calls.push((self.client_id.clone(), call));
    }
}

impl PartLine for Line {
    fn settle(&self, settlements: Vec<Settlement>) {
        {
            let mut outside = self.shared.lock();
            for Settlement { token, outcome } in &settlements {
                if let Some(id) = outside.tokens.remove(&(self.id, *token)) {
                    let outcome = *outcome;
                    outside.facts.push(SinkFact::Settled { id, outcome });
                }
            }
        }
        self.call(PartCall::Settle(self.id, settlements));
    }

    fn set_credit(&self, credit: u16) {
        self.call(PartCall::Credit(self.id, credit));
    }

    fn set_queue_bytes(&self, bytes_max: u64) {
        self.call(PartCall::QueueBytes(self.id, bytes_max));
    }

    fn publish(&self, _: PartPublish) {}

    fn end(&self) {
        self.call(PartCall::End(self.id));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.lock().outlets.remove(&self.id);
        self.call(PartCall::Detach(self.id));
    }
}

impl Host for Shared {
    fn attach(&self, mut spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        let client_id = spec.client_id.to_string();
        let mut outside = self.lock();
        outside.attachments += 1;
        let id = attachment_of(self.index, outside.attachments);
        spec.id = id;
        outside.outlets.insert(id, (client_id.clone(), outlet));
        let attach = PartCall::Attach(Box::new(spec));
        outside.calls.push((client_id.clone(), attach));
        drop(outside);
        Box::new(Line {
            shared: self.clone(),
            client_id,
            id,
        })
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        match name {
            "" | ALL_TENANTS => Some(TenantId(0)),
            team => (1..TENANTS)
                .map(TenantId)
                .find(|tenant| team_of(*tenant).as_deref() == Some(team)),
        }
    }

    fn team_of(&self, tenant: TenantId) -> Option<Arc<str>> {
        team_of(tenant).map(Into::into)
    }

    fn shards(&self) -> u16 {
        self.lock().shards
    }

    fn sessions<'a>(
        &'a self,
        _: TenantId,
        part: &'a str,
    ) -> HostFuture<'a, Option<Vec<PartSession>>> {
        Box::pin(async move {
            self.wait_for_answer().await;
            if self.fails() {
                return None;
            }
            let mut sessions = self.ask_shards().await;
            let is_of = |one: &PartSession| lane_of(&one.client_id).is_some_and(|of| of.0 == part);
            sessions.retain(is_of);
            Some(sessions)
        })
    }

    fn saved_state<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> HostFuture<'a, Result<SavedState, String>> {
        Box::pin(async {
            self.wait_for_answer().await;
            match self.fails() {
                true => Err("no tables".to_owned()),
                false => Ok(self.lock().saved.clone()),
            }
        })
    }

    fn save_state<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        state: SavedState,
    ) -> HostFuture<'a, Result<(), String>> {
        Box::pin(async {
            self.wait_for_answer().await;
            if self.fails() {
                return Err("no tables".to_owned());
            }
            self.lock().saved = state;
            Ok(())
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetterStore {
        self
    }

    fn random(&self) -> u64 {
        self.lock().random.number()
    }

    fn now_ms(&self) -> u64 {
        self.lock().wall_ms
    }
}

impl DeadLetterStore for Shared {
    fn put(&self, letters: Vec<DeadLetter>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            self.wait_for_answer().await;
            if self.fails() {
                return Err("no tables".to_owned());
            }
            for letter in letters {
                self.lock().store(letter);
            }
            if self.fails() {
                // It is stored, but the answer is lost.
                pending::<()>().await;
            }
            Ok(0)
        })
    }

    fn get(&self, id: u64) -> HostFuture<'_, Result<Option<StoredLetter>, String>> {
        Box::pin(async move {
            self.wait_for_answer().await;
            match self.fails() {
                true => Err("no tables".to_owned()),
                false => {
                    let found = self.lock().letters.get(&id).cloned();
                    Ok(found.map(|letter| StoredLetter::Whole(Box::new(letter))))
                }
            }
        })
    }

    fn note_damaged(&self, _: u64, _: String) -> HostFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, ids: Vec<u64>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            self.wait_for_answer().await;
            if self.fails() {
                return Err("no tables".to_owned());
            }
            let mut outside = self.lock();
            let removed = ids.iter().filter_map(|id| outside.letters.remove(id));
            Ok(removed.count() as u64)
        })
    }
}

impl Outside {
    /// A message has only one letter, however often it is refused.
    fn store(&mut self, mut letter: DeadLetter) {
        let message = letter.head.message_id;
        let stored = SinkFact::Stored {
            id: MessageId(message),
            message: message_of(&letter.payload),
        };
        let mut letters = self.letters.values();
        let known = letters.find(|known| known.head.message_id == message);
        letter.head.id = known.map_or(self.last_letter + 1, |known| known.head.id);
        self.last_letter = self.last_letter.max(letter.head.id);
        self.letters.insert(letter.head.id, letter);
        self.facts.push(stored);
    }
}
