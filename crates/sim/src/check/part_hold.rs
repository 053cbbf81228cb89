//! Publishers wait for a part with a holding queue. While the part takes nothing and its queue
//! stays full, no message for it is acknowledged, and the hold continues; no message is dropped
//! for lack of room. Clients that publish nothing for such a part do not wait.
//!
//! A client that waits for ever is detected at the end, when all clients must settle.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::DropReason;
use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;
use crate::topics::TopicIndex;

const CHECK: &str = "publishers that wait";

/// Time limit until all shards know of a hold, microseconds.
const HOLD_US: u64 = SECOND;
/// Time limit of an answer that waits for no part, microseconds: two slow syncs of up to 12 s each
/// may come first.
const ANSWER_US: u64 = 25 * SECOND;

/// Waiting clients and the parts they wait for.
#[derive(Debug, Default)]
pub(super) struct PartHold {
    /// Parts that were notified that publishers wait, with the time; removed when they take
    /// messages.
    full: BTreeMap<PartIndex, u64>,
    /// Parts whose queue was within its bound, or held, since they were attached.
    bounded: BTreeSet<PartIndex>,
    /// Messages that each client has sent.
    sent: BTreeMap<ClientIndex, ConnectionSends>,
    /// Topics with messages that expire: a queue with those may free room without a notification.
    expiring: BTreeSet<TopicIndex>,
}

/// Messages sent by a client on its current connection.
#[derive(Debug, Default)]
struct ConnectionSends {
    topics: Vec<TopicIndex>,
    unanswered: BTreeMap<MessageIndex, u64>,
    /// Whether the network has a large window towards the client.
    is_wide: bool,
}

impl PartHold {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Crashed { .. } | Fact::Stopping => {
                self.full.clear();
                self.bounded.clear();
                self.sent.clear();
            }
            Fact::Connecting { client, wide, .. } => {
                let sent = ConnectionSends {
                    is_wide: wide,
                    ..ConnectionSends::default()
                };
                self.sent.insert(client, sent);
            }
            Fact::Published {
                client, message, ..
            } => {
                let row = ledger.message(message);
                if row.expires_us != u64::MAX {
                    self.expiring.insert(row.topic);
                }
                let sent = self.sent.entry(client).or_default();
                sent.topics.push(row.topic);
                if row.qos > QoS::AtMostOnce {
                    sent.unanswered.insert(message, at_us);
                }
            }
            Fact::Acknowledged {
                client,
                message,
                refused,
                ..
            } => {
                if let Some(sent) = self.sent.get_mut(&client) {
                    sent.unanswered.remove(&message);
                }
                if !refused {
                    self.accepted(client, message, ledger, findings);
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
        let name = &row.name;
        match *what {
            PartFact::Attaching { .. } | PartFact::Left { .. } | PartFact::Ended => {
                self.bounded.remove(&part);
            }
            PartFact::Queue { state, .. } if state.holds || state.bytes <= state.bytes_max => {
                self.bounded.insert(part);
            }
            PartFact::Queue { .. } if row.lanes > 0 => {}
            PartFact::Queue { state, .. } if row.is_holding() && self.bounded.contains(&part) => {
                let (bytes, bytes_max) = (state.bytes, state.bytes_max);
                let what = format!("{name} has {bytes} of {bytes_max} bytes, and holds nobody");
                findings.add(CHECK, what);
            }
            _ => {}
        }
        match *what {
            // A lane holds only publishers of its own shard.
            PartFact::Queue { .. } if row.lanes > 0 => {}
            PartFact::Queue { state, .. } if state.holds => {
                if row.is_holding() && !row.may_age() && !self.may_expire(part, ledger) {
                    self.full.entry(part).or_insert(at_us);
                }
            }
            PartFact::Queue { state, .. } => {
                if self.full.remove(&part).is_some() && !self.may_expire(part, ledger) {
                    let bytes = state.bytes;
                    findings.add(
                        CHECK,
                        format!("the hold for {name} ended at {bytes} bytes, it took nothing"),
                    );
                }
            }
            PartFact::Dropped {
                reason: DropReason::QueueFull,
                topic,
            } if row.is_holding() => {
                let topic = topic.map_or("a topic", |topic| ledger.topics.name(topic));
                findings.add(
                    CHECK,
                    format!("a message on {topic} was dropped, not held, for {name}"),
                );
            }
            PartFact::Hangs(_) => {}
            _ => {
                self.full.remove(&part);
            }
        }
    }

    fn may_expire(&self, part: PartIndex, ledger: &Ledger) -> bool {
        let row = ledger.part(part);
        let mut topics = self.expiring.iter();
        topics.any(|topic| row.has_requested(*topic, &ledger.topics))
    }

    fn accepted(
        &self,
        client: ClientIndex,
        message: MessageIndex,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.message(message);
        if row.sends > 1 {
            return;
        }
        for (part, since_us) in &self.full {
            let known = ledger.part(*part);
            let is_taken = known.is_promised(row.topic, &ledger.topics);
            // The part may have changed whether it keeps QoS 0 messages.
            let is_taken = is_taken && row.qos > QoS::AtMostOnce;
            let is_taken = is_taken && !self.may_expire(*part, ledger);
            if is_taken && known.client != client && row.sent_us > since_us + HOLD_US {
                let (name, what) = (&known.name, ledger.describe(message));
                findings.add(CHECK, format!("{what} was accepted, {name} holds it"));
            }
        }
    }

    /// Looks for clients that wait although no part holds them.
    pub(super) fn waited(&self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        if ledger.people.is_some() || ledger.parts.is_empty() {
            return;
        }
        for (client, sent) in &self.sent {
            let row = ledger.client(*client);
            if !row.undisturbed || !sent.is_wide {
                continue;
            }
            let mut unanswered = sent.unanswered.iter();
            let Some((message, _)) = unanswered.find(|(_, sent)| **sent + ANSWER_US < at_us) else {
                continue;
            };
            let parts = ledger.parts.iter().filter(|part| part.may_hold());
            let mut topics = parts.flat_map(|part| {
                let topics = sent.topics.iter();
                topics.filter(|topic| part.has_requested(**topic, &ledger.topics))
            });
            if topics.next().is_none() {
                let what = ledger.describe(*message);
                findings.add(CHECK, format!("{what} waits, no part holds its publisher"));
            }
        }
    }
}
