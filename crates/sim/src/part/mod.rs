//! A part of the node with a sink that settles late and in batches, refuses, postpones, hangs,
//! fails and loses its state. It reports each event and each answer to the observer.
//!
//! It uses only `PartCall` and `PartEvent` of the node.

mod fact;
mod plan;
mod publish;
mod row;
mod trouble;

pub use fact::{FilterSet, PartDelivery, PartFact};
pub use plan::{PartPlan, PartTrouble};
pub use row::PartRow;

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{
    Delivery, LaneOrder, PartCall, PartEvent, PartId, PartOutcome, PartReach, PartRefusal,
    PartSpec, PartSubscription, Settlement, TenantId, lane_name, lane_of, start_of,
};
use martlet_codec::{PacketId, ReasonCode};

use crate::agenda::{Due, SECOND};
use crate::client::outbound::message_of;
use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::random::Random;
use crate::store::Lsn;
use crate::world::Io;

/// A time that never comes.
const NEVER: u64 = u64::MAX;
/// Maximum latency of a call of a part to its shard, microseconds.
const CALL_US: u64 = 2_000;
/// Bits below this one are the number of the attachment, bits above it the part.
const PART_SHIFT: u32 = 32;
/// Position of the lane's number between them.
const LANE_SHIFT: u32 = 24;
/// In a token, bits from this one on are the number of the lane.
const TOKEN_SHIFT: u32 = 16;

/// The part of an attachment.
pub fn part_of(attachment: PartId) -> PartIndex {
    (attachment.0 >> PART_SHIFT) as PartIndex
}

fn lane_of_attachment(attachment: PartId) -> u16 {
    (attachment.0 >> LANE_SHIFT & 0xFF) as u16
}

/// The attachment with its lane removed.
fn without_lane(attachment: PartId) -> PartId {
    PartId(attachment.0 & !(0xFF << LANE_SHIFT))
}

/// A lane of the current attachment.
#[derive(Clone, Copy, Debug, Default)]
struct SimLane {
    /// Whether its shard does not exist any more: it is emptied and ends.
    is_left_over: bool,
    /// Set when it is attached: whether its session existed.
    attached: Option<bool>,
    /// Whether it was ended because it is empty.
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    /// The attachment was requested.
    Attaching,
    Attached,
}

/// A delivery that its sink has not settled.
#[derive(Clone, Copy, Debug)]
struct Answer {
    due_us: u64,
    lane: u16,
    token: PacketId,
    id: martlet_broker::MessageId,
    message: Option<MessageIndex>,
    outcome: PartOutcome,
}

/// A part.
#[derive(Debug)]
pub struct Part {
    index: PartIndex,
    plan: PartPlan,
    random: Random,
    /// Random numbers for its publishes, separate so that other draws do not change.
    of_publishes: Random,
    /// Random numbers for its requests of receipts.
    of_receipts: Random,
    /// Messages for which receipts were requested.
    requested: BTreeSet<MessageIndex>,
    /// Row among the publishers.
    client: ClientIndex,
    publish_at: u64,
    /// Number of messages it has published.
    published: u32,
    /// Whether its session has ended for good.
    has_quit: bool,
    phase: Phase,
    /// Number of attachments so far.
    attachments: u64,
    /// Whether troubles are over: it is attached and settles.
    settling: bool,
    attach_at: u64,
    trouble_at: u64,
    /// End of its current hang; 0: none.
    hangs_until: u64,
    wakes_at: u64,
    answers: Vec<Answer>,
    /// Answers of an abandoned attachment, to be sent too late.
    late: Vec<(PartId, Vec<Settlement>)>,
    /// Lanes, if it is attached by lanes.
    lanes: Vec<SimLane>,
    /// Maximum number of lanes so far.
    lanes_ever: u16,
    /// Deliveries of its lanes that it has not taken, and their number.
    order: LaneOrder<Delivery>,
    untaken: usize,
    /// The run of the node, after the first event of a lane of the current attachment; 0 before.
    run: u32,
}

impl Part {
    /// A part that is attached soon after the run begins.
    pub fn new(
        index: PartIndex,
        client: ClientIndex,
        plan: PartPlan,
        mut random: Random,
        mut of_publishes: Random,
        of_receipts: Random,
    ) -> Self {
        let publishing = plan.publishing.as_ref();
        let publish_at = publishing.map_or(NEVER, |plan| of_publishes.around(plan.every_us));
        let trouble_at = match plan.trouble_us {
            0 => NEVER,
            mean_us => random.around(mean_us),
        };
        Self {
            index,
            client,
            publish_at,
            published: 0,
            has_quit: false,
            of_publishes,
            of_receipts,
            requested: BTreeSet::new(),
            plan,
            phase: Phase::Away,
            attachments: 0,
            settling: false,
            attach_at: random.below(2 * SECOND),
            trouble_at,
            hangs_until: 0,
            wakes_at: NEVER,
            answers: Vec::new(),
            late: Vec::new(),
            lanes: Vec::new(),
            lanes_ever: 0,
            order: LaneOrder::new(0),
            untaken: 0,
            run: 0,
            random,
        }
    }

