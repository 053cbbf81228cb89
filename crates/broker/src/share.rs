//! Shared Subscriptions (MQTT 5 section 4.8.2): a share group is a session of its own, on the shard
//! that its key hashes to.
//!
//! The group holds the queue. Members give it credit; it hands out a message only against credit,
//! and holds it until the member's shard has answered: acknowledged, refused, or returned because
//! the member's session is gone. What is returned goes to the next member, except a QoS 2 message
//! that was sent once: it is dropped with its session [MQTT-4.8.2-4], [MQTT-4.8.2-5].

use hashbrown::HashMap as RawMap;
use martlet_codec::{QoS, SubscribeFilter, SubscriptionFilter};
use slab::Slab;
use smallvec::SmallVec;

use crate::counters::{Accounting, DropReason};
use crate::effect::ShardMessage;
use crate::fault::{self, Fault};
use crate::hash::{HashMap, owner, seeded};
use crate::id::{SessionAddress, SessionId, ShardId, TenantId};
use crate::interest::NodeKey;
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::record::EnqueuedAs;
use crate::route::{Routing, Target};
use crate::session::queue::{Entry, Queue};
use crate::shard::Shard;
use crate::subscribe::Subscriber;

/// A share group of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    index: u32,
    generation: u32,
}

/// What a member's shard answers with when a message has come to its end.
#[derive(Clone, Copy, Debug)]
pub struct ShareTicket {
    shard: ShardId,
    group: GroupId,
    delivery: u64,
}

/// How a message handed to a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOutcome {
    /// PUBACK or PUBREC below 0x80.
    Acknowledged,
    /// Dropped for that member, for this reason; a refusal too [MQTT-4.8.2-6].
    Dropped(DropReason),
    /// Its expiry ran out.
    Expired,
    /// The member is gone. A QoS 2 message that was sent is not given to another
    /// [MQTT-4.8.2-5].
    Returned {
        /// It was QoS 2 and had been sent.
        sent_qos2: bool,
    },
}

/// Traffic between a share group and the shards of its members.
#[derive(Clone, Debug)]
pub enum ShareMessage {
    /// A session subscribes.
    Join {
        /// Whose topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: Member,
        /// Named again by the answer.
        token: usize,
    },
    /// The answer: the subscription is in force.
    Joined {
        /// The question's.
        token: usize,
    },
    /// A session unsubscribes or ends.
    Leave {
        /// Whose topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: SessionAddress,
    },
    /// The client of a member has come or gone.
    Presence {
        /// Whose topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: SessionAddress,
        /// It is there.
        connected: bool,
        /// Its session outlives its connection.
        persistent: bool,
    },
    /// A message for a member.
    Deliver {
        /// The member's session, on the receiving shard.
        member: SessionId,
        /// The message.
        message: Message,
        /// QoS to send it with.
        qos: QoS,
        /// RETAIN flag to send it with.
        retain: bool,
        /// 0 is none.
        subscription_id: u32,
        /// To be answered with; none at QoS 0.
        ticket: Option<ShareTicket>,
    },
    /// A handed out message has come to its end.
    Outcome {
        /// The group.
        group: GroupId,
        /// Which of its deliveries.
        delivery: u64,
        /// How.
        outcome: ShareOutcome,
    },
}

/// A member of a share group, as it joins.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its session.
    address: SessionAddress,
    /// Maximum QoS granted.
    qos: QoS,
    /// 0 is none.
    subscription_id: u32,
    retain_as_published: bool,
    connected: bool,
    persistent: bool,
    /// Messages it takes before it has answered for one.
    credit: u16,
}

#[derive(Debug)]
struct Group {
    generation: u32,
    tenant: TenantId,
    filter: Box<str>,
    node: NodeKey,
    members: Vec<Member>,
    /// Whose turn is next.
    turn: usize,
    queue: Queue,
    outstanding: HashMap<u64, Outstanding>,
    next_delivery: u64,
    accounting: Accounting,
}

