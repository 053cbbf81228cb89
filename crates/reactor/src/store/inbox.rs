//! What shards hand to the thread that writes: encoded records and wishes to read, in one order for
//! all shards. A short mutex; the thread is woken only when it sleeps.
//!
//! One order is what matters: a shard hands its records over before it tells another shard of them,
//! so no record stands before one that it follows from.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{MemoryGauge, Now, QueueRead, RecordNumber, ShardId};
use martlet_store::{RecordBuffer, Stats};

use super::PinnedFiles;

/// Emptied buffers kept to be filled again.
const SPARES_MAX: usize = 16;

/// A buffer that has grown beyond this is not kept, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Something handed over.
#[derive(Debug)]
pub(super) enum Part {
    /// Records of one tick; what they became may be nothing.
    Records {
        shard: ShardId,
        records: RecordBuffer,
        /// The number of the last one, as its shard counts.
        last: RecordNumber,
        /// Somebody waits for one of them.
        awaited: bool,
    },
    /// Messages are wanted.
    Read(PageRead),
    /// Somebody wants to know something.
    Ask(Question),
}

/// What may be asked of the thread that writes. Who asks may have given up when the answer comes.
#[derive(Debug)]
pub(super) enum Question {
    /// Pin the store as it is.
    Pin(Sender<Result<PinnedFiles, String>>),
    /// What it holds and takes.
    Stats(Sender<Stats>),
}

/// Messages that a queue wants to have.
#[derive(Debug)]
pub(super) struct PageRead {
    pub(super) shard: ShardId,
    pub(super) read: QueueRead,
    pub(super) now: Now,
    pub(super) gauge: Arc<MemoryGauge>,
}

/// Shared by all shards and the thread that writes.
#[derive(Debug)]
pub(super) struct Inbox {
    /// When so many bytes wait to be written, publishers of what has to be stored are held back.
    behind_bytes: usize,
    state: Mutex<State>,
    arrived: Condvar,
    /// Bytes taken by the thread and not written yet.
    staged_bytes: AtomicUsize,
    is_behind: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    spares: Vec<RecordBuffer>,
    bytes: usize,
    asleep: bool,
    ended: bool,
}

/// What became of records handed over.
pub(super) struct Given {
    /// A buffer for the next ones.
    pub(super) spare: RecordBuffer,
    /// With these the store has fallen behind.
    pub(super) fell_behind: bool,
}

impl Inbox {
    pub(super) fn new(behind_bytes: usize) -> Self {
        Self {
            behind_bytes,
            state: Mutex::default(),
            arrived: Condvar::new(),
            staged_bytes: AtomicUsize::new(0),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Hands records over.
    pub(super) fn give_records(
        &self,
        shard: ShardId,
        records: RecordBuffer,
        last: RecordNumber,
        awaited: bool,
    ) -> Given {
        let mut state = self.lock();
        state.bytes += records.bytes();
        let waiting = state.bytes + self.staged_bytes.load(Ordering::Relaxed);
        let fell_behind =
            waiting > self.behind_bytes && !self.is_behind.swap(true, Ordering::Relaxed);
        let spare = state.spares.pop().unwrap_or_default();
        state.parts.push(Part::Records {
            shard,
            records,
            last,
            awaited,
        });
        self.wake(state);
        Given { spare, fell_behind }
    }

    /// Hands a wish over.
    pub(super) fn give_read(&self, read: PageRead) {
        let mut state = self.lock();
        state.parts.push(Part::Read(read));
        self.wake(state);
    }

    /// Hands a question over.
    pub(super) fn ask(&self, question: Question) {
        let mut state = self.lock();
        state.parts.push(Part::Ask(question));
        self.wake(state);
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.arrived.notify_one();
        }
    }

    /// Takes all that has come into `parts`, which is empty, after waiting for something until
    /// then; none is for ever. True when nothing more will come.
    pub(super) fn take(&self, parts: &mut Vec<Part>, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        while state.parts.is_empty() && !state.ended {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            state.asleep = true;
            state = match left {
                None => self
                    .arrived
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.arrived.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.asleep = false;
        }
        std::mem::swap(&mut state.parts, parts);
        // Until it is known what is staged, nothing is counted twice but nothing is missed either.
        self.staged_bytes
            .fetch_add(std::mem::take(&mut state.bytes), Ordering::Relaxed);
        state.ended && parts.is_empty()
    }

    /// Gives a buffer back to be filled again.
    pub(super) fn give_back(&self, mut buffer: RecordBuffer) {
        if buffer.bytes() <= SPARE_BYTES_MAX {
            buffer.clear();
            let mut state = self.lock();
            if state.spares.len() < SPARES_MAX {
                state.spares.push(buffer);
            }
        }
    }

    /// So much is taken and not written, and `is_low` says that no more should come. Answers
    /// whether the store is behind now, if that has changed.
    pub(super) fn staged(&self, bytes: usize, is_low: bool) -> Option<bool> {
        let state = self.lock();
        self.staged_bytes.store(bytes, Ordering::Relaxed);
        let waiting = bytes + state.bytes;
        let was = self.is_behind.load(Ordering::Relaxed);
        let is = is_low || waiting > self.behind_bytes || was && waiting > self.behind_bytes / 2;
        self.is_behind.store(is, Ordering::Release);
        (is != was).then_some(is)
    }

    /// So much waits, or so little space is left, that no more should come.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
