//! Slots of requests that wait for their responses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use martlet_broker::{Share, TenantId};

/// Requests that wait for their responses at once.
pub const REQUESTS_MAX: usize = 64;

/// Slots of requests that wait: the names of their sessions come again and again, so that nothing
/// remembers more of them.
#[derive(Debug, Default)]
pub(crate) struct RequestSlots {
    /// How many one tenant may have. The common one may have all.
    share: Share,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// A bit for each slot.
    slots: u64,
    /// Number of slots of each tenant that has some.
    of_tenants: BTreeMap<TenantId, usize>,
}

impl RequestSlots {
    pub(crate) fn new(share: Share) -> Self {
        Self {
            share,
            taken: Mutex::default(),
        }
    }

    pub(crate) fn take(&self, tenant: TenantId) -> Option<RequestSlot<'_>> {
        let mut taken = self.lock();
        let number = taken.slots.trailing_ones();
        let all = taken.slots.count_ones() as usize;
        let own = taken.of_tenants.get(&tenant).copied().unwrap_or_default();
        let share = self.share.size_beside(all - own, REQUESTS_MAX);
        let is_in_share = own < share || tenant == TenantId::default();
        if all >= REQUESTS_MAX || !is_in_share {
            return None;
        }
        taken.slots |= 1 << number;
        *taken.of_tenants.entry(tenant).or_default() += 1;
        Some(RequestSlot {
            slots: self,
            number,
            tenant,
        })
    }

    /// How many requests of each tenant wait.
    pub(crate) fn used(&self) -> Vec<(TenantId, usize)> {
        let taken = self.lock();
        let of_tenants = taken.of_tenants.iter();
        of_tenants
            .map(|(tenant, count)| (*tenant, *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it is dropped.
pub(crate) struct RequestSlot<'a> {
    slots: &'a RequestSlots,
    number: u32,
    tenant: TenantId,
}

impl RequestSlot<'_> {
    /// Which one it is, below [`REQUESTS_MAX`].
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.slots &= !(1 << self.number);
        if let Some(own) = taken.of_tenants.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.of_tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_requests_wait_at_once_and_no_more() {
        let slots = &RequestSlots::default();
        let take_all = |tenant| std::iter::from_fn(move || slots.take(tenant)).collect();
        let [north, south, common] = [1, 2, 0].map(TenantId);
        let of_north: Vec<_> = take_all(north);
        let of_south: Vec<_> = take_all(south);
        let mut others: Vec<_> = take_all(common);
        let counts = [of_north.len(), of_south.len(), others.len()];
        assert_eq!(counts, [32, 16, REQUESTS_MAX - 48]);
        let given_back = others.remove(5).number;
        let again = slots.take(common).map(|slot| slot.number);
        assert_eq!(again, Some(given_back));
        drop((of_north, of_south, others));
        assert!(slots.used().is_empty());
    }
}