    /// Whether it is attached and has settled all deliveries.
    pub fn is_settled(&self) -> bool {
        let has_nothing = self.answers.is_empty() && self.untaken == 0;
        self.has_quit || self.phase == Phase::Attached && has_nothing
    }

    /// Why it is not settled, as text.
    pub fn state(&self) -> String {
        let (name, phase, due) = (&self.plan.name, self.phase, self.answers.len());
        let (lanes, untaken) = (&self.lanes, self.untaken);
        format!("{name}: {phase:?}, {due} answers due, {untaken} wait in {lanes:?}")
    }

    /// Starts it.
    pub fn start(&mut self, io: &mut Io<'_>) {
        self.reschedule(io);
    }

    /// Handles a due time, unless the agenda's entry is outdated.
    pub fn wake(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        if now_us < self.wakes_at {
            return;
        }
        self.wakes_at = NEVER;
        if self.phase == Phase::Away && self.attach_at <= now_us {
            self.attach(io);
        }
        if self.hangs_until > 0 && self.hangs_until <= now_us {
            self.hangs_until = 0;
            self.fact(io, PartFact::Hangs(false));
        }
        if self.trouble_at <= now_us {
            self.trouble_at = now_us + self.random.around(self.plan.trouble_us);
            self.get_into_trouble(io);
        }
        if self.publish_at <= now_us {
            self.publish_some(io);
        }
        self.settle_due(io);
        self.reschedule(io);
    }

    /// Disturbances are over: it attaches and settles everything.
    pub fn settle(&mut self, io: &mut Io<'_>) {
        self.settling = true;
        self.publish_at = NEVER;
        if self.plan.quits && self.phase == Phase::Attached {
            self.has_quit = true;
            return self.leave(io);
        }
        self.trouble_at = NEVER;
        self.hangs_until = 0;
        self.plan.settle_us = 0;
        for answer in &mut self.answers {
            answer.due_us = 0;
            if matches!(answer.outcome, PartOutcome::Later(_)) {
                answer.outcome = PartOutcome::Done;
            }
        }
        if self.phase == Phase::Away {
            self.attach_at = io.now_us() + self.random.below(SECOND);
        }
        self.reschedule(io);
    }

    /// Ends its session for good.
    pub fn leave(&mut self, io: &mut Io<'_>) {
        if self.phase != Phase::Away {
            self.detach(io, true);
        }
        self.attach_at = NEVER;
    }

    /// The node was started with this number of shards: each has a lane of the part, if it had
    /// lanes.
    pub fn node_started(&mut self, shards: u16) {
        if self.lanes_ever > 0 {
            self.lanes_ever = self.lanes_ever.max(shards);
        }
    }

    /// The node has crashed, and its sink with it.
    pub fn crashed(&mut self, io: &mut Io<'_>) {
        self.is_away(io);
        self.late.clear();
        self.reschedule(io);
    }

