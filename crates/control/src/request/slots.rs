//! Slots of requests that wait for their responses.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests that wait for their responses at once.
pub const REQUESTS_MAX: usize = 64;

/// Slots of requests that wait: the names of their sessions come again and again, so that nothing
/// remembers more of them.
#[derive(Debug, Default)]
pub(crate) struct RequestSlots(Mutex<u64>);

impl RequestSlots {
    pub(crate) fn take(&self) -> Option<RequestSlot<'_>> {
        let mut taken = self.lock();
        let number = taken.trailing_ones();
        if number as usize >= REQUESTS_MAX {
            return None;
        }
        *taken |= 1 << number;
        Some(RequestSlot {
            slots: self,
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it is dropped.
pub(crate) struct RequestSlot<'a> {
    slots: &'a RequestSlots,
    number: u32,
}

impl RequestSlot<'_> {
    /// Which one it is, below [`REQUESTS_MAX`].
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        *self.slots.lock() &= !(1 << self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_requests_wait_at_once_and_no_more() {
        let slots = RequestSlots::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken.len(), REQUESTS_MAX);
        let given_back = taken.remove(5).number;
        assert_eq!(slots.take().map(|slot| slot.number), Some(given_back));
    }
}
