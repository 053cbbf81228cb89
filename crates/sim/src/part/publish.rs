//! Publishes of a part.

use martlet_broker::{HOPS_MAX, NewMessage, PartCall, PartPublish, Published};
use martlet_codec::QoS;

use super::{NEVER, Part, PartDelivery, PartFact, Phase};
use crate::client::outbound::payload;
use crate::facts::{Fact, MessageIndex};
use crate::ledger::MessageRow;
use crate::store::Lsn;
use crate::topics::Class;
use crate::world::Io;

impl Part {
    pub(super) fn publish_some(&mut self, io: &mut Io<'_>) {
        let Some(plan) = &self.plan.publishing else {
            return;
        };
        self.publish_at = io.now_us() + self.of_publishes.around(plan.every_us);
        if self.phase == Phase::Attached {
            // As if it were caused by a message with too many hops.
            let is_looping = self.of_publishes.percent(5);
            self.publish(io, if is_looping { HOPS_MAX + 1 } else { 0 });
        }
    }

    /// Publishes another message as a consequence of a delivery, sometimes.
    pub(super) fn pass_on(&mut self, io: &mut Io<'_>, delivery: &PartDelivery) {
        let Some(plan) = self.plan.publishing.as_ref().filter(|_| !self.settling) else {
            return;
        };
        let is_plain = io.observer.ledger.topics.class(delivery.topic) == Class::Plain;
        if is_plain && self.of_publishes.percent(plan.passes_on_percent) {
            self.publish(io, delivery.hops + 1);
        }
    }

    fn publish(&mut self, io: &mut Io<'_>, hops: u8) {
        let Some(plan) = &self.plan.publishing else {
            return;
        };
        if self.published == plan.messages_max || !io.node.is_up() {
            return;
        }
        self.published += 1;
        let asks = self.of_receipts.percent(plan.receipts_percent);
        let random = &mut self.of_publishes;
        let topic = random.pick(&plan.topics);
        let qos = random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce]);
        let ledger = &mut io.observer.ledger;
        let message = ledger.new_message(MessageRow {
            publisher: self.client,
            topic,
            qos,
            retain: false,
            empty: false,
            will: false,
            sent_us: io.agenda.now_us(),
            sends: 0,
            acked_us: 0,
            refused: false,
            rotten: false,
            expires_us: NEVER,
        });
        ledger.hops.insert(message, hops);
        let bytes = payload(message, random.below(plan.payload_bytes + 1));
        let publish = PartPublish {
            number: u64::from(message),
            message: NewMessage {
                topic: ledger.topics.name(topic).into(),
                payload: bytes.into(),
                qos,
                retain: false,
                payload_is_utf8: None,
                message_expiry_secs: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
                hops,
            },
            receipts: asks,
        };
        io.fact(Fact::Published {
            client: self.client,
            message,
            again: false,
        });
        if asks {
            self.requested.insert(message);
        }
        self.call(io, PartCall::Publish(self.attachment(), Box::new(publish)));
    }

    /// Handles the answer to a publish.
    pub(super) fn is_answered(
        &self,
        io: &mut Io<'_>,
        number: u64,
        outcome: Published,
        durable: Lsn,
    ) {
        let message = number as MessageIndex;
        let ledger = &io.observer.ledger;
        let known = ledger.messages.get(message as usize);
        if known.is_none_or(|row| row.publisher != self.client || row.acked_us > 0) {
            let what = format!("{} got an answer to no publish: {number}", self.plan.name);
            return io.observer.complain("answers to questions", what);
        }
        io.fact(Fact::Acknowledged {
            client: self.client,
            message,
            refused: outcome.reason.is_error(),
            durable,
        });
        if let Some(id) = outcome.id.filter(|_| self.requested.contains(&message)) {
            self.fact(io, PartFact::ReceiptsRequested { message, id });
        }
    }
}
