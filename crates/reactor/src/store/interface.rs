//! Interface of a store to a node.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Now, ShardId, Share, StoreState, TenantId};
use martlet_persistence::{RestoreError, RestoreReport, Shards};
use martlet_tick::Storage;

use super::durable::Durable;
use super::health::StoreHealth;
use crate::node::SharedNode;

/// When a record counts as durable and is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A record is durable when it is synced: a power failure does not lose it.
    Sync,
    /// A record is durable when it is written to the system, which syncs at intervals. A power
    /// failure loses the last moments; a crash of the process loses nothing.
    Interval {
        /// Interval of syncs, in milliseconds.
        ms: u64,
    },
    /// A record is durable at once. Nothing is written, and a restart begins with an empty store.
    Memory,
}

/// Limits of a store, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StoreRoom {
    /// Approximate limit of its files; 0 means all free space.
    pub disk: u64,
    /// The node's memory. Pending writes may use a part of it.
    pub memory: usize,
    /// Share that a tenant may have of the store.
    pub tenant_share: Share,
}

/// Data that a start has restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Report of opening the store.
    pub opened: martlet_store::Report,
    /// Descriptions of the damage found.
    pub damage: Vec<String>,
    /// Report of restoring the shards.
    pub restored: RestoreReport,
    /// Time from the beginning of opening until the shards were ready.
    pub took: Duration,
}

/// The files of a store at one moment. They stay unchanged until this is dropped.
pub struct PinnedFiles {
    /// Name of each file, and how many of its bytes belong to the copy.
    pub files: Vec<(String, u64)>,
    /// Keeps the files.
    pub pin: Box<dyn Any + Send>,
}

impl fmt::Debug for PinnedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedFiles").field(&self.files).finish()
    }
}

/// Interface of a store to the start of a node.
pub trait Store: fmt::Debug + Send {
    /// Creates the writer for one shard. It answers through `durable` when it cannot answer at
    /// once.
    fn writer(&mut self, shard: ShardId, durable: Durable) -> Box<dyn Writer>;

    /// Restores stored state into new shards. Returns `None` if the store is never persistent.
    ///
    /// # Errors
    /// The stored data cannot be read, or a newer program has written it.
    fn restore(&mut self, _: Shards<'_, SharedNode>) -> Result<Option<Restored>, RestoreError> {
        Ok(None)
    }

    /// Starts the store's threads. All shards have their writers and are restored. `clock` returns
    /// the time.
    ///
    /// # Errors
    /// The system cannot create threads.
    fn begin(&mut self, clock: Box<dyn Fn() -> Now + Send>) -> io::Result<()> {
        drop(clock);
        Ok(())
    }

    /// Writes pending records and ends. No shard appends any more.
    fn end(&mut self) {}

    /// Pins the current files of the store, so that they can be copied. Waits for the writing
    /// thread.
    ///
    /// # Errors
    /// There is no store on disk, or the disk failed; as text.
    fn pin(&self) -> Result<PinnedFiles, String> {
        Err("all data is kept in memory: there is nothing to copy".to_owned())
    }

    /// Contents and disk use; `None` without a store on disk, or if it does not answer.
    fn stats(&self) -> Option<martlet_store::Stats> {
        None
    }

    /// Health of the store; `None` if the store cannot fail.
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

    /// Tenants that have their share of the store, in order. The code that changes them calls
    /// [`Durable::state_changed`] afterwards.
    fn tenants_at_share(&self) -> Arc<[TenantId]> {
        Arc::default()
    }
}