    /// Handles an event of the node; `durable`: the last durable record at that time.
    pub fn take_event(
        &mut self,
        io: &mut Io<'_>,
        attachment: PartId,
        durable: Lsn,
        event: PartEvent,
    ) {
        let is_current = without_lane(attachment) == self.attachment() && self.phase != Phase::Away;
        if self.plan.is_lanes && !matches!(event, PartEvent::Queue(_)) {
            if is_current {
                self.take_lane_event(io, attachment, durable, event);
                self.reschedule(io);
            }
            return;
        }
        match event {
            PartEvent::Queue(state) if is_current => {
                let oldest = state.oldest_wall_ms;
                let oldest_ms = oldest.map_or(0, |wall_ms| io.node.age_ms(wall_ms));
                self.fact(io, PartFact::Queue { state, oldest_ms });
            }
            PartEvent::Published { number, outcome } => {
                self.is_answered(io, number, outcome, durable);
            }
            PartEvent::Attached {
                session_present,
                granted,
            } if is_current => {
                if granted.iter().any(|code| *code != ReasonCode::GrantedQoS1) {
                    let what = format!("{} was granted {granted:?}", self.plan.name);
                    return io.observer.complain("parts are granted QoS 1", what);
                }
                self.is_attached(io, session_present, durable);
            }
            PartEvent::Delivery(delivery) => {
                let is_early = is_current && self.phase == Phase::Attaching;
                if is_early {
                    let what = format!("{} was told of a message too early", self.plan.name);
                    return io.observer.complain("attached first", what);
                }
                self.take(io, attachment, durable, &delivery, is_current);
            }
            PartEvent::Ended { .. } if is_current => {
                self.fact(io, PartFact::Ended);
                self.is_away(io);
            }
            PartEvent::Attached { .. }
            | PartEvent::Ended { .. }
            | PartEvent::Queue(_)
            | PartEvent::Run { .. } => {}
            PartEvent::Receivers {
                message: id,
                receivers: count,
            } => self.fact(io, PartFact::Receivers { id, count }),
            PartEvent::Receipt(receipt) => {
                let mut clients = io.observer.ledger.clients.iter();
                let name = &*receipt.receiver;
                let name = lane_of(name).map_or(name, |(part, _)| part);
                let receiver = clients.position(|row| *row.name == *name);
                let receipt = PartFact::Receipt {
                    id: receipt.message,
                    receiver: receiver.map(|client| client as ClientIndex),
                    outcome: receipt.outcome,
                };
                self.fact(io, receipt);
            }
        }
        self.reschedule(io);
    }

    fn is_attached(&mut self, io: &mut Io<'_>, present: bool, durable: Lsn) {
        self.phase = Phase::Attached;
        self.fact(io, PartFact::Attached { present, durable });
        for (old, settlements) in std::mem::take(&mut self.late) {
            let lane = lane_of_attachment(old);
            self.call_lane(io, lane, PartCall::Settle(old, settlements));
        }
    }

    /// Handles an event for a lane of the current attachment.
    fn take_lane_event(&mut self, io: &mut Io<'_>, id: PartId, durable: Lsn, event: PartEvent) {
        let place = lane_of_attachment(id);
        let Some(lane) = self.lanes.get_mut(usize::from(place)) else {
            return;
        };
        match event {
            PartEvent::Attached {
                session_present,
                granted,
            } => {
                lane.attached = Some(session_present);
                if granted.iter().any(|code| *code != ReasonCode::GrantedQoS1) {
                    let what = format!("{} was granted {granted:?}", self.plan.name);
                    return io.observer.complain("parts are granted QoS 1", what);
                }
                if self.lanes.iter().all(|lane| lane.attached.is_some()) {
                    let mut current = self.lanes.iter().filter(|lane| !lane.is_left_over);
                    let present = current.all(|lane| lane.attached == Some(true));
                    self.is_attached(io, present, durable);
                }
            }
            PartEvent::Delivery(delivery) => {
                self.untaken += 1;
                let run = start_of(delivery.message.id().0);
                self.order.push(usize::from(place), run, delivery);
            }
            PartEvent::Run { oldest, is_present } => {
                if is_present {
                    self.run = oldest;
                }
                let oldest = if is_present { u32::MAX } else { oldest };
                self.order.set_oldest_run(usize::from(place), oldest);
                if lane.is_left_over && is_present {
                    lane.has_ended = true;
                    self.call_lane(io, place, PartCall::End(id));
                }
            }
            PartEvent::Ended { .. } if !lane.has_ended => {
                lane.has_ended = true;
                self.each_lane(io, PartCall::Detach);
                self.fact(io, PartFact::Ended);
                return self.is_away(io);
            }
            _ => {}
        }
        while let Some((lane, delivery)) = self.order.pop() {
            self.untaken -= 1;
            self.take(
                io,
                self.lane_attachment(lane as u16),
                durable,
                &delivery,
                true,
            );
        }
    }

    /// Whether all lanes have reported that they have no messages from runs before that of this
    /// message.
    fn is_present_run(&self, delivery: &Delivery) -> bool {
        start_of(delivery.message.id().0) == self.run
    }

    fn lane_attachment(&self, lane: u16) -> PartId {
        PartId(self.attachment().0 | u64::from(lane) << LANE_SHIFT)
    }

    /// Calls the shards of all lanes, or the shard of the part.
    fn each_lane(&mut self, io: &mut Io<'_>, call: impl Fn(PartId) -> PartCall) {
        if !self.plan.is_lanes {
            return self.call(io, call(self.attachment()));
        }
        for lane in 0..self.lanes.len() as u16 {
            if !self.lanes[usize::from(lane)].has_ended {
                self.call_lane(io, lane, call(self.lane_attachment(lane)));
            }
        }
    }

