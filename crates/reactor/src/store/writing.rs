//! The thread that writes for all shards: takes the pending records, writes them as one group,
//! syncs, answers each shard, and does a slice of the store's housekeeping.
//!
//! One sync covers all records that arrived during the previous sync. A lone record is synced at
//! once. Under load, syncs keep a minimum distance ([`Pace`]), because on a fast disk more syncs
//! would cost more than they gain. A group that cannot be written is retried; until then no shard
//! gets an answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use martlet_broker::{Now, RecordNumber, Share, StoreState};
use martlet_persistence::{ClockState, locate, put_clock};
use martlet_store::{Disk, Engine, Pace, RecordBuffer, StoreError};

use super::durable::Durable;
use super::health::StoreHealth;
use super::inbox::{Inbox, PageRead, StoreInput, StoreQuestion};
use super::interface::{Durability, PinnedFiles};
use super::reading::Page;
use super::syncing::Syncing;
use super::tenant_shares::TenantShares;

/// Number of records from which a second thread is woken to sync while they are applied. Not used
/// if a message is to be read: its position is known only after applying.
const BESIDE_RECORDS: u64 = 384;

/// Time after which records without a waiting client are synced.
const UNAWAITED: Duration = Duration::from_millis(5);

/// Initial and longest time until a failed write or sync is retried.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// Bytes per slice of housekeeping while records arrive, and while none arrive.
const BUSY_SLICE_BYTES: usize = 64 << 10;
const IDLE_SLICE_BYTES: usize = 256 << 10;

/// Idle time after which the log is sealed and sparse segments are cleaned up. In a sealed log,
/// later damage at the end can be distinguished from a torn write.
const SEAL_AFTER: Duration = Duration::from_secs(1);

/// Interval at which a full disk is checked for free space.
const LOW_LOOK: Duration = Duration::from_millis(200);

/// Interval at which the time is recorded. From it, a start determines how long the node has run.
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// Longest time that the shutdown waits for a disk that fails to write.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The records of a shard: appended, written and answered.
#[derive(Debug)]
struct Appended {
    answer: Durable,
    taken: RecordNumber,
    written: RecordNumber,
    answered: RecordNumber,
}

/// Settings of the writing thread.
pub(super) struct WriterSettings {
    pub(super) durability: Durability,
    /// Approximate limit in bytes for a group. A full disk is thus noticed at the beginning of the
    /// last segment, and room is left for records that end messages.
    pub(super) group_bytes: usize,
    /// Share that a tenant may have of the store.
    pub(super) tenant_share: Share,
    /// Returns the current time.
    pub(super) clock: Box<dyn Fn() -> Now + Send>,
}

/// The writing thread.
pub(super) struct Writing<D: Disk> {
    engine: Engine<D>,
    syncing: Syncing<D::File>,
    inbox: Arc<Inbox>,
    health: Arc<StoreHealth>,
    pages: Sender<Page<D::File>>,
    how: WriterSettings,
    pace: Pace,
    /// When the time is recorded next.
    clock_due: Instant,
    shards: Vec<Appended>,
    /// Parts taken from the inbox that belong to no group yet.
    parts: VecDeque<StoreInput>,
    parts_bytes: usize,
    /// Bytes of memory of the engine's buffers and its index, as the inbox counts them.
    held_bytes: usize,
    /// Empty list for reuse.
    spare_parts: Vec<StoreInput>,
    /// Requests that wait until everything appended before them is written.
    reads: Vec<PageRead>,
    questions: Vec<StoreQuestion>,
    /// Whether a client waits for unsynced records, or for those about to be written.
    is_awaited: bool,
    last_sync: Instant,
    retry: Option<Retry>,
    tenants: TenantShares,
    /// Whether housekeeping has more to do.
    has_work: bool,
    work_after: Instant,
    /// Since when no records have arrived; `None` if the log is sealed and housekeeping is done.
    idle_since: Option<Instant>,
}

/// State of retries while the disk fails to write.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    after: Duration,
}

