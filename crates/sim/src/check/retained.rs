//! Retained messages: a new subscriber gets the last acknowledged message of each topic, or one
//! sent later; no continuous subscriber ends with an older one [MQTT-3.3.1-5], [MQTT-3.3.1-6].
//!
//! Each retained topic has one publisher. The last client of a run connects when all is quiet; the
//! messages it gets are the retained ones.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "retained is the last acknowledged";

/// Messages sent and seen on topics with retained messages.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Every PUBLISH, in order, including retransmissions.
    sent: BTreeMap<TopicIndex, Vec<MessageIndex>>,
    /// The last message that each client saw on a topic; `None` is an empty payload.
    seen: BTreeMap<(ClientIndex, TopicIndex), Option<MessageIndex>>,
    dropped: BTreeSet<(ClientIndex, Option<TopicIndex>)>,
    /// Cases in which an empty payload was received again, which may be an old one.
    doubtful: BTreeSet<(ClientIndex, TopicIndex)>,
}

impl Retained {
    pub(super) fn see(&mut self, _at_us: u64, fact: &Fact, ledger: &Ledger) {
        match *fact {
            Fact::Published { message, .. } => {
                let row = ledger.message(message);
                if ledger.topics.class(row.topic) == Class::Retained {
                    self.sent.entry(row.topic).or_default().push(message);
                }
            }
            Fact::Arrived {
                client,
                topic,
                message,
                dup,
                known: false,
                ..
            } if ledger.topics.class(topic) == Class::Retained => {
                let last = self.seen.get(&(client, topic)).copied().flatten();
                if dup && message.is_none() {
                    self.doubtful.insert((client, topic));
                } else if dup && message < last {
                    // An old message, or a copy whose first transmission was lost.
                    self.doubtful.insert((client, topic));
                } else {
                    self.seen.insert((client, topic), message);
                }
            }
            Fact::Connected {
                client,
                present: false,
                ..
            } => {
                // Observations are per session.
                let all = (client, 0)..=(client, TopicIndex::MAX);
                let old: Vec<_> = self.seen.range(all).map(|(key, _)| *key).collect();
                for key in old {
                    self.seen.remove(&key);
                }
            }
            Fact::Dropped { client, topic, .. } => {
                self.dropped.insert((client, topic));
            }
            _ => {}
        }
    }

    pub(super) fn settled(&mut self, ledger: &Ledger, findings: &mut Findings) {
        let eye = ledger.eye();
        if !ledger.client(eye).online {
            return findings.add(CHECK, "the last client was not accepted".to_owned());
        }
        for (topic, sent) in &self.sent {
            let found = self.seen.get(&(eye, *topic)).copied().flatten();
            let certain = certain(sent, ledger);
            let possible = &sent[certain.unwrap_or(0)..];
            let name = ledger.topics.name(*topic);
            if sent.iter().any(|message| ledger.message(*message).rotten) {
                // It is unknown here whether that was the last message, and who had it.
                continue;
            }
            if !is_possible(found, possible, certain.is_some(), ledger) {
                let found = words(found, ledger);
                let last = words(certain.map(|place| sent[place]), ledger);
                findings.add(
                    CHECK,
                    format!("{name} has {found}; acknowledged last was {last}"),
                );
                continue;
            }
            self.check_subscribers(*topic, found, sent, ledger, findings);
        }
    }

    /// Checks that the last message each subscriber has seen is the retained one.
    fn check_subscribers(
        &self,
        topic: TopicIndex,
        found: Option<MessageIndex>,
        sent: &[MessageIndex],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let publisher = ledger.message(sent[0]).publisher;
        // A message that expires, or that may be dropped at QoS 0, is not certain to be the last
        // one seen.
        let certain = |message: &MessageIndex| {
            let row = ledger.message(*message);
            row.qos > QoS::AtMostOnce && row.expires_us == u64::MAX
        };
        if !sent.iter().all(certain) {
            return;
        }
        for client in 0..ledger.eye() {
            let row = ledger.client(client);
            let promised = ledger.promised_qos(client, topic, publisher);
            let reported = [Some(topic), None]
                .iter()
                .any(|topic| self.dropped.contains(&(client, *topic)));
            let unsure = self.doubtful.contains(&(client, topic)) || found.is_none() && row.left;
            if !row.online
                || reported
                || unsure
                || promised.is_none_or(|qos| qos == QoS::AtMostOnce)
            {
                continue;
            }
            let last = self.seen.get(&(client, topic)).copied().flatten();
            // A crash may undo an unacknowledged message after it was seen.
            let newer = ledger.crashes > 0 && (last > found || last.is_none());
            if last != found && !newer {
                let (name, topic) = (&row.name, ledger.topics.name(topic));
                let (last, found) = (words(last, ledger), words(found, ledger));
                findings.add(
                    CHECK,
                    format!("{name} ended on {last} of {topic}, retained is {found}"),
                );
            }
        }
    }
}

/// The last position in `sent` that the node has certainly processed.
fn certain(sent: &[MessageIndex], ledger: &Ledger) -> Option<usize> {
    let mut last = None;
    for (place, message) in sent.iter().enumerate() {
        let row = ledger.message(*message);
        if row.acked_us == 0 || row.refused {
            continue;
        }
        // QoS 2 takes effect at one of its PUBLISH packets, QoS 1 at each; the last one counts as
        // certain.
        let first = sent.iter().position(|found| found == message);
        let counted = match row.qos {
            QoS::ExactlyOnce => first.unwrap_or(place),
            _ => place,
        };
        last = last.max(Some(counted));
    }
    last
}

fn is_possible(
    found: Option<MessageIndex>,
    possible: &[MessageIndex],
    certain: bool,
    ledger: &Ledger,
) -> bool {
    match found {
        Some(found) => possible.contains(&found),
        None => {
            let removed = |message: &MessageIndex| {
                let row = ledger.message(*message);
                row.empty || row.expires_us != u64::MAX
            };
            !certain || possible.iter().any(removed)
        }
    }
}

fn words(message: Option<MessageIndex>, ledger: &Ledger) -> String {
    message.map_or("nothing".to_owned(), |message| ledger.describe(message))
}
