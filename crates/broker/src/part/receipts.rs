//! Receipts: a part may ask for one from each receiver of a message that it publishes. A receipt
//! has the outcome: acknowledged, refused, dropped or expired.
//!
//! A receiver is a session or a share group that a message is routed to. Its receipt is due when
//! the message counts as matched. It is sent when the message counts as delivered, dropped or
//! expired: receipts follow the accounts.
//!
//! The name of a message contains whether it asks for receipts ([`MessageId::wants_receipts`]). So
//! queues, messages in flight and records need no mark of their own, and other messages cost
//! nothing. Each shard has a table of the messages with receipts due, with the part of each.

pub(crate) mod due;

use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_fault::{self as fault, Fault};
use martlet_permission::TenantId;

use super::{PartEvent, PartId};
use crate::counters::DropReason;
use crate::effect::ShardMessage;
use crate::id::{MessageId, SessionAddress, SessionEpoch, SessionId};
use crate::message::Publication;
use crate::node::{Cx, Node};
use crate::part::interface::{Receipt, ReceiptOutcome};
use crate::part::receipts::due::is_routed;
use crate::record::EnqueuedAs;
use crate::shard::{Gated, Shard};
use crate::share::message::MemberReceipt;
use crate::share::ticket::{GroupId, ShareOutcome};
use crate::work::DELIVERY;

impl Shard {
    /// The session of this Client Identifier, if it is a part's. For receipts that a store
    /// restores.
    pub fn session_for_receipts(
        &mut self,
        tenant: TenantId,
        client_id: &str,
    ) -> Option<(SessionEpoch, SessionAddress)> {
        let index = self.sessions.find(tenant, client_id)?;
        let session = self.sessions.at(index);
        let (epoch, is_part) = (session.epoch, session.flags.part());
        is_part.then(|| (epoch, self.address_of(index)))
    }

