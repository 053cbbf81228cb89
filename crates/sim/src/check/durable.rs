//! An acknowledgement depends on a record: whatever a client receives, the record for it must have
//! been durable when it left. So no crash at any time can break the promise, and this check finds
//! violations without a crash. It also checks that no record precedes one that it depends on.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, Record, SessionEpoch};
use martlet_codec::{PacketId, QoS};

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::store::Lsn;
use crate::topics::Class;

const CHECK: &str = "promises are durable";

/// State according to the records.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The first record of each message, by the number in its payload.
    messages: BTreeMap<MessageIndex, Lsn>,
    /// Messages among them that are not recorded only for a receipt or as retained.
    routed: BTreeSet<MessageIndex>,
    recorded_ids: BTreeSet<MessageId>,
    /// Entries recorded before their message.
    early_entries: BTreeSet<MessageId>,
    /// Sessions by Client Identifier, with their first record since the last CONNECT.
    sessions: BTreeMap<String, (SessionEpoch, Lsn)>,
    /// Clients that have sent CONNECT since then.
    connecting: BTreeSet<String>,
    /// QoS 2 deliveries without a record, because the message has none either.
    bare: BTreeSet<(ClientIndex, u16)>,
    subscriptions: BTreeMap<(SessionEpoch, String), SubscriptionRow>,
    assigned: BTreeMap<(SessionEpoch, PacketId), Lsn>,
    received: BTreeMap<(SessionEpoch, PacketId), Lsn>,
    released: BTreeMap<(SessionEpoch, PacketId), Lsn>,
    /// Messages that must have a record, with the session that requires it.
    must_keep: BTreeMap<MessageIndex, (ClientIndex, u32)>,
}

/// State of a subscription.
#[derive(Debug, Default)]
struct SubscriptionRow {
    number: u32,
    /// Options of the last SUBSCRIBE.
    requested: Option<SubscriptionOptions>,
    /// The last record before that.
    before: Option<(Lsn, SubscriptionOptions)>,
    /// The first record after it.
    since: Option<Lsn>,
    /// The last record.
    last: Option<(Lsn, SubscriptionOptions)>,
    /// The record of its end, if that is later.
    ended: Option<Lsn>,
}

/// QoS, No Local, Retain As Published.
type SubscriptionOptions = (QoS, bool, bool);

impl SubscriptionRow {
    fn requested(&mut self, options: SubscriptionOptions) {
        self.requested = Some(options);
        self.before = self.last;
        self.since = None;
    }

    fn recorded(&mut self, lsn: Lsn, options: SubscriptionOptions) {
        self.since = self.since.or(Some(lsn));
        self.last = Some((lsn, options));
        self.ended = None;
    }

    /// The record on which SUBACK depends. An unchanged subscription needs no new record.
    fn record(&self) -> Option<Lsn> {
        let stood = self.before.filter(|(_, was)| Some(*was) == self.requested);
        let stands = stood.filter(|_| self.ended.is_none());
        self.since.or(stands.map(|(lsn, _)| lsn))
    }

    /// An end that was not durable does not count.
    fn crashed(&mut self, durable: Lsn) {
        self.ended = self.ended.filter(|lsn| *lsn <= durable);
    }

    fn each_lsn(&mut self, mut change: impl FnMut(&mut Lsn)) {
        let recorded = [&mut self.before, &mut self.last].into_iter().flatten();
        recorded.for_each(|(lsn, _)| change(lsn));
        self.since.iter_mut().for_each(change);
    }
}

impl Durable {
    pub(super) fn recorded(
        &mut self,
        lsn: Lsn,
        record: &Record,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match record {
            Record::Session(session) => {
                let name = session.client_id.to_string();
                let known = self.sessions.get(&name).copied();
                let same = known.filter(|(epoch, _)| *epoch == session.epoch);
                if self.connecting.remove(&name) || same.is_none() {
                    self.sessions.insert(name, (session.epoch, lsn));
                }
            }
            Record::Subscribed(subscription) => {
                let key = (subscription.epoch, subscription.filter.to_string());
                let row = self.subscriptions.entry(key).or_default();
                row.number = subscription.number;
                let (qos, no_local) = (subscription.qos, subscription.no_local);
                row.recorded(lsn, (qos, no_local, subscription.retain_as_published));
            }
            Record::Unsubscribed { epoch, number } => {
                let ended = |row: &SubscriptionRow| row.number == *number;
                let rows = self.subscriptions.iter_mut();
                for (_, row) in rows.filter(|((of, _), row)| of == epoch && ended(row)) {
                    row.ended = Some(lsn);
                }
            }
            // Without a publisher it was recorded later, for a client that had not subscribed when
            // the message arrived; nothing was promised for it.
            Record::Message(record) if record.publisher.is_none() => {}
            Record::Message(record) => {
                let message = &record.message;
                let number = message.payload().first_chunk().copied();
                if let Some(number) = number.map(MessageIndex::from_be_bytes) {
                    self.messages.entry(number).or_insert(lsn);
                    if record.to_be_routed {
                        self.routed.insert(number);
                    }
                }
                self.recorded_ids.insert(message.id());
                // A retained message is visible to all shards at once: a shard that reads it early
                // may record its entry first. If the node ends between the two records, the entry
                // is restored without its message, which was not promised to any client yet. The
                // entry is dropped, and its Packet Identifier kept until PUBCOMP. But the earlier
                // retained message is retained again, and the subscription counts as having read
                // the new one.
                let early = self.early_entries.contains(&message.id());
                if early && record.retained_revision.is_none() {
                    let what = number_in_words(message.payload(), ledger);
                    findings.add(CHECK, format!("an entry stands before its message {what}"));
                }
            }
            Record::Released { epoch, packet_id } => {
                self.released.insert((*epoch, *packet_id), lsn);
            }
            Record::Enqueued(entry) | Record::Changed(entry) | Record::Moved { to: entry, .. } => {
                if let Some(packet_id) = entry.packet_id {
                    let table = match entry.released {
                        true => &mut self.received,
                        false => &mut self.assigned,
                    };
                    table.insert((entry.epoch, packet_id), lsn);
                }
                if !self.recorded_ids.contains(&entry.message) {
                    self.early_entries.insert(entry.message);
                }
            }
            Record::Ended(_)
            | Record::Group { .. }
            | Record::RetainedSent { .. }
            | Record::RetainedEnded(_)
            | Record::Routed(_)
            | Record::EntryEnded { .. } => {}
        }
    }

