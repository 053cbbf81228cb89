//! The memory for the results of queries.
//!
//! It is a part of `limits.memory_bytes`. One team may use its share of this part.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use martlet_telemetry::QueryMemory;

use crate::control::Control;
use crate::lock::lock;

/// Results may take this many sixteenths of `limits.memory_bytes`.
const PARTS: usize = 2;

/// Bytes of all results, and of those of each caller. `K` names a caller.
#[derive(Debug)]
struct Taken<K> {
    all: usize,
    own: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> Taken<K> {
    /// Counts more bytes; false if these are more than all, or one caller, may have.
    fn take(&mut self, caller: &K, bytes: usize, (all_max, own_max): (usize, usize)) -> bool {
        let own = self.own.get(caller).copied().unwrap_or_default();
        let (all, own) = (self.all.saturating_add(bytes), own.saturating_add(bytes));
        if all > all_max || own > own_max {
            return false;
        }
        self.all = all;
        self.own.insert(caller.clone(), own);
        true
    }

    fn give_back(&mut self, caller: &K, bytes: usize) {
        self.all = self.all.saturating_sub(bytes);
        if let Some(own) = self.own.get_mut(caller) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.own.remove(caller);
            }
        }
    }
}

/// Memory for the results of all queries.
pub struct QueryMemories<K> {
    control: Arc<Control>,
    taken: Arc<Mutex<Taken<K>>>,
    all_max: usize,
    own_max: usize,
}

impl<K> fmt::Debug for QueryMemories<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryMemories").finish_non_exhaustive()
    }
}

impl<K> Clone for QueryMemories<K> {
    fn clone(&self) -> Self {
        Self {
            control: Arc::clone(&self.control),
            taken: Arc::clone(&self.taken),
            ..*self
        }
    }
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static> QueryMemories<K> {
    /// A part of the memory of this node.
    pub fn new(control: &Arc<Control>) -> Self {
        let part = control.memory_part();
        let all_max = part.map_or(usize::MAX, |part| part.saturating_mul(PARTS));
        let taken = Arc::new(Mutex::new(Taken {
            all: 0,
            own: HashMap::<K, usize>::new(),
        }));
        let counted = Arc::downgrade(&taken);
        let count = move || counted.upgrade().map_or(0, |taken| lock(&taken).all);
        control.show_borrowed("queries", Box::new(count));
        Self {
            own_max: control.info.limits.team_share().of_size(all_max),
            control: Arc::clone(control),
            taken,
            all_max,
        }
    }

    /// Bytes of all results, at most; none: no limit is known.
    pub fn limit(&self) -> Option<usize> {
        Some(self.all_max).filter(|bytes| *bytes < usize::MAX)
    }

    /// Bytes of the results of each caller.
    pub fn used(&self) -> Vec<(K, usize)> {
        let taken = lock(&self.taken);
        let own = taken.own.iter();
        own.map(|(caller, bytes)| (caller.clone(), *bytes))
            .collect()
    }

    /// The memory of the queries of this caller.
    pub fn of(&self, caller: K) -> Arc<dyn QueryMemory> {
        Arc::new(OfCaller {
            all: self.clone(),
            caller,
        })
    }
}

#[derive(Debug)]
struct OfCaller<K> {
    all: QueryMemories<K>,
    caller: K,
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync> QueryMemory for OfCaller<K> {
    fn take(&self, bytes: usize) -> bool {
        let all = &self.all;
        let bounds = (all.all_max, all.own_max);
        if !lock(&all.taken).take(&self.caller, bytes, bounds) {
            return false;
        }
        let has_lent = all.control.borrow_memory(bytes);
        if !has_lent {
            lock(&all.taken).give_back(&self.caller, bytes);
        }
        has_lent
    }

    fn give_back(&self, bytes: usize) {
        lock(&self.all.taken).give_back(&self.caller, bytes);
        self.all.control.return_memory(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_queries_of_one_caller_leave_memory_to_another() {
        let mut taken = Taken {
            all: 0,
            own: HashMap::new(),
        };
        let bounds = (1_000, 500);
        let has_taken = (0..60)
            .filter(|_| taken.take(&"north", 100, bounds))
            .count();
        assert_eq!((has_taken, taken.all), (5, 500));
        assert!(taken.take(&"south", 300, bounds));
        assert!(!taken.take(&"south", 201, bounds));
        for _ in 0..has_taken {
            taken.give_back(&"north", 100);
        }
        taken.give_back(&"south", 300);
        assert!(taken.all == 0 && taken.own.is_empty());
    }
}
