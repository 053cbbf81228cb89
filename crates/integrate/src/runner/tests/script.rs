//! A scripted node and sink, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use martlet_broker::{
    ConnectedClient, Delivery, MemoryGauge, Message, MessageId, PartEvent, PartLine, PartOutcome,
    PartOutlet, PartPublish, PartQueueState, PartRefusal, PartSpec, Publication, Settlement,
    ShardId, SharedClient, TenantId, lane_name,
};
use martlet_codec::{PacketId, QoS, ReasonCode};

use crate::dead_letters::{DeadLetter, DeadLetterStore, StoredLetter};
use crate::host::{Host, PartSession, SavedState};
use crate::host_future::HostFuture;
use crate::outcome::Outcome;
use crate::runner::caller::CallRuntime;
use crate::runner::{Handle, Runner, Settings, State};
use crate::sink::Sink;
use crate::sink_message::SinkMessage;

/// Behaviour of the sink at a call.
#[derive(Clone, Debug, Default)]
pub(super) enum Step {
    /// Accepts all messages.
    #[default]
    Done,
    /// Accepts this number of messages and fails at the next.
    FailAfter(usize),
    /// Refuses the messages of these numbers, and accepts the others.
    Refuse(Vec<u64>),
    /// Never returns.
    Hang,
    /// Panics if the message of this number is in the batch, else accepts all.
    PanicAt(u64),
    /// Takes this long and accepts all.
    Slow(Duration),
    /// Blocks its thread for this long and accepts all.
    Block(Duration),
    /// Fails if the message of this number is in the batch, else accepts all.
    FailAt(u64),
    /// Fails with an error at the message of this number, and accepts those before it.
    ErrorAt(u64),
    /// Fails with an error at the message of this number, and tries none of its publisher after
    /// it. Accepts all others.
    FailAtOnly(u64),
    /// Fails with an error at each message.
    Error,
    /// Panics.
    Panic,
}

/// Messages of a call: number of each, and whether it was repeated.
pub(super) type Call = Vec<(u64, bool)>;

#[derive(Default)]
pub(super) struct World {
    /// Steps of the sink; when there are no more, the last is repeated.
    pub(super) script: VecDeque<Step>,
    pub(super) calls: Vec<Call>,
    pub(super) test_error: Option<String>,
    /// Attachments so far.
    pub(super) specs: Vec<PartSpec>,
    /// Client Identifiers of sessions that were attached to be emptied.
    pub(super) left_over: Vec<String>,
    /// Outlet of each lane.
    outlets: Vec<Box<dyn PartOutlet>>,
    pub(super) shards: u16,
    pub(super) is_attached: bool,
    /// Tokens in the order of settling, with outcomes.
    pub(super) settled: Vec<(u16, PartOutcome)>,
    /// The last credit that a lane received.
    pub(super) credit: Option<u16>,
    pub(super) letters: BTreeMap<u64, DeadLetter>,
    next_letter: u64,
    pub(super) store_error: Option<String>,
    pub(super) saved: SavedState,
    /// Messages in the sessions of the lanes; lanes beyond the list have none.
    pub(super) waiting: Vec<u64>,
    pub(super) team: Option<TenantId>,
    pub(super) now_ms: u64,
    pub(super) granted: Vec<ReasonCode>,
}

impl World {
    /// Attachments of all lanes so far.
    fn attachments(&self) -> usize {
        self.specs.len().div_ceil(usize::from(self.shards))
    }
}

/// A handle to the world of a test.
#[derive(Clone)]
pub(super) struct Scripted(Arc<Mutex<World>>);

/// The line of the runner to its attachment.
struct Line(Scripted, usize);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Scripted {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let world = World {
            script: steps.into_iter().collect(),
            team: Some(TenantId(3)),
            now_ms: 1_000_000,
            credit: None,
            granted: vec![ReasonCode::GrantedQoS1],
            shards: 1,
            ..World::default()
        };
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Starts a runner and waits until it is attached.
    pub(super) async fn start(&self, settings: Settings) -> Handle {
        let handle = self.start_only(settings);
        self.until(|world| world.is_attached).await;
        handle
    }

