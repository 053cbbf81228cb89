//! Values that many rows have alike and no column has room for: each once, under a number that
//! stands in the rows.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Values that rows refer to by number, from 1; each is kept once, as long as a row has it.
#[derive(Clone, Debug)]
pub struct Alike<T> {
    values: BTreeMap<u32, Value<T>>,
    numbers: BTreeMap<Arc<[T]>, u32>,
    /// Numbers below the highest that stand for nothing.
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Value<T> {
    value: Arc<[T]>,
    /// How many have it.
    rows: usize,
}

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            numbers: BTreeMap::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Copy + Ord> Alike<T> {
    /// No row has any.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One more row has this value; its number. True: nobody had it before.
    pub fn keep(&mut self, value: &[T]) -> (u32, bool) {
        if let Some(number) = self.numbers.get(value)
            && let Some(known) = self.values.get_mut(number)
        {
            known.rows += 1;
            return (*number, false);
        }
        let highest = self
            .values
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let number = self.free.pop().unwrap_or(highest + 1);
        let value: Arc<[T]> = value.into();
        self.numbers.insert(Arc::clone(&value), number);
        self.values.insert(number, Value { value, rows: 1 });
        (number, true)
    }

    /// The value of a number; empty if it stands for nothing.
    pub fn get(&self, number: u32) -> &[T] {
        self.values.get(&number).map_or(&[], |known| &known.value)
    }

    /// A row that had this was removed. True: it was the last one.
    pub fn let_go(&mut self, number: u32) -> bool {
        let Some(known) = self.values.get_mut(&number) else {
            return false;
        };
        known.rows = known.rows.saturating_sub(1);
        if known.rows > 0 {
            return false;
        }
        if let Some(known) = self.values.remove(&number) {
            self.numbers.remove(&known.value);
        }
        self.free.push(number);
        if self.values.is_empty() {
            *self = Self::default();
        }
        true
    }

    /// Each value with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[T])> + Clone {
        let values = self.values.iter();
        values.map(|(number, known)| (*number, &*known.value))
    }

    /// Brings a value of [`Alike::iter`] back; its rows are still to be counted.
    pub fn restore(&mut self, number: u32, value: &[T]) {
        let value: Arc<[T]> = value.into();
        self.numbers.insert(Arc::clone(&value), number);
        self.values.insert(number, Value { value, rows: 0 });
    }

    /// A row that has come back has this. The number is taken even if its value has not come back:
    /// it must not come to stand for another one.
    pub fn count(&mut self, number: u32) {
        let nothing = || Value {
            value: Arc::from([]),
            rows: 0,
        };
        self.values.entry(number).or_insert_with(nothing).rows += 1;
    }

    /// Approximate number of bytes of a value on the heap.
    pub fn bytes_of(value: &[T]) -> usize {
        let maps = size_of::<(u32, Value<T>)>() + size_of::<(Arc<[T]>, u32)>();
        // Nodes of the maps are two thirds full; two counters stand before the value.
        maps * 3 / 2 + size_of_val(value) + 16
    }

    /// Approximate number of bytes on the heap.
    pub fn bytes(&self) -> usize {
        let values = self.values.values();
        values.map(|known| Self::bytes_of(&known.value)).sum()
    }
}
