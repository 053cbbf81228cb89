//! No message to a part is lost. A message of QoS 1 or 2 acknowledged with PUBACK or PUBREC is
//! delivered, for a subscription confirmed to the part before, until the part has settled it as
//! done or refused. For a durable part that keeps QoS 0, the same applies to QoS 0 messages whose
//! record was durable. A QoS 0 message must have a record if a later message of its connection was
//! acknowledged.
//!
//! A part that is not durable loses its unsettled messages when it is detached. Only expired
//! messages, and drops reported by the node, may be missing.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{DropReason, PartOutcome, Record};
use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::node::LinkIndex;
use crate::observer::Findings;
use crate::part::{PartFact, PartRow};
use crate::store::Lsn;
use crate::topics::TopicIndex;

const CHECK: &str = "nothing lost to parts";

/// Messages still promised to each part.
#[derive(Debug, Default)]
pub(super) struct PartLost {
    owed: BTreeMap<PartIndex, BTreeSet<MessageIndex>>,
    /// Drops reported by the node.
    dropped: BTreeMap<(PartIndex, Option<TopicIndex>), usize>,
    /// The first record of each message.
    recorded: BTreeMap<MessageIndex, Lsn>,
    /// Messages that each client has published on its current connection.
    sent: BTreeMap<ClientIndex, ConnectionPublishes>,
    /// Whether a bit has flipped on the disk.
    is_rotten: bool,
}

/// Messages of a client on one connection.
#[derive(Debug, Default)]
struct ConnectionPublishes {
    link: LinkIndex,
    /// QoS 0 messages after which no message was acknowledged yet.
    qos0: Vec<MessageIndex>,
    /// QoS 1 and 2 messages that were first sent on this connection.
    others: BTreeSet<MessageIndex>,
}

