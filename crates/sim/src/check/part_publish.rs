//! What parts publish: it does not come back to the part itself, its count of hops is the one that
//! it was published with, and it is refused if it has been passed on too often, else only for a
//! part whose queue is full.

use martlet_broker::HOPS_MAX;

use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;

const CHECK: &str = "what parts publish";

/// Keeps nothing.
#[derive(Debug, Default)]
pub(super) struct PartPublishes;

impl PartPublishes {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Acknowledged {
                client,
                message,
                refused,
                ..
            } => {
                let Some(hops) = ledger.hops.get(&message).copied() else {
                    return;
                };
                let (name, what) = (&ledger.client(client).name, ledger.describe(message));
                if !refused && hops > HOPS_MAX {
                    findings.add(CHECK, format!("{name} passed {what} on too often"));
                }
                let topic = ledger.message(message).topic;
                let mut parts = ledger.parts.iter();
                let may_wait =
                    parts.any(|part| part.may_hold() && part.has_asked_for(topic, &ledger.topics));
                if refused && hops <= HOPS_MAX && !may_wait {
                    findings.add(CHECK, format!("{what} was refused, no part holds it"));
                }
            }
            Fact::Part {
                part,
                what: PartFact::Told(told),
            } => {
                let Some(message) = told.message else { return };
                let row = ledger.part(part);
                let (name, what) = (&row.name, ledger.describe(message));
                if ledger.message(message).publisher == row.client {
                    findings.add(CHECK, format!("{name} got its own {what}"));
                }
                let hops = ledger.hops.get(&message).copied().unwrap_or(0);
                if told.hops != hops {
                    let counted = told.hops;
                    findings.add(
                        CHECK,
                        format!("{name} got {what} with {counted} hops, it has {hops}"),
                    );
                }
            }
            _ => {}
        }
    }
}
