//! How many sessions and connections the clients of each tenant have, so that no team takes all of
//! the node's. Those of the common tenant are not counted apart.

use martlet_permission::{TenantId, Uses};

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
pub struct TenantCounts([Uses<TenantId>; 2]);

impl TenantCounts {
    /// Counts one more; false if the tenant has its share already. `share_of` has how many the
    /// tenant has, and returns how many it may have.
    pub fn borrow(
        &mut self,
        tenant: TenantId,
        pool: TenantPool,
        share_of: impl FnOnce(usize) -> usize,
    ) -> bool {
        let uses = &mut self.0[pool as usize];
        let own = uses.of(&tenant);
        let has_room = own < share_of(own);
        uses.add(&tenant, usize::from(has_room));
        has_room
    }

    /// Counts one less.
    pub fn give_back(&mut self, tenant: TenantId, pool: TenantPool) {
        self.0[pool as usize].give_back(&tenant, 1);
    }

    /// Tenants that have some, and how many.
    pub(crate) fn each(&self, pool: TenantPool) -> impl Iterator<Item = (TenantId, usize)> {
        self.0[pool as usize].each()
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
        assert_eq!(counts.each(Sessions).collect::<Vec<_>>(), [(north, 2)]);
        assert!(counts.borrow(north, Connections, |_| 1));
        assert!(counts.borrow(south, Sessions, |_| 1));
        counts.give_back(north, Sessions);
        assert!(counts.borrow(north, Sessions, |_| 2));
        for pool in [Sessions, Sessions, Connections] {
            counts.give_back(north, pool);
        }
        counts.give_back(south, Sessions);
        let is_empty = |counts: &TenantCounts| counts.0.iter().all(|uses| uses.all() == 0);
        assert!(is_empty(&counts));
        assert!(!counts.borrow(south, Sessions, |_| 0) && is_empty(&counts));
    }
}
