//! Each message is delivered to a part once, or repeated with `dup`: what was delivered before says
//! so, what says so was delivered before, and what was settled done or refused comes again only
//! after a crash, which may have taken the settlement back.
//!
//! The broker's name of a message tells a repeated one from another PUBLISH of the same content. A
//! QoS 2 message has one name, whatever its publisher sends again after a crash: a part is told of
//! it once the node can tell that it comes again.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, PartOutcome};
use martlet_codec::QoS;

use crate::facts::{Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartDelivery, PartFact};
use crate::topics::Class;

const CHECK: &str = "once to a part, or repeated";

/// What each part was told of.
#[derive(Debug, Default)]
pub(super) struct PartOnce {
    delivered: BTreeMap<(PartIndex, MessageId), DeliveredMessage>,
    /// The broker's names, by part and message, for one life and one run of the node.
    names: BTreeMap<(PartIndex, MessageIndex), (u32, u32, BTreeSet<MessageId>)>,
}

#[derive(Clone, Copy, Debug)]
struct DeliveredMessage {
    life: u32,
    /// Crashes of the node before it was settled, if it was.
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
        // A crash takes what was not recorded of earlier deliveries.
        let sent_us = ledger.message(message).sent_us;
        let no_crash = ledger.crashes == 0 || sent_us > ledger.restarted_us;
        // What one lane is told may wait for another one, and so never be taken.
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
        self.count((part, message), delivery.id, ledger, findings);
    }

    /// No more messages of the broker than there were publishes. One of QoS 1 that was published
    /// before a crash may be published again after it.
    fn count(
        &mut self,
        (part, message): (PartIndex, MessageIndex),
        id: MessageId,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.message(message);
        let (life, since_us) = (ledger.part(part).life, ledger.part(part).since_us);
        let is_once = row.qos == QoS::ExactlyOnce;
        // Until a part knows its subscriptions, not all shards do.
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
            // A message of before the crash and the one that was published again after it.
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
