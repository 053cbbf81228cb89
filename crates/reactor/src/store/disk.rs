//! The store on a disk. It is opened before the node's threads run; afterwards three separate
//! threads use it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use martlet_broker::{
    ListenerPolicy, LostMessage, MemoryGauge, Now, QueueRead, Record, RecordNumber, ShardId, Share,
    StoreState, TenantId,
};
use martlet_persistence::{DamageWords, RestoreError, Shards, encode_up_to, restore, tenant_of};
use martlet_store::{Disk, Engine, OpenError, Options, RealDisk, RecordBuffer, Report, Stats};
use martlet_tick::Storage;

use super::durable::Durable;
use super::health::StoreHealth;
use super::inbox::{BacklogLimits, Inbox, PageRead, StoreQuestion};
use super::interface::{Durability, PinnedFiles, Restored, Store, StoreRoom, Writer};
use super::reading::read_pages;
use super::syncing::syncing;
use super::writing::{WriterSettings, Writing};
use crate::node::SharedNode;
use crate::sys::Entropy;

/// Time limit for the checkpoint at the beginning of a copy.
const PIN_PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for the statistics.
const STATS_PATIENCE: Duration = Duration::from_secs(1);
/// Number of groups that fit into a segment of the maximum size; eight of them fit into a short
/// segment.
const GROUPS_PER_SEGMENT: usize = 32;
/// Approximate bytes of records per handed-over part. Buffers stay small enough to be reused,
/// however many records a tick has.
const PART_BYTES: usize = 256 << 10;
/// Divisors of the maximum segment size and of the node's memory. The smaller quotient is the
/// backlog above which publishers are held back.
const BEHIND_PART: usize = 4;
const BEHIND_PART_OF_MEMORY: usize = 16;
/// Divisors, likewise, for the backlog above which the store counts as stuck.
const STUCK_PART: usize = 2;
const STUCK_PART_OF_MEMORY: usize = 4;

/// Divisor of a limited space: a backlog of this part is long, since the records in it are counted
/// for the share of a tenant only when they are written.
const BEHIND_PART_OF_DISK: u64 = 64;

/// The backlog above which publishers are held back, for this limit of the disk; 0: no limit.
fn behind_of(disk: u64) -> usize {
    match disk {
        0 => usize::MAX,
        disk => usize::try_from(disk / BEHIND_PART_OF_DISK).unwrap_or(usize::MAX),
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreOpenError {
    /// Another process has the store open.
    #[error("the store {0} is in use by another process")]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("cannot open the store {path}")]
    Directory {
        /// Path of the directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The contents cannot be read.
    #[error("cannot open the store {path}")]
    Contents {
        /// Path of the directory.
        path: PathBuf,
        /// The error.
        source: OpenError,
    },
}

/// Keeps records on a disk.
pub struct DiskStore<D: Disk = RealDisk> {
    durability: Durability,
    group_bytes: usize,
    tenant_share: Share,
    inbox: Arc<Inbox>,
    health: Arc<StoreHealth>,
    answers: Vec<Durable>,
    /// The node's listeners.
    listeners: Arc<[Arc<ListenerPolicy>]>,
    opening: Instant,
    opened: Report,
    /// The engine, until the threads take it over.
    engine: Option<Engine<D>>,
    threads: Vec<JoinHandle<()>>,
}

impl<D: Disk> DiskStore<D> {
    /// Opens the store in a directory and locks it. Creates a missing directory. `through` wraps
    /// the directory for the engine. The store may use `room.disk` bytes, or with 0 all free space.
    /// Pending writes may use a part of `room.memory`.
    ///
    /// # Errors
    /// The directory cannot be used, another process uses it, or its contents cannot be read.
    pub fn open(
        directory: &Path,
        durability: Durability,
        room: StoreRoom,
        through: impl FnOnce(RealDisk) -> D,
    ) -> Result<Self, StoreOpenError> {
        let path = || directory.to_owned();
        let disk = RealDisk::open(directory).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreOpenError::InUse(path()),
            _ => StoreOpenError::Directory {
                path: path(),
                source,
            },
        })?;
        let salt = Entropy::open().and_then(|mut entropy| entropy.take());
        let options = Options {
            salt: u64::from_ne_bytes(salt.map_err(|source| StoreOpenError::Directory {
                path: path(),
                source,
            })?),
            disk_bytes_max: room.disk,
            tenant_of: Some(tenant_of),
            ..Options::default()
        };
        let opened = Self::on(through(disk), options, durability, room);
        opened.map_err(|source| StoreOpenError::Contents {
            path: path(),
            source,
        })
    }

    /// Opens the store on a disk. The options have its limit of space.
    ///
    /// # Errors
    /// The contents of the disk cannot be read.
    pub fn on(
        disk: D,
        options: Options,
        durability: Durability,
        room: StoreRoom,
    ) -> Result<Self, OpenError> {
        let opening = Instant::now();
        // When the last spare segment is taken, the shards are notified to hold back. The pending
        // records at that time, and later ones that end messages, must fit into that segment, even
        // if it is short, and into the space that the ballast leaves.
        let segment_bytes = options.segment_bytes as usize;
        let group_bytes = segment_bytes / GROUPS_PER_SEGMENT;
        let (engine, opened) = Engine::open(disk, options)?;
        let inbox = Arc::new(Inbox::new(BacklogLimits {
            behind: (segment_bytes / BEHIND_PART)
                .min(room.memory / BEHIND_PART_OF_MEMORY)
                .min(behind_of(room.disk)),
            stuck: (segment_bytes / STUCK_PART).min(room.memory / STUCK_PART_OF_MEMORY),
        }));
        Ok(Self {
            durability,
            group_bytes,
            tenant_share: room.tenant_share,
            health: Arc::new(StoreHealth::new(
                inbox.shown_state(),
                inbox.shown_held_bytes(),
            )),
            inbox,
            answers: Vec::new(),
            listeners: Arc::default(),
            opening,
            opened,
            engine: Some(engine),
            threads: Vec::new(),
        })
    }
}

impl<D> Store for DiskStore<D>
where
    D: Disk + Clone + Send + 'static,
    D::File: Send + Sync,
{
    fn writer(&mut self, shard: ShardId, durable: Durable) -> Box<dyn Writer> {
        debug_assert_eq!(usize::from(shard.0), self.answers.len(), "in their order");
        self.answers.push(durable.clone());
        Box::new(DiskWriter {
            shard,
            inbox: Arc::clone(&self.inbox),
            health: Arc::clone(&self.health),
            buffer: RecordBuffer::new(),
            durable,
        })
    }

    fn restore(
        &mut self,
        shards: Shards<'_, SharedNode>,
    ) -> Result<Option<Restored>, RestoreError> {
        let Some(engine) = &mut self.engine else {
            return Ok(None);
        };
        let mut words = DamageWords::default();
        let damage = self.opened.damage.iter();
        let damage = damage
            .map(|damage| words.describe(engine, damage))
            .collect();
        self.listeners = Arc::clone(&shards.listeners);
        let restored = restore(engine, shards)?;
        // If the disk is full, it waits for room like other writes.
        if let Err(error) = engine.settle() {
            self.health.failed(&error);
        }
        Ok(Some(Restored {
            opened: self.opened.clone(),
            damage,
            restored,
            took: self.opening.elapsed(),
        }))
    }

    fn begin(&mut self, clock: Box<dyn Fn() -> Now + Send>) -> io::Result<()> {
        let Some(engine) = self.engine.take() else {
            return Ok(());
        };
        let (pages_in, pages) = unbounded();
        let (disk, health) = (engine.disk().clone(), Arc::clone(&self.health));
        let listeners = Arc::clone(&self.listeners);
        self.spawn("martlet-read", move || {
            read_pages(&disk, &pages, &listeners, &health);
        })?;
        let (syncing, works) = syncing();
        let disk = engine.disk().clone();
        self.spawn("martlet-sync", move || works.run(&disk))?;
        let writing = Writing::new(
            engine,
            syncing,
            Arc::clone(&self.inbox),
            Arc::clone(&self.health),
            pages_in,
            std::mem::take(&mut self.answers),
            WriterSettings {
                durability: self.durability,
                group_bytes: self.group_bytes,
                tenant_share: self.tenant_share,
                clock,
            },
        );
        self.spawn("martlet-write", move || writing.run())
    }

    fn end(&mut self) {
        self.inbox.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process.
            let _ = thread.join();
        }
    }

    fn pin(&self) -> Result<PinnedFiles, String> {
        let (sender, answer) = mpsc::channel();
        self.inbox.ask(StoreQuestion::Pin(sender));
        answer
            .recv_timeout(PIN_PATIENCE)
            .unwrap_or_else(|_| Err("the store does not answer".to_owned()))
    }

    fn stats(&self) -> Option<Stats> {
        let (sender, answer) = mpsc::channel();
        self.inbox.ask(StoreQuestion::Stats(sender));
        answer.recv_timeout(STATS_PATIENCE).ok()
    }

    fn health(&self) -> Option<Arc<StoreHealth>> {
        Some(Arc::clone(&self.health))
    }
}

