//! The writer thread: groups writes into transactions, and does maintenance between them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::damage::Findings;
use crate::engine::Engine;
use crate::memory::SharedMemory;
use crate::passes::{Passes, ToldShares};
use crate::query::Selection;
use crate::retention::{Deleted, FirstDays, Retention, Usage};
use crate::series::{Points, Refused, WriteOutcome};
use crate::settings::GATHER_MAX;
use crate::tenant_bytes::TenantBytes;
use crate::value::{Point, PointRefusal, Time, day_of};
use crate::{Location, Settings, StorageError};

/// Approximate maximum bytes of points of one transaction.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Series whose values that are not packed are counted in one step.
const SERIES_PER_STEP: usize = 1_000;
/// Interval of maintenance when there is nothing to do or it failed.
const IDLE: Duration = Duration::from_secs(1);

/// The channel for the result of a job.
pub(crate) type Done<T> = oneshot::Sender<Result<T, StorageError>>;

/// A job of the writer.
#[derive(Debug)]
pub(crate) enum Job {
    Write(WriteJob),
    Delete(Selection, Range<Time>, Done<Deleted>),
    Forget(Retention, Done<Deleted>),
    /// Moves all values from memory into blocks, and creates all roll-ups.
    Pack(Done<()>),
    Close(Done<()>),
}

#[derive(Debug)]
pub(crate) struct WriteJob {
    pub(crate) points: Vec<Point>,
    /// Whether they are stored atomically.
    pub(crate) is_whole: bool,
    pub(crate) bytes: usize,
    /// Share of the job in the room for waiting points; released after the write.
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) done: Done<WriteOutcome>,
}

/// The writer with its jobs.
#[derive(Debug)]
pub(crate) struct Writer {
    engine: Engine,
    jobs: mpsc::Receiver<Job>,
    /// Jobs that arrived during a long one.
    postponed: VecDeque<Job>,
    gather: Duration,
    text_bytes_max: usize,
    trouble: Trouble,
    known_bytes: Arc<AtomicUsize>,
    passes: Passes,
}

/// State of the writer that readers see.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriterState {
    pub(crate) trouble: Trouble,
    /// Damage that the writer has found and does without.
    pub(crate) damage: Findings,
    /// Bytes of memory of the series known to the writer.
    pub(crate) known_bytes: Arc<AtomicUsize>,
    /// Shares of tenants.
    pub(crate) shares: ToldShares,
}

/// The error of the writer's last maintenance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<StorageError>>>);

impl Trouble {
    fn set(&self, trouble: Option<StorageError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(crate) fn get(&self) -> Option<StorageError> {
        let trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }
}

impl Writer {
    pub(crate) async fn open(
        location: &Location,
        settings: &Settings,
        memory: Arc<SharedMemory>,
        jobs: mpsc::Receiver<Job>,
        told: WriterState,
    ) -> Result<Self, StorageError> {
        let engine = Engine::open(location, settings, memory, told.damage).await?;
        Ok(Self {
            engine,
            jobs,
            postponed: VecDeque::new(),
            gather: settings.gather.min(GATHER_MAX),
            text_bytes_max: settings.text_bytes_max,
            trouble: told.trouble,
            known_bytes: told.known_bytes,
            passes: Passes::new(settings.tenant_share, told.shares),
        })
    }

