//! Shared Subscriptions (MQTT 5 section 4.8.2): a share group is a session of its own, on the shard
//! that its key hashes to.
//!
//! The group holds the queue. Members give it credit; it hands out a message only against credit,
//! and holds it until the member's shard has answered: acknowledged, refused, or returned because
//! the member's session is gone. What is returned goes to the next member, except a QoS 2 message
//! that was sent once: it is dropped with its session [MQTT-4.8.2-4], [MQTT-4.8.2-5].
//!
//! A member gets what it may: the group knows the rules of each, so that one who may not have a
//! message does not take it away from those who may. What none of them may have is dropped.

use std::sync::Arc;

use hashbrown::HashMap as RawMap;
use martlet_codec::{QoS, SubscriptionFilter};
use slab::Slab;
use smallvec::SmallVec;

use crate::counters::{Accounting, DropReason};
use crate::effect::{LostMessage, PageOf, QueueRead, ReadMessage, ShardMessage};
use crate::event::Event;
use crate::fault::{self, Fault};
use crate::hash::{HashMap, seeded};
use crate::id::{SessionAddress, SessionId, ShardId, TenantId};
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::permission::{Actions, Names, Rules};
use crate::record::{
    EnqueuedAs, EntryRecord, MessageRecord, Record, SessionEpoch, SubscriptionRecord,
};
use crate::route::{Routing, Target};
use crate::session::queue::{Apart, Entry, Queue, QueueOwner, StoredEntry, Taken, Window};
use crate::shard::Shard;
use crate::subscribe::{SharedSubscription, Subscriber};
use crate::topic_tree::NodeKey;

/// A share group of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    index: u32,
    generation: u32,
}

/// A share group, wherever it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAddress {
    pub(crate) shard: ShardId,
    pub(crate) group: GroupId,
    pub(crate) epoch: SessionEpoch,
}

/// What a member's shard answers with when a message has come to its end.
#[derive(Clone, Copy, Debug)]
pub struct ShareTicket {
    shard: ShardId,
    group: GroupId,
    delivery: u64,
    /// The group's, in records.
    pub(crate) epoch: SessionEpoch,
    /// The member is durable and has taken the message into its own queue: the group holds it no
    /// more, and only waits to hear that the member has room again.
    pub(crate) taken: bool,
    /// Another member may have room: a full queue answers [`ShareOutcome::NoRoom`] instead of
    /// dropping.
    others: bool,
    /// As the group has it: QoS and RETAIN it was published with.
    qos: QoS,
    retain: bool,
}

/// How a message handed to a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOutcome {
    /// The member's session is durable and has it in its own queue now, by one record.
    Taken,
    /// What was taken has come to its end.
    Settled,
    /// PUBACK or PUBREC below 0x80.
    Acknowledged,
    /// Dropped for that member, for this reason; a refusal too [MQTT-4.8.2-6].
    Dropped(DropReason),
    /// Its expiry ran out.
    Expired,
    /// The member's queue is full; others may have room.
    NoRoom,
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
    /// The client of a member has come or gone, or may get other messages than before.
    Presence {
        /// Whose topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: SessionAddress,
        /// It is there.
        connected: bool,
        /// What it may get.
        reads: Option<Arc<Reads>>,
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
        /// It has a record in the group's queue.
        recorded: bool,
        /// Of those who may have it nobody is there: it waits for this member.
        though_away: bool,
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
    /// What a durable member had taken comes back, by one record: it is away or gone.
    GivenBack {
        /// The group.
        group: GroupId,
        /// The group's epoch, by which the entry was recorded.
        epoch: SessionEpoch,
        /// Which of its deliveries; 0 is one from before a restart.
        delivery: u64,
        /// The entry as the group has it.
        entry: Box<StoredEntry>,
        /// The message, if it is in memory.
        message: Option<Message>,
    },
}

/// What a member may get, where that is not everything.
#[derive(Debug)]
pub struct Reads {
    rules: Arc<Rules>,
    user_name: Option<Arc<str>>,
    client_id: Box<str>,
}

impl Reads {
    fn permit(&self, topic: &str) -> bool {
        let names = Names {
            client_id: &self.client_id,
            user_name: self.user_name.as_deref().unwrap_or_default(),
        };
        self.rules.topic(Actions::RECEIVE, topic, names).allowed
    }
}

