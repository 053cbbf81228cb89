//! Memory for data from other systems: all integrations of a node share a part of
//! `limits.memory_bytes`.
//!
//! Data is counted until the node has it. If the share of a connection is used up, it is not read;
//! unread data waits at the other system. The share of each connection is what all of them leave
//! of the part: so a connection that takes much leaves as much to others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that each connection may always hold, so that none stalls.
const ALWAYS: usize = 64 << 10;
/// Granularity of borrowing memory of the node.
const STEP: usize = 16 << 10;

/// Lends memory of the node.
pub trait MemoryLender: Send + Sync + 'static {
    /// Lends this number of bytes. False if not available.
    fn borrow_memory(&self, bytes: usize) -> bool;

    /// Takes back lent bytes.
    fn return_memory(&self, bytes: usize);
}

/// Bytes held by the integrations of a node.
#[derive(Default)]
pub struct InputMemory {
    /// `None`: no limit.
    lender: Option<Box<dyn MemoryLender>>,
    input: AtomicUsize,
    output: AtomicUsize,
    /// Maximum bytes of input of all integrations.
    max: usize,
}

impl fmt::Debug for InputMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InputMemory").field(&self.bytes()).finish()
    }
}

impl InputMemory {
    /// Empty, with this maximum of bytes, as far as `lender` lends them.
    pub fn new(max: usize, lender: impl MemoryLender) -> Self {
        Self {
            lender: Some(Box::new(lender)),
            max,
            ..Self::default()
        }
    }

    /// Bytes held now: received data, and copies of outgoing data.
    pub fn bytes(&self) -> usize {
        let sum = self.input.load(Ordering::Relaxed);
        sum.saturating_add(self.output.load(Ordering::Relaxed))
    }

    /// Bytes of input that may be held in addition.
    fn rest(&self) -> usize {
        let held = self.input.load(Ordering::Relaxed);
        match self.lender {
            Some(_) => self.max.saturating_sub(held),
            None => usize::MAX,
        }
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let mut lender = self.lender.iter();
        lender.all(|lender| lender.borrow_memory(bytes))
    }

    fn return_memory(&self, bytes: usize) {
        if let Some(lender) = &self.lender {
            lender.return_memory(bytes);
        }
    }
}

/// The bytes held by one connection. They count until this is dropped.
pub(crate) struct InputShare {
    all: Arc<InputMemory>,
    input: usize,
    output: usize,
    /// Bytes of input and output that are borrowed from the node.
    borrowed: usize,
}

impl fmt::Debug for InputShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputShare")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("borrowed", &self.borrowed)
            .finish_non_exhaustive()
    }
}

impl InputShare {
    /// No bytes yet.
    pub(crate) fn new(all: Arc<InputMemory>) -> Self {
        Self {
            all,
            input: 0,
            output: 0,
            borrowed: 0,
        }
    }

    /// Sets the bytes held now: of input, and of copies of output.
    pub(crate) fn set(&mut self, input: usize, output: usize) {
        replace(&self.all.input, self.input, input);
        replace(&self.all.output, self.output, output);
        (self.input, self.output) = (input, output);
        let wanted = self.held().div_ceil(STEP) * STEP;
        if wanted < self.borrowed {
            self.all.return_memory(self.borrowed - wanted);
            self.borrowed = wanted;
        } else if wanted > self.borrowed && self.all.borrow_memory(wanted - self.borrowed) {
            self.borrowed = wanted;
        }
    }

    fn held(&self) -> usize {
        self.input.saturating_add(self.output)
    }

    /// Bytes of input that this connection may hold: as many as it leaves to others. Few if the
    /// node has no memory for the bytes already held.
    pub(crate) fn max(&self) -> usize {
        let all = self.all.rest().saturating_add(self.input);
        (all / 2 * usize::from(self.is_lent())).max(ALWAYS)
    }

    /// Whether the node has lent memory for all held bytes.
    pub(crate) fn is_lent(&self) -> bool {
        self.borrowed >= self.held()
    }
}

impl Drop for InputShare {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

fn replace(sum: &AtomicUsize, before: usize, now: usize) {
    match now.checked_sub(before) {
        Some(more) => sum.fetch_add(more, Ordering::Relaxed),
        None => sum.fetch_sub(before - now, Ordering::Relaxed),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lends up to this number of bytes.
    #[derive(Clone, Default)]
    struct Bank(Arc<AtomicUsize>);

    impl MemoryLender for Bank {
        fn borrow_memory(&self, bytes: usize) -> bool {
            let left = |has: usize| has.checked_sub(bytes);
            let taken = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
            taken.is_ok()
        }

        fn return_memory(&self, bytes: usize) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    const MB: usize = 1 << 20;

    fn memory(max: usize, has: usize) -> (Bank, Arc<InputMemory>) {
        let bank = Bank::default();
        bank.return_memory(has);
        (bank.clone(), Arc::new(InputMemory::new(max, bank)))
    }

    #[test]
    fn each_connection_leaves_as_much_to_others_as_it_holds() {
        let (bank, all) = memory(8 * MB, 100 * MB);
        let mut first = InputShare::new(Arc::clone(&all));
        let mut second = InputShare::new(Arc::clone(&all));
        assert_eq!(first.max(), 4 * MB);
        first.set(4 * MB, MB);
        assert_eq!((first.max(), second.max()), (4 * MB, 2 * MB));
        assert_eq!(all.bytes(), 5 * MB);
        second.set(2 * MB, 0);
        assert!(first.max() < 4 * MB && second.max() == 2 * MB);
        drop(first);
        assert_eq!(
            (second.max(), bank.0.load(Ordering::Relaxed)),
            (4 * MB, 98 * MB)
        );
        drop(second);
        assert_eq!((all.bytes(), bank.0.load(Ordering::Relaxed)), (0, 100 * MB));
    }

    #[test]
    fn a_node_without_memory_leaves_little_to_each() {
        let (bank, all) = memory(8 * MB, MB);
        let mut share = InputShare::new(all);
        share.set(MB, 0);
        assert_eq!(share.max(), 4 * MB);
        share.set(MB + 1, 0);
        assert_eq!((share.max(), bank.0.load(Ordering::Relaxed)), (ALWAYS, 0));
        share.set(1000, 0);
        assert_eq!(
            (share.max(), bank.0.load(Ordering::Relaxed)),
            (4 * MB, MB - STEP)
        );
    }

    #[test]
    fn without_a_limit_there_is_room() {
        let mut share = InputShare::new(Arc::default());
        share.set(1 << 40, 1 << 40);
        assert!(share.max() > 1 << 40);
    }
}
