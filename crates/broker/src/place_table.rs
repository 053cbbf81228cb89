//! A hash table of places in an arena, which grows and shrinks over many calls.
//!
//! A table that grows at once computes the hashes of all its entries again, with a cache miss for
//! each: with a million clients, one new client would delay all others by a tenth of a second. Here
//! a larger table receives the new entry, and each call moves some of the old entries to it.

use hashbrown::HashTable;

/// Places, by the hashes of the values at them.
#[derive(Debug, Default)]
pub(crate) struct PlaceTable {
    entries: HashTable<u32>,
    /// The table before, until all of its entries have moved.
    old: HashTable<u32>,
    /// The next place that may have to move.
    next: u32,
    /// No place is beyond this one.
    last: u32,
}

/// Number of entries up to which a table grows at once.
const AT_ONCE: usize = 2048;
/// Places that are looked at in one call, so that their entries move.
const MOVED_AT_ONCE: usize = 16;

impl PlaceTable {
    /// The place with this hash for which `is_it` returns true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        match self.entries.find(hash, |&place| is_it(place)) {
            Some(place) => Some(*place),
            None if self.old.is_empty() => None,
            None => self.old.find(hash, |&place| is_it(place)).copied(),
        }
    }

    /// Adds a place. `hash_of` returns the hash of the value at a place; none: the place is empty.
    pub(crate) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> Option<u64>) {
        let count = self.entries.len();
        if count == self.entries.capacity() && count >= AT_ONCE && self.old.is_empty() {
            self.begin_to_move(count * 2);
        }
        self.move_some(&hash_of);
        self.last = self.last.max(place);
        self.entries
            .insert_unique(hash, place, |&place| hash_of(place).unwrap_or_default());
    }

    /// Removes a place.
    pub(crate) fn remove(&mut self, hash: u64, place: u32) {
        for table in [&mut self.entries, &mut self.old] {
            if let Ok(entry) = table.find_entry(hash, |&other| other == place) {
                entry.remove();
                return;
            }
        }
    }

    /// Gives memory back if the table is much too large; called after places were removed.
    pub(crate) fn shrink(&mut self, hash_of: impl Fn(u32) -> Option<u64>) {
        let count = self.entries.len();
        if self.old.is_empty() && self.entries.capacity() > AT_ONCE.max(count * 4) {
            self.begin_to_move(count * 2);
        }
        self.move_some(&hash_of);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.old.len()
    }

    /// How many there may be in the memory that it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity() + self.old.capacity()
    }

    /// Removes all places.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.old = HashTable::new();
    }

    fn begin_to_move(&mut self, capacity: usize) {
        let larger = HashTable::with_capacity(capacity);
        self.old = core::mem::replace(&mut self.entries, larger);
        self.next = 0;
    }

    fn move_some(&mut self, hash_of: &impl Fn(u32) -> Option<u64>) {
        if self.old.is_empty() {
            return;
        }
        for _ in 0..MOVED_AT_ONCE {
            let place = self.next;
            if place > self.last {
                break;
            }
            self.next += 1;
            let Some(hash) = hash_of(place) else {
                continue;
            };
            if let Ok(entry) = self.old.find_entry(hash, |&other| other == place) {
                entry.remove();
                self.entries
                    .insert_unique(hash, place, |&place| hash_of(place).unwrap_or_default());
            }
        }
        if self.old.is_empty() {
            self.old = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// The hash of the value at a place; some places have the same hash.
    fn hash(place: u32) -> u64 {
        u64::from(place / 2).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Inserts many places; the most hashes that one call has computed.
    fn most_hashes(count: u32) -> usize {
        let (mut table, mut most) = (PlaceTable::default(), 0);
        for place in 0..count {
            let hashes = Cell::new(0);
            table.insert(hash(place), place, |other| {
                hashes.set(hashes.get() + 1);
                Some(hash(other))
            });
            most = most.max(hashes.get());
        }
        for place in 0..count {
            assert_eq!(table.find(hash(place), |other| other == place), Some(place));
        }
        most
    }

    #[test]
    fn no_insertion_hashes_more_than_a_few_entries_however_many_there_are() {
        let few = most_hashes(3_000);
        let many = most_hashes(300_000);
        assert!(few <= AT_ONCE && many <= AT_ONCE, "{few}, {many}");
    }

    #[test]
    fn a_table_that_was_long_gives_its_memory_back_bit_by_bit() {
        let mut table = PlaceTable::default();
        let all = 0..100_000_u32;
        for place in all.clone() {
            table.insert(hash(place), place, |other| Some(hash(other)));
        }
        let most = Cell::new(0);
        for place in all {
            table.remove(hash(place), place);
            let hashes = Cell::new(0);
            table.shrink(|other| {
                hashes.set(hashes.get() + 1);
                (other > place).then(|| hash(other))
            });
            most.set(most.get().max(hashes.get()));
        }
        assert!(most.get() <= MOVED_AT_ONCE, "{}", most.get());
        assert_eq!(table.len(), 0);
        assert!(table.capacity() <= 2 * AT_ONCE, "{}", table.capacity());
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_set(
            steps in prop::collection::vec((0..4_u8, 0..6000_u32), 1..9000),
        ) {
            let mut table = PlaceTable::default();
            let mut model = std::collections::BTreeSet::new();
            for (step, place) in steps {
                let is_there = model.contains(&place);
                let found = table.find(hash(place), |other| other == place);
                prop_assert_eq!(found.is_some(), is_there);
                if step > 0 && !is_there {
                    model.insert(place);
                    let hash_of = |other| model.contains(&other).then(|| hash(other));
                    table.insert(hash(place), place, hash_of);
                } else if step == 0 {
                    table.remove(hash(place), place);
                    model.remove(&place);
                    table.shrink(|other| model.contains(&other).then(|| hash(other)));
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
