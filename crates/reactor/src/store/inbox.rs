//! Queue from the shards to the writing thread: encoded records and read requests, in one order for
//! all shards. The mutex is held briefly; the thread is woken only when it sleeps.
//!
//! The common order is essential. A shard hands over its records before it sends messages about
//! them to another shard, so no record comes before a record that it depends on.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{MemoryGauge, Now, QueueRead, RecordNumber, ShardId, StoreState};
use martlet_store::{RecordBuffer, Stats};

use super::interface::PinnedFiles;

/// Number of empty buffers kept for reuse, and their total size in bytes.
const SPARES_MAX: usize = 16;
const SPARES_BYTES_MAX: usize = 4 << 20;

/// Longest buffer that is kept, in bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Number, bytes and age at which records without a waiting client are written. Waking the thread
/// costs as much as a hundred records.
const TOGETHER_RECORDS: usize = 512;
const TOGETHER_BYTES: usize = 256 << 10;
const TOGETHER_AFTER: Duration = Duration::from_millis(2);

/// An item handed to the writing thread.
#[derive(Debug)]
pub(super) enum StoreInput {
    /// Records of one tick; their encoded form may be empty.
    Records {
        shard: ShardId,
        records: RecordBuffer,
        /// Number of the last one, in the count of its shard.
        last: RecordNumber,
        /// Whether a client waits for one of them.
        awaited: bool,
    },
    /// A request for messages.
    Read(PageRead),
    /// A question to the thread.
    Ask(StoreQuestion),
}

/// A question to the writing thread. The requester may have given up when the answer is ready.
#[derive(Debug)]
pub(super) enum StoreQuestion {
    /// Pin the current files of the store.
    Pin(Sender<Result<PinnedFiles, String>>),
    /// Return the statistics of the store.
    Stats(Sender<Stats>),
}

/// Request of a queue for messages.
#[derive(Debug)]
pub(super) struct PageRead {
    pub(super) shard: ShardId,
    pub(super) read: QueueRead,
    pub(super) now: Now,
    pub(super) gauge: Arc<MemoryGauge>,
}

/// Limits for the bytes that wait to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct BacklogLimits {
    /// Above this limit, operations that make the store grow are held back.
    pub(super) behind: usize,
    /// Above this limit the store counts as stuck.
    pub(super) stuck: usize,
}

/// Shared by all shards and the writing thread.
#[derive(Debug)]
pub(super) struct Inbox {
    limits: BacklogLimits,
    state: Mutex<State>,
    arrived: Condvar,
    /// Bytes that the thread has taken but not written yet.
    staged_bytes: AtomicUsize,
    /// Memory in bytes: pending parts, parts that the thread has taken, and empty buffers.
    held_bytes: Arc<AtomicUsize>,
    /// A [`StoreState`].
    store_state: Arc<AtomicU8>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<StoreInput>,
    spares: Vec<RecordBuffer>,
    /// Memory of the spare buffers in bytes.
    spare_bytes: usize,
    bytes: usize,
    /// Records among the parts; at least one for each tick.
    records: usize,
    /// Whether there are parts other than records.
    is_urgent: bool,
    /// Whether a client waits for one of the records.
    is_awaited: bool,
    /// Whether the thread is gathering records without a waiting client.
    gathers_unawaited: bool,
    /// Number of records that the thread waits for in its sleep; other parts also wake it.
    asleep: Option<usize>,
    ended: bool,
}

impl State {
    /// Whether this number of records has arrived, or a part that cannot wait.
    fn has_come(&self, records: usize) -> bool {
        let is_enough = self.is_awaited || self.bytes >= TOGETHER_BYTES;
        self.records >= records
            || self.is_urgent
            || self.ended
            || self.gathers_unawaited && is_enough
    }
}

/// Result of handing over records.
pub(super) struct Given {
    /// An empty buffer for the next records.
    pub(super) spare: RecordBuffer,
    /// Whether these records have made the state of the store worse.
    pub(super) is_worse: bool,
}

