//! Publishes of parts: a message is not delivered to its own part, and has the hop count with
//! which it was published. It is refused if it has too many hops or the rules of the part's
//! principal forbid it, else only if the queue of a part is full. Forbidden messages reach no
//! receiver. Each publish is answered while the part stays attached.

use std::collections::BTreeSet;

use martlet_broker::HOPS_MAX;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;

const CHECK: &str = "what parts publish";

/// Publishes that wait for answers.
#[derive(Debug, Default)]
pub(super) struct PartPublishes {
    /// Messages without an answer, with their publisher.
    unanswered: BTreeSet<(ClientIndex, MessageIndex)>,
}

impl PartPublishes {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Published {
                client, message, ..
            } if ledger.is_part(client) => {
                let mut parts = ledger.parts.iter();
                if parts.any(|part| part.client == client && part.attached) {
                    self.unanswered.insert((client, message));
                }
            }
            Fact::Crashed { .. } => self.unanswered.clear(),
            Fact::Part {
                part,
                what: PartFact::Attaching { .. } | PartFact::Left { .. } | PartFact::Ended,
            } => {
                let gone = ledger.part(part).client;
                self.unanswered.retain(|(client, _)| *client != gone);
            }
            Fact::Arrived {
                client,
                message: Some(message),
                ..
            } => {
                let name = &ledger.client(client).name;
                reached(name, message, ledger, findings);
            }
            Fact::Acknowledged {
                client,
                message,
                refused,
                ..
            } => {
                self.unanswered.remove(&(client, message));
                let Some(hops) = ledger.hops.get(&message).copied() else {
                    return;
                };
                let (name, what) = (&ledger.client(client).name, ledger.describe(message));
                if !refused && hops > HOPS_MAX {
                    findings.add(CHECK, format!("{name} passed {what} on too often"));
                }
                let topic = ledger.message(message).topic;
                let is_forbidden = is_forbidden(message, ledger);
                if !refused && is_forbidden {
                    findings.add(CHECK, format!("{what} was accepted, the rules forbid it"));
                }
                let mut parts = ledger.parts.iter();
                let may_wait =
                    parts.any(|part| part.may_hold() && part.has_requested(topic, &ledger.topics));
                if refused && hops <= HOPS_MAX && !may_wait && !is_forbidden {
                    findings.add(CHECK, format!("{what} was refused, no part holds it"));
                }
            }
            Fact::Part {
                part,
                what: PartFact::Delivered(told),
            } => {
                let Some(message) = told.message else { return };
                let row = ledger.part(part);
                let (name, what) = (&row.name, ledger.describe(message));
                reached(name, message, ledger, findings);
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

    /// Final check.
    pub(super) fn settled(&self, ledger: &Ledger, findings: &mut Findings) {
        for (client, message) in &self.unanswered {
            let (name, what) = (&ledger.client(*client).name, ledger.describe(*message));
            findings.add(CHECK, format!("{name} got no answer for {what}"));
        }
    }
}

/// Whether the rules of the publishing part forbid a message.
fn is_forbidden(message: MessageIndex, ledger: &Ledger) -> bool {
    let row = ledger.message(message);
    let mut parts = ledger.parts.iter();
    let part = parts.find(|part| part.client == row.publisher);
    part.is_some_and(|part| part.forbidden.contains(&row.topic))
}

/// Handles a message that has reached a receiver.
fn reached(name: &str, message: MessageIndex, ledger: &Ledger, findings: &mut Findings) {
    if is_forbidden(message, ledger) {
        let what = ledger.describe(message);
        findings.add(CHECK, format!("{name} got {what}, the rules forbid it"));
    }
}
