//! An acknowledgement is a promise kept by a record: whatever a client is told, the record behind
//! it was durable when it left. So no crash at any moment would break the promise, and none is
//! needed to find one that would be broken. Also: no record stands before one that it follows from.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, Record, SessionEpoch};
use martlet_codec::{PacketId, QoS};

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::store::Lsn;

const CHECK: &str = "promises are durable";

/// A session across its life: the epoch counts per shard.
type Session = (usize, SessionEpoch);

/// What the records say.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The first record of each message, by the number in its payload.
    messages: BTreeMap<MessageIndex, Lsn>,
    recorded_ids: BTreeSet<MessageId>,
    /// Entries of messages that had no record yet.
    early_entries: BTreeSet<MessageId>,
    /// By Client Identifier: the session and its latest record.
    sessions: BTreeMap<Box<str>, (Session, Lsn)>,
    subscriptions: BTreeMap<(Session, Box<str>), Lsn>,
    assigned: BTreeMap<(Session, PacketId), Lsn>,
    received: BTreeMap<(Session, PacketId), Lsn>,
    released: BTreeMap<(Session, PacketId), Lsn>,
    /// Messages that must have a record, because of this session.
    must_keep: BTreeMap<MessageIndex, (ClientIndex, u32)>,
}

impl Durable {
    pub(super) fn recorded(
        &mut self,
        shard: usize,
        lsn: Lsn,
        record: &Record,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match record {
            Record::Session {
                client_id, epoch, ..
            } => {
                self.sessions
                    .insert(client_id.clone(), ((shard, *epoch), lsn));
            }
            Record::Subscribed { epoch, filter, .. } => {
                self.subscriptions
                    .insert(((shard, *epoch), filter.clone()), lsn);
            }
            Record::Message { message, .. } => {
                let number = message.payload().first_chunk().copied();
                if let Some(number) = number.map(MessageIndex::from_be_bytes) {
                    self.messages.entry(number).or_insert(lsn);
                }
                self.recorded_ids.insert(message.id());
                if self.early_entries.contains(&message.id()) {
                    let what = number_in_words(message.payload(), ledger);
                    findings.add(CHECK, format!("an entry stands before its message {what}"));
                }
            }
            Record::Released { epoch, packet_id } => {
                self.released.insert(((shard, *epoch), *packet_id), lsn);
            }
            Record::Enqueued {
                epoch,
                message,
                packet_id,
                ..
            } => {
                if let Some(packet_id) = packet_id {
                    self.assigned.insert(((shard, *epoch), *packet_id), lsn);
                }
                if !self.recorded_ids.contains(message) {
                    self.early_entries.insert(*message);
                }
            }
            Record::Assigned {
                epoch, packet_id, ..
            } => {
                self.assigned.insert(((shard, *epoch), *packet_id), lsn);
            }
            Record::Received { epoch, packet_id } => {
                self.received.insert(((shard, *epoch), *packet_id), lsn);
            }
            Record::SessionEnded(_)
            | Record::Unsubscribed { .. }
            | Record::RetainedCleared { .. }
            | Record::Routed(_)
            | Record::Ended { .. } => {}
        }
    }

    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Published {
                message,
                again: false,
                ..
            } => self.note_keepers(message, ledger),
            Fact::Acknowledged {
                message,
                refused: false,
                durable,
                ..
            } => self.acknowledged(message, durable, ledger, findings),
            _ => self.see_of_session(fact, ledger, findings),
        }
    }

    /// Who must have this message kept for it.
    fn note_keepers(&mut self, message: MessageIndex, ledger: &Ledger) {
        let row = ledger.message(message);
        if row.qos == QoS::AtMostOnce || row.empty {
            return;
        }
        for (index, client) in (0..).zip(&ledger.clients) {
            let promised = ledger.promised_qos(index, row.topic, row.publisher);
            let lasts = client.session && client.expiry_secs == u32::MAX;
            if lasts && promised.is_some_and(|qos| qos > QoS::AtMostOnce) {
                self.must_keep.insert(message, (index, client.life));
                return;
            }
        }
    }

    fn acknowledged(
        &mut self,
        message: MessageIndex,
        durable: Lsn,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let record = self.messages.get(&message).copied();
        let what = ledger.describe(message);
        match (record, self.must_keep.remove(&message)) {
            (Some(lsn), _) if lsn > durable => {
                let what = format!("{what} was acknowledged before its record was durable");
                findings.add(CHECK, what);
            }
            (None, Some((client, life))) => {
                let row = ledger.client(client);
                let message = ledger.message(message);
                let still = ledger.promised_qos(client, message.topic, message.publisher);
                if row.life == life && row.session && still.is_some() {
                    let name = &row.name;
                    let what = format!("{what} was acknowledged without a record, {name} wants it");
                    findings.add(CHECK, what);
                }
            }
            _ => {}
        }
    }

    /// What a session that outlives its connection is told.
    fn see_of_session(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Some(client) = fact.client() else { return };
        let row = ledger.client(client);
        if row.expiry_secs == 0 || row.violated {
            return;
        }
        let name = row.name.as_str();
        let known = self.sessions.get(name).copied();
        let session = known.map(|(session, _)| session);
        let of = |table: &BTreeMap<(Session, PacketId), Lsn>, packet_id: u16| {
            let key = (session?, PacketId::new(packet_id)?);
            table.get(&key).copied()
        };
        let (what, record, durable) = match *fact {
            Fact::Connected { durable, .. } => {
                ("CONNACK", known.map(|(_, lsn)| lsn), durable)
            }
            Fact::Subscribed {
                filter,
                granted: true,
                durable,
                ..
            } => {
                let filter = ledger.topics.filter(filter);
                let key = session.map(|session| (session, Box::from(filter)));
                let record = key.and_then(|key| self.subscriptions.get(&key).copied());
                ("SUBACK", record, durable)
            }
            Fact::Arrived {
                qos: QoS::ExactlyOnce,
                packet_id,
                known: false,
                durable,
                ..
            } => (
                "a QoS 2 PUBLISH",
                of(&self.assigned, packet_id),
                durable,
            ),
            Fact::Released {
                packet_id, durable, ..
            } => ("PUBREL", of(&self.received, packet_id), durable),
            Fact::Completed {
                packet_id, durable, ..
            } => ("PUBCOMP", of(&self.released, packet_id), durable),
            _ => return,
        };
        match record {
            Some(lsn) if lsn <= durable => {}
            Some(_) => {
                let what = format!("{name} got {what} before its record was durable");
                findings.add(CHECK, what);
            }
            None => findings.add(CHECK, format!("{name} got {what} without a record")),
        }
    }
}

fn number_in_words(payload: &[u8], ledger: &Ledger) -> String {
    let number = payload.first_chunk().copied().map(MessageIndex::from_be_bytes);
    let known = number.filter(|number| (*number as usize) < ledger.messages.len());
    known.map_or(String::new(), |number| ledger.describe(number))
}
