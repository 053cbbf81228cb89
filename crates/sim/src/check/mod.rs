//! The checks: one file each; all get the same facts. The input of a check is the observations of
//! clients and the promises to them, the records that the node appended, and its reports; nothing
//! else.

mod bounds;
mod durable;
mod expiry;
mod gap;
mod genuine;
mod identifiers;
mod lockout;
mod lost;
mod once;
mod order;
mod part_account;
mod part_durable;
mod part_hold;
mod part_lost;
mod part_once;
mod part_order;
mod part_publish;
mod part_queue;
mod part_receipt;
mod part_rules;
mod permission;
mod protocol;
mod retained;
mod session;
mod share;
mod sink;
mod tenant;
mod wills;

use martlet_broker::{Record, Report};

use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::store::Lsn;

/// All checks. In runs with users, only checks that do not depend on promises run, and those of
/// permissions, tenants and lockouts.
#[derive(Debug, Default)]
pub struct Checks {
    bounds: bounds::Bounds,
    durable: durable::Durable,
    expiry: expiry::Expiry,
    gap: gap::Gap,
    genuine: genuine::Genuine,
    identifiers: identifiers::SubscriptionIdentifiers,
    lockout: lockout::Lockouts,
    lost: lost::Lost,
    once: once::Once,
    order: order::Order,
    part_account: part_account::PartAccounts,
    part_durable: part_durable::PartDurable,
    part_hold: part_hold::PartHold,
    part_lost: part_lost::PartLost,
    part_once: part_once::PartOnce,
    part_order: part_order::PartOrder,
    part_publish: part_publish::PartPublishes,
    part_queue: part_queue::PartQueues,
    part_receipt: part_receipt::PartReceipts,
    part_rules: part_rules::PartRules,
    permission: permission::Permission,
    protocol: protocol::Protocol,
    retained: retained::Retained,
    session: session::Sessions,
    share: share::Share,
    sink: sink::Sinks,
    tenant: tenant::Tenant,
    wills: wills::Wills,
}

impl Checks {
    /// The checks of a run whose queues hold at most `queued_max` messages.
    pub fn new(queued_max: usize) -> Self {
        Self {
            bounds: bounds::Bounds::new(queued_max),
            ..Self::default()
        }
    }

    /// Handles a fact before the ledger applies it.
    pub fn before(&mut self, at_us: u64, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        if ledger.people.is_some() {
            return;
        }
        self.session.see(at_us, fact, ledger, findings);
        self.wills.see(at_us, fact, ledger, findings);
        self.lost.before(fact, ledger);
        self.share.before(fact, ledger);
    }

    /// Handles a fact after the ledger has applied it.
    pub fn after(&mut self, at_us: u64, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        self.expiry.see(at_us, fact, ledger, findings);
        self.genuine.see(fact, ledger, findings);
        self.once.see(fact, ledger, findings);
        self.protocol.see(fact, ledger, findings);
        if ledger.people.is_some() {
            self.lockout.see(at_us, fact, ledger, findings);
            self.permission.see(fact, ledger, findings);
            self.tenant.see(fact, ledger, findings);
            self.sink.see(at_us, fact, ledger, findings);
            return;
        }
        self.durable.see(fact, ledger, findings);
        self.gap.see(fact, ledger, findings);
        self.identifiers.see(fact, ledger, findings);
        self.lost.see(fact, ledger, findings);
        self.order.see(fact, ledger, findings);
        if !ledger.parts.is_empty() {
            self.part_account.see(fact, ledger);
            self.part_durable.see(fact, ledger, findings);
            self.part_hold.see(at_us, fact, ledger, findings);
            self.part_lost.see(fact, ledger, findings);
            self.part_once.see(fact, ledger, findings);
            self.part_order.see(at_us, fact, ledger, findings);
            self.part_publish.see(fact, ledger, findings);
            self.part_queue.see(at_us, fact, ledger, findings);
            self.part_receipt.see(at_us, fact, ledger, findings);
            self.part_rules.see(at_us, fact, ledger, findings);
        }
        self.retained.see(at_us, fact, ledger);
        self.share.see(at_us, fact, ledger, findings);
        self.sink.see(at_us, fact, ledger, findings);
    }

    /// Handles a report of the store that more is durable.
    pub fn synced(&mut self, at_us: u64) {
        self.part_queue.synced(at_us);
    }

    /// Handles a record appended by the node.
    pub fn recorded(
        &mut self,
        lsn: Lsn,
        record: &Record,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        if ledger.people.is_some() {
            return self.permission.recorded(record, ledger, findings);
        }
        self.durable.recorded(lsn, record, ledger, findings);
        if !ledger.parts.is_empty() {
            self.part_durable.recorded(lsn, record);
            self.part_lost.recorded(lsn, record);
        }
    }

    /// Handles a session report of the node; `probe` is the latest request.
    pub fn reported(
        &mut self,
        at_us: u64,
        probe: u64,
        reports: &[Report],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        self.bounds.reported(reports, findings);
        self.expiry.reported(at_us, reports, findings);
        self.part_account.reported(probe, reports, ledger, findings);
        self.part_hold.waited(at_us, ledger, findings);
    }

    /// Final checks: all clients are connected and nothing is in flight.
    pub fn settled(&mut self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        self.sink.settled(at_us, ledger, findings);
        if ledger.people.is_some() {
            return;
        }
        self.lost.settled(at_us, ledger, findings);
        self.part_lost.settled(at_us, ledger, findings);
        let missing = self.part_lost.missing(at_us, ledger);
        self.part_queue.settled(missing, ledger, findings);
        self.part_publish.settled(ledger, findings);
        self.part_receipt.settled(ledger, findings);
        self.share.settled(at_us, ledger, findings);
        self.retained.settled(ledger, findings);
        self.wills.settled(at_us, ledger, findings);
    }
}
