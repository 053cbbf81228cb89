//! Where records go: one writer for all shards, which puts them into one order and answers later
//! which of them are durable.
//!
//! This one keeps nothing but the count: it delays, so that all that must wait for a record is seen
//! to wait. Groups are synced as the real one does, each group being what came in while the one
//! before it was synced; some syncs are slow.

use martlet_broker::{Record, RecordNumber};

use crate::random::Random;

/// The place of a record in the one order of all shards, from 1.
pub type Lsn = u64;

/// How long syncs take, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct StoreProfile {
    /// Most syncs.
    pub sync_us: u64,
    /// One sync in so many is slow; 0 is none.
    pub slow_one_in: u64,
    /// How long that one takes.
    pub slow_us: u64,
}

/// The records of all shards, as far as anybody needs to know.
#[derive(Debug)]
pub struct Store {
    profile: StoreProfile,
    random: Random,
    appended: Lsn,
    durable: Lsn,
    /// The sync under way: when it is done, and up to which record.
    syncing: Option<(u64, Lsn)>,
    /// Records of each shard: appended, in the sync under way, durable.
    shards: Vec<[u64; 3]>,
}

impl Store {
    /// A store for that many shards.
    pub fn new(profile: StoreProfile, random: Random, shards: usize) -> Self {
        Self {
            profile,
            random,
            appended: 0,
            durable: 0,
            syncing: None,
            shards: vec![[0; 3]; shards],
        }
    }

    /// Appends a shard's records of one tick; the first gets the number that is answered.
    pub fn append(&mut self, shard: usize, records: &[Record], now_us: u64) -> Lsn {
        let first = self.appended + 1;
        self.appended += records.len() as u64;
        self.shards[shard][0] += records.len() as u64;
        if self.syncing.is_none() && !records.is_empty() {
            self.begin_sync(now_us);
        }
        first
    }

    /// When the sync under way is done.
    pub fn due(&self) -> Option<u64> {
        self.syncing.map(|(due, _)| due)
    }

    /// The sync is done: which shards are to be told what.
    pub fn synced(&mut self, now_us: u64) -> Vec<(usize, RecordNumber)> {
        let mut told = Vec::new();
        let Some((_, up_to)) = self.syncing.take() else {
            return told;
        };
        self.durable = up_to;
        for (shard, [_, syncing, durable]) in self.shards.iter_mut().enumerate() {
            if syncing > durable {
                *durable = *syncing;
                told.push((shard, RecordNumber(*durable)));
            }
        }
        if self.appended > self.durable {
            self.begin_sync(now_us);
        }
        told
    }

    /// Disturbances are over: no sync is slow any more.
    pub fn heal(&mut self) {
        self.profile = StoreProfile {
            sync_us: 200,
            slow_one_in: 0,
            slow_us: 0,
        };
    }

    /// All records up to this one are durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    fn begin_sync(&mut self, now_us: u64) {
        let profile = self.profile;
        let slow = profile.slow_one_in > 0 && self.random.below(profile.slow_one_in) == 0;
        let mean_us = if slow {
            profile.slow_us
        } else {
            profile.sync_us
        };
        let due = now_us + self.random.around(mean_us);
        self.syncing = Some((due, self.appended));
        for [appended, syncing, _] in &mut self.shards {
            *syncing = *appended;
        }
    }
}
