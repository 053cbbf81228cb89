//! Messages that a part publishes: by the rules of its principal, and answered when a PUBACK would
//! be sent.
//!
//! A part may pass on what it takes, and what it publishes may come back to it. Its own messages do
//! not: its subscriptions have No Local. A message that others have passed on counts its hops.

use martlet_codec::ReasonCode;
use martlet_fault::{self as fault, Fault};

use crate::id::RecordNumber;
use crate::message::HOPS_MAX;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PUBLISHED;
use crate::operate::publish::NodePublisher;
use crate::part::interface::PartPublish;
use crate::report::Published;
use crate::shard::{Gated, Shard};

use super::{PartEvent, PartId};

impl Shard {
    /// A part publishes a message.
    pub(super) fn part_publishes<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: PartId,
        publish: &PartPublish,
    ) {
        let Some((_, session)) = self.session_of_part(id) else {
            return;
        };
        let receivers = self.parts.receipts.receivers();
        if publish.receipts {
            self.parts.receipts.hold_back();
        }
        let (outcome, record) = self.route_of_part(cx, session, publish);
        let (message, other_shards) = (outcome.id, outcome.other_shards);
        let is_forbidden = outcome.reason == ReasonCode::NotAuthorized;
        let published = PartEvent::Published {
            number: publish.number,
            outcome,
        };
        let record = match fault::is(Fault::PartPublishedBeforeRecord) {
            true => RecordNumber(0),
            false => record,
        };
        if !is_forbidden || !fault::is(Fault::PartRefusalNotAnswered) {
            self.gate(cx, record, Gated::PartEvent(id, Box::new(published)));
        }
        if publish.receipts {
            self.let_receipts_out(cx);
            if let Some(message) = message {
                let receivers = self.parts.receipts.receivers() - receivers;
                let session = self.sessions.id_of(session);
                self.count_receivers(cx, message, session, receivers, other_shards);
            }
        }
    }

    fn route_of_part<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        publish: &PartPublish,
    ) -> (Published, RecordNumber) {
        let message = &publish.message;
        let tenant = self.sessions.at(session).tenant;
        if let Err(refused) = self.check_publish_of_part(session, publish) {
            self.counters.publishes_refused += 1;
            if refused.reason == ReasonCode::NotAuthorized {
                self.notify_publish_forbidden(cx, session, &message.topic);
            }
            return (refused, RecordNumber(0));
        }
        let by = NodePublisher {
            tenant,
            session: Some(self.address_of(session)),
            receipts: publish.receipts,
        };
        self.publish_new(cx, by, message, |shard, cx, publication, matched| {
            if shard.observers.wants.any(NOTIFY_PUBLISHED) {
                shard.notify_published(cx, session, publication, matched);
            }
        })
    }

    fn check_publish_of_part(
        &mut self,
        session: u32,
        publish: &PartPublish,
    ) -> Result<(), Published> {
        let message = &publish.message;
        let state = self.sessions.at(session);
        let (tenant, own) = (state.tenant, state.epoch);
        let is_permitted =
            self.may_publish(session, &message.topic) || fault::is(Fault::PartPublishUnchecked);
        if !martlet_permission::part_may_publish(&message.topic) || !is_permitted {
            return Err(Published::refused(ReasonCode::NotAuthorized));
        }
        if message.hops > HOPS_MAX {
            return Err(Published::refused(ReasonCode::ImplementationSpecificError));
        }
        let is_held = self.parts.holds.any() && self.parts.holds.hold(Some(own), tenant, message);
        match is_held {
            true => Err(Published::held()),
            false => Ok(()),
        }
    }
}
