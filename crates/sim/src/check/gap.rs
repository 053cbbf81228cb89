//! A new subscriber misses nothing: from the retained message that it receives on, it gets every
//! later one of that topic, including those published while it subscribed [MQTT-3.3.1-9].
//!
//! So a subscription must be added before the retained messages are read. Each retained topic has
//! one publisher, whose messages of one QoS arrive in order: a skipped message never arrives. Only
//! a retained copy may overtake messages in transit from another shard. There is at most one copy
//! of a topic per SUBSCRIBE. With Retain As Published, a copy looks like a message that was
//! published before: such clients are not checked.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, FilterIndex, TopicIndex};

const CHECK: &str = "nothing missed while subscribing";

/// Retained messages that each client received, and later messages.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// On each topic, in the current session.
    found: BTreeMap<(ClientIndex, TopicIndex), GapFound>,
    /// Messages sent at QoS 1 or 2 on each topic.
    sent: BTreeMap<TopicIndex, Vec<MessageIndex>>,
    /// Clients for which the node has dropped a message, or for which retained copies are not
    /// recognisable.
    dropped: BTreeSet<ClientIndex>,
    /// All filters in SUBSCRIBE packets of each client in its current session, with repetitions.
    requested: BTreeMap<ClientIndex, Vec<FilterIndex>>,
}

#[derive(Debug, Default)]
struct GapFound {
    life: u32,
    /// The retained message received at the beginning.
    first: MessageIndex,
    /// Messages received since.
    got: BTreeSet<MessageIndex>,
    /// Number of messages with RETAIN 1 that have overtaken a missing one.
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
            // After an unsubscription, messages queued before may arrive later.
            Fact::Subscribing {
                client,
                filter,
                retain_as_published,
                ..
            } => {
                // Messages in transit to the session may look like retained copies.
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
                self.arrived(client, message, retain, dup, ledger, findings);
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
        retain: bool,
        dup: bool,
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
        // Its position, and that of the message received first.
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
        // A retransmission may be the same copy.
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
