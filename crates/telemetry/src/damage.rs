//! Damage of the file that does not stop the storage: what it concerns is named, and all else goes
//! on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Findings that are kept.
const FINDINGS_MAX: usize = 10;

/// Damaged rows that were found since the storage was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage(Arc<Findings>);

#[derive(Debug, Default)]
struct Findings {
    count: AtomicUsize,
    /// The first of them, in words.
    first: Mutex<Vec<String>>,
}

impl Damage {
    pub(crate) fn note(&self, found: Vec<String>) {
        if found.is_empty() {
            return;
        }
        let mut first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner);
        for what in found {
            if first.contains(&what) {
                continue;
            }
            self.0.count.fetch_add(1, Ordering::Relaxed);
            if first.len() < FINDINGS_MAX {
                first.push(what);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    pub(crate) fn first(&self) -> Vec<String> {
        let first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}