    /// Attaches a lane on each shard, and old lanes until they are empty.
    fn attach_lanes(&mut self, io: &mut Io<'_>, spec: &PartSpec) {
        let count = io.node.shard_count() as u16;
        self.lanes_ever = self.lanes_ever.max(count);
        self.lanes.clear();
        self.order = LaneOrder::new(usize::from(self.lanes_ever));
        self.untaken = 0;
        self.run = 0;
        for lane in 0..self.lanes_ever {
            let is_left_over = lane >= count;
            self.lanes.push(SimLane {
                is_left_over,
                ..SimLane::default()
            });
            let mut spec = spec.clone();
            spec.id = self.lane_attachment(lane);
            spec.client_id = lane_name(&self.plan.name, lane).into();
            spec.reach = PartReach::Lane;
            if is_left_over {
                spec.subscriptions.clear();
            }
            self.call_lane(io, lane, PartCall::Attach(Box::new(spec)));
        }
    }

    fn take(
        &mut self,
        io: &mut Io<'_>,
        attachment: PartId,
        durable: Lsn,
        delivery: &Delivery,
        is_current: bool,
    ) {
        let ledger = &io.observer.ledger;
        let message = &delivery.message;
        let payload = message.payload();
        let known = message_of(payload).filter(|known| (*known as usize) < ledger.messages.len());
        let topic = ledger.topics.find(message.topic());
        let filters = self.filters_of(&delivery.subscription_ids);
        let (Some(topic), Some(filters)) = (topic, filters) else {
            let what = format!("{} got {delivery:?}", self.plan.name);
            return io.observer.complain("parts get what they asked for", what);
        };
        if known.is_none() && !payload.is_empty() {
            let what = format!("{} got a payload that no client published", self.plan.name);
            return io.observer.complain("genuine messages", what);
        }
        if let Some(known) = known
            && ledger.message(known).qos != message.qos()
        {
            let what = format!(
                "{} got {} at QoS {:?}",
                self.plan.name,
                known,
                message.qos()
            );
            return io.observer.complain("genuine messages", what);
        }
        let name = delivery.publisher().map(|client| &*client.client_id);
        let publisher = name.and_then(|name| {
            let mut rows = ledger.clients.iter();
            rows.position(|row| row.name == name)
        });
        let lane = lane_of_attachment(attachment);
        let attachment = without_lane(attachment);
        let received = PartDelivery {
            attachment,
            token: u32::from(lane) << TOKEN_SHIFT | u32::from(delivery.token.get()),
            id: message.id(),
            message: known,
            topic,
            publisher: publisher.map(|client| client as ClientIndex),
            hops: message.hops(),
            dup: delivery.dup,
            filters,
            durable,
        };
        self.fact(io, PartFact::Delivered(received));
        if !is_current {
            return;
        }
        self.pass_on(io, &received);
        // Messages of an earlier run must be settled before others are taken.
        let may_put_off = !self.settling && (!self.plan.is_lanes || self.is_present_run(delivery));
        let outcome = match self.random.below(100) {
            roll if roll < self.plan.refuse_percent => {
                PartOutcome::Refused(PartRefusal::ALL[(roll % 2) as usize])
            }
            roll if may_put_off && roll < self.plan.refuse_percent + self.plan.later_percent => {
                PartOutcome::Later(self.random.below(self.plan.later_ms) as u32)
            }
            _ => PartOutcome::Done,
        };
        self.answers.push(Answer {
            due_us: io.now_us() + self.random.below(self.plan.settle_us + 1),
            lane,
            token: delivery.token,
            id: message.id(),
            message: known,
            outcome,
        });
    }

    /// The filters of these Subscription Identifiers; `None` if one was never assigned.
    fn filters_of(&self, identifiers: &[u32]) -> Option<FilterSet> {
        let mut set = FilterSet::default();
        for identifier in identifiers {
            let mut filters = self.plan.filters.iter();
            let filter = filters.find(|filter| identifier_of(**filter) == *identifier)?;
            set = set.with(*filter);
        }
        Some(set)
    }

    fn attachment(&self) -> PartId {
        PartId(u64::from(self.index) << PART_SHIFT | self.attachments)
    }

