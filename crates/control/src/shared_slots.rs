//! Places for work that costs much. All callers share a number of them, and one caller may have
//! fewer, so that none takes them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::lock::lock;

/// Places that callers share. `K` names a caller.
#[derive(Debug)]
pub struct SharedSlots<K> {
    all: Arc<Semaphore>,
    all_max: usize,
    own_max: usize,
    /// Places of each caller that has one, or waits for one.
    own: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A place, for as long as it is held.
#[derive(Debug)]
pub struct SharedSlot {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl<K: Clone + Eq + Hash> SharedSlots<K> {
    /// `all_max` places. One caller may have `own_max` of them.
    pub fn new(all_max: usize, own_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all_max)),
            all_max,
            own_max,
            own: Mutex::default(),
        }
    }

    /// Takes a place that is free.
    ///
    /// # Errors
    /// None is; how many are taken, of the caller or of all.
    pub fn try_take(&self, caller: &K) -> Result<SharedSlot, usize> {
        let own = self.own_of(caller).try_acquire_owned();
        let of_all = Arc::clone(&self.all);
        Ok(SharedSlot {
            _own: own.map_err(|_| self.own_max)?,
            _of_all: of_all.try_acquire_owned().map_err(|_| self.all_max)?,
        })
    }

    /// Waits for a slot; none: no slot was free within that time. A waiter for a slot of its own
    /// takes none of the others.
    pub async fn take(&self, caller: &K, within: Duration) -> Option<SharedSlot> {
        let own = self.own_of(caller);
        let taken = async {
            // No place is ever closed.
            Some(SharedSlot {
                _own: own.acquire_owned().await.ok()?,
                _of_all: Arc::clone(&self.all).acquire_owned().await.ok()?,
            })
        };
        timeout(within, taken).await.ok().flatten()
    }

    fn own_of(&self, caller: &K) -> Arc<Semaphore> {
        let mut known = lock(&self.own);
        // Unused entries are dropped and created again when they are needed.
        known.retain(|_, own| Arc::strong_count(own) > 1);
        let new = || Arc::new(Semaphore::new(self.own_max));
        Arc::clone(known.entry(caller.clone()).or_insert_with(new))
    }

    /// Number of all places.
    pub fn limit(&self) -> usize {
        self.all_max
    }

    /// How many places each caller has, or has a turn to wait for.
    pub fn used(&self) -> Vec<(K, usize)> {
        let known = lock(&self.own);
        let used = known
            .iter()
            .map(|(caller, own)| (caller.clone(), self.own_max - own.available_permits()));
        used.filter(|(_, count)| *count > 0).collect()
    }

    /// Number of places that are free.
    pub fn free(&self) -> usize {
        self.all.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_leaves_places_to_others_and_nobody_is_remembered() {
        let places = SharedSlots::new(3, 2);
        let two = [
            places.try_take(&"a").unwrap(),
            places.try_take(&"a").unwrap(),
        ];
        assert_eq!(places.try_take(&"a").unwrap_err(), 2);
        assert_eq!(places.used(), [("a", 2)]);
        let third = places.try_take(&"b").unwrap();
        assert_eq!(places.try_take(&"c").unwrap_err(), 3);
        drop(two);
        assert_eq!(places.free(), 2);
        drop(places.try_take(&"c"));
        assert!(!places.own.lock().unwrap().contains_key("a"));
        drop(third);
    }
}