#[derive(Debug)]
struct Outstanding {
    message: Message,
    retain: bool,
    qos: QoS,
    member: SessionAddress,
}

/// The share groups that live on a shard.
#[derive(Debug)]
pub(crate) struct Groups {
    slab: Slab<Group>,
    by_filter: HashMap<(TenantId, Box<str>), u32>,
    generation: u32,
    seed: u64,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        let by_filter = RawMap::with_hasher(seeded(seed));
        Self {
            slab: Slab::new(),
            by_filter,
            generation: 0,
            seed,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Messages held by all groups (idea 6).
    pub(crate) fn held(&self) -> usize {
        self.slab
            .iter()
            .map(|(_, group)| group.queue.len() + group.outstanding.len())
            .sum()
    }

    /// The equation of idea 6, group by group.
    pub(crate) fn balanced(&self) -> bool {
        self.slab.iter().all(|(_, group)| {
            let held = (group.queue.len() + group.outstanding.len()) as u64;
            let sums = &group.accounting;
            sums.matched == sums.delivered + sums.dropped + sums.expired + held
        })
    }

    fn find(&self, tenant: TenantId, filter: &str) -> Option<u32> {
        self.by_filter.get(&(tenant, Box::from(filter))).copied()
    }

    fn live(&self, id: GroupId) -> Option<u32> {
        let group = self.slab.get(id.index as usize)?;
        (group.generation == id.generation).then_some(id.index)
    }
}

impl Group {
    /// The member whose turn it is among those that can take a message of this QoS.
    fn choose(&mut self, qos: QoS) -> Option<usize> {
        let count = self.members.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let with_credit = in_turn.clone().find(|&place| {
            let member = &self.members[place];
            member.connected && member.credit > 0
        });
        let chosen = with_credit.or_else(|| {
            in_turn.clone().find(|&place| {
                let member = &self.members[place];
                member.connected && qos.min(member.qos) == QoS::AtMostOnce
            })
        })?;
        self.turn = chosen + 1;
        Some(chosen)
    }
}

impl Shard {
    /// A session becomes a member, or changes its subscription.
    pub(crate) fn join_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        requested: &SubscribeFilter<'_>,
        qos: QoS,
        subscription_id: u32,
        token: usize,
    ) {
        let address = self.address_of(session);
        let credit_max = self.settings.limits.share_credit.max(1);
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let filter: Box<str> = requested.filter.into();
        state.subscriptions.shared.insert(filter.clone());
        let persistent = state.is_persistent();
        let quota = match state.connection {
            Some(connection) => self.connections.at(connection).send_quota,
            None => 0,
        };
        let member = Member {
            address,
            qos,
            subscription_id,
            retain_as_published: requested.options.retain_as_published,
            connected: true,
            persistent,
            credit: credit_max.min(quota).max(1),
        };
        let to = self.group_owner(tenant, &filter);
        self.share_send(
            cx,
            to,
            ShareMessage::Join {
                tenant,
                filter,
                member,
                token,
            },
        );
    }

