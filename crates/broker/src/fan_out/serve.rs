//! Messages that are being fanned out: their receivers are gathered and served, over turns.

use core::ops::ControlFlow;

use martlet_permission::Actions;
use smallvec::SmallVec;

use crate::effect::ShardMessage;
use crate::fan_out::under_way::{
    AT_ONCE, Delivery, FanOut, MatchedSubscription, NONE, Receivers, Stage,
};
use crate::fault::{self, Fault};
use crate::id::SessionId;
use crate::interest::EpochKey;
use crate::node::{Cx, Node};
use crate::routing::{Match, Routing, Target};
use crate::shard::Shard;
use crate::work::{FAN_OUTS, NEW_BYTES_PER_UNIT, NODE, RECEIVER};

impl Shard {
    /// Continues the messages that are being fanned out, up to their part of this turn.
    pub(crate) fn continue_fan_outs<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..AT_ONCE.min(self.router.fan_outs.queue.len()) {
            if self.work.is_past(FAN_OUTS) {
                return;
            }
            let Some(mut fan_out) = self.router.fan_outs.queue.pop_front() else {
                return;
            };
            cx.effects.is_fanning_out = true;
            let receipts = self.parts.receipts.receivers();
            let is_done = self.serve_share(cx, &mut fan_out);
            fan_out.receipts += self.parts.receipts.receivers() - receipts;
            cx.effects.is_fanning_out = false;
            self.settle(cx);
            if is_done {
                self.report_routed(cx, &fan_out.current);
                if fan_out.current.message.id().wants_receipts() {
                    let message = fan_out.current.message.publication();
                    self.report_receivers(cx, &message, fan_out.receipts);
                }
                let Some(next) = self.router.fan_outs.next_of(fan_out.publisher) else {
                    self.hold_publisher(cx, fan_out.publisher, false);
                    continue;
                };
                fan_out.current = next;
                fan_out.receivers = Receivers::default();
                fan_out.receipts = 0;
            }
            let last = self.router.fan_outs.queue.len().min(AT_ONCE - 1);
            self.router.fan_outs.queue.insert(last, fan_out);
        }
    }

    /// Answers, where an answer is expected, that all receivers of this shard have the message.
    fn report_routed<N: Node>(&mut self, cx: &mut Cx<'_, N>, delivery: &Delivery) {
        let id = delivery.message.id();
        match delivery.answer_to {
            Some(shard) if shard == self.id => self.routed_answer_received(cx, id),
            Some(shard) => {
                cx.effects.batches[usize::from(shard.0)].push(ShardMessage::Routed(id));
            }
            None => {}
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
        let mut routing = self
            .buffers
            .begin_routing(publication, Some(current.message.clone()));
        routing.recorded = current.recorded;
        routing.had = &current.had;
        let is_done = self.serve_some(cx, receivers, &mut routing);
        self.buffers.end_routing(routing);
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
                receivers.epoch = self.subscribers.epochs.at(EpochKey::of(tenant, topic));
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
        let (tree, sessions, seed) = (&self.subscribers.tree, &self.sessions, &self.seed);
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
            // From the end: new subscribers are behind those; one that takes the place of one that
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
                    let found = MatchedSubscription {
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
        self.work
            .add(walked.steps as u64 * NODE + looked_at * RECEIVER);
        if groups.is_empty() {
            return;
        }
        let mut routing = self
            .buffers
            .begin_routing(message.publication(), Some(message.clone()));
        routing.recorded = delivery.recorded;
        routing.had = &delivery.had;
        for group in groups {
            // It has one subscription here, so nothing is to be put together.
            self.serve(cx, Target::group(group), &[], &mut routing);
        }
        self.buffers.end_routing(routing);
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
        let is_changed = self.subscribers.epochs.at(key) != receivers.epoch;
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
                || self.permits.is_checked()
                    && !self.permits(session, Actions::RECEIVE, topic)
                    && !fault::is(Fault::FannedOutUnchecked)
            {
                continue;
            }
            let before = self.memory.gauge.bytes();
            self.serve(cx, Target::session(session), &matches, routing);
            // For each of many sessions in turn, what keeps the message may have to grow.
            let grown = self.memory.gauge.bytes().saturating_sub(before);
            self.work.add((grown / NEW_BYTES_PER_UNIT) as u64);
        }
        true
    }

    fn is_still(&self, session: u32, generation: u32) -> bool {
        let index = session;
        self.sessions.get(SessionId { index, generation }).is_some()
    }

    /// The session still has the subscription that was found.
    fn still_subscribes(&mut self, session: u32, found: &MatchedSubscription) -> bool {
        let slot = self.sessions.at(session).subscriptions.slot(found.node);
        let there = self.subscribers.tree.get(found.node);
        let subscriber = slot.zip(there).and_then(|(slot, there)| {
            let list = there.list();
            list.get(slot as usize)
        });
        subscriber.is_some_and(|subscriber| subscriber.number == found.number)
    }
}
