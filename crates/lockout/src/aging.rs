//! A map that knows which of its entries were put there first, so that where there is no room for
//! all the oldest go, and not all.

use std::collections::VecDeque;
use std::hash::{Hash, RandomState};

use hashbrown::{Equivalent, HashMap};

/// A map whose entries are known by their age.
#[derive(Debug)]
pub struct Aging<K, V> {
    /// With the number of its putting.
    entries: HashMap<K, (u64, V), RandomState>,
    /// Oldest first; what was put again since, or is gone, stands here still for a while.
    order: VecDeque<(u64, K)>,
    count: u64,
}

impl<K, V> Default for Aging<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            order: VecDeque::new(),
            count: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Aging<K, V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value under a key.
    pub fn get(&self, key: &(impl Hash + Equivalent<K> + ?Sized)) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// All entries, the youngest first.
    pub fn youngest(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.iter().rev().filter_map(|(number, key)| {
            let (current, value) = self.entries.get(key)?;
            (current == number).then_some((key, value))
        })
    }

    /// The youngest from now on; what was there before under this key.
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.count += 1;
        if self.order.len() > 2 * self.entries.len() + 64 {
            let Self { entries, order, .. } = self;
            order.retain(|(number, key)| {
                let found = entries.get(key);
                found.is_some_and(|(current, _)| current == number)
            });
        }
        self.order.push_back((self.count, key.clone()));
        let old = self.entries.insert(key, (self.count, value));
        old.map(|(_, value)| value)
    }

    /// Takes an entry out.
    pub fn take(&mut self, key: &(impl Hash + Equivalent<K> + ?Sized)) -> Option<V> {
        match self.entries.is_empty() {
            true => None,
            false => self.entries.remove(key).map(|(_, value)| value),
        }
    }

    /// Takes the oldest entry out.
    pub fn take_oldest(&mut self) -> Option<V> {
        self.take_oldest_if(|_| true)
    }

    /// Takes the oldest entry out, if it is like that.
    pub fn take_oldest_if(&mut self, is_like: impl Fn(&V) -> bool) -> Option<V> {
        loop {
            let (number, key) = self.order.front()?;
            match self.entries.get(key) {
                Some((current, value)) if current == number => {
                    if !is_like(value) {
                        return None;
                    }
                    let (_, key) = self.order.pop_front()?;
                    return self.entries.remove(&key).map(|(_, value)| value);
                }
                _ => {
                    self.order.pop_front();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_what_is_put_again_is_young() {
        let mut aging = Aging::default();
        for key in ["a", "b", "c", "a"] {
            aging.put(key, key.to_uppercase());
        }
        assert_eq!(aging.len(), 3);
        let youngest: Vec<_> = aging.youngest().map(|(key, _)| *key).collect();
        assert_eq!(youngest, ["a", "c", "b"]);
        assert_eq!(aging.take_oldest_if(|value| value == "A"), None);
        assert_eq!(aging.take_oldest().as_deref(), Some("B"));
        assert_eq!(aging.take_oldest().as_deref(), Some("C"));
        assert_eq!(aging.get(&"a").map(String::as_str), Some("A"));
        assert_eq!(aging.take_oldest().as_deref(), Some("A"));
        assert_eq!(aging.take_oldest(), None);
    }

    #[test]
    fn what_is_put_again_and_again_takes_no_more_room() {
        let mut aging = Aging::default();
        for number in 0..100_000 {
            aging.put(number % 10, ());
        }
        assert_eq!(aging.len(), 10);
        assert!(aging.order.len() < 200);
    }
}
