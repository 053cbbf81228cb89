//! Messages between a share group and the shards of its members.

use martlet_codec::ReasonCode;

use crate::effect::ShardMessage;
use crate::id::{MessageId, SessionEpoch, ShardId};
use crate::node::{Cx, Node};
use crate::session::queue::Entry;
use crate::shard::Shard;
use crate::share::message::ShareMessage;
use crate::share::ticket::{ShareOutcome, ShareTicket};

impl Shard {
    pub(crate) fn share_send<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        to: ShardId,
        message: ShareMessage,
    ) {
        if to == self.id {
            self.groups.own_traffic.push_back(message);
        } else if let Some(batch) = cx.effects.batches.get_mut(usize::from(to.0)) {
            batch.push(ShardMessage::Share(message));
        }
    }

    /// Answers for a handed out message: `session` is the member's, if there is one.
    pub(crate) fn answer_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: &ShareTicket,
        session: Option<u32>,
        message: MessageId,
        outcome: ShareOutcome,
    ) {
        self.answer_group_as(cx, ticket, session, message, outcome, None);
    }

    /// Answers, likewise; `refused` is the reason code with which the member has refused it.
    pub(crate) fn answer_group_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: &ShareTicket,
        session: Option<u32>,
        message: MessageId,
        outcome: ShareOutcome,
        refused: Option<ReasonCode>,
    ) {
        let (group, delivery) = (ticket.group, ticket.delivery);
        if message.wants_receipts() && outcome != ShareOutcome::Settled {
            let receipt = self.member_receipt(group, delivery, session, message, refused);
            self.share_send(cx, ticket.shard, ShareMessage::Receipt(receipt));
        }
        let answer = ShareMessage::Outcome {
            group,
            delivery,
            outcome,
        };
        self.share_send(cx, ticket.shard, answer);
    }

    /// Moves an entry that a share group handed out into the queue of a durable session. Answers
    /// the epoch of the group, for the record that is appended next.
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
        self.count_matched();
        let message = &entry.message;
        if message.id().wants_receipts() {
            let publisher = message.publication().publisher;
            self.parts.receipts.add(message.id(), publisher);
        }
        let id = message.id();
        self.answer_group(cx, &ticket, Some(session), id, ShareOutcome::Taken);
        Some(ticket.epoch)
    }
}
