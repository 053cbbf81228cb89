//! How the store is doing, for those who operate the node: a state to look at, and notices to log.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use martlet_broker::StoreState;
use martlet_store::StoreError;

/// Notices that wait to be taken; further ones are dropped.
const NOTICES_MAX: usize = 1024;

/// The store of a node, as far as others may look at it.
#[derive(Debug)]
pub struct StoreHealth {
    state: Mutex<State>,
    /// A [`StoreState`], the inbox's own: one told by two threads could stay on what is over.
    store_state: Arc<AtomicU8>,
    /// Bytes of memory of what waits to be written, and of the index.
    held_bytes: Arc<AtomicUsize>,
    notices: Sender<StoreNotice>,
    taken: Receiver<StoreNotice>,
}

#[derive(Debug, Default)]
struct State {
    status: StoreStatus,
    /// What was told of the present failure.
    told: Vec<(&'static str, io::ErrorKind)>,
}

/// How the store is doing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoreStatus {
    /// It cannot write: no acknowledgement is sent for what has to be stored.
    pub failure: Option<StoreFailure>,
    /// There is no space for more; what ends messages can still be written.
    pub is_low: bool,
    /// Reason: the disk is full, or the error of the system.
    pub low_because: String,
    /// It is not the disk: the store takes as much as `limits.store_bytes` allows.
    pub is_at_limit: bool,
    /// The backlog of writes is long, or space is short, so that what would make the store grow is
    /// held back.
    pub is_behind: bool,
    /// Messages that could not be read back.
    pub unreadable: u64,
    /// Groups of records written and synced so far.
    pub syncs: u64,
    /// Records of shards that these made durable.
    pub records: u64,
}

/// A store that cannot write.
#[derive(Clone, Debug)]
pub struct StoreFailure {
    /// Since when.
    pub since: Instant,
    /// What could not be done, with which file, and why: the last of the errors.
    pub error: String,
    /// How often it has been tried.
    pub attempts: u64,
}

/// Something that belongs into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreNotice {
    /// The store cannot write; it tries again and again. Told once for each kind of error.
    Failing {
        /// What could not be done, with which file, and why.
        error: String,
    },
    /// It writes again.
    Recovered {
        /// How long it did not.
        after: Duration,
    },
    /// The store gets no space for more.
    Low {
        /// The disk is full, or what the system said instead.
        why: String,
    },
    /// It gets space again.
    RoomAgain,
    /// The disk gives errors for messages that a queue wants; they are read again for minutes.
    Unread {
        /// The first of them, and the error.
        what: String,
    },
    /// A message could not be read back; it is dropped for the queue that wanted it.
    Unreadable {
        /// Which, and why.
        what: String,
    },
    /// The end of the node did not find everything written.
    Unwritten {
        /// Why not.
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

    /// Bytes of memory that are held for what waits to be written, and for the index of what is
    /// stored.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// How it is doing now.
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

    /// `why` is asked only when this is new; if there is room by then, nothing is told.
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
                // A limit says itself what is full.
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

    /// There is no space for more because of the store's own limit.
    pub(super) fn is_at_limit(&self) -> bool {
        let state = self.lock();
        state.status.is_low && state.status.is_at_limit
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
        // They are not taken: then they are not wanted.
        let _ = self.notices.try_send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
