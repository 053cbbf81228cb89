//! Where records go. Each reactor has a [`Writer`] of its own; the store behind them may be one.
//!
//! [`DiskStore`] keeps what it is given: one thread writes for all shards (`store/writing.rs`),
//! another syncs beside it (`store/syncing.rs`), a third reads messages back (`store/reading.rs`).
//! A writer that needs time answers from another thread through [`Durable`]; the reactor never
//! waits for it.

mod disk;
mod health;
mod inbox;
mod reading;
mod syncing;
mod writing;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use martlet_broker::{Now, ReadPage, Record, RecordNumber, ShardId, StoreState};
use martlet_persistence::{RestoreError, RestoreReport, Shards};
use martlet_store::{LimitedDisk, PowerLossDisk};
pub use martlet_tick::Storage;

use crate::mailbox::{Control, Mailboxes};
use crate::node::SharedNode;

pub use disk::{DiskStore, StoreOpenError};
pub use health::{StoreFailure, StoreHealth, StoreNotice, StoreStatus};

/// Durability of a record, after which it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A record is durable when it is synced: a power cut does not lose it.
    Sync,
    /// A record is durable when it is handed to the system, which is told to sync at intervals: a
    /// power cut loses the last moments, a crash of the process nothing.
    Interval {
        /// Time between two syncs, milliseconds.
        ms: u64,
    },
    /// At once; nothing is written, and a restart begins with nothing.
    Memory,
}

/// What a store may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StoreRoom {
    /// What its files may take, about; 0: all space there is.
    pub disk: u64,
    /// The node's memory: what waits to be written takes a part of it.
    pub memory: usize,
}

/// Opens the store in a directory, or one that keeps nothing, as `durability` says. With
/// `power_loss` what has not been synced is in memory alone, for crash tests.
///
/// # Errors
/// The directory cannot be used, another process uses it, or what is in it cannot be read.
pub fn open_store(
    directory: &Path,
    durability: Durability,
    room: StoreRoom,
    power_loss: bool,
) -> Result<Box<dyn Store>, StoreOpenError> {
    if durability == Durability::Memory {
        return Ok(Box::new(MemoryStore));
    }
    Ok(match power_loss {
        false => Box::new(DiskStore::open(directory, durability, room, |disk| {
            LimitedDisk::new(disk, room.disk)
        })?),
        true => Box::new(DiskStore::open(directory, durability, room, |disk| {
            LimitedDisk::new(PowerLossDisk::new(disk), room.disk)
        })?),
    })
}

/// What a start has brought back.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What opening the store found.
    pub opened: martlet_store::Report,
    /// The damage among it, in words.
    pub damage: Vec<String>,
    /// What the shards have got back.
    pub restored: RestoreReport,
    /// Time from the beginning of opening until the shards were ready.
    pub took: Duration,
}

/// The files of a store of one moment, which stay as they are until this is dropped.
pub struct PinnedFiles {
    /// Name of each, and how many of its bytes belong to it.
    pub files: Vec<(String, u64)>,
    /// Keeps them.
    pub pin: Box<dyn Any + Send>,
}

impl fmt::Debug for PinnedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedFiles").field(&self.files).finish()
    }
}

/// A store, as the start of a node sees it.
pub trait Store: fmt::Debug + Send {
    /// A writer for one shard, which answers through `durable` whatever it cannot answer at once.
    fn writer(&mut self, shard: ShardId, durable: Durable) -> Box<dyn Writer>;

    /// Brings back what was stored before, into shards that are new; none if nothing ever is
    /// stored.
    ///
    /// # Errors What is stored cannot be read, or a newer program has written it.
    fn restore(&mut self, _: Shards<'_, SharedNode>) -> Result<Option<Restored>, RestoreError> {
        Ok(None)
    }

    /// Begins to work: all shards have their writers and are restored. `clock` tells the time.
    ///
    /// # Errors
    /// The system gives no threads.
    fn begin(&mut self, clock: Box<dyn Fn() -> Now + Send>) -> io::Result<()> {
        drop(clock);
        Ok(())
    }

