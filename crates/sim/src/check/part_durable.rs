//! A durable part is notified of its attachment only after its session and all its subscriptions
//! are durable, so that no crash undoes them. A message of QoS 1 or 2 with a record is delivered
//! only after the record is durable: the publisher sends a message lost in a crash again, and the
//! node would take it for another message.

use std::collections::BTreeMap;

use martlet_broker::{MessageId, Record, SessionEpoch, lane_name};
use martlet_codec::QoS;

use crate::facts::{Fact, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartDelivery, PartFact};
use crate::store::Lsn;

const CHECK: &str = "attachments are durable";
const CHECK_MESSAGES: &str = "parts are told of what is durable";

/// State of sessions according to the records.
#[derive(Debug, Default)]
pub(super) struct PartDurable {
    /// The session and its last record, by Client Identifier.
    sessions: BTreeMap<String, (SessionEpoch, Lsn)>,
    /// The last record of each subscription.
    subscriptions: BTreeMap<(SessionEpoch, String), Lsn>,
    /// The record of each message.
    messages: BTreeMap<MessageId, Lsn>,
}

impl PartDurable {
    pub(super) fn recorded(&mut self, lsn: Lsn, record: &Record) {
        match record {
            Record::Session(session) => {
                let name = session.client_id.to_string();
                self.sessions.insert(name, (session.epoch, lsn));
            }
            Record::Subscribed(subscription) => {
                let key = (subscription.epoch, subscription.filter.to_string());
                self.subscriptions.insert(key, lsn);
            }
            Record::Message(record) => {
                self.messages.insert(record.message.id(), lsn);
            }
            _ => {}
        }
    }

    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Crashed { durable, .. } => {
                // Data that was not durable was restored with the store, or is recorded again.
                let sessions = self.sessions.values_mut().map(|(_, lsn)| lsn);
                let all = sessions.chain(self.subscriptions.values_mut());
                let all = all.chain(self.messages.values_mut());
                all.filter(|lsn| **lsn > durable).for_each(|lsn| *lsn = 0);
            }
            Fact::Part {
                part,
                what: PartFact::Attached { durable, .. },
            } if ledger.part(part).durable => self.attached(part, durable, ledger, findings),
            Fact::Part {
                part,
                what: PartFact::Delivered(delivery),
            } if ledger.part(part).durable => {
                self.check_delivery(part, &delivery, ledger, findings)
            }
            _ => {}
        }
    }

    fn check_delivery(
        &self,
        part: PartIndex,
        delivery: &PartDelivery,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let (Some(lsn), Some(message)) = (self.messages.get(&delivery.id), delivery.message) else {
            return;
        };
        let (row, receiver) = (ledger.message(message), ledger.part(part));
        // Until a part has received its subscriptions, some shards may lack them.
        let is_promised = row.sent_us > receiver.since_us;
        if row.qos > QoS::AtMostOnce && *lsn > delivery.durable && is_promised {
            let (name, what) = (&receiver.name, ledger.describe(message));
            findings.add(
                CHECK_MESSAGES,
                format!("{name} got {what} before it was durable"),
            );
        }
    }

    fn attached(&self, part: PartIndex, durable: Lsn, ledger: &Ledger, findings: &mut Findings) {
        let row = ledger.part(part);
        for lane in 0..row.lanes {
            self.lane_attached(&lane_name(&row.name, lane), durable, findings);
        }
        if row.lanes > 0 {
            return;
        }
        let name = &row.name;
        let mut has_record = |what: &str, record: Option<Lsn>| {
            if record.is_none_or(|lsn| lsn > durable) {
                let what = format!("{name} was attached before the record of {what} was durable");
                findings.add(CHECK, what);
            }
        };
        let session = self.sessions.get(name);
        has_record("its session", session.map(|(_, lsn)| *lsn));
        let Some((epoch, _)) = session else { return };
        for filter in row.filters.filters() {
            let filter = ledger.topics.filter(filter);
            let record = self.subscriptions.get(&(*epoch, filter.to_owned()));
            has_record(filter, record.copied());
        }
    }

    /// The subscriptions of a lane may have been copied at a start from another lane.
    fn lane_attached(&self, name: &str, durable: Lsn, findings: &mut Findings) {
        let session = self.sessions.get(name);
        if session.is_none_or(|(_, lsn)| *lsn > durable) {
            let what = format!("{name} was attached before the record of its session was durable");
            findings.add(CHECK, what);
        }
        let Some((epoch, _)) = session else { return };
        let mut records = self.subscriptions.iter();
        if records.any(|((of, _), lsn)| of == epoch && *lsn > durable) {
            let what = format!("{name} was attached before its subscriptions were durable");
            findings.add(CHECK, what);
        }
    }
}
