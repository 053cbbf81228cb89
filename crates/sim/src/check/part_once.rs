//! Each message is delivered to a part once, or repeated with `dup`. Redeliveries have `dup` set,
//! and only those. A message settled as done or refused is delivered again only after a crash,
//! which may have undone the settlement.
//!
//! The broker's id of a message distinguishes a redelivery from another PUBLISH with the same
//! content. A QoS 2 message has one id, whatever its publisher sends again after a crash: a part
//! gets it only when the node can recognise its retransmission.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, PartOutcome};
use martlet_codec::QoS;

use crate::facts::{Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartDelivery, PartFact};
use crate::topics::Class;

const CHECK: &str = "once to a part, or repeated";

/// Messages delivered to each part.
#[derive(Debug, Default)]
pub(super) struct PartOnce {
    delivered: BTreeMap<(PartIndex, MessageId), DeliveredMessage>,
    /// The broker's ids, by part and message, for one life and one run of the node.
    names: BTreeMap<(PartIndex, MessageIndex), (u32, u32, BTreeSet<MessageId>)>,
}

#[derive(Clone, Copy, Debug)]
struct DeliveredMessage {
    life: u32,
    /// Number of crashes before it was settled, if it was.
    settled: Option<u32>,
}

impl PartOnce {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Fact::Part { part, what } = *fact else {
            return;
        };
        match what {
            PartFact::Delivered(delivery)
                if ledger.topics.class(delivery.topic) != Class::Retained =>
            {
                self.check_delivery(part, &delivery, ledger, findings);
            }
            PartFact::Settled {
                outcome: PartOutcome::Done | PartOutcome::Refused(_),
                id,
                ..
            } => {
                if let Some(delivered) = self.delivered.get_mut(&(part, id)) {
                    delivered.settled = Some(ledger.crashes);
                }
            }
            _ => {}
        }
    }

    fn check_delivery(
        &mut self,
        part: PartIndex,
        delivery: &PartDelivery,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let Some(message) = delivery.message else {
            return;
        };
        let row = ledger.part(part);
        let key = (part, delivery.id);
        let before = self.delivered.get(&key).copied();
        let in_life = before.filter(|delivered| delivered.life == row.life);
        let (name, what) = (&row.name, ledger.describe(message));
        if in_life.is_some() && !delivery.dup {
            findings.add(CHECK, format!("{name} got {what} again without dup"));
        }
        if in_life.is_some_and(|delivered| delivered.settled == Some(ledger.crashes)) {
            findings.add(
                CHECK,
                format!("{name} got {what} again after it settled it"),
            );
        }
        // A crash loses unrecorded earlier deliveries.
        let sent_us = ledger.message(message).sent_us;
        let no_crash = ledger.crashes == 0 || sent_us > ledger.restarted_us;
        // A delivery by one lane may wait for another lane, and so never be taken.
        if before.is_none() && delivery.dup && no_crash && row.lanes == 0 {
            findings.add(
                CHECK,
                format!("{name} got {what} with dup for the first time"),
            );
        }
        let settled = in_life.and_then(|delivered| delivered.settled);
        let life = row.life;
        self.delivered
            .insert(key, DeliveredMessage { life, settled });
        self.count(part, message, delivery.id, ledger, findings);
    }

    /// Checks that there are no more broker messages than publishes. A QoS 1 message published
    /// before a crash may be published again after it.
    fn count(
        &mut self,
        part: PartIndex,
        message: MessageIndex,
        id: MessageId,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.message(message);
        let (life, since_us) = (ledger.part(part).life, ledger.part(part).since_us);
        let is_once = row.qos == QoS::ExactlyOnce;
        // Until a part has received its subscriptions, some shards may lack them.
        if is_once && (row.rotten || since_us >= row.sent_us) {
            return;
        }
        let place = (life, if is_once { 0 } else { ledger.crashes });
        let (life, crashes, names) = self.names.entry((part, message)).or_default();
        if (*life, *crashes) != place {
            (*life, *crashes) = place;
            names.clear();
        }
        names.insert(id);
        let publishes = match row.qos {
            // A message from before the crash, and one published again after it.
            QoS::AtLeastOnce => row.sends.max(1) + u32::from(ledger.crashes > 0),
            QoS::AtMostOnce | QoS::ExactlyOnce => 1,
        };
        if names.len() > publishes as usize {
            let (name, what) = (&ledger.part(part).name, ledger.describe(message));
            let count = names.len();
            findings.add(CHECK, format!("{name} got {what} as {count} messages"));
        }
    }
}
