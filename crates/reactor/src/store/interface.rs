//! A store, as a node sees it.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Now, ShardId, StoreState};
use martlet_persistence::{RestoreError, RestoreReport, Shards};
use martlet_tick::Storage;

use super::durable::Durable;
use super::health::StoreHealth;
use crate::node::SharedNode;

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