    pub(super) fn start_only(&self, settings: Settings) -> Handle {
        let place = CallRuntime::Here(tokio::runtime::Handle::current());
        self.start_at(settings, place)
    }

    pub(super) fn start_at(&self, settings: Settings, place: CallRuntime) -> Handle {
        let (node, host) = (self.clone(), Arc::new(self.clone()));
        Runner::start_at(settings, move || ScriptedSink(node.clone()), host, place)
    }

    /// The node hands over messages with these numbers, which are also their tokens.
    pub(super) fn hand_over(&self, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.hand_over_at(number, false, 999_000);
        }
    }

    pub(super) fn hand_over_at(&self, number: u16, dup: bool, received_ms: u64) {
        self.hand_over_by(0, number, dup, received_ms);
    }

    pub(super) fn hand_over_by(&self, lane: usize, number: u16, dup: bool, received_ms: u64) {
        self.deliver(lane, number, dup, message(u64::from(number), received_ms));
    }

    /// The node hands over a message of this publisher.
    pub(super) fn hand_over_of(&self, lane: usize, number: u16, client_id: &str) {
        self.hand_over_by_user(lane, number, client_id, None, "plant/1");
    }

    /// The node hands over a message of this client and this user, which it has checked, on a
    /// topic.
    pub(super) fn hand_over_by_user(
        &self,
        lane: usize,
        number: u16,
        client_id: &str,
        user: Option<&str>,
        topic: &str,
    ) {
        let mut publisher = ConnectedClient::new(client_id, user);
        publisher.flags.set_user_is_proved(user.is_some());
        let publisher = Some(SharedClient::new(publisher));
        let message = message_of(u64::from(number), 999_000, publisher, topic);
        self.deliver(lane, number, false, message);
    }

    fn deliver(&self, lane: usize, number: u16, dup: bool, message: Message) {
        let delivery = Delivery {
            token: PacketId::new(number).unwrap(),
            age_ms: 1_000_000_u64.saturating_sub(message.received_wall_ms()),
            message,
            retained: false,
            dup,
            subscription_ids: (&[] as &[u32]).into(),
        };
        let mut world = self.world();
        let outlet = world.outlets.get_mut(lane).expect("it is attached");
        outlet.notify(PartEvent::Delivery(delivery));
    }

    /// The node reports the number of messages in the queue.
    pub(super) fn tell_queue(&self, messages: u64, oldest_wall_ms: Option<u64>) {
        let state = PartQueueState {
            messages,
            oldest_wall_ms,
            ..PartQueueState::default()
        };
        let mut world = self.world();
        let outlet = world.outlets.first_mut().expect("it is attached");
        outlet.notify(PartEvent::Queue(state));
    }

    /// The node ends the part.
    pub(super) fn end_part(&self) {
        let mut world = self.world();
        world.is_attached = false;
        for mut outlet in std::mem::take(&mut world.outlets) {
            outlet.notify(PartEvent::Ended {
                reason: ReasonCode::SessionTakenOver,
                why: "another took it over",
            });
        }
    }

    /// Waits in virtual time until the condition holds, for an hour at most.
    pub(super) async fn until(&self, is_so: impl Fn(&World) -> bool) {
        let waiting = async {
            while !is_so(&self.world()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(3_600), waiting).await;
        let world = self.world();
        assert!(waited.is_ok(), "{:?} {:?}", world.calls, world.settled);
    }

    /// Tokens in the order in which they were settled as done.
    pub(super) fn done(&self) -> Vec<u16> {
        let world = self.world();
        let done = world.settled.iter();
        let done = done.filter(|(_, outcome)| *outcome == PartOutcome::Done);
        done.map(|(token, _)| *token).collect()
    }

    pub(super) fn refused(&self) -> Vec<u16> {
        let world = self.world();
        let refused = world.settled.iter();
        let refused = refused.filter(|(_, outcome)| matches!(outcome, PartOutcome::Refused(_)));
        refused.map(|(token, _)| *token).collect()
    }

    /// Reasons of refusals, in the order of settling.
    pub(super) fn refusals(&self) -> Vec<PartRefusal> {
        let world = self.world();
        let all = world
            .settled
            .iter()
            .filter_map(|(_, outcome)| match outcome {
                PartOutcome::Refused(why) => Some(*why),
                _ => None,
            });
        all.collect()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }
}

