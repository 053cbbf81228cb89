//! The message store, as operators see it: whether it keeps up, what it takes, and a copy of it.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use martlet_broker::TenantId;

/// How the store is, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// Since when writes have been failing, in seconds, and why; none: they succeed.
    pub failing: Option<(u64, String)>,
    /// Reason why there is no more space; none if there is. What ends messages can still be
    /// written.
    pub low: Option<String>,
    /// That is because of `limits.store_bytes`.
    pub is_at_limit: bool,
    /// Tenants that have their share of it, in order: publishers of messages to be stored are held
    /// back.
    pub at_share: Arc<[TenantId]>,
    /// The backlog of writes is so long that publishers of messages to be stored are held back.
    pub behind: bool,
    /// Messages that could not be read back since the start.
    pub unreadable: u64,
    /// Groups of records written and synced since the start.
    pub syncs: u64,
    /// Records in them.
    pub records: u64,
}

/// Sizes of what the store holds and takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes of records that wait to be written.
    pub waiting_bytes: u64,
    /// Bytes on the disk, with what is free in its files.
    pub disk_bytes: u64,
    /// Bytes of messages and states that are needed.
    pub live_bytes: u64,
    /// Messages, each stored once.
    pub messages: u64,
    /// Messages in queues and in flight.
    pub entries: u64,
    /// Bytes of messages that all tenants may store together; none: it is not known.
    pub shared_bytes: Option<u64>,
    /// Tenants with stored messages, and the bytes of these.
    pub tenants: Vec<(u32, u64)>,
}

/// The files of a store of one moment, which stay as they are until this is dropped.
pub struct PinnedStore {
    /// Where they lie.
    pub directory: PathBuf,
    /// Name of each, and how many of its bytes belong to it.
    pub files: Vec<(String, u64)>,
    /// Keeps them.
    pub pin: Box<dyn Any + Send>,
}

impl fmt::Debug for PinnedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedStore")
            .field("directory", &self.directory)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
