//! Storage of records. Each reactor has its own [`Writer`]; the writers may share one store.
//!
//! [`DiskStore`] is persistent. One thread writes for all shards (`store/writing.rs`), another
//! syncs (`store/syncing.rs`), a third reads messages back (`store/reading.rs`). A writer that
//! needs time answers from another thread through [`Durable`]; the reactor never waits for it.

mod delayed;
mod disk;
mod durable;
mod health;
mod inbox;
mod interface;
mod memory;
mod reading;
mod syncing;
mod tenant_shares;
mod writing;

use std::path::Path;

use martlet_store::{LimitedDisk, PowerLossDisk};
pub use martlet_tick::Storage;

pub use delayed::DelayedStore;
pub use disk::{DiskStore, StoreOpenError};
pub use durable::Durable;
pub use health::{StoreFailure, StoreHealth, StoreNotice, StoreStatus};
pub use interface::{Durability, PinnedFiles, Restored, Store, StoreRoom, Writer};
pub use memory::MemoryStore;

/// Opens the store in a directory, or a store in memory, depending on `durability`. With
/// `power_loss`, unsynced data is kept in memory only, for crash tests.
///
/// # Errors
/// The directory cannot be used, another process uses it, or its contents cannot be read.
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
