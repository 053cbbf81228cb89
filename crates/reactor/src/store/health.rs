//! Health of the store, for operators: a status, and notices to log.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use martlet_broker::{StoreState, TenantId};
use martlet_store::StoreError;

/// Most queued notices; further ones are dropped.
const NOTICES_MAX: usize = 1024;

/// The observable state of a node's store.
#[derive(Debug)]
pub struct StoreHealth {
    state: Mutex<State>,
    /// A [`StoreState`], shared with the inbox. With a copy per thread, an outdated state could
    /// remain.
    store_state: Arc<AtomicU8>,
    /// Memory of pending writes and of the index, in bytes.
    held_bytes: Arc<AtomicUsize>,
    notices: Sender<StoreNotice>,
    taken: Receiver<StoreNotice>,
}

#[derive(Debug, Default)]
struct State {
    status: StoreStatus,
    /// Errors of the present failure that have been reported.
    told: Vec<(&'static str, io::ErrorKind)>,
}

/// Status of the store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoreStatus {
    /// Set if the store cannot write. Then no acknowledgement is sent for messages that must be
    /// stored.
    pub failure: Option<StoreFailure>,
    /// There is no space for further messages. Records that end messages can still be written.
    pub is_low: bool,
    /// Reason: the disk is full, or the error of the system.
    pub low_because: String,
    /// The cause is not the disk but the limit `limits.store_bytes`.
    pub is_at_limit: bool,
    /// Tenants that have their share of the store, in order: what makes it grow waits for them.
    pub at_share: Arc<[TenantId]>,
    /// The backlog of writes is long, or space is short. Operations that make the store grow are
    /// held back.
    pub is_behind: bool,
    /// Number of messages that could not be read back.
    pub unreadable: u64,
    /// Number of groups of records written and synced.
    pub syncs: u64,
    /// Number of records of shards that these syncs made durable.
    pub records: u64,
}

/// A store that cannot write.
#[derive(Clone, Debug)]
pub struct StoreFailure {
    /// When the failure began.
    pub since: Instant,
    /// The last error: the operation, the file and the cause.
    pub error: String,
    /// Number of attempts.
    pub attempts: u64,
}

/// A notice for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreNotice {
    /// The store cannot write and keeps trying. Sent once for each kind of error.
    Failing {
        /// The operation, the file and the cause.
        error: String,
    },
    /// The store can write again.
    Recovered {
        /// Duration of the failure.
        after: Duration,
    },
    /// There is no space for further messages.
    Low {
        /// Reason: the disk is full, or the error of the system.
        why: String,
    },
    /// There is space again.
    RoomAgain,
    /// The disk returns errors for messages that a queue needs. Reading is retried for minutes.
    Unread {
        /// The first of these messages, and the error.
        what: String,
    },
    /// A message could not be read back. It is dropped from the queue that needed it.
    Unreadable {
        /// The message and the cause.
        what: String,
    },
    /// At shutdown, not all records could be written.
    Unwritten {
        /// The cause.
        error: String,
    },
}

impl StoreHealth {
    pub(super) fn new(store_state: Arc<AtomicU8>, held_bytes: Arc<AtomicUsize>) -> Self {
        let (notices, taken) = bounded(NOTICES_MAX);
        Self {
            state: Mutex::default(),
            store_state,
            held_bytes,
            notices,
            taken,
        }
    }

    /// Memory for records that wait to be written and for the index, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// The current status.
    pub fn status(&self) -> StoreStatus {
        let state = self.store_state.load(Ordering::Acquire);
        StoreStatus {
            is_behind: state != StoreState::KeepsUp as u8,
            ..self.lock().status.clone()
        }
    }

    /// Notices to log. All clones of this receiver take from the same queue.
    pub fn notices(&self) -> Receiver<StoreNotice> {
        self.taken.clone()
    }

    pub(super) fn failed(&self, error: &StoreError) {
        let mut state = self.lock();
        let kind = (error.what, error.source.kind());
        let text = error.to_string();
        if !state.told.contains(&kind) {
            state.told.push(kind);
            let error = text.clone();
            self.tell(StoreNotice::Failing { error });
        }
        let failure = state.status.failure.get_or_insert_with(|| StoreFailure {
            since: Instant::now(),
            error: String::new(),
            attempts: 0,
        });
        failure.error = text;
        failure.attempts += 1;
    }

    pub(super) fn works(&self) {
        let mut state = self.lock();
        if let Some(failure) = state.status.failure.take() {
            state.told.clear();
            let after = failure.since.elapsed();
            self.tell(StoreNotice::Recovered { after });
        }
    }

    pub(super) fn synced(&self, records: u64) {
        let mut state = self.lock();
        state.status.syncs += 1;
        state.status.records += records;
    }

    /// Sets whether space is short. Calls `why` only if that is new. If `why` finds that there is
    /// room by now, no notice is sent.
    pub(super) fn is_low(&self, is_low: bool, why: impl FnOnce() -> Option<StoreError>) {
        if self.lock().status.is_low == is_low {
            return;
        }
        let why = is_low.then(why);
        let mut state = self.lock();
        state.status.is_low = !matches!(why, None | Some(None));
        match why {
            None => self.tell(StoreNotice::RoomAgain),
            Some(None) => {}
            Some(Some(error)) => {
                // An error of a limit already contains what is full.
                let is_limit = error.source.get_ref().is_some();
                let why = match error.is_full() {
                    true if is_limit => error.source.to_string(),
                    true => "the disk is full".to_owned(),
                    false => format!("the store gets no more space: {error}"),
                };
                state.status.low_because.clone_from(&why);
                state.status.is_at_limit = is_limit;
                self.tell(StoreNotice::Low { why });
            }
        }
    }

    /// Whether the store has no space because of its own limit.
    pub(super) fn is_at_limit(&self) -> bool {
        let state = self.lock();
        state.status.is_low && state.status.is_at_limit
    }

    pub(super) fn tenants_at_share(&self) -> Arc<[TenantId]> {
        Arc::clone(&self.lock().status.at_share)
    }

    /// Sets the tenants that have their share of the store, in order. Returns whether that changes
    /// them.
    pub(super) fn set_tenants_at_share(&self, tenants: Vec<TenantId>) -> bool {
        let mut state = self.lock();
        let is_new = *state.status.at_share != *tenants;
        if is_new {
            state.status.at_share = tenants.into();
        }
        is_new
    }

    pub(super) fn unread(&self, what: String) {
        self.tell(StoreNotice::Unread { what });
    }

    pub(super) fn unreadable(&self, what: String) {
        self.lock().status.unreadable += 1;
        self.tell(StoreNotice::Unreadable { what });
    }

    pub(super) fn unwritten(&self, error: String) {
        self.tell(StoreNotice::Unwritten { error });
    }

    fn tell(&self, notice: StoreNotice) {
        // If the queue is full, no reader takes notices, so this one is dropped.
        let _ = self.notices.try_send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