/// Waits in virtual time until the state matches, for an hour at most.
pub(super) async fn state_until(handle: &Handle, is_so: impl Fn(&State) -> bool) -> State {
    let waiting = async {
        while !is_so(&handle.state()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(3_600), waiting).await;
    assert!(waited.is_ok(), "{:?}", handle.state());
    handle.state()
}

fn message(number: u64, received_ms: u64) -> Message {
    message_of(number, received_ms, None, "plant/1")
}

fn message_of(
    number: u64,
    received_ms: u64,
    publisher: Option<SharedClient>,
    topic: &str,
) -> Message {
    let publication = Publication {
        id: MessageId::new(ShardId(0), number),
        tenant: TenantId(3),
        publisher: None,
        topic,
        forwarded: &[],
        payload: b"21.5",
        qos: QoS::AtLeastOnce,
        retain: false,
        received_wall_ms: received_ms,
        expires_at_ms: u64::MAX,
        received_mono_ms: 0,
        hops: 0,
        is_will: false,
    };
    let gauge = Arc::<MemoryGauge>::default();
    Message::new(&publication, publisher, &mut Vec::new(), &gauge)
}

struct ScriptedSink(Scripted);

impl Sink for ScriptedSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let numbers: Vec<u64> = batch.iter().map(SinkMessage::id).collect();
        let step = {
            let mut world = self.0.world();
            let call = batch.iter().map(|one| (one.id(), one.repeated()));
            world.calls.push(call.collect());
            match world.script.len() {
                0 => Step::Done,
                1 => world.script[0].clone(),
                _ => world.script.pop_front().unwrap_or_default(),
            }
        };
        let all_done = vec![Outcome::Done; batch.len()];
        match step {
            Step::Done => all_done,
            Step::FailAfter(done) => {
                let mut outcomes = vec![Outcome::Done; done.min(batch.len())];
                if done < batch.len() {
                    outcomes.push(Outcome::Failed("no route".to_owned()));
                }
                outcomes
            }
            Step::Refuse(refused) => {
                let outcomes = numbers.iter().map(|number| match refused.contains(number) {
                    true => Outcome::Refused("too large".to_owned()),
                    false => Outcome::Done,
                });
                outcomes.collect()
            }
            Step::Hang => pending().await,
            Step::PanicAt(number) => {
                assert!(!numbers.contains(&number), "at {number}");
                all_done
            }
            Step::Slow(time) => {
                tokio::time::sleep(time).await;
                all_done
            }
            Step::Block(time) => {
                std::thread::sleep(time);
                all_done
            }
            Step::FailAt(number) if numbers.contains(&number) => {
                vec![Outcome::Failed("no route".to_owned())]
            }
            Step::FailAt(_) => all_done,
            Step::ErrorAt(number) => {
                let is_before = |one: &&u64| **one != number;
                let before = numbers.iter().take_while(is_before).count();
                let mut outcomes = vec![Outcome::Done; before];
                if before < batch.len() {
                    outcomes.push(Outcome::FailedAtMessage("status 500".to_owned()));
                }
                outcomes
            }
            Step::FailAtOnly(number) => {
                let failing = batch.iter().find(|one| one.id() == number);
                let key = failing.map(SinkMessage::order_key);
                let outcomes = batch.iter().map(|one| match one.id() {
                    id if id == number => Outcome::FailedAtMessage("status 500".to_owned()),
                    _ if Some(one.order_key()) == key => Outcome::NotTried,
                    _ => Outcome::Done,
                });
                outcomes.collect()
            }
            Step::Error => vec![Outcome::FailedAtMessage("status 500".to_owned())],
            Step::Panic => panic!("whatever comes"),
        }
    }

    async fn test(&mut self) -> Result<(), String> {
        match self.0.world().test_error.clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl PartLine for Line {
    fn settle(&self, settlements: Vec<Settlement>) {
        let mut world = self.0.world();
        if world.attachments() != self.1 || !world.is_attached {
            return;
        }
        for settlement in settlements {
            let token = settlement.token.get();
            world.settled.push((token, settlement.outcome));
        }
    }

    fn set_credit(&self, credit: u16) {
        self.0.world().credit = Some(credit);
    }

    fn set_queue_bytes(&self, _: u64) {}

    fn publish(&self, _: PartPublish) {}

    fn end(&self) {}
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Ok(mut world) = self.0.0.lock()
            && world.attachments() == self.1
        {
            world.is_attached = false;
            world.outlets.clear();
        }
    }
}

