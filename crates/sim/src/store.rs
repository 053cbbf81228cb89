//! Where records go: the real store on a disk that lives in memory, driven as its writer thread
//! does, in virtual time.
//!
//! One writer serves all shards and puts their records into one order. Each group, being what came
//! in while the one before it was synced, is written at once and synced a while later; some syncs
//! are slow, some fail. A crash leaves what the disk leaves.

use martlet_broker::{Now, QueueRead, Record, RecordNumber};
use martlet_persistence::{
    ClockState, FetchedPage, Making, encode, is_retained_owed, locate, put_clock, read_located,
};
use martlet_store::{Call, Engine, Failure, Fault, Options, RecordBuffer, Report, SimDisk, Stats};

use crate::facts::MessageIndex;
use crate::random::Random;
use crate::rot::{self, Rot};

/// The place of a record of the broker in the one order of all shards, from 1.
pub type Lsn = u64;

/// How the store behaves.
#[derive(Clone, Copy, Debug)]
pub struct StoreProfile {
    /// How long most syncs take, microseconds.
    pub sync_us: u64,
    /// One sync in this number is slow; 0 is none.
    pub slow_one_in: u64,
    /// Time of a slow sync, microseconds.
    pub slow_us: u64,
    /// One write or sync in this number fails; 0 is none.
    pub fail_one_in: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments written before a checkpoint is due.
    pub tail_segments: u64,
    /// What housekeeping reads or writes after a sync, bytes.
    pub housekeep_bytes: usize,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// The process is gone; what it has written the system keeps.
    Kill,
    /// It was told to stop: all is written and the store is closed.
    Stop,
    /// Power is gone: of what was not synced each sector is kept, lost or torn.
    Power,
}

/// The store, its disk and its writer.
pub struct Store {
    profile: StoreProfile,
    random: Random,
    disk: SimDisk,
    /// None while the node is down.
    engine: Option<Engine<SimDisk>>,
    /// Encoded, and not yet handed to the engine.
    incoming: RecordBuffer,
    appended: Lsn,
    durable: Lsn,
    /// The group under way: when its sync is done, and up to which record.
    syncing: Option<(u64, Lsn)>,
    /// The engine has been told of all up to this record.
    written: Lsn,
    /// The time is recorded next then, monotonic.
    clock_due_ms: u64,
    /// A bit has flipped.
    rotten: bool,
    /// The last run ended in good order.
    closed: bool,
    /// A write or sync has failed since this was last asked.
    failed: bool,
    /// Records of each shard: appended, in the group under way, durable.
    shards: Vec<[u64; 3]>,
}

/// Interval at which the time is recorded, milliseconds.
const CLOCK_EVERY_MS: u64 = 60_000;
/// Time until a failed write or sync is tried again, microseconds.
const RETRY_US: u64 = 100_000;

impl Store {
    /// A store on an empty disk; it is opened before it is used.
    pub fn new(profile: StoreProfile, random: Random) -> Self {
        Self {
            profile,
            disk: SimDisk::new(random.clone().number()),
            random,
            engine: None,
            incoming: RecordBuffer::new(),
            appended: 0,
            durable: 0,
            syncing: None,
            written: 0,
            clock_due_ms: 0,
            rotten: false,
            closed: false,
            failed: false,
            shards: Vec::new(),
        }
    }

    /// Opens what the disk has.
    ///
    /// # Errors
    /// In words: a store that the last run left must always open.
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

    /// A bit flips on the disk while the node is down; answers which messages are lost by it.
    ///
    /// # Errors
    /// In words: a promise about damage that was broken.
    pub fn rot(&mut self) -> Result<Vec<MessageIndex>, String> {
        match rot::flip_one(&self.disk, &self.options(), &mut self.random)? {
            Rot::Undone => Ok(Vec::new()),
            Rot::Stays(lost) => {
                self.rotten = true;
                Ok(lost)
            }
        }
    }

    /// A bit has flipped on its disk once: damage is found.
    pub fn is_rotten(&self) -> bool {
        self.rotten
    }

    /// The engine after recovery, with the number of each shard's last record, all of them durable.
    pub fn begin(&mut self, engine: Engine<SimDisk>, last: impl Iterator<Item = RecordNumber>) {
        self.engine = Some(engine);
        self.shards = last.map(|number| [number.0; 3]).collect();
    }

    /// Appends a shard's records of one tick; the first gets the number that is answered.
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

    /// When the sync under way is done.
    pub fn due(&self) -> Option<u64> {
        self.syncing.map(|(due, _)| due)
    }

    /// The sync is done, or has failed: which shards are to be told what.
    pub fn synced(&mut self, now_us: u64) -> Vec<(usize, RecordNumber)> {
        let mut damage = Vec::new();
        let (Some((_, up_to)), Some(engine)) = (self.syncing.take(), &mut self.engine) else {
            return damage;
        };
        self.disk.lift();
        if self.profile.fail_one_in > 0 && self.random.below(self.profile.fail_one_in) == 0 {
            self.disk.inject(Fault {
                call: Some(self.random.pick(&[Call::Sync, Call::Write])),
                skip: 0,
                failure: self
                    .random
                    .pick(&[Failure::Io, Failure::NoSpace, Failure::ShortWrite]),
                once: true,
            });
        }
        if engine.write().and_then(|()| engine.sync()).is_err() {
            self.syncing = Some((now_us + RETRY_US, up_to));
            self.failed = true;
            return damage;
        }
        self.durable = up_to;
        if self.appended == self.durable {
            // As in moments of rest; an error in here costs nothing but time.
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

    /// A write or sync has failed since the last call.
    pub fn take_failed(&mut self) -> bool {
        core::mem::take(&mut self.failed)
    }

    /// The queues that are not empty, and what waits in them.
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

    /// How many subscriptions are owed retained messages, by what is recorded.
    pub fn retained_owed(&self) -> usize {
        let keys = self.engine.iter().flat_map(Engine::state_keys);
        keys.filter(|key| is_retained_owed(*key)).count()
    }

    /// What is in it.
    pub fn stats(&self) -> Option<Stats> {
        self.engine.as_ref().map(Engine::stats)
    }

    /// All that was appended.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// All records up to this one are durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Reads messages of a queue back.
    pub fn read(&mut self, read: &QueueRead, making: Making<'_>) -> FetchedPage {
        self.hand_over();
        match &mut self.engine {
            Some(engine) => {
                // What is asked for has been appended before; the engine reads what is written.
                if engine.write().is_err() {
                    // A fault strikes once.
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

    /// The process ends as it stands; what was written since the last sync may or may not be there.
    pub fn crash(&mut self, kind: CrashKind, now: Now) {
        self.disk.lift();
        if kind == CrashKind::Stop {
            self.record_clock(now);
            self.hand_over();
        }
        if let Some(engine) = self.engine.take().filter(|_| kind == CrashKind::Stop) {
            // The disk is well: nothing can fail.
            self.closed = engine.close().is_ok();
        }
        self.incoming.clear();
        self.syncing = None;
        if kind == CrashKind::Power {
            self.disk.crash(self.random.number());
        }
        // What is not durable now either comes back with the store or never will.
        self.durable = self.appended;
        self.written = self.appended;
    }

    /// Disturbances are over: no sync is slow or fails any more.
    pub fn heal(&mut self) {
        self.profile.sync_us = 200;
        self.profile.slow_one_in = 0;
        self.profile.fail_one_in = 0;
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
            // An error is seen again when it is synced.
            let _ = engine.write();
        }
        self.syncing = Some((due, self.appended));
        for [appended, syncing, _] in &mut self.shards {
            *syncing = *appended;
        }
    }
}
