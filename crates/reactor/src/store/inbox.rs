//! What shards hand to the thread that writes: encoded records and wishes to read, in one order for
//! all shards. A short mutex; the thread is woken only when it sleeps.
//!
//! One order is what matters: a shard hands its records over before it tells another shard of them,
//! so no record stands before one that it follows from.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{MemoryGauge, Now, QueueRead, RecordNumber, ShardId, StoreState};
use martlet_store::{RecordBuffer, Stats};

use super::interface::PinnedFiles;

/// Emptied buffers kept to be filled again, and bytes that all of them may take.
const SPARES_MAX: usize = 16;
const SPARES_BYTES_MAX: usize = 4 << 20;

/// Longest buffer that is kept, in bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Number, bytes and age at which records that are not waited for are written: waking the thread
/// costs as much as a hundred of them.
const TOGETHER_RECORDS: usize = 512;
const TOGETHER_BYTES: usize = 256 << 10;
const TOGETHER_AFTER: Duration = Duration::from_millis(2);

/// Something handed over.
#[derive(Debug)]
pub(super) enum StoreInput {
    /// Records of one tick; what they became may be nothing.
    Records {
        shard: ShardId,
        records: RecordBuffer,
        /// The number of the last one, as its shard counts.
        last: RecordNumber,
        /// Whether a client waits for one of them.
        awaited: bool,
    },
    /// Messages are wanted.
    Read(PageRead),
    /// A question to the thread.
    Ask(StoreQuestion),
}

/// What may be asked of the thread that writes. Who asks may have given up when the answer comes.
#[derive(Debug)]
pub(super) enum StoreQuestion {
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

/// How much may wait to be written, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BacklogLimits {
    /// Above this, what makes the store grow is held back.
    pub(super) behind: usize,
    /// Above this the store counts as stuck.
    pub(super) stuck: usize,
}

/// Shared by all shards and the thread that writes.
#[derive(Debug)]
pub(super) struct Inbox {
    limits: BacklogLimits,
    state: Mutex<State>,
    arrived: Condvar,
    /// Bytes taken by the thread and not written yet.
    staged_bytes: AtomicUsize,
    /// Bytes of memory of what waits, of what the thread has taken, and of emptied buffers.
    held_bytes: Arc<AtomicUsize>,
    /// A [`StoreState`].
    store_state: Arc<AtomicU8>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<StoreInput>,
    spares: Vec<RecordBuffer>,
    /// Bytes of memory of the spare buffers.
    spare_bytes: usize,
    bytes: usize,
    /// Records among the parts; at least one for each tick.
    records: usize,
    /// There are other parts too.
    is_urgent: bool,
    /// Whether a client waits for one of the records.
    is_awaited: bool,
    /// Whether the thread gathers records that are not waited for.
    gathers_unawaited: bool,
    /// Number of records for which the thread sleeps; another part wakes it, too.
    asleep: Option<usize>,
    ended: bool,
}

impl State {
    /// Whether this number of records has come, or a part that cannot wait for more.
    fn has_come(&self, records: usize) -> bool {
        let is_enough = self.is_awaited || self.bytes >= TOGETHER_BYTES;
        self.records >= records
            || self.is_urgent
            || self.ended
            || self.gathers_unawaited && is_enough
    }
}

/// The result of handing records over.
pub(super) struct Given {
    /// A buffer for the next ones.
    pub(super) spare: RecordBuffer,
    /// With these the store is in a worse state than before.
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

    /// Where others may look what the store can take: a [`StoreState`].
    pub(super) fn shown_state(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.store_state)
    }

    /// Where others may look how many bytes of memory the store holds: what waits to be written,
    /// and its index.
    pub(super) fn shown_held_bytes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.held_bytes)
    }

    /// What waits to be written takes `bytes` of memory more, and `before` less.
    pub(super) fn count_held(&self, bytes: usize, before: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held_bytes.fetch_sub(before, Ordering::Relaxed);
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

    /// Hands a wish over.
    pub(super) fn give_read(&self, read: PageRead) {
        let mut state = self.lock();
        state.parts.push(StoreInput::Read(read));
        state.is_urgent = true;
        self.wake(state);
    }

    /// Hands a question over.
    pub(super) fn ask(&self, question: StoreQuestion) {
        let mut state = self.lock();
        state.parts.push(StoreInput::Ask(question));
        state.is_urgent = true;
        self.wake(state);
    }

    /// Nothing more will come.
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

    /// Records that wait; `None`: something waits that does not want to wait for more.
    pub(super) fn waiting(&self) -> Option<usize> {
        let state = self.lock();
        (!state.is_urgent && !state.ended).then_some(state.records)
    }

    /// Waits until this number of records has come, another part, or this time.
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

    /// Sleeps until this number of records has come, another part, or until the time is over; it
    /// may return earlier.
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

    /// Takes all that has come into `parts`, which is empty, after waiting for something until
    /// then; none is for ever. True when nothing more will come.
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
        // Until it is known what is staged, nothing is counted twice but nothing is missed either.
        self.staged_bytes
            .fetch_add(std::mem::take(&mut state.bytes), Ordering::Relaxed);
        state.ended && parts.is_empty()
    }

    /// Waits for more records as long as those that have come are not waited for.
    fn gather_unawaited<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.gathers_unawaited = true;
        state = self.wait(state, TOGETHER_RECORDS, Instant::now() + TOGETHER_AFTER);
        state.gathers_unawaited = false;
        state
    }

    /// Gives a buffer back to be filled again.
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

    /// Sets the number of bytes that are taken and not written; `low`: there should be no more, and
    /// this is why. Returns whether the store's state has changed.
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

    /// Notes the backlog including what a shard hands over. Returns whether the store's state got
    /// worse.
    fn makes_worse(&self, waiting: usize) -> bool {
        let least = match waiting {
            _ if waiting > self.limits.stuck => StoreState::Stuck,
            _ if waiting > self.limits.behind => StoreState::Behind,
            _ => return false,
        };
        self.store_state.fetch_max(least as u8, Ordering::Relaxed) < least as u8
    }

    /// What the store can take.
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
