//! Retained messages: a new subscriber gets each topic's last acknowledged one, or one sent later;
//! and nobody who was subscribed ends on an older one [MQTT-3.3.1-5], [MQTT-3.3.1-6].
//!
//! Each retained topic has one publisher. The last client of a run comes when all is quiet, and
//! what it finds is what is retained.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "retained is the last acknowledged";

/// What was sent and seen on topics with retained messages.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Every PUBLISH, in order, those sent again too.
    sent: BTreeMap<TopicIndex, Vec<MessageIndex>>,
    /// What each client saw last on a topic; none is an empty payload.
    seen: BTreeMap<(ClientIndex, TopicIndex), Option<MessageIndex>>,
    dropped: BTreeSet<(ClientIndex, Option<TopicIndex>)>,
    /// Where an empty payload came again, which may be an old one.
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
                    // An old one, or a copy of it whose first sending was lost.
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
                // What is seen in a session begins with it.
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
            return findings.add(CHECK, "the last client was not let in".to_owned());
        }
        for (topic, sent) in &self.sent {
            let found = self.seen.get(&(eye, *topic)).copied().flatten();
            let certain = certain(sent, ledger);
            let possible = &sent[certain.unwrap_or(0)..];
            let name = ledger.topics.name(*topic);
            if sent.iter().any(|message| ledger.message(*message).rotten) {
                // Whether that was the last one, and who had it, is not known here.
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

    /// Checks that each subscriber has seen last what is retained.
    fn check_subscribers(
        &self,
        topic: TopicIndex,
        found: Option<MessageIndex>,
        sent: &[MessageIndex],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let publisher = ledger.message(sent[0]).publisher;
        // What expires or may be dropped at QoS 0 is nobody's last message for certain.
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
            // A crash may take back what was not acknowledged, after it was seen.
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

/// The last place in `sent` that the node has worked off for certain.
fn certain(sent: &[MessageIndex], ledger: &Ledger) -> Option<usize> {
    let mut last = None;
    for (place, message) in sent.iter().enumerate() {
        let row = ledger.message(*message);
        if row.acked_us == 0 || row.refused {
            continue;
        }
        // QoS 2 counts at its first PUBLISH or a later one, QoS 1 at each, the last for certain.
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
