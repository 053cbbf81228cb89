//! The observer: takes each fact in, once, and shows it to every check.

use martlet_broker::Record;

use crate::check::Checks;
use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::store::Lsn;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When it was noticed, virtual microseconds.
    pub at_us: u64,
    /// Which check noticed it.
    pub check: &'static str,
    /// What happened.
    pub what: String,
}

/// What checks found.
#[derive(Debug, Default)]
pub struct Findings {
    at_us: u64,
    /// What was found, the first first.
    pub violations: Vec<Violation>,
}

impl Findings {
    /// Something is wrong.
    pub fn add(&mut self, check: &'static str, what: String) {
        self.violations.push(Violation {
            at_us: self.at_us,
            check,
            what,
        });
    }
}

/// The observer.
#[derive(Debug)]
pub struct Observer {
    /// What is known from the facts.
    pub ledger: Ledger,
    /// The checks.
    pub checks: Checks,
    /// What they found.
    pub findings: Findings,
    /// All facts, if somebody wants to read them.
    pub log: Option<Vec<(u64, Fact)>>,
    now_us: u64,
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
        }
    }

    /// It is this late.
    pub fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.findings.at_us = now_us;
    }

    /// Something happened.
    pub fn fact(&mut self, fact: &Fact) {
        if let Some(log) = &mut self.log {
            log.push((self.now_us, *fact));
        }
        self.checks
            .before(self.now_us, fact, &self.ledger, &mut self.findings);
        self.ledger.apply(self.now_us, fact);
        self.checks
            .after(self.now_us, fact, &self.ledger, &mut self.findings);
    }

    /// The node appended a record.
    pub fn recorded(&mut self, lsn: Lsn, record: &Record) {
        self.checks
            .recorded(lsn, record, &self.ledger, &mut self.findings);
    }

    /// Somebody else than a check found something.
    pub fn complain(&mut self, check: &'static str, what: String) {
        self.findings.add(check, what);
    }
}
