//! The accounts of a part's session match those of its sink: *delivered* is what it has settled as
//! done, and *dropped* is at least what it has refused. From the node's session reports, since the
//! session or this run of the node began.

use std::collections::BTreeMap;

use martlet_broker::{Answer, PartOutcome, Report, lane_of};

use crate::facts::{Fact, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;

const CHECK: &str = "accounts of parts";

/// Settlements of each part.
#[derive(Debug, Default)]
pub(super) struct PartAccounts {
    /// Accounts by part and lane; lane 0 for a part that is attached once.
    accounts: BTreeMap<(PartIndex, u16), Account>,
    /// While the node stops, settlements of a part may be lost.
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Account {
    done: u64,
    refused: u64,
    /// Whether its session is known to exist.
    is_open: bool,
}

impl PartAccounts {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger) {
        let (part, what) = match *fact {
            Fact::Stopping => {
                self.is_stopping = true;
                return;
            }
            Fact::Crashed { .. } => {
                self.is_stopping = false;
                return self.accounts.clear();
            }
            Fact::Part { part, what } => (part, what),
            _ => return,
        };
        match what {
            PartFact::Attached { present, .. } => {
                for lane in 0..ledger.part(part).lanes.max(1) {
                    let account = self.accounts.entry((part, lane)).or_default();
                    if !present {
                        *account = Account::default();
                    }
                    account.is_open = true;
                }
            }
            // Its next attachment may be another session; it always is if the part is not durable.
            PartFact::Attaching { .. } | PartFact::Left { .. } | PartFact::Ended => {
                for (_, account) in self.accounts.range_mut((part, 0)..=(part, u16::MAX)) {
                    account.is_open = false;
                    if !ledger.part(part).session {
                        *account = Account::default();
                    }
                }
            }
            PartFact::Settled { outcome, token, .. } => {
                let lane = (token >> 16) as u16;
                let account = self.accounts.entry((part, lane)).or_default();
                match outcome {
                    PartOutcome::Done => account.done += 1,
                    PartOutcome::Refused(_) => account.refused += 1,
                    PartOutcome::Later(_) | PartOutcome::TooOld => {}
                }
            }
            PartFact::Delivered(_)
            | PartFact::Credit(_)
            | PartFact::Hangs(_)
            | PartFact::Queue { .. }
            | PartFact::ReceiptsRequested { .. }
            | PartFact::Receivers { .. }
            | PartFact::Receipt { .. }
            | PartFact::Dropped { .. } => {}
        }
    }

    /// Checks reports for the current `probe`; others are outdated.
    pub(super) fn reported(
        &self,
        probe: u64,
        reports: &[Report],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let present = reports.iter().filter(|report| report.request == probe);
        let lists = present.filter_map(|report| match &report.answer {
            Answer::Clients(page) if !self.is_stopping => Some(&page.clients),
            _ => None,
        });
        for info in lists.flatten() {
            let rows = (0..).zip(&ledger.parts);
            let (name, lane) = lane_of(&info.client_id).unwrap_or((&info.client_id, 0));
            let found = rows.filter(|(_, row)| row.name == name);
            for account in found.filter_map(|(part, _)| self.accounts.get(&(part, lane))) {
                let (name, done, refused) = (&info.client_id, account.done, account.refused);
                if !account.is_open {
                    continue;
                }
                if info.delivered != done {
                    let delivered = info.delivered;
                    let what = format!("{name}: {done} done, {delivered} delivered");
                    findings.add(CHECK, what);
                }
                if info.dropped < refused {
                    let dropped = info.dropped;
                    let what = format!("{name}: {refused} refused, {dropped} dropped");
                    findings.add(CHECK, what);
                }
            }
        }
    }
}
