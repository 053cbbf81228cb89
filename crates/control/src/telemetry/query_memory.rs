//! The memory for the results of queries.
//!
//! It is a part of `limits.memory_bytes`. One team may use its share of this part.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use martlet_broker::Share;
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
    /// Counts more bytes; false if these are more than `limit`, or than the caller's share of what
    /// others leave.
    fn take(&mut self, caller: &K, bytes: usize, share: Share, limit: usize) -> bool {
        let own = self.own.get(caller).copied().unwrap_or_default();
        let others = self.all - own;
        let own = own.saturating_add(bytes);
        if own > share.size_beside(others, limit) {
            return false;
        }
        self.all = others + own;
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
    limit: usize,
    share: Share,
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
        let limit = part.map_or(usize::MAX, |part| part.saturating_mul(PARTS));
        let taken = Arc::new(Mutex::new(Taken {
            all: 0,
            own: HashMap::<K, usize>::new(),
        }));
        let counted = Arc::downgrade(&taken);
        let count = move || counted.upgrade().map_or(0, |taken| lock(&taken).all);
        control.show_borrowed("queries", Box::new(count));
        Self {
            share: control.info.limits.team_share(),
            control: Arc::clone(control),
            taken,
            limit,
        }
    }

    /// Bytes of all results, at most; none: no limit is known.
    pub fn limit(&self) -> Option<usize> {
        Some(self.limit).filter(|bytes| *bytes < usize::MAX)
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
        let has_room = lock(&all.taken).take(&self.caller, bytes, all.share, all.limit);
        if !has_room {
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
        let mut take = |caller, bytes| taken.take(&caller, bytes, Share::default(), 1_000);
        let has_taken = (0..60).filter(|_| take("north", 100)).count();
        assert_eq!(has_taken, 5);
        assert!(take("south", 200) && !take("south", 51) && take("south", 50));
        assert!(take("east", 125) && !take("north", 1));
        assert_eq!(taken.all, 875);
        taken.give_back(&"east", 125);
        for _ in 0..has_taken {
            taken.give_back(&"north", 100);
        }
        taken.give_back(&"south", 250);
        assert!(taken.all == 0 && taken.own.is_empty());
    }
}
