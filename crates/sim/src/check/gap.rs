//! A new subscriber misses nothing: from the retained message on that it finds, it gets every later
//! one of that topic, those too that were published while it subscribed [MQTT-3.3.1-9].
//!
//! So a subscription is entered before what is retained is read. Each retained topic has one
//! publisher, whose messages of one QoS come in order: one that is passed over never comes. Only a
//! retained copy may pass what is still on its way from another shard. There is no
//! more than one of a topic for each SUBSCRIBE. With Retain As Published nothing tells one from a
//! message that was published before: such clients are left out.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, FilterIndex, TopicIndex};

const CHECK: &str = "nothing missed while subscribing";

/// What each client found, and has got since.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// On each topic, of the present session.
    found: BTreeMap<(ClientIndex, TopicIndex), GapFound>,
    /// Sent at QoS 1 or 2 on each topic.
    sent: BTreeMap<TopicIndex, Vec<MessageIndex>>,
    /// For whom the node has dropped something, or nothing tells a retained copy.
    dropped: BTreeSet<ClientIndex>,
    /// What each client has subscribed to in its present session, again and again too.
    requested: BTreeMap<ClientIndex, Vec<FilterIndex>>,
}

#[derive(Debug, Default)]
struct GapFound {
    life: u32,
    /// The retained message that was found when the session began.
    first: MessageIndex,
    /// Got since.
    got: BTreeSet<MessageIndex>,
    /// How many with RETAIN 1 have passed one that was missing.
    ahead: usize,
}

impl Gap {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Published {
                message,
                again: false,
                ..
            } => {
                let row = ledger.message(message);
                let lasts = row.qos > QoS::AtMostOnce && !row.empty && row.expires_us == u64::MAX;
                if lasts && ledger.topics.class(row.topic) == Class::Retained {
                    self.sent.entry(row.topic).or_default().push(message);
                }
            }
            Fact::Dropped { client, .. } => {
                self.dropped.insert(client);
            }
            // Where something was left, what was queued before may come later.
            Fact::Subscribing {
                client,
                filter,
                retain_as_published,
                ..
            } => {
                // What was on its way to the session before it may look like a retained copy.
                if retain_as_published {
                    self.dropped.insert(client);
                }
                self.requested.entry(client).or_default().push(filter);
                self.forget(client);
            }
            Fact::Unsubscribing { client, .. } => self.forget(client),
            Fact::Connected {
                client,
                present: false,
                ..
            } => {
                self.requested.remove(&client);
                self.forget(client);
            }
            Fact::Arrived {
                client,
                message: Some(message),
                topic,
                retain,
                dup,
                known: false,
                ..
            } if ledger.topics.class(topic) == Class::Retained => {
                self.arrived(client, message, (retain, dup), ledger, findings);
            }
            _ => {}
        }
    }

    fn forget(&mut self, client: ClientIndex) {
        self.found.retain(|(found, _), _| *found != client);
    }

    fn arrived(
        &mut self,
        client: ClientIndex,
        message: MessageIndex,
        (retain, dup): (bool, bool),
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let (row, receiver) = (ledger.message(message), ledger.client(client));
        let mut matching = receiver.subscriptions.iter();
        let all_kept = matching
            .by_ref()
            .filter(|found| ledger.topics.matches(found.filter, row.topic))
            .all(|found| found.qos > QoS::AtMostOnce && !found.no_local);
        if receiver.left || !all_kept || self.dropped.contains(&client) {
            return;
        }
        let key = (client, row.topic);
        let life = receiver.life;
        let found = match self.found.get_mut(&key) {
            Some(found) if found.life == life => found,
            _ if retain && !dup => {
                let found = GapFound {
                    life,
                    first: message,
                    got: BTreeSet::new(),
                    ahead: 0,
                };
                self.found.insert(key, found);
                return;
            }
            _ => return,
        };
        found.got.insert(message);
        let sent = self.sent.get(&row.topic).map_or(&[][..], Vec::as_slice);
        // Its place, and that of the one that was found first.
        let (from, to) = (
            sent.partition_point(|sent| *sent <= found.first),
            sent.partition_point(|sent| *sent < message),
        );
        let passed = sent.get(from..to).unwrap_or_default().iter().find(|sent| {
            let passed = ledger.message(**sent);
            let taken = ledger.is_owed(**sent, 0) && passed.sends == 1;
            taken && passed.qos == row.qos && !found.got.contains(sent)
        });
        let Some(passed) = passed.filter(|_| row.sends == 1) else {
            return;
        };
        let requested = self.requested.get(&client).map_or(&[][..], Vec::as_slice);
        let matching = requested
            .iter()
            .filter(|f| ledger.topics.matches(**f, row.topic));
        let copies_max = if retain { matching.count() } else { 0 };
        // What is sent again may be the same copy.
        found.ahead += usize::from(!(retain && dup));
        if found.ahead > copies_max {
            let (name, what) = (&receiver.name, ledger.describe(message));
            let passed = ledger.describe(*passed);
            let first = found.first;
            findings.add(
                CHECK,
                format!("{name} found m{first} and got {what}, but not {passed}"),
            );
        }
    }
}
