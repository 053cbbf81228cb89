//! A hash table of places in an arena, which grows and shrinks in small steps.
//!
//! A table that grows at once computes the hashes of all its entries again, with a cache miss for
//! each: with a million clients, one new client would delay all others by a tenth of a second; and
//! until it has grown, it is there twice. So this is linear hashing (Litwin, 1980): the entries lie
//! in segments, each a small table. Each time that the segments are full on average, the next one
//! in order is split in two. As it shrinks, the last one is merged into the one it was split from.

use hashbrown::HashTable;

/// Places, by the hashes of the values at them.
#[derive(Debug, Default)]
pub struct PlaceTable {
    segments: Vec<HashTable<u32>>,
    len: usize,
    /// Bytes of memory that the segments' tables take.
    bytes: usize,
}

/// Entries of a segment on average, at most. One that is yet to be split has up to twice as many.
const AVERAGE_MAX: usize = 192;

/// Entries for which a segment has room from the start: those, and some by chance. That is what a
/// table of 512 buckets takes.
const SEGMENT_CAPACITY: usize = 448;

/// Average below which segments are merged.
const AVERAGE_MIN: usize = AVERAGE_MAX / 4;

impl PlaceTable {
    /// The place with this hash for which `is_it` returns true.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(segment_of(hash, self.segments.len()))?;
        segment.find(hash, |&place| is_it(place)).copied()
    }

    /// Adds a place. `hash_of` returns the hash of the value at a place.
    pub fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len >= self.segments.len() * AVERAGE_MAX {
            self.add_segment(&hash_of);
        }
        let segment = segment_of(hash, self.segments.len());
        let segment = &mut self.segments[segment];
        let before = segment.allocation_size();
        segment.insert_unique(hash, place, |&place| hash_of(place));
        self.bytes += segment.allocation_size() - before;
        self.len += 1;
    }

    /// Removes a place.
    pub fn remove(&mut self, hash: u64, place: u32) {
        let segment = segment_of(hash, self.segments.len());
        if let Some(segment) = self.segments.get_mut(segment)
            && let Ok(entry) = segment.find_entry(hash, |&other| other == place)
        {
            entry.remove();
            self.len -= 1;
        }
    }

    /// Gives memory back if the table is much too large; called after places were removed.
    pub fn shrink(&mut self, hash_of: impl Fn(u32) -> u64) {
        if self.segments.len() > 1 && self.len < self.segments.len() * AVERAGE_MIN {
            self.remove_segment(&hash_of);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.segments.capacity() * size_of::<HashTable<u32>>()
    }

    /// Removes all places.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Splits the next segment in order.
    fn add_segment(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let last = self.segments.len();
        // The first one grows with its entries; most tables have no other.
        let mut new = match last {
            0 => HashTable::new(),
            _ => HashTable::with_capacity(SEGMENT_CAPACITY),
        };
        if let Some(parent) = self.segments.get_mut(parent_of(last)) {
            parent.retain(|&mut place| {
                let hash = hash_of(place);
                let stays = segment_of(hash, last + 1) != last;
                if !stays {
                    new.insert_unique(hash, place, |&place| hash_of(place));
                }
                stays
            });
        }
        self.bytes += new.allocation_size();
        self.segments.push(new);
    }

    /// Merges the last segment into the one that it was split from.
    fn remove_segment(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let Some(last) = self.segments.pop() else {
            return;
        };
        let parent = parent_of(self.segments.len());
        let Some(into) = self.segments.get_mut(parent) else {
            return;
        };
        let before = into.allocation_size() + last.allocation_size();
        for place in last {
            into.insert_unique(hash_of(place), place, |&place| hash_of(place));
        }
        self.bytes = self.bytes + into.allocation_size() - before;
    }
}

/// The segment, of this number of them, in which an entry with this hash lies. The segments' own
/// tables look at the lowest and the highest bits of a hash; here are those between them.
#[inline]
pub(crate) fn segment_of(hash: u64, count: usize) -> usize {
    let mask = count.next_power_of_two() - 1;
    let segment = (hash >> 32) as usize & mask;
    match segment < count {
        true => segment,
        // It is not split yet.
        false => segment & (mask >> 1),
    }
}

/// The segment that a segment is split from.
pub(crate) fn parent_of(segment: usize) -> usize {
    segment
        .checked_ilog2()
        .map_or(0, |bit| segment - (1 << bit))
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
                hash(other)
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
        let bound = 3 * AVERAGE_MAX;
        assert!(few <= bound && many <= bound, "{few}, {many}");
    }

    #[test]
    fn a_table_that_was_long_gives_its_memory_back_bit_by_bit() {
        let mut table = PlaceTable::default();
        let all = 0..100_000_u32;
        for place in all.clone() {
            table.insert(hash(place), place, hash);
        }
        let most = Cell::new(0);
        for place in all {
            table.remove(hash(place), place);
            let hashes = Cell::new(0);
            table.shrink(|other| {
                hashes.set(hashes.get() + 1);
                hash(other)
            });
            most.set(most.get().max(hashes.get()));
        }
        assert!(most.get() <= 3 * AVERAGE_MAX, "{}", most.get());
        assert!(table.is_empty());
        let segment = 8 * AVERAGE_MAX * size_of::<u32>();
        assert!(table.bytes <= segment, "{}", table.bytes);
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
                    table.insert(hash(place), place, hash);
                } else if step == 0 {
                    table.remove(hash(place), place);
                    model.remove(&place);
                    table.shrink(hash);
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