impl PartLost {
    pub(super) fn recorded(&mut self, lsn: Lsn, record: &Record) {
        if let Record::Message(record) = record
            && let Some(number) = record.message.payload().first_chunk()
        {
            let number = MessageIndex::from_be_bytes(*number);
            self.recorded.entry(number).or_insert(lsn);
        }
    }

    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Rotted { .. } => self.is_rotten = true,
            Fact::Crashed { durable, .. } => self.crashed(durable, ledger),
            Fact::Published {
                client,
                message,
                again: false,
            } => self.published(client, message, ledger),
            Fact::Acknowledged {
                client,
                message,
                refused: false,
                ..
            } => self.acknowledged(client, message, ledger, findings),
            Fact::Part { part, what } => self.see_part(part, &what, ledger, findings),
            _ => {}
        }
    }

    fn see_part(
        &mut self,
        part: PartIndex,
        what: &PartFact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.part(part);
        match *what {
            PartFact::Attaching { .. } => {
                // Messages that its session no longer subscribes to may be missing, whenever they
                // were published.
                if let Some(owed) = self.owed.get_mut(&part) {
                    owed.retain(|message| is_promised(row, *message, ledger));
                }
            }
            PartFact::Attached { present: false, .. } => {
                self.owed.remove(&part);
            }
            PartFact::Left { .. } | PartFact::Ended if !row.session => {
                self.owed.remove(&part);
            }
            PartFact::Settled {
                outcome: PartOutcome::Done | PartOutcome::Refused(_),
                message: Some(message),
                ..
            } => {
                if let Some(owed) = self.owed.get_mut(&part) {
                    owed.remove(&message);
                }
            }
            PartFact::Dropped {
                reason: DropReason::StoreDamaged,
                ..
            } if !self.is_rotten => {
                let name = &row.name;
                findings.add(CHECK, format!("the store lost what {name} was to get"));
            }
            PartFact::Dropped { topic, reason } if is_excuse(reason) => {
                *self.dropped.entry((part, topic)).or_default() += 1;
            }
            _ => {}
        }
    }

    fn published(&mut self, client: ClientIndex, message: MessageIndex, ledger: &Ledger) {
        let row = ledger.message(message);
        let link = ledger.client(client).link;
        let sent = self.sent.entry(client).or_default();
        if sent.link != link {
            *sent = ConnectionPublishes {
                link,
                ..ConnectionPublishes::default()
            };
        }
        if row.qos > QoS::AtMostOnce {
            sent.others.insert(message);
        }
        if row.empty {
            return;
        }
        let mut is_kept = false;
        for (part, known) in (0..).zip(&ledger.parts) {
            // Its own messages are not delivered to it.
            if known.client != client && is_promised(known, message, ledger) {
                self.owed.entry(part).or_default().insert(message);
                // Messages published by an ended attachment of a part may be lost.
                is_kept |= row.qos == QoS::AtMostOnce && !ledger.is_part(client);
            }
        }
        if is_kept {
            sent.qos0.push(message);
        }
    }

    /// The node has processed everything that the publisher sent before on the same connection.
    fn acknowledged(
        &mut self,
        client: ClientIndex,
        message: MessageIndex,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let Some(sent) = self.sent.get_mut(&client) else {
            return;
        };
        if sent.link != ledger.client(client).link || !sent.others.contains(&message) {
            return;
        }
        for before in sent.qos0.extract_if(.., |before| *before < message) {
            let mut owed = self.owed.iter();
            let keeper = owed.find(|(_, owed)| owed.contains(&before));
            if let Some((part, _)) = keeper
                && !self.recorded.contains_key(&before)
                && !ledger.may_have_expired(before, u64::MAX - 1)
            {
                let (name, what) = (&ledger.part(*part).name, ledger.describe(before));
                findings.add(CHECK, format!("{what} has no record, {name} keeps QoS 0"));
            }
        }
    }

    fn crashed(&mut self, durable: Lsn, ledger: &Ledger) {
        self.sent.clear();
        self.recorded.retain(|_, lsn| *lsn <= durable);
        for (part, owed) in &mut self.owed {
            if !ledger.part(*part).session {
                owed.clear();
            }
            owed.retain(|message| {
                let is_qos0 = ledger.message(*message).qos == QoS::AtMostOnce;
                !is_qos0 || self.recorded.contains_key(message)
            });
        }
    }

    /// Messages missing at each part, for any reason.
    pub(super) fn missing(
        &self,
        at_us: u64,
        ledger: &Ledger,
    ) -> impl Iterator<Item = (PartIndex, MessageIndex)> {
        let owed = self.owed.iter();
        owed.flat_map(move |(part, owed)| {
            let missing = owed.iter().copied();
            let missing = missing.filter(move |message| self.is_owed(*message, at_us, ledger));
            missing.map(|message| (*part, message))
        })
    }

    pub(super) fn settled(&mut self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        for (part, owed) in &self.owed {
            let missing = owed.iter().copied();
            let missing = missing.filter(|message| self.is_owed(*message, at_us, ledger));
            let mut topics: BTreeMap<TopicIndex, Vec<MessageIndex>> = BTreeMap::new();
            for message in missing {
                let topic = ledger.message(message).topic;
                topics.entry(topic).or_default().push(message);
            }
            for (topic, missing) in topics {
                let reported = |topic| self.dropped.get(&(*part, topic)).copied().unwrap_or(0);
                let dropped = reported(Some(topic)) + reported(None);
                if missing.len() > dropped {
                    let name = &ledger.part(*part).name;
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

    fn is_owed(&self, message: MessageIndex, at_us: u64, ledger: &Ledger) -> bool {
        let row = ledger.message(message);
        if row.qos > QoS::AtMostOnce {
            return ledger.is_owed(message, at_us);
        }
        let is_recorded = self.recorded.contains_key(&message);
        is_recorded && !row.rotten && !ledger.may_have_expired(message, at_us)
    }
}

/// Whether a part's session has confirmed subscriptions that match a message, and keeps it if it
/// is of QoS 0.
fn is_promised(row: &PartRow, message: MessageIndex, ledger: &Ledger) -> bool {
    let found = ledger.message(message);
    let is_kept = found.qos > QoS::AtMostOnce || row.keeps_qos0 && row.durable;
    is_kept && row.is_promised(found.topic, &ledger.topics)
}

/// Drop reasons that explain a missing message. The other reasons are for refused messages,
/// messages that are not kept, and ended sessions.
fn is_excuse(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::QueueFull
            | DropReason::TooOld
            | DropReason::MemoryFull
            | DropReason::PacketTooLarge
            | DropReason::NotPermitted
            | DropReason::StoreDamaged
    )
}
