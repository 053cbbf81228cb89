//! The numbers that names are made of.

use crate::id::{is_kept_for_receipts, next_for_receipts};
use crate::run::Run;

/// The numbers that names are made of.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    message: u64,
    epoch: u64,
    run: Run,
}

impl Numbers {
    /// Names are those of this run from now on.
    pub(super) fn begin(&mut self, run: Run) {
        *self = Self {
            message: run.first,
            epoch: run.first,
            run,
        };
    }

    #[inline]
    pub(super) fn next_message(&mut self) -> u64 {
        self.message += 1;
        if is_kept_for_receipts(self.message) {
            self.message += 1;
        }
        self.message
    }

    pub(super) fn next_message_with_receipts(&mut self) -> u64 {
        self.message = next_for_receipts(self.message);
        self.message
    }

    /// The present run.
    pub(super) fn run(&self) -> Run {
        self.run
    }

    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }
}