impl<D: Disk> DiskStore<D> {
    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(move || {
            let _guard = EndsTheProcess;
            work();
        })?);
        Ok(())
    }
}

impl<D: Disk> fmt::Debug for DiskStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// Ends the process when a thread of the store panics. Without that thread the node could never
/// acknowledge anything. The service manager restarts it. The panic itself has already been logged.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

struct DiskWriter {
    shard: ShardId,
    inbox: Arc<Inbox>,
    health: Arc<StoreHealth>,
    buffer: RecordBuffer,
    durable: Durable,
}

impl DiskWriter {
    fn give(&mut self, records: RecordBuffer, last: RecordNumber, awaited: bool) {
        let given = self.inbox.give_records(self.shard, records, last, awaited);
        self.buffer = given.spare;
        if given.is_worse {
            self.durable.state_changed();
        }
    }
}

impl Storage for DiskWriter {
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        awaited: bool,
    ) -> Option<RecordNumber> {
        let mut rest = records;
        loop {
            let count = encode_up_to(PART_BYTES, rest, now, &mut self.buffer);
            rest = &rest[count..];
            let full = std::mem::take(&mut self.buffer);
            if rest.is_empty() {
                self.give(full, last, awaited);
                return None;
            }
            let up_to = RecordNumber(last.0 - rest.len() as u64);
            self.give(full, up_to, awaited);
        }
    }

    fn read_back(&mut self, reads: &mut Vec<QueueRead>, now: Now, gauge: Arc<MemoryGauge>) {
        for read in reads.drain(..) {
            self.inbox.give_read(PageRead {
                shard: self.shard,
                read,
                now,
                gauge: Arc::clone(&gauge),
            });
        }
    }

    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        for LostMessage {
            id,
            waited_for,
            why,
        } in lost.drain(..)
        {
            // Names from outside are quoted.
            self.health.unreadable(format!(
                "message {:#x}, which waited for {waited_for:?}: {why}",
                id.0
            ));
        }
    }
}

impl Writer for DiskWriter {
    fn state(&self) -> StoreState {
        self.inbox.store_state()
    }

    fn tenants_at_share(&self) -> Arc<[TenantId]> {
        self.health.tenants_at_share()
    }
}
