//! Slots of requests that wait for their responses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use martlet_broker::{Share, TenantId, Uses};

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
    /// Number of slots of each tenant.
    uses: Uses<TenantId>,
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
        let others = taken.uses.beside(&tenant);
        let share = self.share.size_beside(others, REQUESTS_MAX);
        let is_in_share = taken.uses.of(&tenant) < share || tenant == TenantId::default();
        if taken.uses.all() >= REQUESTS_MAX || !is_in_share {
            return None;
        }
        taken.slots |= 1 << number;
        taken.uses.add(&tenant, 1);
        Some(RequestSlot {
            slots: self,
            number,
            tenant,
        })
    }

    /// How many requests of each tenant wait.
    pub(crate) fn used(&self) -> Vec<(TenantId, usize)> {
        self.lock().uses.each().collect()
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
        taken.uses.give_back(&self.tenant, 1);
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