    /// A session unsubscribes from a group; false if it is no member.
    pub(crate) fn leave_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
    ) -> bool {
        let shared = &mut self.sessions.at(session).subscriptions.shared;
        let Some(filter) = shared.take(filter) else {
            return false;
        };
        self.send_leave(cx, session, filter);
        true
    }

    pub(crate) fn send_leave<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: Box<str>,
    ) {
        let member = self.address_of(session);
        let tenant = self.sessions.at(session).tenant;
        let to = self.group_owner(tenant, &filter);
        self.share_send(
            cx,
            to,
            ShareMessage::Leave {
                tenant,
                filter,
                member,
            },
        );
    }

    /// Tells all groups of a session that its client has come or gone.
    pub(crate) fn send_presence<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        connected: bool,
    ) {
        if self.sessions.at(session).subscriptions.shared.is_empty() {
            return;
        }
        let member = self.address_of(session);
        let state = self.sessions.at(session);
        let (tenant, persistent) = (state.tenant, state.is_persistent());
        let filters: SmallVec<[Box<str>; 4]> = state.subscriptions.shared.iter().cloned().collect();
        for filter in filters {
            let to = self.group_owner(tenant, &filter);
            let message = ShareMessage::Presence {
                tenant,
                filter,
                member,
                connected,
                persistent,
            };
            self.share_send(cx, to, message);
        }
    }

    /// Answers for a handed out message.
    pub(crate) fn answer_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: &ShareTicket,
        outcome: ShareOutcome,
    ) {
        let (group, delivery) = (ticket.group, ticket.delivery);
        let message = ShareMessage::Outcome {
            group,
            delivery,
            outcome,
        };
        self.share_send(cx, ticket.shard, message);
    }

    /// Traffic of share groups has come, from another shard or from this one.
    pub(crate) fn share_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        from: ShardId,
        message: ShareMessage,
    ) {
        match message {
            ShareMessage::Join {
                tenant,
                filter,
                member,
                token,
            } => {
                self.member_joined(cx, tenant, filter, member);
                self.share_send(cx, from, ShareMessage::Joined { token });
            }
            ShareMessage::Joined { token } => self.joined(cx, token),
            ShareMessage::Leave {
                tenant,
                filter,
                member,
            } => {
                self.member_left(cx, tenant, &filter, member);
            }
            ShareMessage::Presence {
                tenant,
                filter,
                member,
                connected,
                persistent,
            } => {
                self.member_present(cx, tenant, &filter, member, connected, persistent);
            }
            ShareMessage::Deliver {
                member,
                message,
                qos,
                retain,
                subscription_id,
                ticket,
            } => {
                let mut subscription_ids = SmallVec::new();
                if subscription_id != 0 {
                    subscription_ids.push(subscription_id);
                }
                let why = EnqueuedAs::Shared;
                let ticket = ticket.map(Box::new);
                let entry = Entry {
                    message,
                    subscription_ids,
                    qos,
                    retain,
                    why,
                    ticket,
                };
                self.member_message_received(cx, member, entry);
            }
            ShareMessage::Outcome {
                group,
                delivery,
                outcome,
            } => {
                self.outcome_received(cx, group, delivery, outcome);
            }
        }
    }

    /// The filter of a group matched a message of this shard.
    pub(crate) fn group_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
    ) {
        let (retain, qos) = (routing.publication.retain, routing.publication.qos);
        let message = routing.message(&mut self.scratch, &self.gauge);
        self.groups.slab[index as usize].accounting.matched += 1;
        self.counters.matched += 1;
        let entry = Entry {
            message,
            subscription_ids: SmallVec::new(),
            qos,
            retain,
            why: EnqueuedAs::Shared,
            ticket: None,
        };
        let waiting = !self.groups.slab[index as usize].queue.is_empty();
        if waiting && qos > QoS::AtMostOnce {
            self.enqueue_for_group(index, entry);
            self.serve_group(cx, index);
        } else if let Some(entry) = self.hand_out(cx, index, entry) {
            if qos == QoS::AtMostOnce {
                self.drop_in_group(index, DropReason::NoMember);
            } else {
                self.enqueue_for_group(index, entry);
            }
        }
    }

    /// Where the group of a filter lives.
    fn group_owner(&self, tenant: TenantId, filter: &str) -> ShardId {
        owner(self.settings.node_seed, &(tenant, filter), self.shard_count)
    }

    fn share_send<N: Node>(&mut self, cx: &mut Cx<'_, N>, to: ShardId, message: ShareMessage) {
        if to == self.id {
            self.own_share_traffic.push_back(message);
        } else if let Some(batch) = cx.effects.batches.get_mut(usize::from(to.0)) {
            batch.push(ShardMessage::Share(message));
        }
    }

    fn member_joined<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        member: Member,
    ) {
        let index = match self.groups.find(tenant, &filter) {
            Some(index) => index,
            None => self.new_group(cx, tenant, filter),
        };
        let group = &mut self.groups.slab[index as usize];
        match group
            .members
            .iter_mut()
            .find(|known| known.address == member.address)
        {
            // What it has under way still counts against the credit it joined with.
            Some(known) => {
                *known = Member {
                    credit: known.credit,
                    ..member
                }
            }
            None => group.members.push(member),
        }
        self.classify_group(cx, index);
        self.serve_group(cx, index);
    }

    fn new_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
    ) -> u32 {
        self.groups.generation = self.groups.generation.wrapping_add(1);
        let generation = self.groups.generation;
        let index = self.groups.slab.insert(Group {
            generation,
            tenant,
            filter: filter.clone(),
            node: 0,
            members: Vec::new(),
            turn: 0,
            queue: Queue::default(),
            outstanding: RawMap::with_hasher(seeded(self.groups.seed)),
            next_delivery: 1,
            accounting: Accounting::default(),
        }) as u32;
        let topic_filter =
            SubscriptionFilter::parse(&filter).map_or("", |parsed| parsed.filter.as_str());
        let subscriber = Subscriber::new(Target::group(index), QoS::ExactlyOnce, false);
        let node = self.index_subscriber(cx, topic_filter, subscriber);
        self.groups.slab[index as usize].node = node;
        self.groups.by_filter.insert((tenant, filter), index);
        index
    }

    /// A group is durable while the session of one member outlives its connection.
    fn classify_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let group = &self.groups.slab[index as usize];
        let durable = group.members.iter().any(|member| member.persistent);
        self.set_durable(cx, group.node, Target::group(index), durable);
    }

    fn member_left<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        member: SessionAddress,
    ) {
        let Some(index) = self.groups.find(tenant, filter) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        group.members.retain(|known| known.address != member);
        if group.members.is_empty() {
            self.end_group(cx, index);
        } else {
            self.classify_group(cx, index);
            self.serve_group(cx, index);
        }
    }

    fn end_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let node = self.groups.slab[index as usize].node;
        self.unindex_subscriber(cx, node, Target::group(index));
        let group = self.groups.slab.remove(index as usize);
        self.groups.by_filter.remove(&(group.tenant, group.filter));
        let held = (group.queue.len() + group.outstanding.len()) as u64;
        self.counters.drop_messages(DropReason::SessionEnded, held);
    }

    fn member_present<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        member: SessionAddress,
        connected: bool,
        persistent: bool,
    ) {
        let Some(index) = self.groups.find(tenant, filter) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        if let Some(known) = group
            .members
            .iter_mut()
            .find(|known| known.address == member)
        {
            known.connected = connected;
            known.persistent = persistent;
        }
        self.classify_group(cx, index);
        self.serve_group(cx, index);
    }

    /// Hands out what waits, as far as credit goes.
    fn serve_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        while let Some(entry) = self.groups.slab[index as usize].queue.pop_front() {
            if entry.message.expired(cx.now.mono_ms) {
                self.groups.slab[index as usize].accounting.expired += 1;
                self.counters.expired += 1;
                continue;
            }
            if let Some(entry) = self.hand_out(cx, index, entry) {
                self.groups.slab[index as usize].queue.push_front(entry);
                return;
            }
        }
    }

    /// Gives a message to the member whose turn it is; gives it back if nobody can take it.
    /// With the QoS granted to that member [MQTT-4.8.2-3].
    fn hand_out<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) -> Option<Entry> {
        let shard = self.id;
        let group = &mut self.groups.slab[index as usize];
        let Some(chosen) = group.choose(entry.qos) else {
            return Some(entry);
        };
        let member = &mut group.members[chosen];
        let qos = entry.qos.min(member.qos);
        let retain = entry.retain && member.retain_as_published;
        let (address, subscription_id) = (member.address, member.subscription_id);
        let message = entry.message;
        let ticket = if qos == QoS::AtMostOnce {
            // It is the member's from here on: matched moves with it.
            group.accounting.matched -= 1;
            self.counters.matched -= 1;
            None
        } else {
            member.credit -= 1;
            let delivery = group.next_delivery;
            group.next_delivery += 1;
            let held = Outstanding {
                message: message.clone(),
                retain: entry.retain,
                qos: entry.qos,
                member: address,
            };
            group.outstanding.insert(delivery, held);
            let generation = group.generation;
            Some(ShareTicket {
                shard,
                group: GroupId { index, generation },
                delivery,
            })
        };
        let member = address.session;
        let message = ShareMessage::Deliver {
            member,
            message,
            qos,
            retain,
            subscription_id,
            ticket,
        };
        self.share_send(cx, address.shard, message);
        None
    }

    /// A group handed a message to a session of this shard.
    fn member_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        member: SessionId,
        entry: Entry,
    ) {
        let session = self.live_session(member);
        let connected = session.filter(|&session| self.sessions.at(session).connection.is_some());
        match (&entry.ticket, session, connected) {
            (Some(_), _, Some(session)) => self.deliver_shared(cx, session, entry),
            (Some(ticket), _, None) => {
                let outcome = ShareOutcome::Returned { sent_qos2: false };
                self.answer_group(cx, &ticket.clone(), outcome);
            }
            (None, Some(session), _) => self.deliver_shared_qos0(cx, session, &entry),
            (None, None, _) => {
                self.counters.matched += 1;
                self.counters.drop_messages(DropReason::NoMember, 1);
            }
        }
    }

    fn deliver_shared_qos0<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, entry: &Entry) {
        self.sessions.at(session).accounting.matched += 1;
        self.counters.matched += 1;
        let mut routing = Routing::held(&entry.message);
        self.deliver_qos0(
            cx,
            session,
            &mut routing,
            entry.retain,
            &entry.subscription_ids,
        );
    }

    fn outcome_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        delivery: u64,
        outcome: ShareOutcome,
    ) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        let Some(ended) = group.outstanding.remove(&delivery) else {
            return;
        };
        if let Some(member) = group.members.iter_mut().find(|m| m.address == ended.member) {
            member.credit += 1;
        }
        match outcome {
            ShareOutcome::Acknowledged => {
                group.accounting.delivered += 1;
                self.counters.delivered += 1;
            }
            ShareOutcome::Expired => {
                group.accounting.expired += 1;
                self.counters.expired += 1;
            }
            ShareOutcome::Dropped(reason) => self.drop_in_group(index, reason),
            ShareOutcome::Returned { sent_qos2: true }
                if !fault::is(Fault::ShareReturnsSentQos2) =>
            {
                self.drop_in_group(index, DropReason::SessionEnded);
            }
            ShareOutcome::Returned { .. } => {
                group.queue.push_front(Entry {
                    message: ended.message,
                    subscription_ids: SmallVec::new(),
                    qos: ended.qos,
                    retain: ended.retain,
                    why: EnqueuedAs::Shared,
                    ticket: None,
                });
            }
        }
        self.serve_group(cx, index);
    }

    fn enqueue_for_group(&mut self, index: u32, entry: Entry) {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let group = &mut self.groups.slab[index as usize];
        if self.memory.is_spent() {
            return self.drop_in_group(index, DropReason::MemoryFull);
        }
        // A group has no connection to end: its newest message goes unless the oldest may.
        let oldest = self.settings.queue_full == crate::limits::QueueFull::DropOldest;
        let bytes = entry.message.bytes();
        let fits = bytes as u64 <= bytes_max;
        let mut dropped = 0;
        while group.queue.is_full_for(bytes, count_max, bytes_max) {
            if !oldest || !fits || group.queue.pop_front().is_none() {
                return self.drop_in_group(index, DropReason::QueueFull);
            }
            dropped += 1;
        }
        group.queue.push_back(entry);
        for _ in 0..dropped {
            self.drop_in_group(index, DropReason::QueueFull);
        }
    }

    fn drop_in_group(&mut self, index: u32, reason: DropReason) {
        self.groups.slab[index as usize].accounting.dropped += 1;
        self.counters.drop_messages(reason, 1);
    }
}
