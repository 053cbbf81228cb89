//! No message passes from one tenant to another: messages to a client were published in the tenant
//! in which it was accepted.

use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "tenants apart";

/// Stateless.
#[derive(Debug, Default)]
pub(super) struct Tenant;

impl Tenant {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Fact::Arrived {
            client,
            message: Some(message),
            ..
        } = *fact
        else {
            return;
        };
        let Some(people) = &ledger.people else {
            return;
        };
        let row = ledger.client(client);
        let Some(to) = people.login(row.link) else {
            return;
        };
        let mut sent = people.sent(message);
        if !sent.any(|(from, _)| from.tenant == to.tenant) {
            let (name, what) = (&row.name, ledger.describe(message));
            let what = format!("{name} of tenant {} got {what}", to.tenant.0);
            findings.add(CHECK, what);
        }
    }
}