    fn attach(&mut self, io: &mut Io<'_>) {
        if !io.node.is_open() {
            self.attach_at = io.now_us() + self.random.around(SECOND);
            return;
        }
        self.attachments += 1;
        self.attach_at = NEVER;
        self.phase = Phase::Attaching;
        let attachment = self.attachment();
        let mut filters = self.plan.filters.clone();
        let mut keeps_qos0 = self.plan.keeps_qos0;
        if !self.settling && self.random.percent(self.plan.fickle_percent) {
            match self.random.percent(50) {
                true => keeps_qos0 = !keeps_qos0,
                false => filters.retain(|_| self.random.percent(50)),
            }
        }
        let credit = self.choose_credit(io);
        let queue = match self.plan.queues[..] {
            [only] => only,
            _ => self.random.pick(&self.plan.queues),
        };
        let topics = &io.observer.ledger.topics;
        let subscriptions = filters.iter().map(|filter| PartSubscription {
            filter: topics.filter(*filter).into(),
            identifier: identifier_of(*filter),
            retain_handling: self.plan.retain_handling,
        });
        let publishing = self.plan.publishing.as_ref();
        let spec = PartSpec {
            id: attachment,
            tenant: TenantId(0),
            client_id: self.plan.name.as_str().into(),
            subscriptions: subscriptions.collect(),
            credit,
            session_expiry_secs: if self.plan.durable { u32::MAX } else { 0 },
            keeps_qos0,
            queue,
            identity: publishing
                .and_then(|publishing| publishing.principal(topics))
                .map(Into::into),
            reach: PartReach::Node,
        };
        let filters = filters.iter().copied();
        let (lanes, all) = match self.plan.is_lanes {
            true => (io.node.shard_count() as u16, self.lanes_ever.max(8)),
            false => (0, 1),
        };
        let attaching = PartFact::Attaching {
            attachment,
            filters: filters.fold(FilterSet::default(), FilterSet::with),
            keeps_qos0,
            credit: credit.saturating_mul(all),
            queue,
            lanes,
        };
        self.fact(io, attaching);
        match self.plan.is_lanes {
            true => self.attach_lanes(io, &spec),
            false => self.call(io, PartCall::Attach(Box::new(spec))),
        }
    }

    /// Settles due and nearly due deliveries in one batch.
    fn settle_due(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        if self.hangs_until > 0 || !self.answers.iter().any(|answer| answer.due_us <= now_us) {
            return;
        }
        let until_us = now_us + self.random.below(self.plan.batch_us + 1);
        let due = self
            .answers
            .extract_if(.., |answer| answer.due_us <= until_us);
        let due: Vec<Answer> = due.collect();
        let mut all: BTreeMap<u16, Vec<Settlement>> = BTreeMap::new();
        for Answer {
            lane,
            token,
            id,
            message,
            outcome,
            ..
        } in due
        {
            let settlements = all.entry(lane).or_default();
            settlements.push(Settlement { token, outcome });
            let settled = PartFact::Settled {
                token: u32::from(lane) << TOKEN_SHIFT | u32::from(token.get()),
                outcome,
                id,
                message,
            };
            self.fact(io, settled);
            if self.random.percent(self.plan.twice_percent) {
                // The token is no longer in use.
                let outcome = PartOutcome::Done;
                let settlements = all.entry(lane).or_default();
                settlements.push(Settlement { token, outcome });
            }
        }
        for (lane, settlements) in all {
            let id = self.lane_attachment(lane);
            self.call_lane(io, lane, PartCall::Settle(id, settlements));
        }
    }

    fn call(&mut self, io: &mut Io<'_>, call: PartCall) {
        let name = self.plan.name.clone();
        self.call_as(io, &name, call);
    }

    fn call_lane(&mut self, io: &mut Io<'_>, lane: u16, call: PartCall) {
        let name = match self.plan.is_lanes {
            true => lane_name(&self.plan.name, lane),
            false => self.plan.name.clone(),
        };
        self.call_as(io, &name, call);
    }

    fn call_as(&mut self, io: &mut Io<'_>, name: &str, call: PartCall) {
        if !io.node.is_up() {
            return;
        }
        let shard = io.node.part_call(name, call);
        let at_us = io.now_us() + self.random.below(CALL_US);
        io.agenda.enter(at_us, Due::Tick(shard as u16));
    }

    fn fact(&self, io: &mut Io<'_>, what: PartFact) {
        let part = self.index;
        io.fact(Fact::Part { part, what });
    }

    fn reschedule(&mut self, io: &mut Io<'_>) {
        let mut next = self.trouble_at.min(self.publish_at);
        if self.phase == Phase::Away {
            next = next.min(self.attach_at);
        }
        if self.hangs_until > 0 {
            next = next.min(self.hangs_until);
        } else if let Some(due_us) = self.answers.iter().map(|answer| answer.due_us).min() {
            next = next.min(due_us);
        }
        if next < self.wakes_at {
            self.wakes_at = next;
            io.agenda.enter(next, Due::Part(self.index));
        }
    }
}

/// The Subscription Identifier of a part's subscription.
fn identifier_of(filter: u16) -> u32 {
    u32::from(filter) + 1
}
