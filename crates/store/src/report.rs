//! What opening or checking a store found, in words and numbers.

use crate::record::{BodyId, Lsn, QueueId, StateKey};
use std::fmt;

/// What opening a store found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Places that do not check, though they were synced once.
    pub damage: Vec<Damage>,
    /// Where the log was cut: what lay behind was never synced, so never promised.
    pub torn: Option<Torn>,
    /// Bodies.
    pub bodies: usize,
    /// Queue entries.
    pub entries: usize,
    /// Queues that are not empty.
    pub queues: usize,
    /// States.
    pub states: usize,
    /// Records replayed after the checkpoint.
    pub replayed: u64,
}

/// A torn end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub file: String,
    /// From where on it does not count.
    pub offset: u64,
}

/// A place that does not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it, bytes.
    pub offset: u64,
    /// What it cost.
    pub lost: Lost,
}

/// What damage cost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Nothing: there is another copy, or nobody needs it any more.
    Nothing,
    /// Records of the log.
    Records {
        /// Number of the first.
        first: Lsn,
        /// How many.
        count: u64,
    },
    /// A block of the checkpoint, in both copies: entries, locations, or states that it held.
    CheckpointBlock,
    /// A body.
    Body(BodyId),
    /// A state.
    State(StateKey),
    /// An entry of a queue, because its body is lost.
    Entry {
        /// The queue.
        queue: QueueId,
        /// The body.
        body: BodyId,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: ", self.file, self.offset)?;
        match &self.lost {
            Lost::Nothing => f.write_str("damaged, nothing lost"),
            Lost::Records { first, count: 1 } => write!(f, "record {first} lost"),
            Lost::Records { first, count } => write!(f, "{count} records from {first} on lost"),
            Lost::CheckpointBlock => f.write_str("a block of the checkpoint lost"),
            Lost::Body(id) => write!(f, "body {:#x} lost", id.0),
            Lost::Entry { queue, body } => {
                write!(f, "entry of queue {:#x} lost: body {:#x}", queue.0, body.0)
            }
            Lost::State(key) => write!(
                f,
                "state {} of kind {} of {:#x} lost",
                key.number, key.kind, key.owner
            ),
        }
    }
}