    /// Runs until the storage is closed or dropped.
    pub(crate) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        let mut closing = None;
        self.count_first().await;
        loop {
            let next = match self.postponed.pop_front() {
                Some(job) => Ok(Some(job)),
                None => timeout(pause, self.jobs.recv()).await,
            };
            let next = match next {
                Ok(None) => break,
                Ok(Some(Job::Write(first))) => self.write_with_others(first).await,
                Ok(Some(other)) => Some(other),
                Err(_) => None,
            };
            if let Some(job) = next
                && let ControlFlow::Break(done) = self.work(job).await
            {
                closing = Some(done);
                break;
            }
            let tidied = self.tidy().await;
            pause = match tidied {
                Ok(true) => Duration::ZERO,
                Ok(false) | Err(_) => IDLE,
            };
            self.trouble.set(tidied.err());
            let known_bytes = self.engine.known_bytes();
            self.known_bytes.store(known_bytes, Ordering::Relaxed);
        }
        self.engine.close().await;
        if let Some(done) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(Ok(()));
        }
    }

    async fn work(&mut self, job: Job) -> ControlFlow<Done<()>> {
        match job {
            Job::Write(job) => self.write(vec![job]).await,
            Job::Delete(selection, span, done) => {
                let deleted = self.engine.delete(&selection, span.start, span.end).await;
                self.passes.have_deleted();
                let _ = done.send(deleted.map(|values| Deleted { values }));
            }
            Job::Forget(retention, done) => {
                let deleted = self.forget_by(retention).await;
                let _ = done.send(deleted.map(|values| Deleted { values }));
            }
            Job::Pack(done) => {
                let _ = done.send(self.engine.pack(day_of(now())).await);
            }
            Job::Close(done) => return ControlFlow::Break(done),
        }
        ControlFlow::Continue(())
    }

    /// Does a small piece of maintenance, and a pass if it is due. Returns whether there is more.
    async fn tidy(&mut self) -> Result<bool, StorageError> {
        let tidied = self.engine.tidy(day_of(now())).await;
        // A pass may make the room that was missing.
        if self.passes.is_check_due() && self.is_pass_due().await? {
            self.forget(true).await?;
        }
        tidied
    }

    /// Counts the bytes of tenants before the first write: shares hold from the start. If it fails,
    /// the first pass counts them.
    async fn count_first(&mut self) {
        let begin = Instant::now().into_std();
        let no_limits = self.passes.retention.clone();
        let (usage, first_days) = (Usage::default(), FirstDays::default());
        let counted = self.count_bytes(&no_limits, &usage, &first_days).await;
        let space = self.engine.space().await.ok().flatten();
        if let Ok(counted) = counted {
            self.passes.end(begin, space, counted);
        }
    }

    async fn is_pass_due(&mut self) -> Result<bool, StorageError> {
        let space = self.engine.space().await?;
        Ok(self.passes.is_due(space))
    }

    /// Makes a pass with new limits, if they delete something or it is due. Returns the number of
    /// values that were deleted since the last call.
    async fn forget_by(&mut self, retention: Retention) -> Result<u64, StorageError> {
        let is_limited = retention.is_limited();
        self.passes.retention = retention;
        let is_due = self.is_pass_due().await?;
        if is_limited || is_due {
            self.forget(is_due).await?;
        }
        Ok(std::mem::take(&mut self.passes.forgotten))
    }

    /// Deletes values that exceed the retention limits. Counts the bytes of tenants if that is due,
    /// or if all bytes have a limit: then most of it is counted anyway.
    async fn forget(&mut self, is_due: bool) -> Result<(), StorageError> {
        let retention = self.passes.retention.clone();
        let begin = Instant::now().into_std();
        let is_counting = is_due || retention.bytes().is_some();
        let counted = self.forget_as(&retention, is_counting).await;
        if !is_counting {
            return counted.map(drop);
        }
        let space = self.engine.space().await.ok().flatten();
        counted
            .map(|counted| self.passes.end(begin, space, counted))
            .inspect_err(|_| self.passes.fail(begin, space))
    }

    /// As [`Self::forget`]. Writes that arrive in the meantime do not wait for all of it. Returns
    /// the bytes of tenants, if it counts them.
    async fn forget_as(
        &mut self,
        retention: &Retention,
        is_counting: bool,
    ) -> Result<Option<TenantBytes>, StorageError> {
        match self.pack_to_forget(retention).await {
            // Deleting packed values makes room for the others.
            Ok(()) | Err(StorageError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut usage = Usage::default();
        let mut next = retention.limits_bytes().then_some(i64::MIN);
        while let Some(after) = next {
            next = self.engine.add_usage(retention, &mut usage, after).await?;
            self.write_waiting().await;
        }
        let first_days = usage.first_days(&retention.classes, now());
        let mut next = retention.is_limited().then_some(i64::MIN);
        while let Some(after) = next {
            let some = self.engine.forget_some(retention, &first_days, after);
            let (deleted, last) = some.await?;
            self.passes.forgotten += deleted;
            next = last;
            self.write_waiting().await;
        }
        match is_counting {
            true => self.count_bytes(retention, &usage, &first_days).await,
            false => Ok(None),
        }
    }

    /// The bytes of tenants that no retention deletes, and the limit of all of them.
    async fn count_bytes(
        &mut self,
        retention: &Retention,
        usage: &Usage,
        first_days: &FirstDays,
    ) -> Result<Option<TenantBytes>, StorageError> {
        let space = self.engine.space().await?;
        let unpacked = self.engine.unpacked();
        self.passes.begin_to_count();
        if let Some(limit) = retention.bytes() {
            let missing = limit.saturating_sub(usage.kept(first_days));
            if space.is_none_or(|space| missing <= space.left()) {
                // Earlier days give way.
                let mut used = usage.since(day_of(now()));
                self.add_unpacked(&mut used, &unpacked).await?;
                return Ok(Some(TenantBytes { limit, used }));
            }
        }
        let Some(space) = space else {
            return Ok(None);
        };
        let (mut values, mut next) = (BTreeMap::new(), Some(i64::MIN));
        while let Some(after) = next {
            next = self.engine.add_tenants(&mut values, after).await?;
            self.write_waiting().await;
        }
        self.add_unpacked(&mut values, &unpacked).await?;
        Ok(Some(TenantBytes::of_file(&values, space)))
    }

    /// Adds the bytes of values that are not in blocks yet, by series, to their tenants.
    async fn add_unpacked(
        &mut self,
        tenants: &mut BTreeMap<u32, u64>,
        unpacked: &[(i64, i64)],
    ) -> Result<(), StorageError> {
        for some in unpacked.chunks(SERIES_PER_STEP) {
            self.engine.add_unpacked(tenants, some).await?;
            self.write_waiting().await;
        }
        Ok(())
    }

    /// Moves values from memory into blocks, if some of them may have to be deleted: days are
    /// deleted only from blocks, and values of today always stay. Moves all if a tenant has its
    /// share: then they are counted exactly.
    async fn pack_to_forget(&mut self, retention: &Retention) -> Result<(), StorageError> {
        let until = match self.passes.is_any_full() {
            true => i64::MAX,
            false => retention.ends(now()),
        };
        // The generation that is being moved, and the active one. Values that arrive in the
        // meantime wait for the next time, so that the loop ends.
        for _ in 0..2 {
            let first_day = self.engine.first_unpacked_day();
            if first_day.is_none_or(|day| day >= until) {
                break;
            }
            while self.engine.pack_some().await? {
                self.write_waiting().await;
            }
        }
        Ok(())
    }

    /// Writes the waiting points. Jobs of other kinds keep waiting.
    async fn write_waiting(&mut self) {
        // Before the first count it is not known who has a share already.
        if !self.passes.have_counted() {
            return;
        }
        let mut writes = Vec::new();
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Write(job) => writes.push(job),
                other => self.postponed.push_back(other),
            }
        }
        if !writes.is_empty() {
            self.write(writes).await;
        }
    }

    /// Writes a job and those that arrive soon after it. Returns a job of another kind that
    /// arrives in the meantime.
    async fn write_with_others(&mut self, first: WriteJob) -> Option<Job> {
        let until = Instant::now() + self.gather;
        let mut bytes = first.bytes;
        let mut writes = vec![first];
        let mut other = None;
        while bytes < BATCH_BYTES_MAX && other.is_none() {
            match timeout_at(until, self.jobs.recv()).await {
                Ok(Some(Job::Write(job))) => {
                    bytes += job.bytes;
                    writes.push(job);
                }
                Ok(Some(job)) => other = Some(job),
                Ok(None) | Err(_) => break,
            }
        }
        self.write(writes).await;
        other
    }

    /// Checks a point, except for rules that depend on the tables.
    fn check(&self, point: &Point) -> Result<(), PointRefusal> {
        point.check(self.text_bytes_max)?;
        match self.passes.is_full(point.tenant) {
            true => Err(PointRefusal::TenantBytes),
            false => Ok(()),
        }
    }

    async fn write(&mut self, writes: Vec<WriteJob>) {
        let mut points = Points {
            list: Vec::with_capacity(writes.iter().map(|job| job.points.len()).sum()),
            wholes: Vec::new(),
        };
        let mut answers = Vec::with_capacity(writes.len());
        // Tenant and approximate bytes of each point.
        let mut costs = Vec::with_capacity(points.list.capacity());
        for job in writes {
            let first = points.list.len();
            let count = job.points.len();
            let mut refused = Vec::new();
            // Index of each committed point in its list.
            let mut indexes = Vec::new();
            for (index, mut point) in job.points.into_iter().enumerate() {
                match self.check(&point) {
                    Ok(()) => {
                        point.clean();
                        costs.push((point.tenant, point.value.journal_bytes() as u64));
                        points.list.push(point);
                        indexes.push(index);
                    }
                    Err(refusal) => refused.push(Refused { index, refusal }),
                }
            }
            if job.is_whole && !refused.is_empty() {
                points.list.truncate(first);
                costs.truncate(first);
                indexes.clear();
            } else if job.is_whole && !indexes.is_empty() {
                points.wholes.push(first..points.list.len());
            }
            let count = match job.is_whole {
                true => Count::Whole(count),
                false => Count::Each(count),
            };
            answers.push((first, count, indexes, refused, job.done, job.room));
        }
        let committed = match points.list.is_empty() {
            true => Ok(Vec::new()),
            false => self.engine.commit(points).await,
        };
        let mut written = BTreeMap::new();
        let answers = answers.into_iter();
        let answers = answers.map(|(first, count, indexes, refused, done, room)| {
            let answer = committed.as_ref().map_err(Clone::clone);
            let answer = answer.map(|of_all| answer_of(of_all, first, count, &indexes, refused));
            if let Ok(outcome) = &answer {
                add_stored(&mut written, outcome, &indexes, &costs[first..]);
            }
            (answer, done, room)
        });
        let answers: Vec<_> = answers.collect();
        self.passes.add_written(&written);
        for (answer, done, room) in answers {
            // The caller may have stopped waiting.
            let _ = done.send(answer);
            drop(room);
        }
    }
}

