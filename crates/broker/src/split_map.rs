//! A map that grows and shrinks in small steps, as [`crate::place_table::PlaceTable`] does: for
//! tables to which clients add entries, up to a million of them.

use core::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

use crate::hash::Seed;
use crate::place_table::{parent_of, segment_of};

/// Values by their keys.
#[derive(Debug)]
pub(crate) struct SplitMap<K, V> {
    segments: Vec<HashTable<(K, V)>>,
    len: usize,
    /// Bytes of memory that the segments' tables take.
    bytes: usize,
    seed: Seed,
}

/// Entries of a segment on average, at most; one that is yet to be split has up to twice as many.
const AVERAGE_MAX: usize = 192;
/// Average below which segments are merged.
const AVERAGE_MIN: usize = AVERAGE_MAX / 4;

impl<K: Eq + Hash, V> SplitMap<K, V> {
    /// Creates an empty map.
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            segments: Vec::new(),
            len: 0,
            bytes: 0,
            seed,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + self.segments.capacity() * size_of::<HashTable<(K, V)>>()
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        match self.segments.len() {
            1 => 0,
            count => segment_of(hash, count),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let hash = self.seed.hash_one(key);
        let segment = self.segments.get(self.segment_of(hash))?;
        let found = segment.find(hash, |(held, _)| held == key);
        found.map(|(_, value)| value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let hash = self.seed.hash_one(key);
        let segment = self.segment_of(hash);
        let segment = self.segments.get_mut(segment)?;
        let found = segment.find_mut(hash, |(held, _)| held == key);
        found.map(|(_, value)| value)
    }

    #[inline]
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Returns the value that was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.seed.hash_one(&key);
        let segment = self.with_room(hash);
        if let Some((_, held)) = segment.find_mut(hash, |(held, _)| *held == key) {
            return Some(core::mem::replace(held, value));
        }
        // There is room.
        segment.insert_unique(hash, (key, value), |_| hash);
        self.len += 1;
        None
    }

    /// Inserts a key that is known not to be there. Returns whether the map has taken more memory
    /// for it.
    #[inline]
    pub(crate) fn insert_new(&mut self, key: K, value: V) -> bool {
        let before = self.bytes;
        let hash = self.seed.hash_one(&key);
        let segment = self.with_room(hash);
        segment.insert_unique(hash, (key, value), |_| hash);
        self.len += 1;
        self.bytes != before
    }

    /// The segment of a hash, with room for one more entry.
    #[inline]
    fn with_room(&mut self, hash: u64) -> &mut HashTable<(K, V)> {
        if self.len >= self.segments.len() * AVERAGE_MAX {
            self.add_segment();
        }
        let segment = self.segment_of(hash);
        if self.segments[segment].len() == self.segments[segment].capacity() {
            self.grow(segment);
        }
        &mut self.segments[segment]
    }

    #[cold]
    fn grow(&mut self, segment: usize) {
        let (segment, seed) = (&mut self.segments[segment], &self.seed);
        let before = segment.allocation_size();
        segment.reserve(1, |(key, _)| seed.hash_one(key));
        self.bytes += segment.allocation_size() - before;
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.seed.hash_one(key);
        let segment = self.segment_of(hash);
        let segment = self.segments.get_mut(segment)?;
        let entry = segment.find_entry(hash, |(held, _)| held == key).ok()?;
        let ((_, value), _) = entry.remove();
        self.len -= 1;
        if self.segments.len() > 1 && self.len < self.segments.len() * AVERAGE_MIN {
            self.remove_segment();
        }
        Some(value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let all = self.segments.iter().flat_map(|segment| segment.iter());
        all.map(|(_, value)| value)
    }

    /// Splits the next segment in order.
    #[cold]
    fn add_segment(&mut self) {
        let (last, seed) = (self.segments.len(), &self.seed);
        let mut new = HashTable::new();
        if let Some(parent) = self.segments.get_mut(parent_of(last)).filter(|_| last > 0) {
            let goes = |(key, _): &mut (K, V)| segment_of(seed.hash_one(key), last + 1) == last;
            for (key, value) in parent.extract_if(goes) {
                let hash = seed.hash_one(&key);
                new.insert_unique(hash, (key, value), |(key, _)| seed.hash_one(key));
            }
        }
        self.bytes += new.allocation_size();
        self.segments.push(new);
    }

    /// Merges the last segment into the one that it was split from.
    #[cold]
    fn remove_segment(&mut self) {
        let Some(last) = self.segments.pop() else {
            return;
        };
        let parent = parent_of(self.segments.len());
        let (Some(into), seed) = (self.segments.get_mut(parent), &self.seed) else {
            return;
        };
        let before = into.allocation_size() + last.allocation_size();
        for (key, value) in last {
            let hash = seed.hash_one(&key);
            into.insert_unique(hash, (key, value), |(key, _)| seed.hash_one(key));
        }
        self.bytes = self.bytes + into.allocation_size() - before;
    }
}

impl<K: Eq + Hash + Copy, V: Default> SplitMap<K, V> {
    /// The value, which is a new one if there was none.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V {
        let hash = self.seed.hash_one(key);
        self.len += usize::from(!self.contains_key(&key));
        let segment = self.with_room(hash);
        let entry = segment.entry(hash, |(held, _)| *held == key, |_| hash);
        let entry = entry.or_insert_with(|| (key, V::default()));
        &mut entry.into_mut().1
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::hash::Hasher;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::seeded;

    thread_local! {
        static HASHED: Cell<usize> = const { Cell::new(0) };
    }

    /// A key that counts how often it is hashed.
    #[derive(Debug, PartialEq, Eq)]
    struct Key(u32);

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            HASHED.set(HASHED.get() + 1);
            self.0.hash(state);
        }
    }

    #[test]
    fn no_call_looks_at_more_than_a_few_segments() {
        let mut map = SplitMap::new(seeded(1));
        let mut most = 0;
        let mut watched = |call: &mut dyn FnMut()| {
            HASHED.set(0);
            call();
            most = most.max(HASHED.get());
        };
        for number in 0..100_000 {
            watched(&mut || assert_eq!(map.insert(Key(number), number), None));
        }
        let full = map.memory_bytes();
        for number in 0..100_000 {
            watched(&mut || assert_eq!(map.remove(&Key(number)), Some(number)));
        }
        assert!(most < 8 * AVERAGE_MAX, "{most}");
        assert!(map.len() == 0 && map.memory_bytes() < full / 8);
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            changes in prop::collection::vec((0_u32..600, prop::option::of(0_u32..9)), 0..3000),
        ) {
            let mut map = SplitMap::new(seeded(1));
            let mut model = BTreeMap::new();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert_eq!(map.get(key), Some(value));
            }
            prop_assert_eq!(map.values().count(), model.len());
        }
    }
}
