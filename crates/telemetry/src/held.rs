//! The memory that a query holds while it runs: the series that it looks at, and the rows that it
//! has found. Its caller bounds it.

use std::fmt;
use std::sync::Arc;

use crate::StorageError;

/// Memory for what queries hold.
pub trait QueryMemory: fmt::Debug + Send + Sync {
    /// The queries of this caller hold this number of bytes more. False: there are none left.
    fn take(&self, bytes: usize) -> bool;

    /// They hold this number of bytes less.
    fn give_back(&self, bytes: usize);
}

/// Memory is taken in steps of this size.
const STEP: usize = 64 << 10;

/// Bytes that one query holds. They are given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    memory: Option<Arc<dyn QueryMemory>>,
    series: usize,
    rows: usize,
    taken: usize,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(memory: Option<Arc<dyn QueryMemory>>) -> Self {
        Self {
            memory,
            ..Self::default()
        }
    }

    /// Sets the bytes that the series of the query take.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn series(&mut self, bytes: usize) -> Result<(), StorageError> {
        self.series = bytes;
        self.renew()
    }

    /// Sets the bytes that its rows take.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn rows(&mut self, bytes: usize) -> Result<(), StorageError> {
        self.rows = bytes;
        self.renew()
    }

    /// Adds bytes of further rows.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), StorageError> {
        self.rows(self.rows.saturating_add(bytes))
    }

    fn renew(&mut self) -> Result<(), StorageError> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let wanted = self.series.saturating_add(self.rows).div_ceil(STEP) * STEP;
        if wanted < self.taken {
            memory.give_back(self.taken - wanted);
        } else if wanted > self.taken && !memory.take(wanted - self.taken) {
            return Err(StorageError::Memory);
        }
        self.taken = wanted;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.give_back(self.taken);
        }
    }
}

/// Rows that were found, which count as held until they are dropped.
#[derive(Debug)]
pub struct Found<T> {
    /// The rows.
    pub rows: T,
    _held: Held,
}

impl<T> Found<T> {
    pub(crate) fn new(rows: T, held: Held) -> Self {
        Self { rows, _held: held }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Bytes(AtomicUsize);

    impl QueryMemory for Bytes {
        fn take(&self, bytes: usize) -> bool {
            let take = |held: usize| (held + bytes <= 4 * STEP).then_some(held + bytes);
            let order = Ordering::Relaxed;
            self.0.fetch_update(order, order, take).is_ok()
        }

        fn give_back(&self, bytes: usize) {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_a_query_holds_is_bounded_and_given_back() {
        let memory = Arc::new(Bytes::default());
        let shared: Arc<dyn QueryMemory> = Arc::<Bytes>::clone(&memory);
        let mut held = Held::new(Some(shared));
        held.series(1).unwrap();
        held.add(2 * STEP).unwrap();
        assert_eq!(memory.0.load(Ordering::Relaxed), 3 * STEP);
        held.rows(STEP).unwrap();
        assert_eq!(memory.0.load(Ordering::Relaxed), 2 * STEP);
        assert!(matches!(held.add(5 * STEP), Err(StorageError::Memory)));
        drop(held);
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