    /// No shard appends any more: writes what is left and ends.
    fn end(&mut self) {}

    /// Pins the files of the store as it is, so that they can be copied. Waits for the thread that
    /// writes.
    ///
    /// # Errors
    /// Nothing is kept on a disk, or the disk does not take it; in words.
    fn pin(&self) -> Result<PinnedFiles, String> {
        Err("all is kept in memory: there is nothing to copy".to_owned())
    }

    /// What it holds and takes; none if nothing is kept on a disk, or it does not answer.
    fn stats(&self) -> Option<martlet_store::Stats> {
        None
    }

    /// How it is doing; none if nothing can go wrong.
    fn health(&self) -> Option<Arc<StoreHealth>> {
        None
    }
}

/// Takes the records of one shard. Does not block. Reads are answered through
/// [`Durable::messages_read`].
pub trait Writer: Storage + Send {
    /// State of the store. The code that changes it calls [`Durable::state_changed`] afterwards.
    fn state(&self) -> StoreState {
        StoreState::KeepsUp
    }
}

/// The way of a store's answers to one shard.
#[derive(Clone, Debug)]
pub struct Durable {
    shard: ShardId,
    mailboxes: Arc<Mailboxes>,
}

impl Durable {
    pub(crate) fn new(shard: ShardId, mailboxes: Arc<Mailboxes>) -> Self {
        Self { shard, mailboxes }
    }

    /// All records of the shard up to number `up_to` are durable.
    pub fn up_to(&self, up_to: RecordNumber) {
        self.mailboxes.durable(self.shard, up_to);
    }

    /// Messages that were asked for.
    pub fn messages_read(&self, page: ReadPage) {
        self.mailboxes
            .control(self.shard, Control::MessagesRead(page));
    }

    /// What [`Writer::state`] says has changed, for all shards.
    pub fn state_changed(&self) {
        for shard in 0..self.mailboxes.shard_count() {
            self.mailboxes.control(ShardId(shard), Control::StoreState);
        }
    }
}

/// Keeps nothing: what the shards hold in memory is all there is, and it is as durable as that.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn writer(&mut self, _: ShardId, _: Durable) -> Box<dyn Writer> {
        Box::new(MemoryWriter)
    }
}

#[derive(Debug)]
struct MemoryWriter;

impl Writer for MemoryWriter {}

impl Storage for MemoryWriter {
    fn append(
        &mut self,
        _: &[Record],
        last: RecordNumber,
        _: Now,
        _: bool,
    ) -> Option<RecordNumber> {
        Some(last)
    }
}

/// As [`MemoryStore`], but each answer comes later, by a delay, from another thread: for tests of
/// what waits for a store.
#[derive(Clone, Copy, Debug)]
pub struct DelayedStore {
    /// Time until a record is durable.
    pub delay: Duration,
}

impl Store for DelayedStore {
    fn writer(&mut self, _: ShardId, durable: Durable) -> Box<dyn Writer> {
        let (sender, receiver) = mpsc::channel();
        let delay = self.delay;
        thread::spawn(move || answer_later(&receiver, &durable, delay));
        Box::new(DelayedWriter { sender })
    }
}

struct DelayedWriter {
    sender: mpsc::Sender<(Instant, RecordNumber)>,
}

impl Writer for DelayedWriter {}

impl Storage for DelayedWriter {
    fn append(
        &mut self,
        _: &[Record],
        last: RecordNumber,
        _: Now,
        _: bool,
    ) -> Option<RecordNumber> {
        // The thread ends only with this sender.
        let _ = self.sender.send((Instant::now(), last));
        None
    }
}

fn answer_later(
    receiver: &mpsc::Receiver<(Instant, RecordNumber)>,
    durable: &Durable,
    delay: Duration,
) {
    while let Ok((appended, last)) = receiver.recv() {
        let wait = (appended + delay).saturating_duration_since(Instant::now());
        thread::sleep(wait);
        durable.up_to(last);
    }
}
