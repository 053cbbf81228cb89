//! How much the Wills of a shard take, by tenant.

use std::collections::BTreeMap;

use martlet_permission::TenantId;

/// Bytes of the Wills of sessions, and how many are those of each tenant but the common one.
#[derive(Debug, Default)]
pub(crate) struct WillBytes {
    all: usize,
    of_tenants: BTreeMap<TenantId, usize>,
}

impl WillBytes {
    /// A session of this tenant has a Will of `now` bytes in place of one of `before`.
    pub(crate) fn count(&mut self, tenant: TenantId, now: usize, before: usize) {
        self.all = self.all + now - before;
        if tenant == TenantId::default() || now == before {
            return;
        }
        let own = self.of_tenants.entry(tenant).or_default();
        *own = *own + now - before;
        if *own == 0 {
            self.of_tenants.remove(&tenant);
        }
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> usize {
        self.all
    }

    /// Bytes of those of one tenant, but the common one.
    pub(crate) fn of(&self, tenant: TenantId) -> usize {
        self.of_tenants.get(&tenant).copied().unwrap_or_default()
    }

    /// Bytes of those of each tenant but the common one.
    pub(crate) fn of_tenants(&self) -> impl Iterator<Item = (TenantId, usize)> {
        self.of_tenants
            .iter()
            .map(|(tenant, bytes)| (*tenant, *bytes))
    }
}
