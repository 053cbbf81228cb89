//! A durable part is told that it is attached once its session and all of its subscriptions are
//! durable, so that no crash at any moment takes them back.

use std::collections::BTreeMap;

use martlet_broker::{Record, SessionEpoch, lane_name};

use crate::facts::{Fact, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;
use crate::store::Lsn;

const CHECK: &str = "attachments are durable";

/// What the records say of sessions.
#[derive(Debug, Default)]
pub(super) struct PartDurable {
    /// By Client Identifier: the session and its last record.
    sessions: BTreeMap<String, (SessionEpoch, Lsn)>,
    /// The last record of each subscription.
    subscriptions: BTreeMap<(SessionEpoch, String), Lsn>,
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
            _ => {}
        }
    }

    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Crashed { durable, .. } => {
                // What was not durable has come back with the store, or is recorded anew.
                let sessions = self.sessions.values_mut().map(|(_, lsn)| lsn);
                let all = sessions.chain(self.subscriptions.values_mut());
                all.filter(|lsn| **lsn > durable).for_each(|lsn| *lsn = 0);
            }
            Fact::Part {
                part,
                what: PartFact::Attached { durable, .. },
            } if ledger.part(part).durable => self.attached(part, durable, ledger, findings),
            _ => {}
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

    /// The subscriptions of a lane may have been copied at a start, from those of another one.
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
