//! The memory for the results of queries.
//!
//! It is a part of `limits.memory_bytes`. One team may use its share of this part.

use std::fmt;
use std::sync::{Arc, Mutex};

use martlet_broker::{Share, Uses};
use martlet_telemetry::QueryMemory;

use crate::control::Control;
use crate::lock::lock;

/// Results may take this many sixteenths of `limits.memory_bytes`.
const PARTS: usize = 2;

/// Counts more bytes of results; false if these are more than the caller's share of what others
/// leave of `limit`.
fn take<K: Ord + Clone>(
    taken: &mut Uses<K>,
    caller: &K,
    bytes: usize,
    share: Share,
    limit: usize,
) -> bool {
    let share = share.size_beside(taken.beside(caller), limit);
    let has_room = taken.of(caller).saturating_add(bytes) <= share;
    if has_room {
        taken.add(caller, bytes);
    }
    has_room
}

/// Memory for the results of all queries. `K` names a caller.
pub struct QueryMemories<K> {
    control: Arc<Control>,
    /// Bytes of the results of each caller.
    taken: Arc<Mutex<Uses<K>>>,
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

impl<K: Clone + Ord + fmt::Debug + Send + Sync + 'static> QueryMemories<K> {
    /// A part of the memory of this node.
    pub fn new(control: &Arc<Control>) -> Self {
        let part = control.memory_part();
        let limit = part.map_or(usize::MAX, |part| part.saturating_mul(PARTS));
        let taken = Arc::new(Mutex::new(Uses::<K>::default()));
        let counted = Arc::downgrade(&taken);
        let count = move || counted.upgrade().map_or(0, |taken| lock(&taken).all());
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
        lock(&self.taken).each().collect()
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

impl<K: Clone + Ord + fmt::Debug + Send + Sync> QueryMemory for OfCaller<K> {
    fn take(&self, bytes: usize) -> bool {
        let all = &self.all;
        let has_room = take(
            &mut lock(&all.taken),
            &self.caller,
            bytes,
            all.share,
            all.limit,
        );
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
        let mut taken = Uses::default();
        let mut take = |caller, bytes| take(&mut taken, &caller, bytes, Share::default(), 1_000);
        let has_taken = (0..60).filter(|_| take("north", 100)).count();
        assert_eq!(has_taken, 5);
        assert!(take("south", 200) && !take("south", 51) && take("south", 50));
        assert!(take("east", 125) && !take("north", 1));
        assert_eq!(taken.all(), 875);
        taken.give_back(&"east", 125);
        for _ in 0..has_taken {
            taken.give_back(&"north", 100);
        }
        taken.give_back(&"south", 250);
        assert!(taken.all() == 0 && taken.each().next().is_none());
    }
}
