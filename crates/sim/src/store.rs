//! The storage of records: the production store on a disk in memory, driven like its writer
//! thread, in virtual time.
//!
//! One writer serves all shards and puts their records into one order. A group consists of the
//! records that arrived during the previous sync. It is written at once and synced a while later;
//! some syncs are slow, some fail, alone or all of them for a while. After a crash, the contents of
//! the disk remain.

use martlet_broker::{Now, QueueRead, Record, RecordNumber};
use martlet_persistence::{
    ClockState, FetchedPage, Making, encode, is_retained_owed, locate, put_clock, read_located,
};
use martlet_store::{
    Call, Engine, Failure, Fault, Options, RecordBuffer, Report, SimDisk, Stats, StoreError,
};

use crate::facts::MessageIndex;
use crate::random::Random;
use crate::rot::{self, Rot};

/// Number of a record of the broker in the common order of all shards, from 1.
pub type Lsn = u64;

/// Behaviour of the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreProfile {
    /// Duration of most syncs, microseconds.
    pub sync_us: u64,
    /// One in this number of syncs is slow; 0 is none.
    pub slow_one_in: u64,
    /// Duration of a slow sync, microseconds.
    pub slow_us: u64,
    /// One in this number of writes or syncs fails; 0 is none.
    pub fail_one_in: u64,
    /// Average time between two phases in which every sync fails, microseconds; 0 is none.
    pub failing_every_us: u64,
    /// Average duration of such a phase, microseconds.
    pub failing_us: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments written before a checkpoint is due.
    pub tail_segments: u64,
    /// Budget of housekeeping after a sync, bytes.
    pub housekeep_bytes: usize,
}

/// Fate of unsynced data in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// The process is killed; the system keeps its writes.
    Kill,
    /// A clean stop: everything is written and the store is closed.
    Stop,
    /// Power loss: each unsynced sector is kept, lost or torn.
    Power,
}

/// The store, its disk and its writer.
pub struct Store {
    profile: StoreProfile,
    random: Random,
    disk: SimDisk,
    /// `None` while the node is down.
    engine: Option<Engine<SimDisk>>,
    /// Encoded records that the engine does not have yet.
    incoming: RecordBuffer,
    appended: Lsn,
    durable: Lsn,
    /// The current group: end of its sync, and its last record.
    syncing: Option<(u64, Lsn)>,
    /// Begin and end of the phase in which every sync fails: this one or the next.
    failing: (u64, u64),
    /// Last record that was passed to the engine.
    written: Lsn,
    /// When the time is recorded next, monotonic.
    clock_due_ms: u64,
    /// Whether a bit has flipped.
    rotten: bool,
    /// Whether the last run ended cleanly.
    closed: bool,
    /// Whether a write or sync has failed since the last query.
    failed: bool,
    /// Records of each shard: appended, in the current group, durable.
    shards: Vec<[u64; 3]>,
}

/// Interval at which the time is recorded, milliseconds.
const CLOCK_EVERY_MS: u64 = 60_000;
/// Time until a failed write or sync is retried, microseconds.
const RETRY_US: u64 = 100_000;

impl Store {
    /// A store on an empty disk; it must be opened before use.
    pub fn new(profile: StoreProfile, mut random: Random) -> Self {
        let failing = match profile.failing_every_us {
            0 => (u64::MAX, u64::MAX),
            _ => failing_phase(profile, 0, &mut random),
        };
        Self {
            profile,
            disk: SimDisk::new(random.clone().number()),
            random,
            engine: None,
            incoming: RecordBuffer::new(),
            appended: 0,
            durable: 0,
            syncing: None,
            failing,
            written: 0,
            clock_due_ms: 0,
            rotten: false,
            closed: false,
            failed: false,
            shards: Vec::new(),
        }
    }

    /// Opens the store on the disk.
    ///
    /// # Errors
    /// As text: a store from the last run must always open.
    pub fn open(&mut self) -> Result<(Engine<SimDisk>, Report), String> {
        let opened =
            Engine::open(self.disk.clone(), self.options()).map_err(|error| error.to_string())?;
        let closed = core::mem::take(&mut self.closed);
        if closed && !self.rotten && (opened.1.replayed > 0 || opened.1.torn.is_some()) {
            return Err(format!(
                "after a stop there is something to replay: {:?}",
                opened.1
            ));
        }
        Ok(opened)
    }