/// A member of a share group, as it joins.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its session.
    address: SessionAddress,
    /// Maximum QoS granted.
    qos: QoS,
    /// 0 is none.
    subscription_id: u32,
    retain_as_published: bool,
    connected: bool,
    /// Its session outlives its connection.
    durable: bool,
    /// Messages it takes before it has answered for one; below zero by what waits for it though it
    /// is away.
    credit: i32,
    /// None is everything.
    reads: Option<Arc<Reads>>,
    /// It had no room: others come first until the group's delivery of this number.
    full_until: u64,
}

impl Member {
    fn may_receive(&self, topic: &str) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.permit(topic))
    }
}

/// Who is to get a message of a group.
enum Choice {
    /// The member at this place.
    Member(usize),
    /// Nobody just now.
    Later,
    /// Nobody of them may have it.
    Nobody,
}

/// Deliveries after which a member that had no room is asked again.
const ASKED_AGAIN_AFTER: u64 = 64;

#[derive(Debug)]
struct Group {
    generation: u32,
    tenant: TenantId,
    filter: Box<str>,
    epoch: SessionEpoch,
    /// A member's session outlives its connection, so that what the group is owed is recorded.
    durable: bool,
    /// The store knows of it.
    recorded: bool,
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
    /// None once the member has taken it.
    entry: Option<Entry>,
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
        self.slab.iter().map(|(_, group)| group.held()).sum()
    }

    /// Groups whose queue is full.
    pub(crate) fn full_queues(&self, count_max: u32, bytes_max: u64) -> usize {
        let groups = self.slab.iter();
        groups
            .filter(|(_, group)| group.queue.is_full(count_max, bytes_max))
            .count()
    }

    /// The equation of idea 6, group by group.
    pub(crate) fn balanced(&self) -> bool {
        self.slab.iter().all(|(_, group)| {
            let held = group.held() as u64;
            let sums = &group.accounting;
            sums.matched == sums.delivered + sums.dropped + sums.expired + held
        })
    }

    fn find(&self, tenant: TenantId, filter: &str) -> Option<u32> {
        self.by_filter.get(&(tenant, Box::from(filter))).copied()
    }

    /// The queue of a group that is still there.
    pub(crate) fn queue(&mut self, id: GroupId) -> Option<&mut Queue> {
        let index = self.live(id)?;
        Some(&mut self.slab[index as usize].queue)
    }

    fn live(&self, id: GroupId) -> Option<u32> {
        let group = self.slab.get(id.index as usize)?;
        (group.generation == id.generation).then_some(id.index)
    }
}

impl Group {
    /// Messages queued or lent to members.
    fn held(&self) -> usize {
        let lent = self.outstanding.values();
        self.queue.len() + lent.filter(|lent| lent.entry.is_some()).count()
    }

    /// Somebody is there who could take a message.
    fn has_taker(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| self.may_have_room(member) && member.credit > 0)
    }

    /// It is there, and had room when it was last asked.
    fn may_have_room(&self, member: &Member) -> bool {
        member.connected && member.full_until <= self.next_delivery
    }

    /// Where all who are there had no room, all are asked again.
    fn ask_again_if_all_are_full(&mut self) {
        let mut members = self.members.iter();
        if !members.any(|member| self.may_have_room(member)) {
            self.ask_all_again();
        }
    }

    fn ask_all_again(&mut self) {
        for member in &mut self.members {
            member.full_until = 0;
        }
    }

    /// The member whose turn it is among those that may have a message and can take it.
    ///
    /// If of those who may have it nobody is there, but others are, it goes to one who is away and
    /// has a queue of its own: in the group's it would keep what others may have from them.
    fn choose(&mut self, topic: &str, qos: QoS) -> Choice {
        let count = self.members.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let member = |place: usize| &self.members[place];
        let may = |place: &usize| member(*place).may_receive(topic);
        let with_credit = in_turn.clone().find(|place| {
            let member = member(*place);
            self.may_have_room(member) && member.credit > 0 && may(place)
        });
        let chosen = with_credit.or_else(|| {
            in_turn.clone().find(|place| {
                let member = member(*place);
                member.connected && qos.min(member.qos) == QoS::AtMostOnce && may(place)
            })
        });
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => {
                let is_there = |place: &usize| member(*place).connected;
                // After a restart members have yet to join.
                if !in_turn.clone().any(|place| is_there(&place)) {
                    return Choice::Later;
                }
                if !in_turn.clone().any(|place| may(&place)) {
                    return Choice::Nobody;
                }
                if in_turn.clone().any(|place| is_there(&place) && may(&place)) {
                    return Choice::Later;
                }
                let keeps = |place: &usize| {
                    let member = member(*place);
                    member.durable && qos.min(member.qos) > QoS::AtMostOnce
                };
                match in_turn.clone().find(|place| keeps(place) && may(place)) {
                    Some(chosen) => chosen,
                    None => return Choice::Later,
                }
            }
        };
        self.turn = chosen + 1;
        Choice::Member(chosen)
    }
}