/// Adds the bytes of the points of a write that are stored to their tenants. `indexes`: those of
/// its committed points, whose tenants and bytes are the first of `costs`.
fn add_stored(
    written: &mut BTreeMap<u32, u64>,
    outcome: &WriteOutcome,
    indexes: &[usize],
    costs: &[(u32, u64)],
) {
    if outcome.stored == 0 {
        return;
    }
    let refused = |index: &usize| {
        let found = outcome.refused.binary_search_by_key(index, |one| one.index);
        found.is_ok()
    };
    for (_, (tenant, bytes)) in indexes
        .iter()
        .zip(costs)
        .filter(|(index, _)| !refused(index))
    {
        *written.entry(*tenant).or_default() += bytes;
    }
}

/// The system time.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        Time::try_from(since.as_micros()).unwrap_or(Time::MAX)
    })
}

/// Number of points of a write.
#[derive(Clone, Copy, Debug)]
enum Count {
    /// Each is stored or refused separately.
    Each(usize),
    /// None is stored if one is refused.
    Whole(usize),
}

/// The result of one write of a transaction. `of_all`: the refused points of the transaction, by
/// their index in it.
fn answer_of(
    of_all: &[(usize, PointRefusal)],
    first: usize,
    count: Count,
    indexes: &[usize],
    mut refused: Vec<Refused>,
) -> WriteOutcome {
    let begin = of_all.partition_point(|(index, _)| *index < first);
    let own = of_all[begin..].iter();
    for (index, refusal) in own.take_while(|(index, _)| *index < first + indexes.len()) {
        let (index, refusal) = (indexes[index - first], *refusal);
        refused.push(Refused { index, refusal });
    }
    refused.sort_by_key(|refused| refused.index);
    let stored = match count {
        Count::Each(count) => count - refused.len(),
        Count::Whole(count) if refused.is_empty() => count,
        Count::Whole(_) => 0,
    };
    WriteOutcome { stored, refused }
}
