//! Subscription Identifiers: a message has those of all matching subscriptions, and no others. A
//! retained message sent for a subscription has only the identifier of that one [MQTT-3.3.4-3],
//! [MQTT-3.3.4-4], [MQTT-3.3.4-5]. On every connection of a session, and after restarts.

use std::collections::BTreeMap;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::identifiers::Identifiers;
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{FilterIndex, TopicIndex};

const CHECK: &str = "Subscription Identifiers";

/// Identifiers that clients used in their current sessions.
#[derive(Debug, Default)]
pub(super) struct SubscriptionIdentifiers {
    requested: BTreeMap<(ClientIndex, FilterIndex), RequestedFilter>,
}

/// SUBSCRIBE options of a client for one filter.
#[derive(Clone, Copy, Debug, Default)]
struct RequestedFilter {
    life: u32,
    /// Identifiers of all its SUBSCRIBE packets: waiting messages may be from before the last one.
    identifiers: Identifiers,
    retain_as_published: bool,
}

impl SubscriptionIdentifiers {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Subscribing {
                client,
                filter,
                identifier,
                retain_as_published,
                ..
            } => {
                let life = ledger.client(client).life;
                let requested = self.requested.entry((client, filter)).or_default();
                if requested.life != life {
                    *requested = RequestedFilter::default();
                }
                requested.life = life;
                requested.identifiers = requested.identifiers.with(Identifiers::one(identifier));
                requested.retain_as_published |= retain_as_published;
            }
            Fact::Arrived {
                client,
                message: Some(message),
                topic,
                retain,
                identifiers,
                ..
            } => {
                let wrong = self.wrong(client, message, topic, retain, identifiers, ledger);
                let Some(wrong) = wrong else {
                    return;
                };
                let (name, what) = (&ledger.client(client).name, ledger.describe(message));
                let named = identifiers.numbers();
                findings.add(CHECK, format!("{name} got {what} with {named:?}{wrong}"));
            }
            _ => {}
        }
    }

    /// The error in the identifiers of an arrival.
    fn wrong(
        &self,
        client: ClientIndex,
        message: MessageIndex,
        topic: TopicIndex,
        retain: bool,
        named: Identifiers,
        ledger: &Ledger,
    ) -> Option<String> {
        let receiver = ledger.client(client);
        let requested = self
            .requested
            .range((client, 0)..=(client, FilterIndex::MAX));
        let requested = requested.filter(|((_, filter), requested)| {
            requested.life == receiver.life && ledger.topics.matches(*filter, topic)
        });
        let as_published = requested
            .clone()
            .any(|(_, requested)| requested.retain_as_published);
        let sets = requested.map(|(_, requested)| requested.identifiers);
        let may = sets.fold(Identifiers::default(), Identifiers::with);
        if !may.contains(named) {
            return Some(format!(", only {:?} match", may.numbers()));
        }
        // Messages for an ended or replaced subscription may arrive later.
        if receiver.changed {
            return None;
        }
        let row = ledger.message(message);
        let mut must = Identifiers::default();
        for found in &receiver.subscriptions {
            let counts = ledger.topics.matches(found.filter, topic)
                && found.granted_us < row.sent_us
                && !(found.no_local && row.publisher == client);
            if counts {
                must = must.with(Identifiers::one(found.identifier));
            }
        }
        // With Retain As Published, a retained copy looks like a newly published message.
        match retain {
            true if as_published => None,
            true if may.count() > 0 && named.count() != 1 => {
                Some(", though one subscription found it".to_owned())
            }
            true => None,
            false => (!named.contains(must)).then(|| format!(", not {:?}", must.numbers())),
        }
    }
}
