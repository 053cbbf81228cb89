//! Messages for more receivers than one turn can serve.
//!
//! A message whose topic matches few subscriptions is routed at once. One that matches more than
//! [`WorkLimits::matches`](crate::WorkLimits) is *fanned out*: its receivers are gathered and
//! served over several turns, in shares, while other clients go on. Its publisher waits meanwhile:
//! of one publisher a message is routed here only when the one before it has reached everybody, so
//! that the order of its messages is kept [MQTT-4.6.0-6]. A publisher of another shard is told to
//! wait.
//!
//! Between two turns anything may happen to the receivers. The walk over the topic index goes on at
//! a filter, not at a place in memory; of what was gathered before a subscription changed, each
//! is looked up again before it is served.

use core::hash::BuildHasher;
use core::ops::ControlFlow;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::effect::ShardMessage;
use crate::fault::{self, Fault};
use crate::id::{SessionAddress, SessionEpoch, SessionId, ShardId};
use crate::interest::EpochKey;
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::permission::Actions;
use crate::routing::{Match, Routing, Target};
use crate::shard::Shard;
use crate::topic_tree::NodeKey;
use crate::work::{FAN_OUTS, NODE};

/// A message on its way to this shard's receivers.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    /// It has a record, so entries of it have too.
    pub(crate) recorded: bool,
    /// Sessions and share groups that had it before a restart.
    pub(crate) had: Box<[SessionEpoch]>,
    /// The shard that waits to hear that all entries are recorded; may be this one.
    pub(crate) answer_to: Option<ShardId>,
}

/// All messages that are being fanned out.
#[derive(Debug, Default)]
pub(crate) struct FanOuts {
    /// The first few take turns, the others wait.
    queue: VecDeque<FanOut>,
    /// Publishers of the messages in it, each with its messages that came later.
    behind: BTreeMap<SessionAddress, VecDeque<Delivery>>,
    /// Publishers of this shard that wait, and for how many shards.
    held: BTreeMap<SessionId, u32>,
}

/// Messages that are fanned out at the same time; each takes memory for its receivers.
const AT_ONCE: usize = 8;

/// One publisher's messages.
#[derive(Debug)]
struct FanOut {
    publisher: Option<SessionAddress>,
    current: Delivery,
    receivers: Receivers,
    /// Receivers of the message so far, if it asks for receipts.
    receipts: u64,
}

/// The receivers of a message.
#[derive(Debug, Default)]
struct Receivers {
    stage: Stage,
    found: Vec<Found>,
    /// The first of each session's subscriptions among `found`.
    firsts: HashTable<u32>,
    /// The sum of epochs of the topic when gathering began.
    epoch: u64,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    New,
    /// Walking over the topic index: where it goes on, and how many of the subscribers there are
    /// still to be gathered, if it stopped among them.
    Gathering(String, Option<usize>),
    /// The next one to be served.
    Serving(usize),
}

/// A subscription of a session that matched.
#[derive(Clone, Copy, Debug)]
struct Found {
    matched: Match,
    /// Of its session.
    generation: u32,
    node: NodeKey,
    number: u32,
    /// The next one of the same session among those that were found.
    next: u32,
    /// The first one of its session: all of them are served with it.
    is_first: bool,
}

const NONE: u32 = u32::MAX;

impl FanOuts {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Some publisher of this shard waits.
    #[inline]
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn holds(&self, publisher: SessionId) -> bool {
        self.held.contains_key(&publisher)
    }

    /// Bytes of memory that it takes beside the messages.
    pub(crate) fn bytes(&self) -> usize {
        let active = self.queue.iter().take(AT_ONCE);
        let receivers: usize = active.map(|fan_out| fan_out.receivers.bytes()).sum();
        receivers + self.queue.len() * size_of::<FanOut>()
    }

    /// A message of this publisher is being fanned out.
    fn has(&self, publisher: Option<SessionAddress>) -> bool {
        publisher.is_some_and(|publisher| self.behind.contains_key(&publisher))
    }

    /// The next message of this publisher; none: the one that has been fanned out was the last.
    fn next_of(&mut self, publisher: Option<SessionAddress>) -> Option<Delivery> {
        let publisher = publisher?;
        let next = self.behind.get_mut(&publisher)?.pop_front();
        if next.is_none() {
            self.behind.remove(&publisher);
        }
        next
    }
}

impl Receivers {
    fn bytes(&self) -> usize {
        self.found.capacity() * size_of::<Found>() + self.firsts.capacity() * size_of::<u32>()
    }

    /// Notes a subscription; all of one session are served together.
    fn note(&mut self, seed: &crate::hash::Seed, mut found: Found) {
        let place = self.found.len() as u32;
        let target = found.matched.target;
        let all = &self.found;
        let hash = seed.hash_one(target.index());
        let is_same = |&first: &u32| all[first as usize].matched.target == target;
        if let Some(&first) = self.firsts.find(hash, is_same) {
            let latest = self.found[first as usize].next;
            let latest = self.found.get(latest as usize);
            if latest.unwrap_or(&self.found[first as usize]).node == found.node {
                // It has come to another place among the subscribers meanwhile.
                return;
            }
            found.is_first = false;
            found.next = core::mem::replace(&mut self.found[first as usize].next, place);
            self.found.push(found);
            return;
        }
        self.found.push(found);
        let all = &self.found;
        let hash_of = |&place: &u32| seed.hash_one(all[place as usize].matched.target.index());
        self.firsts.insert_unique(hash, place, hash_of);
    }
}

