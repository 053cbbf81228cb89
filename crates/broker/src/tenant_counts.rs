//! How many sessions and connections the clients of each tenant have, so that no team takes all of
//! the node's. Those of the common tenant are not counted apart.

use std::collections::BTreeMap;

use martlet_permission::TenantId;

/// Kind of what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantPool {
    /// Sessions, with a connection or without.
    Sessions,
    /// Accepted connections.
    Connections,
}

/// Sessions and connections by tenant.
#[derive(Debug, Default)]
pub struct TenantCounts(BTreeMap<TenantId, [usize; 2]>);

impl TenantCounts {
    /// Counts one more; false if the tenant has its share already. `share_of` has how many the
    /// tenant has, and returns how many it may have.
    pub fn borrow(
        &mut self,
        tenant: TenantId,
        pool: TenantPool,
        share_of: impl FnOnce(usize) -> usize,
    ) -> bool {
        let counts = self.0.entry(tenant).or_default();
        let count = &mut counts[pool as usize];
        let has_room = *count < share_of(*count);
        *count += usize::from(has_room);
        if *counts == [0, 0] {
            self.0.remove(&tenant);
        }
        has_room
    }

    /// Counts one less.
    pub fn give_back(&mut self, tenant: TenantId, pool: TenantPool) {
        let Some(counts) = self.0.get_mut(&tenant) else {
            return;
        };
        let count = &mut counts[pool as usize];
        *count = count.saturating_sub(1);
        if *counts == [0, 0] {
            self.0.remove(&tenant);
        }
    }

    /// Tenants with a session or a connection.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.0.keys().copied()
    }

    /// How many a tenant has.
    pub(crate) fn of(&self, tenant: TenantId, pool: TenantPool) -> usize {
        self.0
            .get(&tenant)
            .map_or(0, |counts| counts[pool as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TenantPool::{Connections, Sessions};

    #[test]
    fn a_tenant_has_no_more_than_it_may_and_nothing_is_kept_of_one_without_clients() {
        let (mut counts, north, south) = (TenantCounts::default(), TenantId(1), TenantId(2));
        assert!(counts.borrow(north, Sessions, |_| 2));
        assert!(counts.borrow(north, Sessions, |_| 2));
        assert!(!counts.borrow(north, Sessions, |_| 2));
        assert_eq!(counts.of(north, Sessions), 2);
        assert!(counts.borrow(north, Connections, |_| 1));
        assert!(counts.borrow(south, Sessions, |_| 1));
        counts.give_back(north, Sessions);
        assert!(counts.borrow(north, Sessions, |_| 2));
        for pool in [Sessions, Sessions, Connections] {
            counts.give_back(north, pool);
        }
        counts.give_back(south, Sessions);
        assert!(counts.0.is_empty());
        assert!(!counts.borrow(south, Sessions, |_| 0) && counts.0.is_empty());
    }
}
