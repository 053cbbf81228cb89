//! The thread that writes for all shards: takes what has come, writes it as one group, syncs,
//! answers each shard, and does a slice of the store's housekeeping.
//!
//! One sync for all that came while the last one ran. A lone record is synced at once; when many
//! come, syncs keep a distance ([`Pace`]), because on a quick disk they would cost more than they
//! bring. What could not be written stays and is tried again, and nothing is answered meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use martlet_broker::{Now, RecordNumber, StoreState};
use martlet_persistence::{ClockState, locate, put_clock};
use martlet_store::{Disk, Engine, Pace, RecordBuffer, StoreError};

use super::durable::Durable;
use super::health::StoreHealth;
use super::inbox::{Inbox, PageRead, StoreInput, StoreQuestion};
use super::interface::{Durability, PinnedFiles};
use super::reading::Page;
use super::syncing::Syncing;

/// Records that take long enough to apply that waking another thread pays. It does not apply where
/// a message is to be read: its place is known only after that.
const BESIDE_RECORDS: u64 = 384;

/// Time after which records that are not waited for are synced.
const UNAWAITED: Duration = Duration::from_millis(5);

/// Time until a failed write or sync is tried again: at first, and at most.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// Bytes of a slice of housekeeping while records come, and while none come.
const BUSY_SLICE_BYTES: usize = 64 << 10;
const IDLE_SLICE_BYTES: usize = 256 << 10;

/// Time without records after which the node is at rest: the log is sealed, so that later damage to
/// its end can be told from a torn write, and sparse segments are cleaned up.
const SEAL_AFTER: Duration = Duration::from_secs(1);

/// Interval at which a full disk is checked for space.
const LOW_LOOK: Duration = Duration::from_millis(200);

/// How often the time is recorded, so that a start knows how long the node has run.
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// How long the end of the node waits for a disk that does not write.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a shard has appended and been told.
#[derive(Debug)]
struct Appended {
    answer: Durable,
    taken: RecordNumber,
    written: RecordNumber,
    answered: RecordNumber,
}

/// How it is to write.
pub(super) struct WriterSettings {
    pub(super) durability: Durability,
    /// Approximate bytes of a group, at most, so that the last segment of a full disk is noticed
    /// before it is full itself, and room is left for records that end others.
    pub(super) group_bytes: usize,
    /// Tells the time.
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
    /// When the time is recorded again.
    clock_due: Instant,
    shards: Vec<Appended>,
    /// Taken from the inbox and not yet part of a group.
    parts: VecDeque<StoreInput>,
    parts_bytes: usize,
    /// Bytes of memory of the engine's buffers and its index, as the inbox counts them.
    held_bytes: usize,
    /// Emptied, to be filled again.
    spare_parts: Vec<StoreInput>,
    /// Wishes that wait for what was appended before them to be written.
    reads: Vec<PageRead>,
    questions: Vec<StoreQuestion>,
    /// Something was written and not synced.
    is_unsynced: bool,
    /// Whether a client waits for that, or for what is about to be written.
    is_awaited: bool,
    last_sync: Instant,
    retry: Option<Retry>,
    /// Housekeeping has more to do.
    has_work: bool,
    work_after: Instant,
    /// Since when nothing has come, unless the log is sealed and all is tidy.
    idle_since: Option<Instant>,
}

/// A disk that does not write.
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
        let nothing = RecordNumber(0);
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
            is_unsynced: false,
            is_awaited: false,
            last_sync: now,
            retry: None,
            has_work: true,
            work_after: now,
            idle_since: Some(now),
        }
    }

    /// Works until nothing more comes; then writes what is left.
    pub(super) fn run(mut self) {
        while !self.tick() {}
        self.end();
    }

    /// One group; true when nothing more will come.
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

    /// Waits for more records behind a group of `came` records, where that pays.
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

    /// Until when to wait for records; none is for ever.
    fn wake_at(&self) -> Option<Instant> {
        let interval = self.is_unsynced.then(|| self.last_sync + self.sync_after());
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
        ];
        times.into_iter().flatten().min()
    }

    /// Makes the next group of what has come; how many records that is.
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
        // The log is sealed behind it too.
        self.idle_since = Some(Instant::now());
    }

    /// Writes and, when it is time, syncs; answers. True if nothing is left to be done.
    fn commit(&mut self, now: bool) -> bool {
        match self.try_commit(now) {
            Ok(()) => {
                if self.retry.take().is_some() {
                    self.health.works();
                }
                self.engine.staged_bytes() == 0 && !(now && self.is_unsynced)
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
            self.is_unsynced = true;
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
        if self.is_unsynced && (is_awaited || self.last_sync.elapsed() >= self.sync_after()) {
            self.last_sync = Instant::now();
            self.engine.sync()?;
            self.is_unsynced = false;
        }
        if !self.is_unsynced {
            self.is_awaited = false;
            self.answer();
        }
        Ok(())
    }

    /// As [`Writing::try_commit`], but another thread syncs while the group takes effect.
    fn commit_beside(&mut self) -> Result<(), StoreError> {
        self.last_sync = Instant::now();
        let syncing = &self.syncing;
        self.engine
            .write_and_sync(|work, apply| syncing.sync(work, apply))?;
        self.is_unsynced = false;
        for shard in &mut self.shards {
            shard.written = shard.taken;
        }
        self.is_awaited = false;
        self.answer();
        Ok(())
    }

    /// How long after the last sync records that are not waited for are synced.
    fn sync_after(&self) -> Duration {
        match self.how.durability {
            Durability::Interval { ms } => Duration::from_millis(ms),
            Durability::Sync | Durability::Memory => UNAWAITED,
        }
    }

    /// Tells each shard how far it has come: one wakeup for a shard and group. Counted first: who
    /// has an answer finds it counted.
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

    /// Sends wishes on to the thread that reads. With `all`, everything before them is written;
    /// else only those are served whose messages all are: who takes messages off a full disk makes
    /// room.
    fn serve_reads(&mut self, all: bool) {
        for wish in std::mem::take(&mut self.reads) {
            let located = locate(&self.engine, &wish.read.messages);
            if !all && !located.is_complete() {
                self.reads.push(wish);
                continue;
            }
            // The thread that reads ends only with this one.
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
            // Who asked may have given up.
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
            // There may be something to do that was left for now.
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

    /// The node ends: all is to be on the disk.
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