impl Shard {
    /// A message of this publisher is being fanned out: the next one comes behind it.
    #[cold]
    pub(crate) fn is_fanning_out_of(&mut self, publisher: Option<SessionAddress>) -> bool {
        self.fan_outs.has(publisher)
    }

    /// Fans a message out, behind those of the same publisher.
    pub(crate) fn fan_out<N: Node>(&mut self, cx: &mut Cx<'_, N>, delivery: Delivery) {
        let publisher = delivery.message.publication().publisher;
        if let Some(publisher) = publisher {
            if let Some(behind) = self.fan_outs.behind.get_mut(&publisher) {
                behind.push_back(delivery);
                return;
            }
            self.fan_outs.behind.insert(publisher, VecDeque::new());
        }
        self.fan_outs.queue.push_back(FanOut {
            publisher,
            current: delivery,
            receivers: Receivers::default(),
            receipts: 0,
        });
        self.hold_publisher(cx, publisher, true);
    }

    /// Continues the messages that are being fanned out, up to their part of this turn.
    pub(crate) fn go_on_fanning_out<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..AT_ONCE.min(self.fan_outs.queue.len()) {
            if self.work.is_past(FAN_OUTS) {
                return;
            }
            let Some(mut fan_out) = self.fan_outs.queue.pop_front() else {
                return;
            };
            cx.effects.is_fanning_out = true;
            let receipts = self.receipts.receivers();
            let is_done = self.serve_share(cx, &mut fan_out);
            fan_out.receipts += self.receipts.receivers() - receipts;
            cx.effects.is_fanning_out = false;
            self.settle(cx);
            if is_done {
                self.is_routed_here(cx, &fan_out.current);
                if fan_out.current.message.id().asks_for_receipts() {
                    let message = fan_out.current.message.publication();
                    self.tell_receivers(cx, &message, fan_out.receipts);
                }
                let Some(next) = self.fan_outs.next_of(fan_out.publisher) else {
                    self.hold_publisher(cx, fan_out.publisher, false);
                    continue;
                };
                fan_out.current = next;
                fan_out.receivers = Receivers::default();
                fan_out.receipts = 0;
            }
            let last = self.fan_outs.queue.len().min(AT_ONCE - 1);
            self.fan_outs.queue.insert(last, fan_out);
        }
    }

    /// All receivers of this shard have the message.
    fn is_routed_here<N: Node>(&mut self, cx: &mut Cx<'_, N>, delivery: &Delivery) {
        let id = delivery.message.id();
        match delivery.answer_to {
            Some(shard) if shard == self.id => self.routed_answer_received(cx, id),
            Some(shard) => {
                cx.effects.batches[usize::from(shard.0)].push(ShardMessage::Routed(id));
            }
            None => {}
        }
    }

    /// A publisher waits, or need not any more.
    fn hold_publisher<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publisher: Option<SessionAddress>,
        on: bool,
    ) {
        let Some(publisher) = publisher else {
            return;
        };
        if publisher.shard == self.id {
            return self.publisher_held(publisher.session, on);
        }
        if let Some(batch) = cx.effects.batches.get_mut(usize::from(publisher.shard.0)) {
            let session = publisher.session;
            batch.push(ShardMessage::HoldPublisher { session, on });
        }
    }

    /// A message of one of our clients is being fanned out on some shard, or that is over.
    pub(crate) fn publisher_held(&mut self, session: SessionId, on: bool) {
        let held = &mut self.fan_outs.held;
        if on {
            *held.entry(session).or_default() += 1;
            return;
        }
        let Some(shards) = held.get_mut(&session) else {
            return;
        };
        *shards -= 1;
        if *shards > 0 {
            return;
        }
        held.remove(&session);
        let index = self.live_session(session);
        let connection = index.and_then(|index| self.sessions.at(index).connection());
        if let Some(connection) = connection {
            self.queue_input(connection);
        }
    }

    /// Gathers and serves receivers until a share of the turn is used up; true: all have it.
    fn serve_share<N: Node>(&mut self, cx: &mut Cx<'_, N>, fan_out: &mut FanOut) -> bool {
        self.work.begin_share(self.settings.work.share);
        let FanOut {
            current, receivers, ..
        } = fan_out;
        while !matches!(receivers.stage, Stage::Serving(_)) {
            if self.work.is_share_over() {
                return false;
            }
            self.gather_some(cx, current, receivers);
        }
        let publication = current.message.publication();
        let mut routing = self.begin_routing(publication, Some(current.message.clone()));
        routing.recorded = current.recorded;
        routing.had = &current.had;
        let is_done = self.serve_some(cx, receivers, &mut routing);
        self.end_routing(routing);
        is_done
    }

    /// Goes on walking over the topic index.
    fn gather_some<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        delivery: &Delivery,
        receivers: &mut Receivers,
    ) {
        let message = &delivery.message;
        let (tenant, topic) = (message.tenant(), message.topic());
        let (from, among) = match core::mem::take(&mut receivers.stage) {
            Stage::Gathering(from, among) => (Some(from), among),
            Stage::New => {
                receivers.epoch = self.epochs.at(EpochKey::of(tenant, topic));
                (None, None)
            }
            Stage::Serving(_) => return,
        };
        let mut groups: SmallVec<[u32; 4]> = SmallVec::new();
        let limit = self.settings.work.matches.max(1);
        let (mut left, mut looked_at) = (limit, 0);
        // Subscribers of the filter that comes first; those behind them have been gathered.
        let mut among = among;
        let mut stopped_among = None;
        let (tree, sessions, seed) = (&self.tree, &self.sessions, &self.seed);
        let walked = tree.matches_from(tenant, topic, from.as_deref(), limit, |node, there| {
            let list = there.list();
            let list = match among.take() {
                // If the filter was removed meanwhile, the walk is at the one after it.
                Some(count) if Some(&tree.filter(node).1) == from.as_ref() => {
                    &list[..count.min(list.len())]
                }
                _ => list,
            };
            if left == 0 {
                return ControlFlow::Break(());
            }
            // From the end: who comes meanwhile is behind those, who takes the place of one that
            // goes comes from there.
            let begin = list.len().saturating_sub(left);
            for subscriber in &list[begin..] {
                looked_at += 1;
                let target = subscriber.target;
                if let Some(group) = target.as_group() {
                    groups.push(group);
                } else if let Some(session) = target.as_session()
                    && let Some(session) = sessions.look_at(session)
                {
                    let found = Found {
                        matched: subscriber.as_match(),
                        generation: session.generation,
                        node,
                        number: subscriber.number,
                        next: NONE,
                        is_first: true,
                    };
                    receivers.note(seed, found);
                }
            }
            left -= list.len() - begin;
            match begin {
                0 => ControlFlow::Continue(()),
                _ => {
                    stopped_among = Some(begin);
                    ControlFlow::Break(())
                }
            }
        });
        receivers.stage = match walked.next {
            Some(next) => Stage::Gathering(next, stopped_among),
            None => Stage::Serving(0),
        };
        self.work.add((walked.steps as u64 + looked_at) * NODE);
        if groups.is_empty() {
            return;
        }
        let mut routing = self.begin_routing(message.publication(), Some(message.clone()));
        routing.recorded = delivery.recorded;
        routing.had = &delivery.had;
        for group in groups {
            // It has one subscription here, so nothing is to be put together.
            self.serve(cx, Target::group(group), &[], &mut routing);
        }
        self.end_routing(routing);
    }

    /// Serves receivers that have been gathered; true: there are no more.
    fn serve_some<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        receivers: &mut Receivers,
        routing: &mut Routing<'_>,
    ) -> bool {
        let Stage::Serving(mut place) = receivers.stage else {
            return false;
        };
        let key = EpochKey::of(routing.publication.tenant, routing.publication.topic);
        let is_changed = self.epochs.at(key) != receivers.epoch;
        let mut matches: SmallVec<[Match; 4]> = SmallVec::new();
        while let Some(&first) = receivers.found.get(place) {
            if self.work.is_share_over() {
                receivers.stage = Stage::Serving(place);
                return false;
            }
            place += 1;
            self.work.add(NODE);
            let Some(session) = first.matched.target.as_session() else {
                continue;
            };
            if !first.is_first || !self.is_still(session, first.generation) {
                continue;
            }
            matches.clear();
            let mut of_session = Some(&first);
            while let Some(found) = of_session {
                if !is_changed || self.still_subscribes(session, found) {
                    matches.push(found.matched);
                }
                of_session = receivers.found.get(found.next as usize);
            }
            self.work.add(matches.len() as u64 * NODE);
            let topic = routing.publication.topic;
            if matches.is_empty()
                || self.has_restricted
                    && !self.permits(session, Actions::RECEIVE, topic)
                    && !fault::is(Fault::FannedOutUnchecked)
            {
                continue;
            }
            self.serve(cx, Target::session(session), &matches, routing);
        }
        true
    }

    fn is_still(&self, session: u32, generation: u32) -> bool {
        let index = session;
        self.sessions.get(SessionId { index, generation }).is_some()
    }

    /// The session still has the subscription that was found.
    fn still_subscribes(&mut self, session: u32, found: &Found) -> bool {
        let slot = self.sessions.at(session).subscriptions.slot(found.node);
        let there = self.tree.get(found.node);
        let subscriber = slot.zip(there).and_then(|(slot, there)| {
            let list = there.list();
            list.get(slot as usize)
        });
        subscriber.is_some_and(|subscriber| subscriber.number == found.number)
    }
}
