//! Shared Subscriptions (MQTT 5 section 4.8.2): a share group is a session of its own, on the shard
//! that its key hashes to.
//!
//! The group holds the queue. Members give it credit; it hands out a message only against credit,
//! and holds it until the member's shard has answered: acknowledged, refused, or returned because
//! the member's session has ended. What is returned goes to the next member, except a QoS 2 message
//! that was sent once: it is dropped with its session [MQTT-4.8.2-4], [MQTT-4.8.2-5].
//!
//! A member gets only messages that its rules permit. The group has the rules of each member, so a
//! message does not go to a member that may not read it. A message that no member may read is
//! dropped.

pub(crate) mod group;
mod hand_out;
mod member;
mod members;
mod membership;
pub(crate) mod message;
mod send;
pub(crate) mod ticket;

use std::sync::Arc;

use crate::counters::DropReason;
use crate::id::{SessionAddress, SessionEpoch, SessionId, ShardId, SubscriptionIds};
use crate::node::{Cx, Node};
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, Record};
use crate::session::queue::{Entry, StoredEntry};
use crate::shard::Shard;
use crate::share::message::ShareMessage;
use crate::share::ticket::ShareOutcome;

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
                let id = (subscription_id != 0).then_some(subscription_id);
                let subscription_ids: SubscriptionIds = id.into_iter().collect();
                let mut entry = Entry {
                    message,
                    subscription_ids,
                    qos,
                    retain,
                    why: EnqueuedAs::Shared(copy),
                    recorded,
                    ticket: None,
                };
                if let Some(ticket) = ticket
                    && let Some(session) = self.sessions.live(member)
                    && self.sends_at_once_and_never_again(session)
                {
                    return self.send_lent_once(cx, session, &entry, ticket);
                }
                entry.ticket = ticket.map(Box::new);
                self.member_message_received(cx, member, entry, though_away);
            }
            ShareMessage::Outcome {
                group,
                delivery,
                outcome,
            } => {
                self.outcome_received(cx, group, delivery, outcome);
            }
            ShareMessage::Receipt(receipt) => self.parts.receipts.answered(*receipt),
            ShareMessage::GivenBack {
                group,
                epoch,
                delivery,
                entry,
                message,
                receipt,
            } => {
                if let Some(index) = self.groups.takes_back(group, delivery) {
                    self.outcome_received(cx, group, delivery, ShareOutcome::Settled);
                    if let Some(receipt) = receipt {
                        self.parts.receipts.add(entry.id, Some(receipt.0));
                    }
                    self.given_back(index, *entry, message);
                    self.serve_group(cx, index);
                } else {
                    self.returned_too_late(cx, epoch, &entry, receipt);
                }
            }
        }
    }

    /// The last member has taken its group with it, perhaps before it gave this entry back.
    fn returned_too_late<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        epoch: SessionEpoch,
        entry: &StoredEntry,
        receipt: Option<Box<(SessionAddress, Arc<str>)>>,
    ) {
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

    /// A member that rules have changed for, or that was revoked, gives back what it is handed: its
    /// group is notified of the reason before.
    fn review_member<N: Node>(&mut self, cx: &mut Cx<'_, N>, member: SessionId) {
        if self.permits.reviews.is_under_way()
            && let Some(session) = self.sessions.live(member)
        {
            self.review(session);
            while let Some(changed) = self.groups.reads_changed.pop() {
                self.send_reads(cx, changed);
            }
        }
    }
}
