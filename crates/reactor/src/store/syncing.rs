//! The syncing thread. It syncs while the writing thread applies large groups.
//!
//! It does not inspect records: it gets files to sync and returns the result.

use crossbeam_channel::{Receiver, Sender, bounded};
use martlet_store::{Disk, StoreError, SyncWork};

/// The writing thread's end.
pub(super) struct Syncing<F> {
    works: Sender<SyncWork<F>>,
    results: Receiver<Result<(), StoreError>>,
}

/// The syncing thread's end.
pub(super) struct Works<F> {
    works: Receiver<SyncWork<F>>,
    results: Sender<Result<(), StoreError>>,
}

/// Creates both ends, for one sync at a time.
pub(super) fn syncing<F>() -> (Syncing<F>, Works<F>) {
    let (works_in, works) = bounded(1);
    let (results_in, results) = bounded(1);
    let syncing = Syncing {
        works: works_in,
        results,
    };
    let works = Works {
        works,
        results: results_in,
    };
    (syncing, works)
}

impl<F> Syncing<F> {
    /// Syncs this on the other thread while `meanwhile` runs.
    pub(super) fn sync(
        &self,
        work: SyncWork<F>,
        meanwhile: impl FnOnce(),
    ) -> Result<(), StoreError> {
        let sent = self.works.send(work);
        sent.expect("the syncing thread ends after the writing one");
        meanwhile();
        let result = self.results.recv();
        result.expect("the syncing thread ends after the writing one")
    }
}

impl<F> Works<F> {
    /// Syncs until no sender is left.
    pub(super) fn run<D: Disk<File = F>>(self, disk: &D) {
        for work in &self.works {
            // The requester waits for the result.
            let _ = self.results.send(work.run(disk));
        }
    }
}