    /// An entry of a session has ended and is counted in its accounts.
    #[inline]
    pub(crate) fn end_receipt<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: MessageId,
        why: EnqueuedAs,
        outcome: ReceiptOutcome,
    ) {
        if message.wants_receipts() && is_routed(why) {
            let receiver = self.sessions.at(index).client_id.clone();
            self.end_receipt_of(cx, message, receiver, outcome);
        }
    }

    /// Ends a receipt, likewise, for any receiver, by its name.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_receipt_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: MessageId,
        receiver: Arc<str>,
        outcome: ReceiptOutcome,
    ) {
        if let Some(part) = self.parts.receipts.take(message) {
            self.send_receipt(cx, part, message, receiver, outcome);
        }
    }

    /// A message was sent to a session at QoS 0, or dropped.
    #[inline]
    pub(crate) fn receipt_at_qos0<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        publication: &Publication<'_>,
        result: Result<(), DropReason>,
    ) {
        if publication.id.wants_receipts() {
            let receiver = self.sessions.at(index).client_id.clone();
            self.receipt_at_once(cx, publication, receiver, result);
        }
    }

    /// Reports a message that was sent at QoS 0, or dropped, for any receiver, by its name.
    #[cold]
    #[inline(never)]
    pub(crate) fn receipt_at_once<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: &Publication<'_>,
        receiver: Arc<str>,
        result: Result<(), DropReason>,
    ) {
        let outcome = match result {
            Ok(()) => ReceiptOutcome::Sent,
            Err(reason) => ReceiptOutcome::Dropped(reason),
        };
        if let Some(part) = publication.publisher {
            self.send_receipt(cx, part, publication.id, receiver, outcome);
        }
    }

    pub(crate) fn send_receipt<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        part: SessionAddress,
        message: MessageId,
        mut receiver: Arc<str>,
        mut outcome: ReceiptOutcome,
    ) {
        match outcome {
            ReceiptOutcome::Acknowledged if fault::is(Fault::PartReceiptLost) => return,
            ReceiptOutcome::Dropped(_) if fault::is(Fault::PartReceiptForDrop) => {
                outcome = ReceiptOutcome::Acknowledged;
            }
            _ => {}
        }
        if fault::is(Fault::PartReceiptOfOther) {
            let mut all = self.sessions.iter();
            let other = all.find(|(_, session)| session.client_id != receiver);
            receiver = other.map_or(receiver, |(_, session)| session.client_id.clone());
        }
        let receipt = Receipt {
            message,
            receiver,
            outcome,
        };
        if fault::is(Fault::PartReceiptTwice) {
            self.route_receipt(cx, part, receipt.clone());
        }
        self.route_receipt(cx, part, receipt);
    }

    /// Sends the receipt to the part, on this shard or another one. Receipts wait until the part
    /// has the name of the message.
    fn route_receipt<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        part: SessionAddress,
        receipt: Receipt,
    ) {
        self.work.add(DELIVERY);
        if let Some(held_back) = &mut self.parts.receipts.held_back {
            held_back.push((part, receipt));
        } else if part.shard == self.id {
            self.notify_part_of_session(cx, part.session, PartEvent::Receipt(receipt));
        } else if let Some(batch) = cx.effects.batches.get_mut(usize::from(part.shard.0))
            && !fault::is(Fault::PartReceiptNotSent)
        {
            let part = part.session;
            batch.push(ShardMessage::Receipt(part, Box::new(receipt)));
        }
    }

    /// Sends an event to the part of a session, if it is attached. The event waits for all records
    /// up to now, so it follows the answer to what the part published.
    pub(crate) fn notify_part_of_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: SessionId,
        event: PartEvent,
    ) {
        if let Some(part) = self.part_of_session(session) {
            let record = self.store.records.last();
            self.gate(cx, record, Gated::PartEvent(part, Box::new(event)));
        }
    }

    fn part_of_session(&mut self, session: SessionId) -> Option<PartId> {
        let index = self.sessions.live(session)?;
        // A part gets no event before `Attached`.
        let connection = self.admitted_connection(index)?;
        let connection = self.connections.id_of(connection);
        Some(self.parts.at(connection)?.id)
    }

    /// The part has its answer: sends the receipts that waited for it.
    pub(super) fn let_receipts_out<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for (part, receipt) in self.parts.receipts.held_back.take().unwrap_or_default() {
            self.route_receipt(cx, part, receipt);
        }
    }

    /// The message of a part is being fanned out here, so its receivers are counted later.
    #[cold]
    pub(crate) fn receivers_counted_later(&mut self, publication: &Publication<'_>) {
        if let Some(part) = publication.publisher {
            self.parts
                .receipts
                .counting_of(publication.id, part.session)
                .missing += 1;
        }
    }

    /// This shard has handed the message to this number of receivers; others count theirs.
    pub(super) fn count_receivers<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: MessageId,
        part: SessionId,
        receivers: u64,
        other_shards: u32,
    ) {
        self.parts.receipts.counting_of(message, part).missing += other_shards + 1;
        self.receivers_counted(cx, message, receivers);
    }

    /// A shard has handed a message of this shard's to this number of receivers.
    pub(crate) fn receivers_counted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: MessageId,
        receivers: u64,
    ) {
        // Nothing is counted of a message that is routed again after a restart.
        let Some(counting) = self.parts.receipts.counting.get_mut(&message) else {
            return;
        };
        counting.receivers += receivers;
        counting.missing -= 1;
        let (part, receivers, missing) = (counting.part, counting.receivers, counting.missing);
        if missing == 0 {
            self.parts.receipts.counting.remove(&message);
            let counted = PartEvent::Receivers { message, receivers };
            self.notify_part_of_session(cx, part, counted);
        }
    }

    /// Reports to the shard of the publisher how many receivers a message has on this shard.
    #[cold]
    #[inline(never)]
    pub(crate) fn report_receivers<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: &Publication<'_>,
        receivers: u64,
    ) {
        let Some(part) = publication.publisher else {
            return;
        };
        if part.shard == self.id {
            self.receivers_counted(cx, publication.id, receivers);
        } else if let Some(batch) = cx.effects.batches.get_mut(usize::from(part.shard.0)) {
            batch.push(ShardMessage::Receivers(publication.id, receivers));
        }
    }

    /// Creates what a member adds to its answer to a share group, if the message asks for receipts.
    #[cold]
    #[inline(never)]
    pub(crate) fn member_receipt(
        &mut self,
        group: GroupId,
        delivery: u64,
        session: Option<u32>,
        message: MessageId,
        refused: Option<ReasonCode>,
    ) -> Box<MemberReceipt> {
        let receiver = session.map(|index| self.sessions.at(index).client_id.clone());
        Box::new(MemberReceipt {
            group,
            delivery,
            message,
            receiver: receiver.unwrap_or_default(),
            refused,
        })
    }

    /// A member has answered for a message of a share group that has ended meanwhile.
    #[cold]
    pub(crate) fn end_receipt_without_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        receipt: MemberReceipt,
        answer: ShareOutcome,
    ) {
        if answer == ShareOutcome::Taken {
            // The member holds it.
            self.parts.receipts.take(receipt.message);
            return;
        }
        let ended = ReceiptOutcome::Dropped(DropReason::SessionEnded);
        let outcome = receipt.outcome(answer).unwrap_or(ended);
        self.end_receipt_of(cx, receipt.message, receipt.receiver, outcome);
    }
}