impl Host for Scripted {
    fn attach(&self, spec: PartSpec, mut outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        let mut world = self.world();
        let granted = world.granted.clone();
        outlet.notify(PartEvent::Attached {
            session_present: !world.specs.is_empty(),
            granted,
        });
        outlet.notify(PartEvent::Run {
            oldest: 1,
            is_present: true,
        });
        if spec.subscriptions.is_empty() {
            // An empty session that an earlier attachment has left.
            world.left_over.push(spec.client_id.to_string());
            return Box::new(Line(self.clone(), usize::MAX));
        }
        if world.outlets.len() == usize::from(world.shards) {
            world.outlets.clear();
        }
        world.outlets.push(outlet);
        world.is_attached = true;
        world.specs.push(spec);
        Box::new(Line(self.clone(), world.attachments()))
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        match name {
            "" => Some(TenantId(0)),
            _ => self.world().team,
        }
    }

    fn team_of(&self, _: TenantId) -> Option<Arc<str>> {
        None
    }

    fn shards(&self) -> u16 {
        self.world().shards
    }

    fn sessions<'a>(
        &'a self,
        _: TenantId,
        part: &'a str,
    ) -> HostFuture<'a, Option<Vec<PartSession>>> {
        Box::pin(async move {
            let world = self.world();
            let lanes = (0..world.shards).map(|lane| PartSession {
                client_id: lane_name(part, lane),
                messages: *world.waiting.get(usize::from(lane)).unwrap_or(&0),
            });
            Some(lanes.collect())
        })
    }

    fn saved_state<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> HostFuture<'a, Result<SavedState, String>> {
        Box::pin(async { Ok(self.world().saved.clone()) })
    }

    fn save_state<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        state: SavedState,
    ) -> HostFuture<'a, Result<(), String>> {
        Box::pin(async {
            let mut world = self.world();
            match &world.store_error {
                Some(error) => Err(error.clone()),
                None => {
                    world.saved = state;
                    Ok(())
                }
            }
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetterStore {
        self
    }

    fn random(&self) -> u64 {
        999
    }

    fn now_ms(&self) -> u64 {
        self.world().now_ms
    }
}

impl DeadLetterStore for Scripted {
    fn put(&self, letters: Vec<DeadLetter>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async {
            let mut world = self.world();
            if let Some(error) = &world.store_error {
                return Err(error.clone());
            }
            for mut letter in letters {
                let is_it = |known: &&DeadLetter| known.head.message_id == letter.head.message_id;
                let known = world
                    .letters
                    .values()
                    .find(is_it)
                    .map(|known| known.head.id);
                letter.head.id = known.unwrap_or(world.next_letter + 1);
                world.next_letter = world.next_letter.max(letter.head.id);
                world.letters.insert(letter.head.id, letter);
            }
            Ok(0)
        })
    }

    fn get(&self, id: u64) -> HostFuture<'_, Result<Option<StoredLetter>, String>> {
        let found = self.world().letters.get(&id).cloned();
        let found = found.map(|letter| StoredLetter::Whole(Box::new(letter)));
        Box::pin(async move { Ok(found) })
    }

    fn note_damaged(&self, _: u64, _: String) -> HostFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, ids: Vec<u64>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let mut world = self.world();
            let removed = ids.iter().filter(|id| world.letters.remove(id).is_some());
            Ok(removed.count() as u64)
        })
    }
}
