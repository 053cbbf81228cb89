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

mod group;
mod hand_out;
mod member;
mod members;
mod membership;

use std::sync::Arc;

use martlet_codec::QoS;
use smallvec::SmallVec;

use crate::counters::DropReason;
use crate::effect::ShardMessage;
use crate::fault::{self, Fault};
use crate::id::{SessionAddress, SessionId, ShardId, TenantId};
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::part::{MemberReceipt, ReceiptOutcome};
use crate::record::{EnqueuedAs, Record, SessionEpoch};
use crate::session::queue::{Entry, StoredEntry};
use crate::shard::Shard;

pub(crate) use group::Groups;
pub use group::{Member, Reads, RulesVersion};

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

#[cfg(test)]
impl ShareTicket {
    /// Of no group.
    pub(crate) fn for_tests() -> Self {
        Self {
            shard: ShardId(0),
            group: GroupId {
                index: 0,
                generation: 0,
            },
            delivery: 0,
            epoch: SessionEpoch(0),
            taken: true,
            others: false,
            qos: QoS::AtLeastOnce,
            retain: false,
        }
    }
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
        /// By which book.
        rules_version: RulesVersion,
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
        /// Which of the session's groups.
        copy: u8,
        /// No member that may have it is connected: it waits for this one.
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
    /// Comes right before an outcome of a message that asks for receipts.
    Receipt(Box<MemberReceipt>),
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
        /// The part that asked for receipts of it, and the member.
        receipt: Option<Box<(SessionAddress, Arc<str>)>>,
    },
}

impl Shard {
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
                rules_version,
            } => {
                self.member_present(cx, tenant, &filter, member, |member| {
                    (member.connected, member.reads) = (connected, reads);
                    member.rules_version = rules_version;
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
                copy,
                though_away,
            } => {
                self.review_member(cx, member);
                let mut subscription_ids = SmallVec::new();
                if subscription_id != 0 {
                    subscription_ids.push(subscription_id);
                }
                if let Some(ticket) = ticket
                    && let Some(session) = self.live_session(member)
                    && self.sends_at_once_and_never_again(session)
                {
                    let ids = &subscription_ids;
                    let sent = (qos, retain, EnqueuedAs::Shared(copy));
                    return self.send_lent_once(cx, session, &message, sent, ids, ticket);
                }
                let entry = Entry {
                    message,
                    subscription_ids,
                    qos,
                    retain,
                    why: EnqueuedAs::Shared(copy),
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
            ShareMessage::Receipt(receipt) => self.receipts.answered(*receipt),
            ShareMessage::GivenBack {
                group,
                epoch,
                delivery,
                entry,
                message,
                receipt,
            } => {
                let index = self.groups.live(group).filter(|index| {
                    let group = &self.groups.slab[*index as usize];
                    !fault::is(Fault::ShareReturnedTaken) && !group.is_return_lost(delivery)
                });
                if let Some(index) = index {
                    self.outcome_received(cx, group, delivery, ShareOutcome::Settled);
                    if let Some(receipt) = receipt {
                        self.receipts.add(entry.id, Some(receipt.0));
                    }
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
                    self.count_matched();
                    self.counters.drop_messages(DropReason::SessionEnded, 1);
                    if let Some(receipt) = receipt {
                        let (part, receiver) = *receipt;
                        let dropped = ReceiptOutcome::Dropped(DropReason::SessionEnded);
                        self.send_receipt(cx, part, message, receiver, dropped);
                    }
                }
            }
        }
    }

    /// A member that rules have changed for, or that was revoked, gives back what it is handed: its
    /// group hears why before.
    fn review_member<N: Node>(&mut self, cx: &mut Cx<'_, N>, member: SessionId) {
        if self.reviews.is_under_way()
            && let Some(session) = self.live_session(member)
        {
            self.review(session);
            while let Some(changed) = self.reads_changed.pop() {
                self.send_reads(cx, changed);
            }
        }
    }

    fn share_send<N: Node>(&mut self, cx: &mut Cx<'_, N>, to: ShardId, message: ShareMessage) {
        if to == self.id {
            self.own_share_traffic.push_back(message);
        } else if let Some(batch) = cx.effects.batches.get_mut(usize::from(to.0)) {
            batch.push(ShardMessage::Share(message));
        }
    }
}
