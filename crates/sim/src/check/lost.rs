//! No acknowledged message is lost: a message of QoS 1 or 2 acknowledged with PUBACK or PUBREC
//! reaches every session with a subscription granted before it was sent, if that session lasts and
//! accepts it. Only expired messages, and drops reported by the node, may be missing. A loss by
//! the store is no valid reason if the disk kept all data.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::DropReason;
use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::TopicIndex;

const CHECK: &str = "nothing acknowledged lost";

/// Messages still promised to each client.
#[derive(Debug, Default)]
pub(super) struct Lost {
    owed: BTreeMap<ClientIndex, BTreeSet<MessageIndex>>,
    /// Drops reported by the node.
    dropped: BTreeMap<(ClientIndex, Option<TopicIndex>), usize>,
    /// Whether a bit has flipped on the disk.
    is_rotten: bool,
}

impl Lost {
    /// Handles facts that end a promise, before the ledger applies them.
    pub(super) fn before(&mut self, fact: &Fact, _ledger: &Ledger) {
        match *fact {
            // The old session may end at any time from here on.
            Fact::Connecting {
                client,
                clean: true,
                ..
            } => {
                self.owed.remove(&client);
            }
            // It is unknown here whether the message was sent before or after.
            Fact::Unsubscribing { client, .. } | Fact::Subscribing { client, .. } => {
                self.owed.remove(&client);
            }
            _ => {}
        }
    }

    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Rotted { .. } => self.is_rotten = true,
            Fact::Dropped {
                client,
                reason: DropReason::StoreDamaged,
                ..
            } if !self.is_rotten => {
                let name = &ledger.client(client).name;
                findings.add(CHECK, format!("the store lost what {name} was to get"));
            }
            Fact::Published {
                message,
                again: false,
                ..
            } => self.owe(message, ledger),
            Fact::Arrived {
                client,
                message: Some(message),
                ..
            } => {
                if let Some(owed) = self.owed.get_mut(&client) {
                    owed.remove(&message);
                }
            }
            Fact::Dropped { client, topic, .. } => {
                *self.dropped.entry((client, topic)).or_default() += 1;
            }
            Fact::Connected {
                client,
                present: false,
                ..
            } => {
                self.owed.remove(&client);
            }
            Fact::Lost { client, .. } if !ledger.client(client).session => {
                self.owed.remove(&client);
            }
            _ => {}
        }
    }

    fn owe(&mut self, message: MessageIndex, ledger: &Ledger) {
        let row = ledger.message(message);
        if row.qos == QoS::AtMostOnce || row.empty {
            return;
        }
        for client in 0..ledger.clients.len() as ClientIndex {
            let known = ledger.client(client);
            if !known.session || known.violated {
                continue;
            }
            let promised = ledger.promised_qos(client, row.topic, row.publisher);
            if promised.is_some_and(|qos| qos > QoS::AtMostOnce) {
                self.owed.entry(client).or_default().insert(message);
            }
        }
    }

    pub(super) fn settled(&mut self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        for (client, owed) in &self.owed {
            let missing = owed.iter().copied();
            let missing = missing.filter(|message| ledger.is_owed(*message, at_us));
            let mut topics: BTreeMap<TopicIndex, Vec<MessageIndex>> = BTreeMap::new();
            for message in missing {
                topics
                    .entry(ledger.message(message).topic)
                    .or_default()
                    .push(message);
            }
            for (topic, missing) in topics {
                let reported = |topic| self.dropped.get(&(*client, topic)).copied().unwrap_or(0);
                let dropped = reported(Some(topic)) + reported(None);
                if missing.len() > dropped {
                    let name = &ledger.client(*client).name;
                    let first = ledger.describe(missing[0]);
                    let count = missing.len();
                    let what = format!(
                        "{name} never got {first} ({count} on that topic, {dropped} told of)"
                    );
                    findings.add(CHECK, what);
                }
            }
        }
    }
}
