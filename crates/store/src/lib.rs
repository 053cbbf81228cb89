//! The message store's engine: contents of messages (*bodies*), queue entries that refer to them,
//! and keyed *states*, in one segmented log on disk with its index in memory.
//!
//! All contents are opaque: the engine does not know MQTT. It has no thread, no clock and no
//! random source. All I/O goes through [`Disk`], in calls that are documented to do it; a
//! simulator drives it with [`SimDisk`]. Contents with an invalid checksum are reported and never
//! returned.

#![forbid(unsafe_code)]

mod check;
mod checkpoint;
mod contents;
mod disk;
mod engine;
mod error;
mod gaps;
mod identity;
mod index;
mod keep_mark;
mod limited_disk;
mod mark;
mod pace;
mod power_loss_disk;
mod read;
mod real_disk;
mod reclaim;
mod reclaiming;
mod record;
mod recover;
mod repair;
mod report;
mod scan;
mod segment;
mod sim_disk;
mod snapshot;
mod space;
mod stats;

pub use check::{ReadOnly, check, check_with, repair, repair_with, stats};
pub use contents::{EntryView, Pending};
pub use disk::Disk;
pub use engine::{Engine, Options, SyncWork};
pub use error::{OpenError, StoreError};
pub use identity::FORMAT_VERSION;
pub use limited_disk::LimitedDisk;
pub use pace::Pace;
pub use power_loss_disk::{PowerLossDisk, PowerLossFile};
pub use read::{Located, Missing, read_located};
pub use real_disk::{RealDisk, make_directory};
pub use reclaim::Work;
pub use record::{
    BodyId, Holds, Lsn, QueueId, RECORD_BYTES_MAX, RecordBuffer, RecordBuilder, StateKey,
};
pub use report::{Damage, Lost, Report, Torn};
pub use sim_disk::{Call, Failure, Fault, SimDisk, SimFile};
pub use snapshot::{FrozenFiles, files_at_rest};
pub use stats::Stats;
