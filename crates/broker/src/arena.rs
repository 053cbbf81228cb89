//! A slab in chunks: values under small dense indexes, places used again.
//!
//! Growing adds a chunk and moves nothing, so that the ten-thousand-and-first connection neither
//! copies the others nor doubles what they take.
//!
//! A chunk is made where it stays: one that is made on the stack first leaves the stack that large.

use core::num::NonZeroU32;

const NONE: u32 = u32::MAX;

/// The index of a value, kept where there may be none: that takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index(NonZeroU32);

impl Index {
    pub(crate) fn of(index: u32) -> Self {
        // There are never so many values that the last index is one of them.
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    pub(crate) fn get(self) -> u32 {
        self.0.get() - 1
    }
}

/// Index → `T`, with a power of two of values in a chunk.
///
/// A chunk of 64 values of 32, 64, 96 or 160 bytes is of a size that mimalloc has. Others it rounds
/// up, by a fifth at most: what is left over takes no memory if it is a page of its own, as it is
/// for 256 values of 176 bytes.
#[derive(Debug)]
pub struct Arena<T, const CHUNK: usize = 64> {
    chunks: Vec<Box<Chunk<T, CHUNK>>>,
    /// Places that have ever been taken: those behind them are free, but in no list.
    used: u32,
    /// First of the free places, which form a list.
    free: u32,
    len: usize,
}

type Chunk<T, const CHUNK: usize> = [Slot<T>; CHUNK];

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    /// The next free place.
    Free(u32),
}

impl<T, const CHUNK: usize> Default for Arena<T, CHUNK> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            free: NONE,
            len: 0,
        }
    }
}

impl<T, const CHUNK: usize> Arena<T, CHUNK> {
    /// Keeps a value under [`Arena::next_index`].
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if self.free == NONE {
            if self.used as usize == self.chunks.len() * CHUNK {
                self.chunks.push(empty_chunk());
            }
            self.free = self.used;
            self.used += 1;
        }
        let index = self.free;
        if let Some(place) = self.place_mut(index)
            && let Slot::Free(next) = core::mem::replace(place, Slot::Taken(value))
        {
            self.free = next;
        }
        index
    }

    /// The value at a place, if one is there.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        let chunk = self.chunks.get(index as usize / CHUNK)?;
        match &chunk[index as usize % CHUNK] {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Returns the value at a place, to change it, if one is there.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.place_mut(index)? {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Takes a value out; its place is used again.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let next = self.free;
        let place = self.place_mut(index)?;
        if matches!(place, Slot::Free(_)) {
            return None;
        }
        let before = core::mem::replace(place, Slot::Free(next));
        self.free = index;
        self.len -= 1;
        if self.len == 0 && self.chunks.len() > 1 {
            // A single chunk is kept, for values that come and go one at a time.
            *self = Self::default();
        }
        match before {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next value will be kept.
    pub fn next_index(&self) -> u32 {
        match self.free {
            NONE => self.used,
            free => free,
        }
    }

    /// Values are below this index; some places below it may be free.
    pub fn places(&self) -> u32 {
        self.used
    }

    /// All values, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let places = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .enumerate();
        places.filter_map(|(index, place)| match place {
            Slot::Taken(value) => Some((index as u32, value)),
            Slot::Free(_) => None,
        })
    }

    #[inline]
    fn place_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let chunk = self.chunks.get_mut(index as usize / CHUNK)?;
        Some(&mut chunk[index as usize % CHUNK])
    }
}

fn empty_chunk<T, const CHUNK: usize>() -> Box<Chunk<T, CHUNK>> {
    let places: Box<[Slot<T>]> = (0..CHUNK).map(|_| Slot::Free(NONE)).collect();
    match places.try_into() {
        Ok(chunk) => chunk,
        Err(_) => unreachable!("it has as many places as a chunk"),
    }
}

impl<T, const CHUNK: usize> core::ops::Index<u32> for Arena<T, CHUNK> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.get(index)
            .expect("only indexes of values that are there are kept")
    }
}

impl<T, const CHUNK: usize> core::ops::IndexMut<u32> for Arena<T, CHUNK> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index)
            .expect("only indexes of values that are there are kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_arena_agrees_with_a_map(
            steps in prop::collection::vec((0..3_u8, 0..2000_usize), 1..1500),
        ) {
            let mut arena = <Arena<usize>>::default();
            let mut model: BTreeMap<u32, usize> = BTreeMap::new();
            for (step, value) in steps {
                if step > 0 {
                    let next = arena.next_index();
                    let index = arena.insert(value);
                    prop_assert_eq!(index, next);
                    prop_assert_eq!(model.insert(index, value), None);
                } else {
                    let index = (value % 1500) as u32;
                    prop_assert_eq!(arena.remove(index), model.remove(&index));
                }
            }
            prop_assert_eq!(arena.len(), model.len());
            prop_assert!(arena.iter().eq(model.iter().map(|(index, value)| (*index, value))));
        }
    }
}
