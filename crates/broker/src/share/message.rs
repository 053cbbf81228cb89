//! Messages between a share group and the shards of its members.

use std::sync::Arc;

use martlet_codec::{QoS, ReasonCode};
use martlet_permission::{Actions, Names, Rules, TenantId};

use crate::counters::DropReason;
use crate::id::{MessageId, SessionAddress, SessionEpoch, SessionId};
use crate::message::Message;
use crate::part::interface::ReceiptOutcome;
use crate::session::queue::entry::StoredEntry;
use crate::share::ticket::{GroupId, ShareOutcome, ShareTicket};

/// Rights of a member to receive, where it may not get everything.
#[derive(Debug)]
pub struct Reads {
    pub(crate) rules: Arc<Rules>,
    pub(crate) user_name: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
}

impl Reads {
    pub(crate) fn permit(&self, topic: &str) -> bool {
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
    /// Session of the member.
    pub(crate) address: SessionAddress,
    /// Maximum QoS granted.
    pub(crate) qos: QoS,
    /// 0 is none.
    pub(crate) subscription_id: u32,
    /// Tells what it gets from this group from what it gets from others.
    pub(crate) copy: u8,
    pub(crate) retain_as_published: bool,
    pub(crate) connected: bool,
    /// Whether its session outlives its connection.
    pub(crate) durable: bool,
    /// Messages it takes before it has answered for one; below zero by what waits for it though it
    /// is away.
    pub(crate) credit: i32,
    /// None is everything.
    pub(crate) reads: Option<Arc<Reads>>,
    /// The book of rules of its shard by which that was decided; [`RulesVersion::ANY`] where none
    /// is looked into.
    pub(crate) rules_version: RulesVersion,
    /// Number of the group's delivery until which others come first, because it had no room. 0
    /// where it had.
    pub(crate) full_until: u64,
}

impl Member {
    /// Whether the member may receive it. The topic does not matter for members without rules.
    pub(crate) fn may_receive(&self, message: &Message) -> bool {
        let reads = self.reads.as_ref();
        reads.is_none_or(|reads| reads.permit(message.topic()))
    }
}

/// Counts the books of rules that a shard was given. All shards are given the same, one after the
/// other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesVersion(u64);

impl RulesVersion {
    /// The version of what does not change with the book.
    pub(crate) const ANY: Self = Self(u64::MAX);

    /// Another book was given.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Traffic between a share group and the shards of its members.
#[derive(Clone, Debug)]
pub enum ShareMessage {
    /// A session subscribes.
    Join {
        /// Tenant of the topics.
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
        /// Tenant of the topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: SessionAddress,
    },
    /// The client of a member has come or gone, or may get other messages than before.
    Presence {
        /// Tenant of the topics.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// The member.
        member: SessionAddress,
        /// Whether it is there.
        connected: bool,
        /// Rights of the member to receive.
        reads: Option<Arc<Reads>>,
        /// The book by which that was decided.
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
        /// Whether it has a record in the group's queue.
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
        /// The outcome.
        outcome: ShareOutcome,
    },
    /// Comes right before an outcome of a message that asks for receipts.
    Receipt(Box<MemberReceipt>),
    /// A durable member gives back what it had taken, by one record: it is away or gone.
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

/// Addition of a member of a share group to its answer for a message that asks for receipts.
#[derive(Clone, Debug)]
pub struct MemberReceipt {
    pub(crate) group: GroupId,
    pub(crate) delivery: u64,
    pub(crate) message: MessageId,
    /// Client Identifier of the member.
    pub(crate) receiver: Arc<str>,
    /// The reason code, if the member's client has refused the message.
    pub(crate) refused: Option<ReasonCode>,
}

impl MemberReceipt {
    /// How the message ended by this answer; none if it did not end.
    pub(crate) fn outcome(&self, answer: ShareOutcome) -> Option<ReceiptOutcome> {
        Some(match (answer, self.refused) {
            (ShareOutcome::Acknowledged, _) => ReceiptOutcome::Acknowledged,
            (ShareOutcome::Dropped(_), Some(reason)) => ReceiptOutcome::Refused(reason),
            (ShareOutcome::Dropped(reason), None) => ReceiptOutcome::Dropped(reason),
            (ShareOutcome::Expired, _) => ReceiptOutcome::Expired,
            (ShareOutcome::Returned { sent_qos2: true }, _) => {
                ReceiptOutcome::Dropped(DropReason::SessionEnded)
            }
            (
                ShareOutcome::Returned { sent_qos2: false }
                | ShareOutcome::NoRoom
                | ShareOutcome::Taken
                | ShareOutcome::Settled,
                _,
            ) => return None,
        })
    }
}