    fn options(&self) -> Options {
        Options {
            segment_bytes: self.profile.segment_bytes,
            tail_bytes: self.profile.segment_bytes * self.profile.tail_segments,
            salt: 7,
            ..Options::default()
        }
    }

    /// Flips a bit on the disk while the node is down; returns the messages lost by it.
    ///
    /// # Errors
    /// As text: a broken guarantee about damage.
    pub fn rot(&mut self) -> Result<Vec<MessageIndex>, String> {
        match rot::flip_one(&self.disk, &self.options(), &mut self.random)? {
            Rot::Undone => Ok(Vec::new()),
            Rot::Stays(lost) => {
                self.rotten = true;
                Ok(lost)
            }
        }
    }

    /// Whether a bit has ever flipped on its disk: then damage is found.
    pub fn is_rotten(&self) -> bool {
        self.rotten
    }

    /// Takes the engine after recovery, with the number of each shard's last record; all are
    /// durable.
    pub fn begin(&mut self, engine: Engine<SimDisk>, last: impl Iterator<Item = RecordNumber>) {
        self.engine = Some(engine);
        self.shards = last.map(|number| [number.0; 3]).collect();
    }

    /// Appends a shard's records of one tick; returns the number of the first.
    pub fn append(&mut self, shard: usize, records: &[Record], at: (u64, Now)) -> Lsn {
        let (now_us, now) = at;
        let first = self.appended + 1;
        self.appended += records.len() as u64;
        self.shards[shard][0] += records.len() as u64;
        encode(records, now, &mut self.incoming);
        if self.clock_due_ms <= now.mono_ms {
            self.record_clock(now);
        }
        if self.syncing.is_none() && self.appended > self.durable {
            self.begin_group(now_us);
        }
        first
    }

    fn record_clock(&mut self, now: Now) {
        self.clock_due_ms = now.mono_ms + CLOCK_EVERY_MS;
        put_clock(ClockState::of(now), &mut self.incoming);
    }

    /// End of the current sync.
    pub fn due(&self) -> Option<u64> {
        self.syncing.map(|(due, _)| due)
    }

    /// Handles the end of a sync; returns the durable records to report to each shard.
    pub fn synced(&mut self, now_us: u64) -> Vec<(usize, RecordNumber)> {
        let mut damage = Vec::new();
        let (Some((_, up_to)), Some(engine)) = (self.syncing.take(), &mut self.engine) else {
            return damage;
        };
        self.disk.lift();
        if self.failing.1 <= now_us {
            self.failing = failing_phase(self.profile, now_us, &mut self.random);
        }
        let is_failing = self.failing.0 <= now_us;
        if is_failing {
            self.disk.inject(Fault {
                call: Some(Call::Sync),
                skip: 0,
                failure: Failure::Io,
                once: false,
            });
        } else if self.profile.fail_one_in > 0 && self.random.below(self.profile.fail_one_in) == 0 {
            self.disk.inject(Fault {
                call: Some(self.random.pick(&[Call::Sync, Call::Write])),
                skip: 0,
                failure: self
                    .random
                    .pick(&[Failure::Io, Failure::NoSpace, Failure::ShortWrite]),
                once: true,
            });
        }
        if commit(engine).is_err() {
            if is_failing {
                // As the writer does on a full disk.
                let _ = engine.housekeep(self.profile.housekeep_bytes);
            }
            self.syncing = Some((now_us + RETRY_US, up_to));
            self.failed = true;
            return damage;
        }
        self.durable = up_to;
        if self.appended == self.durable {
            // As when idle; an error here costs only time.
            let _ = engine.seal();
        }
        let _ = engine.housekeep(self.profile.housekeep_bytes);
        for (shard, [_, syncing, durable]) in self.shards.iter_mut().enumerate() {
            if syncing > durable {
                *durable = *syncing;
                damage.push((shard, RecordNumber(*durable)));
            }
        }
        if self.appended > self.durable {
            self.begin_group(now_us);
        }
        damage
    }

