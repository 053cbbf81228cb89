//! The rules of an attachment: a part has no more unsettled deliveries than its credit; a token
//! identifies one delivery until it is settled. A part gets only subscribed messages, with the
//! correct publisher. Its session exists if it was promised, and does not if it was ended.

use std::collections::BTreeMap;

use martlet_broker::{MessageId, PartId, PartOutcome};

use crate::agenda::SECOND;
use crate::facts::{Fact, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartDelivery, PartFact};
use crate::topics::Class;

const CHECK: &str = "rules of parts";

/// Time limit until a lower credit is in force.
const CREDIT_US: u64 = SECOND;

/// Unsettled deliveries of each part.
#[derive(Debug, Default)]
pub(super) struct PartRules {
    parts: BTreeMap<PartIndex, UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    attachment: PartId,
    /// Delivered and not answered, by token.
    open: BTreeMap<u32, MessageId>,
    /// Postponed and not delivered again, by token.
    put_off: BTreeMap<u32, MessageId>,
    credit: u16,
    /// An earlier, larger credit that may be in force until this time.
    credit_before: (u64, u16),
    /// Whether it has ended its session, and no crash may have undone that.
    has_ended: bool,
    /// The attachment that must find no session.
    finds_none: Option<PartId>,
    /// Whether a session was promised.
    is_promised: bool,
}

impl PartRules {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Crashed { .. } => {
                for under_way in self.parts.values_mut() {
                    (under_way.has_ended, under_way.finds_none) = (false, None);
                }
            }
            Fact::Part { part, what } => self.see_part(at_us, part, &what, ledger, findings),
            _ => {}
        }
    }

    fn see_part(
        &mut self,
        at_us: u64,
        part: PartIndex,
        what: &PartFact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.part(part);
        let under_way = self.parts.entry(part).or_default();
        match *what {
            PartFact::Attaching {
                attachment, credit, ..
            } => {
                under_way.attachment = attachment;
                under_way.open.clear();
                under_way.put_off.clear();
                under_way.credit = credit;
                under_way.credit_before = (0, 0);
                if core::mem::take(&mut under_way.has_ended) || !row.durable {
                    under_way.finds_none = Some(attachment);
                }
            }
            PartFact::Attached { present, .. } => {
                let name = &row.name;
                if present && under_way.finds_none == Some(row.attachment) {
                    findings.add(CHECK, format!("{name} found a session that had ended"));
                }
                if !present && under_way.is_promised {
                    findings.add(CHECK, format!("{name} came back to no session"));
                }
                // Lanes without filters have no copies on the new shards of a larger node.
                let takes_any = row.filters.filters().next().is_some();
                under_way.is_promised = row.durable && (row.lanes == 0 || takes_any);
            }
            PartFact::Left { ends } => {
                if ends {
                    under_way.has_ended = true;
                    under_way.is_promised = false;
                }
            }
            PartFact::Credit(credit) => {
                under_way.credit_before = (at_us + CREDIT_US, under_way.credit_at(at_us));
                under_way.credit = credit;
            }
            PartFact::Settled {
                token, outcome, id, ..
            } => {
                under_way.open.remove(&token);
                if matches!(outcome, PartOutcome::Later(_)) {
                    under_way.put_off.insert(token, id);
                }
            }
            PartFact::Delivered(delivery) => {
                if let Some(what) = under_way.take_delivery(at_us, &delivery) {
                    findings.add(CHECK, format!("{}: {what}", row.name));
                }
                is_subscribed(part, &delivery, ledger, findings);
            }
            PartFact::Ended
            | PartFact::Hangs(_)
            | PartFact::Queue { .. }
            | PartFact::ReceiptsRequested { .. }
            | PartFact::Receivers { .. }
            | PartFact::Receipt { .. }
            | PartFact::Dropped { .. } => {}
        }
    }
}

impl UnderWay {
    fn credit_at(&self, at_us: u64) -> u16 {
        match self.credit_before {
            (until_us, before) if at_us <= until_us => before.max(self.credit),
            _ => self.credit,
        }
    }

    fn take_delivery(&mut self, at_us: u64, delivery: &PartDelivery) -> Option<String> {
        if delivery.attachment != self.attachment {
            return None;
        }
        let (token, id) = (delivery.token, delivery.id);
        let put_off = self.put_off.remove(&token);
        if put_off.is_some_and(|put_off| put_off != id) {
            return Some(format!(
                "token {token} is that of another delivery, which was put off"
            ));
        }
        if self.open.insert(token, id).is_some() {
            return Some(format!("token {token} is not settled yet"));
        }
        let (open, credit) = (self.open.len(), self.credit_at(at_us));
        (open > usize::from(credit)).then(|| format!("{open} deliveries, its credit is {credit}"))
    }
}

/// Checks that a delivered message was published on its topic by the named client, and matches a
/// subscription.
fn is_subscribed(
    part: PartIndex,
    delivery: &PartDelivery,
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let row = ledger.part(part);
    let name = &row.name;
    let mut named = delivery.filters.filters();
    let matched = named.all(|filter| ledger.topics.matches(filter, delivery.topic));
    if !matched || delivery.filters == Default::default() {
        let topic = ledger.topics.name(delivery.topic);
        findings.add(CHECK, format!("{name} got {topic} for other subscriptions"));
    }
    let Some(message) = delivery.message else {
        return;
    };
    let found = ledger.message(message);
    let what = ledger.describe(message);
    if found.topic != delivery.topic {
        let other = ledger.topics.name(delivery.topic);
        findings.add(CHECK, format!("{name} got {what} on {other}"));
    }
    if delivery.publisher != Some(found.publisher) {
        let other = delivery.publisher.map(|other| &*ledger.client(other).name);
        let other = other.unwrap_or("nobody");
        findings.add(
            CHECK,
            format!("{name} got {what} with {other} as its publisher"),
        );
    }
    let is_plain = ledger.topics.class(delivery.topic) == Class::Plain;
    if is_plain && !row.may_have_requested(delivery.topic, found.sent_us, &ledger.topics) {
        findings.add(CHECK, format!("{name} got {what}, which it did not want"));
    }
}
