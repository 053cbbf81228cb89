//! The message store's engine: contents of messages (*bodies*), queue entries that refer to them, and
//! keyed *states*, in one segmented log on disk with its index in memory.
//!
//! Everything is opaque: the engine knows no MQTT. It has no thread, no clock and no random source, and
//! does all I/O through [`Disk`], in calls that say so; a simulator drives it with [`SimDisk`]. What a
//! checksum does not confirm is named and never served.

#![forbid(unsafe_code)]

mod disk;
mod real_disk;
mod record;
mod sim_disk;

pub use disk::Disk;
pub use real_disk::RealDisk;
pub use record::{
    BodyId, Holds, Lsn, QueueId, RECORD_BYTES_MAX, RecordBuffer, RecordBuilder, StateKey,
};
pub use sim_disk::{Call, Failure, Fault, SimDisk, SimFile};