    /// Whether a write or sync has failed since the last call.
    pub fn take_failed(&mut self) -> bool {
        core::mem::take(&mut self.failed)
    }

    /// The queues that are not empty, with their number of entries.
    pub fn queued(&self) -> Vec<(u64, u64)> {
        let mut queued = Vec::new();
        if let Some(engine) = &self.engine {
            for queue in engine.queues() {
                let entries = engine.entries(queue);
                queued.extend(entries.map(|entry| (queue.0, entry.body.0)));
            }
        }
        queued
    }

    /// Number of subscriptions that must still get retained messages, by the records.
    pub fn retained_owed(&self) -> usize {
        let keys = self.engine.iter().flat_map(Engine::state_keys);
        keys.filter(|key| is_retained_owed(*key)).count()
    }

    /// Returns the counts and sizes.
    pub fn stats(&self) -> Option<Stats> {
        self.engine.as_ref().map(Engine::stats)
    }

    /// Number of the last appended record.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Number of the last durable record.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Reads messages of a queue back.
    pub fn read(&mut self, read: &QueueRead, making: Making<'_>) -> FetchedPage {
        self.hand_over();
        match &mut self.engine {
            Some(engine) => {
                // The requested messages were appended before; the engine reads only written
                // records.
                if engine.write().is_err() {
                    // A fault occurs only once.
                    let _ = engine.write();
                }
                let located = locate(engine, &read.messages);
                let found = read_located(&self.disk, &[(&located, making)]);
                let pages = found.into_iter().map(|found| found.messages);
                pages.flatten().collect()
            }
            None => Vec::new(),
        }
    }

    /// Crashes the process; unsynced data may or may not remain.
    pub fn crash(&mut self, kind: CrashKind, now: Now) {
        self.disk.lift();
        if kind == CrashKind::Stop {
            self.record_clock(now);
            self.hand_over();
        }
        if let Some(engine) = self.engine.take().filter(|_| kind == CrashKind::Stop) {
            // The disk has no faults now: this cannot fail.
            self.closed = engine.close().is_ok();
        }
        self.incoming.clear();
        self.syncing = None;
        if kind == CrashKind::Power {
            self.disk.crash(self.random.number());
        }
        // Records not durable now are either restored with the store or lost for ever.
        self.durable = self.appended;
        self.written = self.appended;
    }

    /// Disturbances are over: no more slow or failed syncs.
    pub fn heal(&mut self) {
        self.profile.sync_us = 200;
        self.profile.slow_one_in = 0;
        self.profile.fail_one_in = 0;
        self.failing = (u64::MAX, u64::MAX);
    }

    fn hand_over(&mut self) {
        if let Some(engine) = &mut self.engine
            && !self.incoming.is_empty()
        {
            engine.append(&self.incoming);
            self.incoming.clear();
            self.written = self.appended;
        }
    }

    fn begin_group(&mut self, now_us: u64) {
        let profile = self.profile;
        let slow = profile.slow_one_in > 0 && self.random.below(profile.slow_one_in) == 0;
        let mean_us = if slow {
            profile.slow_us
        } else {
            profile.sync_us
        };
        let due = now_us + self.random.around(mean_us);
        self.hand_over();
        if let Some(engine) = &mut self.engine {
            // An error shows again at the sync.
            let _ = engine.write();
        }
        self.syncing = Some((due, self.appended));
        for [appended, syncing, _] in &mut self.shards {
            *syncing = *appended;
        }
    }
}

/// Writes and syncs what the engine has, as the writer does.
fn commit(engine: &mut Engine<SimDisk>) -> Result<(), StoreError> {
    let has_unsynced = engine.has_unsynced();
    engine.write()?;
    match has_unsynced {
        true => engine.sync().map(|_| ()),
        false => Ok(()),
    }
}

/// The next phase in which every sync fails: its begin and end.
fn failing_phase(profile: StoreProfile, after_us: u64, random: &mut Random) -> (u64, u64) {
    let begin_us = after_us + random.around(profile.failing_every_us);
    (begin_us, begin_us + random.around(profile.failing_us))
}