impl<D> Writing<D>
where
    D: Disk,
    D::File: Send + Sync + 'static,
{
    pub(super) fn new(
        engine: Engine<D>,
        syncing: Syncing<D::File>,
        inbox: Arc<Inbox>,
        health: Arc<StoreHealth>,
        pages: Sender<Page<D::File>>,
        answers: Vec<Durable>,
        how: WriterSettings,
    ) -> Self {
        let (nothing, share) = (RecordNumber(0), how.tenant_share);
        let shards = answers.into_iter().map(|answer| Appended {
            answer,
            taken: nothing,
            written: nothing,
            answered: nothing,
        });
        let now = Instant::now();
        Self {
            engine,
            syncing,
            inbox,
            health,
            pages,
            how,
            pace: Pace::new(),
            clock_due: now + CLOCK_EVERY,
            shards: shards.collect(),
            parts: VecDeque::new(),
            parts_bytes: 0,
            held_bytes: 0,
            spare_parts: Vec::new(),
            reads: Vec::new(),
            questions: Vec::new(),
            is_awaited: false,
            last_sync: now,
            retry: None,
            tenants: TenantShares::new(share, now),
            has_work: true,
            work_after: now,
            idle_since: Some(now),
        }
    }

    /// Runs until the inbox has ended, then writes the rest.
    pub(super) fn run(mut self) {
        self.look_at_tenants(Instant::now());
        while !self.tick() {}
        self.end();
    }

    /// Processes one group. Returns true when the inbox has ended.
    fn tick(&mut self) -> bool {
        let until = match self.parts.is_empty() {
            true => self.wake_at(),
            false => Some(Instant::now()),
        };
        let ended = self.inbox.take(&mut self.spare_parts, until);
        for part in self.spare_parts.drain(..) {
            if let StoreInput::Records { records, .. } = &part {
                self.parts_bytes += records.bytes();
            }
            self.parts.push_back(part);
        }
        let came = self.stage();
        let began = Instant::now();
        if self.clock_due <= began && self.retry.is_none() {
            self.record_clock();
        }
        if self.retry.is_none_or(|retry| retry.at <= began) {
            self.commit(false);
        }
        self.answer_questions();
        if self.retry.is_some() {
            self.serve_reads(false);
        }
        self.keep_house(came);
        self.look_at_tenants(began);
        let is_low = self.engine.is_low();
        self.health.is_low(is_low, || self.engine.why_low());
        let unwritten = self.engine.staged_bytes() + self.parts_bytes;
        let low = is_low.then(|| match self.health.is_at_limit() {
            true => StoreState::AtLimit,
            false => StoreState::Full,
        });
        if self.inbox.staged(unwritten, low) {
            self.tell_state();
        }
        let held_bytes = self.engine.buffer_bytes() + self.engine.index_bytes();
        let before = std::mem::replace(&mut self.held_bytes, held_bytes);
        self.inbox.count_held(held_bytes, before);
        if came > 0 && !ended && self.parts.is_empty() {
            self.wait_for_more(came, began);
        }
        ended && self.parts.is_empty()
    }

    /// Tells the shards which tenants have their share of the store, if that has changed.
    fn look_at_tenants(&mut self, now: Instant) {
        if let Some(at_share) = self.tenants.look(&self.engine, now)
            && self.health.set_tenants_at_share(at_share)
        {
            self.tell_state();
        }
    }

    /// Waits for more records after a group of `came` records, if that is worthwhile.
    fn wait_for_more(&mut self, came: usize, began: Instant) {
        let least = self.pace.least(came);
        if least == Duration::ZERO {
            return;
        }
        std::thread::sleep((began + least).saturating_duration_since(Instant::now()));
        while let Some(waiting) = self.inbox.waiting()
            && let Some((enough, until)) = self.pace.longer(waiting)
        {
            self.inbox.gather(enough, began + until);
        }
    }

    fn tell_state(&self) {
        if let Some(shard) = self.shards.first() {
            shard.answer.state_changed();
        }
    }

    /// Until when to wait for records; `None` means no limit.
    fn wake_at(&self) -> Option<Instant> {
        let interval = self
            .engine
            .has_unsynced()
            .then(|| self.last_sync + self.sync_after());
        let staged = self.engine.staged_bytes() > 0;
        let again = match self.retry {
            Some(retry) => Some(retry.at),
            None => staged.then(Instant::now),
        };
        let calm = self.retry.is_none();
        let seal = self.idle_since.map(|since| since + SEAL_AFTER);
        let times = [
            again,
            interval,
            (self.has_work && calm).then_some(self.work_after),
            self.engine.is_low().then(|| Instant::now() + LOW_LOOK),
            seal.filter(|_| !self.has_work && calm),
            calm.then_some(self.clock_due),
            self.tenants.look_at(),
        ];
        times.into_iter().flatten().min()
    }

    /// Forms the next group from the pending records. Returns the number of records.
    fn stage(&mut self) -> usize {
        let mut came = 0;
        while self.engine.staged_bytes() < self.how.group_bytes
            && let Some(part) = self.parts.pop_front()
        {
            match part {
                StoreInput::Records {
                    shard,
                    records,
                    last,
                    awaited,
                } => {
                    self.is_awaited |= awaited;
                    self.parts_bytes -= records.bytes();
                    self.tenants.note(records.bytes());
                    self.engine.append(&records);
                    came += records.count().max(1);
                    self.inbox.give_back(records);
                    self.shards[usize::from(shard.0)].taken = last;
                }
                StoreInput::Read(read) => self.reads.push(read),
                StoreInput::Ask(question) => self.questions.push(question),
            }
        }
        if came > 0 {
            self.idle_since = Some(Instant::now());
        }
        came
    }

    fn record_clock(&mut self) {
        let mut records = RecordBuffer::new();
        put_clock(ClockState::of((self.how.clock)()), &mut records);
        self.engine.append(&records);
        self.clock_due = Instant::now() + CLOCK_EVERY;
        // The log is sealed after these records as well.
        self.idle_since = Some(Instant::now());
    }

    /// Writes, syncs when it is time, and answers. Returns true if nothing is pending.
    fn commit(&mut self, now: bool) -> bool {
        match self.try_commit(now) {
            Ok(()) => {
                if self.retry.take().is_some() {
                    self.health.works();
                }
                self.engine.staged_bytes() == 0 && !(now && self.engine.has_unsynced())
            }
            Err(error) => {
                self.health.failed(&error);
                let after = self.retry.map_or(RETRY_AFTER, |retry| retry.after * 2);
                let after = after.min(RETRY_AFTER_MAX);
                let at = Instant::now() + after;
                self.retry = Some(Retry { at, after });
                false
            }
        }
    }

    fn try_commit(&mut self, now: bool) -> Result<(), StoreError> {
        if self.engine.staged_records() >= BESIDE_RECORDS
            && self.how.durability == Durability::Sync
            && (self.is_awaited || now)
            && self.reads.is_empty()
        {
            return self.commit_beside();
        }
        if self.engine.staged_bytes() > 0 {
            self.engine.write()?;
        }
        for shard in &mut self.shards {
            shard.written = shard.taken;
        }
        self.serve_reads(true);
        let in_intervals = matches!(self.how.durability, Durability::Interval { .. });
        if in_intervals {
            self.answer();
        }
        let is_awaited = self.is_awaited && !in_intervals || now;
        // Housekeeping may have written some of it, and not synced it.
        let is_due = is_awaited || self.last_sync.elapsed() >= self.sync_after();
        if self.engine.has_unsynced() && is_due {
            self.last_sync = Instant::now();
            self.engine.sync()?;
        }
        if !self.engine.has_unsynced() {
            self.is_awaited = false;
            self.answer();
        }
        Ok(())
    }

    /// Like [`Writing::try_commit`], but another thread syncs while the group is applied.
    fn commit_beside(&mut self) -> Result<(), StoreError> {
        self.last_sync = Instant::now();
        let syncing = &self.syncing;
        self.engine
            .write_and_sync(|work, apply| syncing.sync(work, apply))?;
        for shard in &mut self.shards {
            shard.written = shard.taken;
        }
        self.is_awaited = false;
        self.answer();
        Ok(())
    }

    /// Time after the last sync at which records without a waiting client are synced.
    fn sync_after(&self) -> Duration {
        match self.how.durability {
            Durability::Interval { ms } => Duration::from_millis(ms),
            Durability::Sync | Durability::Memory => UNAWAITED,
        }
    }

    /// Notifies each shard up to which record it is durable, with one wakeup per shard and group.
    /// The counters are updated first: after an answer they include its records.
    fn answer(&mut self) {
        let news = |shard: &Appended| shard.written.0 - shard.answered.0;
        let records: u64 = self.shards.iter().map(news).sum();
        if records > 0 {
            self.health.synced(records);
        }
        for shard in &mut self.shards {
            if shard.answered < shard.written {
                shard.answered = shard.written;
                shard.answer.up_to(shard.written);
            }
        }
    }

    /// Passes read requests to the reading thread. With `all`, everything before them is written.
    /// Otherwise serves only requests whose messages are all written: reading messages on a full
    /// disk makes room.
    fn serve_reads(&mut self, all: bool) {
        for wish in std::mem::take(&mut self.reads) {
            let located = locate(&self.engine, &wish.read.messages);
            if !all && !located.is_complete() {
                self.reads.push(wish);
                continue;
            }
            // The reading thread ends only when this one does.
            let _ = self.pages.send(Page {
                owner: wish.read.owner,
                of: wish.read.of,
                located,
                now: wish.now,
                gauge: wish.gauge,
                with_publishers: wish.read.with_publishers,
                answer: self.shards[usize::from(wish.shard.0)].answer.clone(),
            });
        }
    }

    fn answer_questions(&mut self) {
        for question in self.questions.drain(..) {
            // The requester may have given up.
            match question {
                StoreQuestion::Stats(answer) => drop(answer.send(self.engine.stats())),
                StoreQuestion::Pin(answer) => {
                    let pinned = self.engine.snapshot().map(|snapshot| PinnedFiles {
                        files: snapshot.files().to_vec(),
                        pin: Box::new(snapshot),
                    });
                    drop(answer.send(pinned.map_err(|error| error.to_string())));
                }
            }
        }
    }

    fn keep_house(&mut self, came: usize) {
        if self.retry.is_some() && !self.engine.is_low() {
            return;
        }
        let now = Instant::now();
        self.has_work |= came > 0;
        if (self.has_work || self.engine.is_low()) && self.work_after <= now {
            let budget = if came > 0 {
                BUSY_SLICE_BYTES
            } else {
                IDLE_SLICE_BYTES
            };
            match self.engine.housekeep(budget) {
                Ok(work) => {
                    self.has_work = work.more;
                    if work.moved_bytes > 0 {
                        self.idle_since.get_or_insert(now);
                    }
                }
                Err(error) => {
                    self.health.failed(&error);
                    self.work_after = now + RETRY_AFTER_MAX;
                    self.retry.get_or_insert(Retry {
                        at: now + RETRY_AFTER,
                        after: RETRY_AFTER,
                    });
                }
            }
        }
        let is_idle = self
            .idle_since
            .is_some_and(|since| since + SEAL_AFTER <= now);
        if is_idle && !self.has_work && self.retry.is_none() {
            self.idle_since = None;
            // Housekeeping that was postponed may be possible now.
            self.has_work = true;
            if let Err(error) = self.engine.seal() {
                self.health.failed(&error);
                self.retry = Some(Retry {
                    at: now + RETRY_AFTER,
                    after: RETRY_AFTER,
                });
            }
        }
    }

    /// Ends the thread: writes and syncs everything.
    fn end(mut self) {
        let until = Instant::now() + END_PATIENCE;
        self.record_clock();
        while !self.commit(true) {
            if Instant::now() >= until {
                let failure = self.health.status().failure;
                let error = failure.map_or_else(String::new, |failure| failure.error);
                return self.health.unwritten(error);
            }
            if let Some(retry) = self.retry {
                std::thread::sleep(retry.at.saturating_duration_since(Instant::now()));
            }
        }
        if let Err(error) = self.engine.close() {
            self.health.unwritten(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use martlet_store::{Call, Failure, Fault, Options, SimDisk};

    use super::super::inbox::BacklogLimits;
    use super::super::syncing::syncing;
    use super::*;
    use crate::mailbox::Mailboxes;
    use martlet_broker::ShardId;

    fn writing(disk: &SimDisk) -> Writing<SimDisk> {
        let (engine, _) = Engine::open(disk.clone(), Options::default()).unwrap();
        let limits = BacklogLimits {
            behind: 1 << 20,
            stuck: 2 << 20,
        };
        let inbox = Arc::new(Inbox::new(limits));
        let health = StoreHealth::new(inbox.shown_state(), inbox.shown_held_bytes());
        let (mailboxes, _) = Mailboxes::new(&[], 1);
        Writing::new(
            engine,
            syncing().0,
            inbox,
            Arc::new(health),
            crossbeam_channel::unbounded().0,
            vec![Durable::new(ShardId(0), mailboxes)],
            WriterSettings {
                durability: Durability::Sync,
                group_bytes: 1 << 20,
                tenant_share: Share::ALL,
                clock: Box::new(Now::default),
            },
        )
    }

    #[test]
    fn what_housekeeping_has_written_is_answered_only_once_it_is_synced() {
        let disk = SimDisk::new(1);
        let mut writing = writing(&disk);
        let mut records = RecordBuffer::new();
        put_clock(ClockState::of(Now::default()), &mut records);
        writing.parts_bytes = records.bytes();
        writing.parts.push_back(StoreInput::Records {
            shard: ShardId(0),
            records,
            last: RecordNumber(1),
            awaited: true,
        });
        assert_eq!(writing.stage(), 1);
        // A sync has failed before, so that they wait. Meanwhile a sparse segment is reclaimed.
        writing.engine.write().unwrap();
        disk.inject(Fault {
            call: Some(Call::Sync),
            skip: 0,
            failure: Failure::Io,
            once: false,
        });
        assert!(!writing.commit(false));
        assert_eq!(writing.shards[0].answered, RecordNumber(0));
        assert_eq!(writing.engine.durable(), 0);
    }
}
