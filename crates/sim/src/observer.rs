//! The observer: receives each fact once, and passes it to every check.

use std::collections::BTreeMap;

use martlet_broker::{Record, Report, SessionEpoch};

use crate::check::Checks;
use crate::facts::{Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::store::Lsn;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When it was detected, virtual microseconds.
    pub at_us: u64,
    /// The check that detected it.
    pub check: &'static str,
    /// Description of what happened.
    pub what: String,
}

/// Violations found by checks.
#[derive(Debug, Default)]
pub struct Findings {
    at_us: u64,
    /// The violations, oldest first.
    pub violations: Vec<Violation>,
}

impl Findings {
    /// Adds a violation.
    pub fn add(&mut self, check: &'static str, what: String) {
        self.violations.push(Violation {
            at_us: self.at_us,
            check,
            what,
        });
    }
}

/// A line of the log.
#[derive(Clone, Debug)]
pub enum Line {
    /// An action or observation of a client.
    Fact(Fact),
    /// An action of the node: its records and restarts.
    Note(String),
}

/// The observer.
#[derive(Debug)]
pub struct Observer {
    /// State derived from the facts.
    pub ledger: Ledger,
    /// The checks.
    pub checks: Checks,
    /// Their violations.
    pub findings: Findings,
    /// All events, if logging is enabled.
    pub log: Option<Vec<(u64, Line)>>,
    now_us: u64,
    /// The latest recorded session, by Client Identifier.
    sessions: BTreeMap<String, SessionEpoch>,
}

impl Observer {
    /// An observer of the clients and topics in `ledger`; `log` keeps the facts.
    pub fn new(ledger: Ledger, checks: Checks, log: bool) -> Self {
        Self {
            ledger,
            checks,
            findings: Findings::default(),
            log: log.then(Vec::new),
            now_us: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Sets the time.
    pub fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.findings.at_us = now_us;
    }

    /// Handles a fact.
    pub fn fact(&mut self, fact: &Fact) {
        if let Some(log) = &mut self.log {
            log.push((self.now_us, Line::Fact(*fact)));
        }
        self.checks
            .before(self.now_us, fact, &self.ledger, &mut self.findings);
        self.ledger.apply(self.now_us, fact);
        self.checks
            .after(self.now_us, fact, &self.ledger, &mut self.findings);
    }

    /// Handles a record appended by the node.
    pub fn recorded(&mut self, lsn: Lsn, record: &Record) {
        if let Some(log) = &mut self.log {
            log.push((self.now_us, Line::Note(record_in_words(lsn, record))));
        }
        if let Record::Session(session) = record {
            let name = session.client_id.to_string();
            self.sessions.insert(name, session.epoch);
        }
        self.checks
            .recorded(lsn, record, &self.ledger, &mut self.findings);
    }

    /// Handles session reports of shards for the current probe.
    pub fn reported(&mut self, at_us: u64, probe: u64, reports: &[Report]) {
        self.checks
            .reported(at_us, probe, reports, &self.ledger, &mut self.findings);
    }

    /// The latest recorded session of a client.
    pub fn session_of(&self, client_id: &str) -> Option<SessionEpoch> {
        self.sessions.get(client_id).copied()
    }

    /// Adds a note to the log only.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push((self.now_us, Line::Note(what())));
        }
    }

    /// Reports a violation outside the checks.
    pub fn complain(&mut self, check: &'static str, what: String) {
        self.findings.add(check, what);
    }
}

/// A record in one line: its number, then its contents.
fn record_in_words(lsn: Lsn, record: &Record) -> String {
    let what = match record {
        Record::Session(session) => {
            let (client, epoch) = (&session.client_id, session.epoch.0);
            let will = if session.will.is_some() { ", Will" } else { "" };
            format!(
                "session {epoch:x} of {client}, expiry {} s{will}",
                session.expiry_secs
            )
        }
        Record::Subscribed(subscription) => {
            let (epoch, filter) = (subscription.epoch.0, &subscription.filter);
            format!("session {epoch:x} subscribed to {filter}")
        }
        Record::Message(message) => {
            let number = message.message.payload().first_chunk().copied();
            let number = number.map_or(0, MessageIndex::from_be_bytes);
            let (id, topic) = (message.message.id().0, message.message.topic());
            let receipt = message.receipt.map(|(_, id)| id.get());
            format!("message {id:x} = m{number} on {topic}, receipt {receipt:?}")
        }
        Record::Enqueued(entry) | Record::Changed(entry) | Record::Moved { to: entry, .. } => {
            let kind = match record {
                Record::Enqueued(_) => "enqueued".to_owned(),
                Record::Moved { from, .. } => format!("moved from {:x}", from.0),
                _ => "changed".to_owned(),
            };
            let (id, epoch) = (entry.message.0, entry.epoch.0);
            let packet_id = entry.packet_id.map(|id| id.get());
            let released = if entry.released { ", released" } else { "" };
            format!("message {id:x} {kind} for {epoch:x}, id {packet_id:?}{released}")
        }
        Record::EntryEnded { epoch, message, .. } => {
            format!("message {:x} ended for {:x}", message.0, epoch.0)
        }
        Record::Ended(epoch) => format!("session or group {:x} ended", epoch.0),
        Record::Routed(id) => format!("message {:x} routed", id.0),
        other => format!("{other:?}"),
    };
    format!("                    # {lsn} {what}")
}
