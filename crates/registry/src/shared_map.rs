//! A map that is fast to copy: copies share the buckets that are the same in both.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

/// Number of entries in a bucket, approximately. A bucket is what is copied when an entry changes.
const BUCKET: usize = 64;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct SharedMap<K, V> {
    buckets: Vec<Arc<HashMap<K, V>>>,
    len: usize,
    hashes: RandomState,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            buckets: vec![Arc::default()],
            len: 0,
            hashes: RandomState::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SharedMap<K, V> {
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.buckets[self.place(key)].get(key)
    }

    /// The answer is what stood there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.len >= self.buckets.len() * BUCKET * 2 {
            self.grow();
        }
        let place = self.place(&key);
        let before = Arc::make_mut(&mut self.buckets[place]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key);
        if !self.buckets[place].contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(&mut self.buckets[place]).remove(key)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // As many as a power of two.
        self.hashes.hash_one(key) as usize & (self.buckets.len() - 1)
    }

    fn grow(&mut self) {
        let larger = self.buckets.len() * 4;
        let old = std::mem::replace(&mut self.buckets, vec![Arc::default(); larger]);
        for bucket in old {
            for (key, value) in Arc::unwrap_or_clone(bucket) {
                let place = self.place(&key);
                Arc::make_mut(&mut self.buckets[place]).insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_map_holds_and_its_copies_stay_as_they_were() {
        let (mut map, mut model) = (SharedMap::default(), HashMap::new());
        let mut copies = Vec::new();
        for step in 0_u64..5_000 {
            let key = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_500;
            match step % 3 {
                0 => assert_eq!(map.remove(&key), model.remove(&key)),
                _ => assert_eq!(map.insert(key, step), model.insert(key, step)),
            }
            if step % 500 == 0 {
                copies.push((map.clone(), model.clone()));
            }
        }
        copies.push((map, model));
        for (map, model) in copies {
            let all: HashMap<u64, u64> = map.iter().map(|(key, value)| (*key, *value)).collect();
            assert_eq!(all, model);
            assert_eq!(map.len, model.len());
            assert!((0..1_500).all(|key| map.get(&key) == model.get(&key)));
        }
    }

    #[test]
    fn a_change_copies_little_of_it() {
        let mut map = SharedMap::default();
        for key in 0..100_000 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.insert(7, 0);
        let both = before.buckets.iter().zip(&map.buckets);
        assert_eq!(both.filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        let longest = map.buckets.iter().map(|bucket| bucket.len()).max();
        assert!(longest < Some(BUCKET * 4), "{longest:?}");
    }
}