    /// Data that was not durable was restored from the store nevertheless, or no client was told
    /// of it.
    fn crashed(&mut self, durable: Lsn, ledger: &Ledger) {
        self.messages.retain(|message, lsn| {
            let known = ledger.messages.get(*message as usize);
            *lsn <= durable || known.is_some_and(|row| row.qos == QoS::ExactlyOnce)
        });
        let later = |lsn: &mut Lsn| {
            if *lsn > durable {
                *lsn = 0;
            }
        };
        self.messages.values_mut().for_each(later);
        self.sessions.values_mut().for_each(|(_, lsn)| later(lsn));
        let rows = self.subscriptions.values_mut();
        rows.for_each(|row| {
            row.crashed(durable);
            row.each_lsn(later);
        });
        self.assigned.values_mut().for_each(later);
        self.received.values_mut().for_each(later);
        self.released.values_mut().for_each(later);
        self.early_entries.clear();
        self.must_keep.clear();
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
            Fact::Crashed { durable, .. } => self.crashed(durable, ledger),
            Fact::Connecting { client, .. } => {
                self.connecting.insert(ledger.client(client).name.clone());
            }
            Fact::Unsubscribing { client, .. } => {
                self.must_keep.retain(|_, (keeper, _)| *keeper != client);
            }
            Fact::Subscribing {
                client,
                filter,
                qos,
                no_local,
                retain_as_published,
                ..
            } => {
                self.must_keep.retain(|_, (keeper, _)| *keeper != client);
                let name = &ledger.client(client).name;
                if let Some((epoch, _)) = self.sessions.get(name) {
                    let key = (*epoch, ledger.topics.filter(filter).to_owned());
                    let row = self.subscriptions.entry(key).or_default();
                    row.requested((qos, no_local, retain_as_published));
                }
            }
            _ => self.see_of_session(fact, ledger, findings),
        }
    }

    /// Records the clients for which this message must be kept.
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
                if row.life == life && row.session && still.is_some_and(|qos| qos > QoS::AtMostOnce)
                {
                    let name = &row.name;
                    let what = format!("{what} was acknowledged without a record, {name} wants it");
                    findings.add(CHECK, what);
                }
            }
            _ => {}
        }
    }

    /// Checks packets to a session that outlives its connection.
    fn see_of_session(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Some(client) = fact.client() else { return };
        let row = ledger.client(client);
        if row.expiry_secs == 0 || row.violated {
            return;
        }
        let name = row.name.as_str();
        let known = self.sessions.get(name).copied();
        let session = known.map(|(session, _)| session);
        let of = |table: &BTreeMap<(SessionEpoch, PacketId), Lsn>, packet_id: u16| {
            let key = (session?, PacketId::new(packet_id)?);
            table.get(&key).copied()
        };
        let (what, record, durable) = match *fact {
            Fact::Connected { durable, .. } => ("CONNACK", known.map(|(_, lsn)| lsn), durable),
            Fact::Subscribed {
                filter,
                granted: true,
                durable,
                ..
            } => {
                let filter = ledger.topics.filter(filter);
                let key = session.map(|session| (session, filter.to_owned()));
                let record = key.and_then(|key| self.subscriptions.get(&key));
                ("SUBACK", record.and_then(SubscriptionRow::record), durable)
            }
            Fact::Arrived {
                qos: QoS::ExactlyOnce,
                packet_id,
                message,
                known: false,
                durable,
                ..
            } => {
                // A group that was not durable when the message arrived holds it without a record.
                let class =
                    message.map(|message| ledger.topics.class(ledger.message(message).topic));
                let kept = message.is_some_and(|message| self.routed.contains(&message));
                if !kept || class == Some(Class::Shared) {
                    self.bare.insert((client, packet_id));
                    return;
                }
                self.bare.remove(&(client, packet_id));
                ("a QoS 2 PUBLISH", of(&self.assigned, packet_id), durable)
            }
            Fact::Released { packet_id, .. } if self.bare.contains(&(client, packet_id)) => return,
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
    let number = payload
        .first_chunk()
        .copied()
        .map(MessageIndex::from_be_bytes);
    let known = number.filter(|number| (*number as usize) < ledger.messages.len());
    known.map_or(String::new(), |number| ledger.describe(number))
}