impl Inbox {
    pub(super) fn new(limits: BacklogLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            arrived: Condvar::new(),
            staged_bytes: AtomicUsize::new(0),
            held_bytes: Arc::default(),
            store_state: Arc::new(AtomicU8::new(StoreState::KeepsUp as u8)),
        }
    }

    /// Shared view of what the store can take: a [`StoreState`].
    pub(super) fn shown_state(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.store_state)
    }

    /// Shared view of the memory held by the store in bytes: pending writes and the index.
    pub(super) fn shown_held_bytes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.held_bytes)
    }

    /// The pending writes now take `bytes` of memory; before they took `before`.
    pub(super) fn count_held(&self, bytes: usize, before: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held_bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Hands over records.
    pub(super) fn give_records(
        &self,
        shard: ShardId,
        records: RecordBuffer,
        last: RecordNumber,
        awaited: bool,
    ) -> Given {
        let mut state = self.lock();
        state.bytes += records.bytes();
        state.records += records.count().max(1);
        state.is_awaited |= awaited;
        let waiting = state.bytes + self.staged_bytes.load(Ordering::Relaxed);
        let is_worse = self.makes_worse(waiting);
        let spare = state.spares.pop().unwrap_or_default();
        state.spare_bytes -= spare.memory_bytes();
        self.count_held(records.memory_bytes(), spare.memory_bytes());
        state.parts.push(StoreInput::Records {
            shard,
            records,
            last,
            awaited,
        });
        self.wake(state);
        Given { spare, is_worse }
    }

    /// Hands over a read request.
    pub(super) fn give_read(&self, read: PageRead) {
        let mut state = self.lock();
        state.parts.push(StoreInput::Read(read));
        state.is_urgent = true;
        self.wake(state);
    }

    /// Hands over a question.
    pub(super) fn ask(&self, question: StoreQuestion) {
        let mut state = self.lock();
        state.parts.push(StoreInput::Ask(question));
        state.is_urgent = true;
        self.wake(state);
    }

    /// Ends the queue: nothing more will be handed over.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let is_wanted = |records| state.has_come(records);
        if state.asleep.is_some_and(is_wanted) {
            state.asleep = None;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Number of waiting records; `None` if a part waits that cannot wait for more.
    pub(super) fn waiting(&self) -> Option<usize> {
        let state = self.lock();
        (!state.is_urgent && !state.ended).then_some(state.records)
    }

    /// Waits until this number of records or another part has arrived, or until this time.
    pub(super) fn gather(&self, records: usize, until: Instant) {
        drop(self.wait(self.lock(), records, until));
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        records: usize,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        while !state.has_come(records) {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            state = self.sleep(state, records, Some(left));
        }
        state
    }

    /// Sleeps until this number of records or another part has arrived, or the time has expired.
    /// May return earlier.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        records: usize,
        left: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.asleep = Some(records);
        let mut state = match left {
            None => self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                let woken = self.arrived.wait_timeout(state, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep = None;
        state
    }

    /// Waits for parts until `until`; `None` means no limit. Then moves them all into `parts`,
    /// which is empty. Returns true if nothing more will be handed over.
    pub(super) fn take(&self, parts: &mut Vec<StoreInput>, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        while state.parts.is_empty() && !state.ended {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            state = self.sleep(state, 1, left);
        }
        if !state.parts.is_empty() {
            state = self.gather_unawaited(state);
        }
        state.records = 0;
        state.is_urgent = false;
        state.is_awaited = false;
        std::mem::swap(&mut state.parts, parts);
        // Until the staged bytes are set, these bytes must be counted exactly once.
        self.staged_bytes
            .fetch_add(std::mem::take(&mut state.bytes), Ordering::Relaxed);
        state.ended && parts.is_empty()
    }

    /// Waits for more records as long as no client waits for those that have arrived.
    fn gather_unawaited<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.gathers_unawaited = true;
        state = self.wait(state, TOGETHER_RECORDS, Instant::now() + TOGETHER_AFTER);
        state.gathers_unawaited = false;
        state
    }

    /// Returns a buffer for reuse.
    pub(super) fn give_back(&self, mut buffer: RecordBuffer) {
        let bytes = buffer.memory_bytes();
        if bytes <= SPARE_BYTES_MAX {
            buffer.clear();
            let mut state = self.lock();
            let has_room = state.spare_bytes + bytes <= SPARES_BYTES_MAX;
            if has_room && state.spares.len() < SPARES_MAX {
                state.spare_bytes += bytes;
                state.spares.push(buffer);
                return;
            }
        }
        self.count_held(0, bytes);
    }

    /// Sets the number of bytes that are taken and not written. `low`: the reason why the store
    /// should not grow, if there is one. Returns whether the store's state has changed.
    pub(super) fn staged(&self, bytes: usize, low: Option<StoreState>) -> bool {
        let state = self.lock();
        self.staged_bytes.store(bytes, Ordering::Relaxed);
        let waiting = bytes + state.bytes;
        let was = self.store_state();
        let BacklogLimits { behind, stuck } = self.limits;
        let is_stuck = waiting > stuck || was == StoreState::Stuck && waiting > stuck / 2;
        let was_behind = was != StoreState::KeepsUp;
        let is_behind = waiting > behind || was_behind && waiting > behind / 2;
        let is = match (is_stuck, low, is_behind) {
            (true, ..) => StoreState::Stuck,
            (_, Some(low), _) => low,
            (_, _, true) => StoreState::Behind,
            _ => StoreState::KeepsUp,
        };
        self.store_state.store(is as u8, Ordering::Release);
        is != was
    }

    /// Updates the state for the backlog including the bytes that a shard hands over. Returns
    /// whether the state became worse.
    fn makes_worse(&self, waiting: usize) -> bool {
        let least = match waiting {
            _ if waiting > self.limits.stuck => StoreState::Stuck,
            _ if waiting > self.limits.behind => StoreState::Behind,
            _ => return false,
        };
        self.store_state.fetch_max(least as u8, Ordering::Relaxed) < least as u8
    }

    /// Returns what the store can take.
    pub(super) fn store_state(&self) -> StoreState {
        let state = self.store_state.load(Ordering::Acquire);
        let states = [
            StoreState::KeepsUp,
            StoreState::Behind,
            StoreState::Full,
            StoreState::AtLimit,
        ];
        let mut states = states.into_iter();
        let found = states.find(|known| *known as u8 == state);
        found.unwrap_or(StoreState::Stuck)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