/// Nobody waits for the answer of the group.
const NO_SUBACK: usize = usize::MAX;

impl Shard {
    /// A session becomes a member, or changes its subscription.
    pub(crate) fn join_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
        token: usize,
    ) {
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let filter = subscription.filter.clone();
        let shared = SharedSubscription {
            number: subscription.number,
            qos: subscription.qos,
            subscription_id: subscription.subscription_id,
            retain_as_published: subscription.retain_as_published,
        };
        state.subscriptions.join(filter.clone(), shared);
        let member = self.member(session, shared);
        let to = self.owner(tenant, &filter);
        let join = ShareMessage::Join {
            tenant,
            filter,
            member,
            token,
        };
        self.share_send(cx, to, join);
    }

    /// A session as a member.
    fn member(&mut self, session: u32, shared: SharedSubscription) -> Member {
        let address = self.address_of(session);
        let credit_max = self.settings.limits.share_credit.max(1);
        let state = self.sessions.at(session);
        let (connection, durable) = (state.connection(), state.durable);
        let quota = match connection {
            Some(connection) => self.connections.at(connection).send_quota,
            None => credit_max,
        };
        Member {
            address,
            qos: shared.qos,
            subscription_id: shared.subscription_id,
            retain_as_published: shared.retain_as_published,
            connected: connection.is_some(),
            durable,
            credit: credit_max.min(quota).max(1).into(),
            reads: self.reads_of(session),
            full_until: 0,
        }
    }

    /// What a session's client may get, if that is not everything.
    fn reads_of(&mut self, session: u32) -> Option<Arc<Reads>> {
        let session = self.sessions.at(session);
        let permit = session.permit.as_deref()?;
        permit.is_restricted().then(|| {
            Arc::new(Reads {
                rules: Arc::clone(&permit.identity.rules),
                user_name: permit.identity.user_name.clone(),
                client_id: Box::from(&*session.client_id),
            })
        })
    }

    /// A session unsubscribes from a group; false if it is no member.
    pub(crate) fn leave_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
    ) -> bool {
        let subscriptions = &mut self.sessions.at(session).subscriptions;
        let Some(filter) = subscriptions.leave(filter) else {
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
        let to = self.owner(tenant, &filter);
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

    /// Tells all groups of a session that its client has come or gone, or may get other messages.
    pub(crate) fn send_presence<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        connected: bool,
    ) {
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let filters: SmallVec<[Box<str>; 4]> =
            state.subscriptions.groups().map(Box::from).collect();
        if filters.is_empty() {
            return;
        }
        let reads = self.reads_of(session);
        let member = self.address_of(session);
        for filter in filters {
            let to = self.owner(tenant, &filter);
            let message = ShareMessage::Presence {
                tenant,
                filter,
                member,
                connected,
                reads: reads.clone(),
            };
            self.share_send(cx, to, message);
        }
    }

    /// What a session's client may get has changed: its groups are to know.
    pub(crate) fn send_reads<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: SessionId) {
        if let Some(session) = self.live_session(session) {
            let connected = self.admitted_connection(session).is_some();
            self.send_presence(cx, session, connected);
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
        let answer = ShareMessage::Outcome {
            group,
            delivery,
            outcome,
        };
        self.share_send(cx, ticket.shard, answer);
    }

    /// An entry that a share group lent goes into a durable session's own queue: the epoch of the
    /// group that it moves from, for the record to be appended next.
    pub(crate) fn take_from_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        entry: &mut Entry,
    ) -> Option<SessionEpoch> {
        let recorded = entry.recorded;
        let ticket = entry.ticket.as_deref_mut();
        let ticket = ticket.filter(|ticket| recorded && !ticket.taken)?;
        ticket.taken = true;
        let ticket = *ticket;
        self.sessions.at(session).accounting.matched += 1;
        self.counters.matched += 1;
        self.answer_group(cx, &ticket, ShareOutcome::Taken);
        Some(ticket.epoch)
    }

    /// What a share group handed over goes back to it, because the member is away or gone; except
    /// a QoS 2 message that was sent once, which is dropped [MQTT-4.8.2-5].
    pub(crate) fn return_shared<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        entry: Taken,
        sent_qos2: bool,
    ) {
        let Some(ticket) = entry.ticket().copied() else {
            return;
        };
        if fault::is(Fault::ShareReturnLost) {
            return;
        }
        let sent_qos2 = sent_qos2 && !fault::is(Fault::ShareReturnsSentQos2);
        if !ticket.taken {
            return self.answer_group(cx, &ticket, ShareOutcome::Returned { sent_qos2 });
        }
        if sent_qos2 {
            return self.drop_entry(cx, session, entry, DropReason::SessionEnded);
        }
        let from = self.sessions.at(session).epoch;
        let message = entry.message().cloned();
        let mut entry = match entry {
            Taken::Held(entry) => entry.without_message(),
            Taken::Stored(entry) => entry,
            // What is taken has a record.
            Taken::Unkept(_) => return,
        };
        entry.why = EnqueuedAs::Routed;
        (entry.qos, entry.retain) = (ticket.qos, ticket.retain);
        entry.apart = Apart::default();
        let moved = Record::Moved {
            from,
            from_why: EnqueuedAs::Shared,
            to: entry.record(ticket.epoch, cx.now),
        };
        self.append(cx, moved);
        self.sessions.at(session).accounting.matched -= 1;
        self.counters.matched -= 1;
        let given_back = ShareMessage::GivenBack {
            group: ticket.group,
            epoch: ticket.epoch,
            delivery: ticket.delivery,
            entry: Box::new(entry),
            message,
        };
        self.share_send(cx, ticket.shard, given_back);
    }

    /// What a session had taken from a group before a restart.
    pub(crate) fn restored_ticket(
        &self,
        address: GroupAddress,
        entry: &EntryRecord,
    ) -> ShareTicket {
        ShareTicket {
            shard: address.shard,
            group: address.group,
            delivery: 0,
            epoch: address.epoch,
            taken: true,
            others: false,
            qos: entry.qos,
            retain: entry.retain,
        }
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
                reads,
            } => {
                self.member_present(cx, tenant, &filter, member, |member| {
                    (member.connected, member.reads) = (connected, reads);
                });
            }
            ShareMessage::Deliver {
                member,
                message,
                qos,
                retain,
                subscription_id,
                ticket,
                recorded,
                though_away,
            } => {
                let mut subscription_ids = SmallVec::new();
                if subscription_id != 0 {
                    subscription_ids.push(subscription_id);
                }
                if let Some(ticket) = ticket
                    && let Some(session) = self.live_session(member)
                    && self.sends_at_once_and_never_again(session)
                {
                    let ids = &subscription_ids;
                    return self.send_lent_once(cx, session, &message, (qos, retain), ids, ticket);
                }
                let entry = Entry {
                    message,
                    subscription_ids,
                    qos,
                    retain,
                    why: EnqueuedAs::Shared,
                    recorded,
                    ticket: ticket.map(Box::new),
                };
                self.member_message_received(cx, member, entry, though_away);
            }
            ShareMessage::Outcome {
                group,
                delivery,
                outcome,
            } => {
                self.outcome_received(cx, group, delivery, outcome);
            }
            ShareMessage::GivenBack {
                group,
                epoch,
                delivery,
                entry,
                message,
            } => {
                if let Some(index) = self.groups.live(group) {
                    self.outcome_received(cx, group, delivery, ShareOutcome::Settled);
                    self.given_back(index, *entry, message);
                    self.serve_group(cx, index);
                } else {
                    // The last member took the group with it, perhaps before the entry came back.
                    let (message, why) = (entry.id, entry.why);
                    let ended = Record::EntryEnded {
                        epoch,
                        message,
                        why,
                    };
                    self.append(cx, ended);
                    self.counters.matched += 1;
                    self.counters.drop_messages(DropReason::SessionEnded, 1);
                }
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
        let message = routing.message(&mut self.messages, &self.gauge);
        let group = &mut self.groups.slab[index as usize];
        group.accounting.matched += 1;
        self.counters.matched += 1;
        let entry = Entry {
            message,
            subscription_ids: SmallVec::new(),
            qos,
            retain,
            why: EnqueuedAs::Routed,
            recorded: routing.recorded && qos > QoS::AtMostOnce && group.durable,
            ticket: None,
        };
        let group = &mut self.groups.slab[index as usize];
        let waiting = !group.queue.is_empty();
        match waiting {
            true => group.ask_all_again(),
            false => group.ask_again_if_all_are_full(),
        }
        if waiting && qos > QoS::AtMostOnce {
            self.enqueue_for_group(cx, index, entry);
            self.serve_group(cx, index);
            return;
        }
        self.record_in_group(cx, index, &entry);
        let Some(entry) = self.hand_out(cx, index, entry) else {
            return;
        };
        if qos == QoS::AtMostOnce {
            self.drop_in_group(index, DropReason::NoMember);
        } else {
            self.enqueue_recorded_for_group(cx, index, entry);
        }
    }

    /// The group has or had this message before a restart.
    pub(crate) fn group_had(&self, index: u32, had: &[SessionEpoch]) -> bool {
        !had.is_empty() && had.contains(&self.groups.slab[index as usize].epoch)
    }

    /// An entry is the group's now.
    fn record_in_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &Entry) {
        if entry.recorded {
            let epoch = self.groups.slab[index as usize].epoch;
            let record = Record::Enqueued(entry.record(epoch, cx.now));
            self.append(cx, record);
        }
    }

    /// A message that came when no member outlived its connection goes to one who does: it gets its
    /// record now. Else its Packet Identifier would be given again after a restart, while the
    /// client still knows it.
    fn record_late<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &mut Entry) {
        entry.recorded = true;
        let id = entry.message.id();
        let message = MessageRecord {
            message: entry.message.clone(),
            publisher: None,
            receipt: None,
            retained_revision: None,
            replaces: None,
            to_be_routed: true,
            will_of: None,
        };
        self.append(cx, Record::Message(message));
        self.record_in_group(cx, index, entry);
        self.append(cx, Record::Routed(id));
    }

    /// An entry of the group has come to its end.
    fn group_entry_ended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &Taken) {
        if entry.recorded() {
            let epoch = self.groups.slab[index as usize].epoch;
            let (message, why) = (entry.id(), entry.why());
            let record = Record::EntryEnded {
                epoch,
                message,
                why,
            };
            self.append(cx, record);
        }
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
            None => self.new_group(cx, tenant, filter, None),
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

    /// A group, as it was before a restart if it has an epoch; its members join again.
    fn new_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        epoch: Option<SessionEpoch>,
    ) -> u32 {
        self.groups.generation = self.groups.generation.wrapping_add(1);
        let generation = self.groups.generation;
        let recorded = epoch.is_some();
        let epoch = epoch.unwrap_or_else(|| self.next_epoch());
        let index = self.groups.slab.insert(Group {
            generation,
            tenant,
            filter: filter.clone(),
            epoch,
            durable: recorded,
            recorded,
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
        let subscriber = Subscriber::new(Target::group(index), QoS::ExactlyOnce, recorded);
        let node = self.index_subscriber(cx, topic_filter, subscriber);
        self.groups.slab[index as usize].node = node;
        self.groups.by_filter.insert((tenant, filter), index);
        index
    }

    /// Brings a group back.
    pub(crate) fn restored_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        epoch: SessionEpoch,
    ) -> GroupAddress {
        let index = self.new_group(cx, tenant, filter, Some(epoch));
        let generation = self.groups.slab[index as usize].generation;
        GroupAddress {
            shard: self.id,
            group: GroupId { index, generation },
            epoch,
        }
    }

    /// Brings an entry of a group's queue back.
    pub(crate) fn restored_group_entry(&mut self, id: GroupId, entry: &StoredEntry) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        group.queue.push_back_stored(entry, &self.gauge);
        group.accounting.matched += 1;
        self.counters.matched += 1;
        self.watch_queue_expiry(QueueOwner::Group(id));
    }

    /// A group whose members are all gone does not outlive a restart.
    pub(crate) fn end_group_without_members<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: GroupId) {
        if let Some(index) = self.groups.live(id)
            && self.groups.slab[index as usize].members.is_empty()
        {
            self.end_group(cx, index);
        }
    }

    /// A restored session joins its group again.
    pub(crate) fn restored_member<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
    ) {
        self.join_group(cx, session, subscription, NO_SUBACK);
    }

    /// A group is durable while the session of one member outlives its connection.
    fn classify_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let group = &mut self.groups.slab[index as usize];
        group.durable = group.members.iter().any(|member| member.durable);
        let (node, durable) = (group.node, group.durable);
        if durable && !group.recorded {
            group.recorded = true;
            let record = Record::Group {
                tenant: group.tenant,
                filter: group.filter.clone(),
                epoch: group.epoch,
            };
            self.append(cx, record);
        }
        self.set_durable(cx, node, Target::group(index), durable);
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
        let held = group.held() as u64;
        if group.recorded {
            self.append(cx, Record::Ended(group.epoch));
        }
        self.groups.by_filter.remove(&(group.tenant, group.filter));
        self.counters.drop_messages(DropReason::SessionEnded, held);
    }

    fn member_present<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        member: SessionAddress,
        change: impl FnOnce(&mut Member),
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
            change(known);
        }
        self.serve_group(cx, index);
    }

    /// Hands out what waits, as far as credit goes.
    fn serve_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let group = &mut self.groups.slab[index as usize];
        group.ask_again_if_all_are_full();
        if group.queue.is_empty() || !group.has_taker() {
            return;
        }
        while let Some(entry) = self.groups.slab[index as usize].queue.pop_front() {
            if entry.message.expired(cx.now.mono_ms) {
                self.expire_in_group(cx, index, &Taken::Held(entry));
                continue;
            }
            if let Some(entry) = self.hand_out(cx, index, entry) {
                self.groups.slab[index as usize].queue.push_front(entry);
                break;
            }
        }
        let group = &mut self.groups.slab[index as usize];
        let generation = group.generation;
        if group.has_taker()
            && let Some(messages) = group.queue.page_to_read()
        {
            let owner = QueueOwner::Group(GroupId { index, generation });
            cx.effects.reads.push(QueueRead {
                owner,
                of: PageOf::Queue,
                messages,
            });
        }
    }

    /// Messages of a group have come from the store.
    pub(crate) fn group_messages_read<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        page: Vec<ReadMessage>,
    ) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let queue = &mut self.groups.slab[index as usize].queue;
        for (entry, why) in queue.page_read(page.into_iter()) {
            cx.effects.lost.push(LostMessage {
                id: entry.id,
                waited_for: self.groups.slab[index as usize].filter.to_string(),
                why,
            });
            self.group_entry_ended(cx, index, &Taken::Stored(entry));
            self.drop_in_group(index, DropReason::StoreDamaged);
        }
        self.serve_group(cx, index);
    }

    /// Takes what has expired out of a group's queue.
    pub(crate) fn expire_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: GroupId) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let queue = &mut self.groups.slab[index as usize].queue;
        for entry in queue.take_expired(cx.now.mono_ms) {
            self.expire_in_group(cx, index, &entry);
        }
        self.watch_queue_expiry(QueueOwner::Group(id));
    }

    fn expire_in_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &Taken) {
        self.group_entry_ended(cx, index, entry);
        self.groups.slab[index as usize].accounting.expired += 1;
        self.counters.expired += 1;
    }

    /// Gives a message to the member whose turn it is, or drops what nobody may have; gives it back
    /// if nobody can take it now.
    /// With the QoS granted to that member [MQTT-4.8.2-3].
    fn hand_out<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        mut entry: Entry,
    ) -> Option<Entry> {
        let shard = self.id;
        let group = &mut self.groups.slab[index as usize];
        let chosen = match group.choose(entry.message.topic(), entry.qos) {
            Choice::Member(chosen) => chosen,
            Choice::Later => return Some(entry),
            Choice::Nobody => {
                self.drop_forbidden(cx, index, entry);
                return None;
            }
        };
        let member = &group.members[chosen];
        let though_away = !member.connected;
        let qos = entry.qos.min(member.qos);
        if member.durable && !entry.recorded && qos > QoS::AtMostOnce {
            self.record_late(cx, index, &mut entry);
        }
        let group = &mut self.groups.slab[index as usize];
        let mut members = group.members.iter().enumerate();
        let others = members.any(|(place, member)| {
            let is_other = place != chosen && group.may_have_room(member);
            is_other && member.may_receive(entry.message.topic())
        });
        let member = &mut group.members[chosen];
        let retain = entry.retain && member.retain_as_published;
        let (address, subscription_id) = (member.address, member.subscription_id);
        let recorded = entry.recorded && member.durable;
        let message = entry.message.clone();
        let ticket = if qos == QoS::AtMostOnce {
            // It is the member's from here on: matched moves with it.
            group.accounting.matched -= 1;
            self.counters.matched -= 1;
            self.group_entry_ended(cx, index, &Taken::Held(entry));
            None
        } else {
            member.credit -= 1;
            let delivery = group.next_delivery;
            group.next_delivery += 1;
            let generation = group.generation;
            let ticket = ShareTicket {
                shard,
                group: GroupId { index, generation },
                delivery,
                epoch: group.epoch,
                taken: false,
                others,
                qos: entry.qos,
                retain: entry.retain,
            };
            let held = Outstanding {
                entry: Some(entry),
                member: address,
            };
            group.outstanding.insert(delivery, held);
            Some(ticket)
        };
        let member = address.session;
        let message = ShareMessage::Deliver {
            member,
            message,
            qos,
            retain,
            subscription_id,
            ticket,
            recorded,
            though_away,
        };
        self.share_send(cx, address.shard, message);
        None
    }

    /// None of those who have joined may have it, whether they are there or not.
    fn drop_forbidden<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        if self.settings.events.drops {
            cx.effects.events.push(Event::Dropped {
                client_id: self.groups.slab[index as usize].filter.to_string(),
                topic: entry.message.topic().to_owned(),
                stored: None,
                reason: DropReason::NotPermitted,
            });
        }
        self.group_entry_ended(cx, index, &Taken::Held(entry));
        self.drop_in_group(index, DropReason::NotPermitted);
    }

    /// A group handed a message to a session of this shard.
    fn member_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        member: SessionId,
        entry: Entry,
        though_away: bool,
    ) {
        let session = self.live_session(member);
        let connected = session.filter(|&session| self.sessions.at(session).connection.is_some());
        match (&entry.ticket, session, connected) {
            (Some(ticket), _, Some(session)) if self.has_no_room(session, ticket, &entry) => {
                self.answer_group(cx, &ticket.clone(), ShareOutcome::NoRoom);
            }
            (Some(_), _, Some(session)) => self.deliver_shared(cx, session, entry),
            (Some(_), Some(session), None) if though_away => self.enqueue(cx, session, entry),
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

    /// A member whose queue is full leaves a message to others, if they may have room.
    fn has_no_room(&mut self, session: u32, ticket: &ShareTicket, entry: &Entry) -> bool {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let queue = self.sessions.at(session).outbound.queue();
        ticket.others
            && !queue.is_empty()
            && queue.is_full_for(entry.message.bytes(), count_max, bytes_max)
    }

    fn deliver_shared_qos0<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, entry: &Entry) {
        self.sessions.at(session).accounting.matched += 1;
        self.counters.matched += 1;
        let topic = entry.message.topic();
        if !self.permits(session, Actions::RECEIVE, topic) {
            return self.drop_message(cx, session, DropReason::NotPermitted, 1, topic);
        }
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
        if outcome == ShareOutcome::Taken {
            if let Some(lent) = group.outstanding.get_mut(&delivery)
                && lent.entry.take().is_some()
            {
                // It is the member's from here on: matched moves with it.
                group.accounting.matched -= 1;
                self.counters.matched -= 1;
            }
            return;
        }
        let Some(ended) = group.outstanding.remove(&delivery) else {
            return;
        };
        if let Some(member) = group.members.iter_mut().find(|m| m.address == ended.member) {
            member.credit += 1;
            member.full_until = match outcome {
                ShareOutcome::NoRoom => group.next_delivery + ASKED_AGAIN_AFTER,
                _ => 0,
            };
        }
        if let Some(entry) = ended.entry {
            self.lent_entry_ended(cx, index, entry, outcome);
        }
        self.serve_group(cx, index);
    }

    /// A message that the group held while a member had it has come to its end there.
    fn lent_entry_ended<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        outcome: ShareOutcome,
    ) {
        let returned = ShareOutcome::Returned { sent_qos2: false };
        if outcome == returned || outcome == ShareOutcome::NoRoom {
            self.groups.slab[index as usize].queue.push_front(entry);
            return;
        }
        let entry = Taken::Held(entry);
        self.group_entry_ended(cx, index, &entry);
        if let Taken::Held(entry) = entry {
            self.messages.put_back(entry.message);
        }
        let group = &mut self.groups.slab[index as usize];
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
            ShareOutcome::Returned { .. }
            | ShareOutcome::NoRoom
            | ShareOutcome::Taken
            | ShareOutcome::Settled => self.drop_in_group(index, DropReason::SessionEnded),
        }
    }

    /// A message that a member had taken comes back; its record says so already.
    fn given_back(&mut self, index: u32, entry: StoredEntry, message: Option<Message>) {
        let window = self.group_window(index);
        let group = &mut self.groups.slab[index as usize];
        group.accounting.matched += 1;
        self.counters.matched += 1;
        match message {
            Some(message) if window != Window::Nothing => {
                group.queue.push_front(entry.with(message))
            }
            Some(message) => group.queue.push_back(entry.with(message), window),
            None => group.queue.push_back_stored(&entry, &self.gauge),
        }
        let generation = group.generation;
        self.watch_queue_expiry(QueueOwner::Group(GroupId { index, generation }));
    }

    /// How much of a group's queue is kept in memory.
    fn group_window(&self, index: u32) -> Window {
        let group = &self.groups.slab[index as usize];
        self.window_of(group.members.iter().any(|member| member.connected))
    }

    fn enqueue_for_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        self.record_in_group(cx, index, &entry);
        self.enqueue_recorded_for_group(cx, index, entry);
    }

    /// As [`Shard::enqueue_for_group`], for an entry whose record is appended already.
    fn enqueue_recorded_for_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
    ) {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let window = self.window_for_more(self.group_window(index));
        let queue = &self.groups.slab[index as usize].queue;
        let needs_memory = !(entry.recorded && queue.would_store(window));
        if needs_memory && self.memory.is_spent() {
            self.group_entry_ended(cx, index, &Taken::Held(entry));
            return self.drop_in_group(index, DropReason::MemoryFull);
        }
        // A group has no connection to end: its newest message goes unless the oldest may.
        let oldest = self.settings.queue_full == crate::limits::QueueFull::DropOldest;
        let bytes = entry.message.bytes();
        let fits = bytes as u64 <= bytes_max;
        loop {
            let queue = &mut self.groups.slab[index as usize].queue;
            if !queue.is_full_for(bytes, count_max, bytes_max) {
                break;
            }
            if queue.begins_to_drop() {
                let messages = queue.len();
                let owner = self.groups.slab[index as usize].filter.to_string();
                self.tell_queue_full(cx, owner, messages);
            }
            let queue = &mut self.groups.slab[index as usize].queue;
            let gone = match oldest && fits {
                true => queue.take_oldest(),
                false => None,
            };
            let Some(gone) = gone else {
                self.group_entry_ended(cx, index, &Taken::Held(entry));
                return self.drop_in_group(index, DropReason::QueueFull);
            };
            self.group_entry_ended(cx, index, &gone);
            self.drop_in_group(index, DropReason::QueueFull);
        }
        let group = &mut self.groups.slab[index as usize];
        group.queue.push_back(entry, window);
        let generation = group.generation;
        self.watch_queue_expiry(QueueOwner::Group(GroupId { index, generation }));
    }

    fn drop_in_group(&mut self, index: u32, reason: DropReason) {
        self.groups.slab[index as usize].accounting.dropped += 1;
        self.counters.drop_messages(reason, 1);
    }
}
