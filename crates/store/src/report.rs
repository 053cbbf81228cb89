//! Results of opening or checking a store.

use crate::disk::Disk;
use crate::record::{BodyId, Lsn, QueueId, StateKey};
use std::fmt;
use std::io;

/// Error text for a missing segment, in place of an error of the disk.
pub(crate) const NO_SUCH_FILE: &str = "no such file";

/// Renames a file so that it is not read, but kept for an analysis.
pub(crate) fn set_aside<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    disk.rename(name, &format!("{name}.damaged"))
}

/// Result of opening a store.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Places with invalid checksums that were synced once.
    pub damage: Vec<Damage>,
    /// Where the log was cut: the rest was never synced, so never acknowledged.
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

impl Report {
    /// Adds damage of a file, unless the report has an entry for that file.
    pub(crate) fn tell(&mut self, damage: Damage) {
        if self.damage.iter().all(|told| told.file != damage.file) {
            self.damage.push(damage);
        }
    }
}

/// A torn end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub file: String,
    /// Offset from which on it is ignored.
    pub offset: u64,
}

/// A place with an invalid checksum, or that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file; empty if unknown.
    pub file: String,
    /// Offset in it, bytes.
    pub offset: u64,
    /// The error of the disk, if it could not be read.
    pub error: Option<String>,
    /// Data that were lost.
    pub lost: Lost,
}

impl Damage {
    pub(crate) fn new(file: String, offset: u64, lost: Lost) -> Self {
        Damage {
            file,
            offset,
            error: None,
            lost,
        }
    }

    pub(crate) fn with_error(mut self, error: Option<String>) -> Self {
        self.error = error;
        self
    }

    /// File, offset and the error of the disk, as the beginning of a sentence; empty if the place
    /// is unknown.
    pub fn place(&self) -> String {
        let Damage { file, offset, .. } = self;
        match (&self.error, &self.lost) {
            _ if file.is_empty() => String::new(),
            (Some(error), _) if error == NO_SUCH_FILE => format!("{file} is missing: "),
            (Some(error), _) => format!("{file} at {offset} cannot be read ({error}): "),
            (None, Lost::Segment { .. }) => format!("{file} is missing: "),
            (None, _) => format!("{file} at {offset}: "),
        }
    }
}

/// Loss by damage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Nothing: there is another copy, or it is no longer needed.
    Nothing,
    /// Records of the log.
    Records {
        /// Number of the first record.
        first: Lsn,
        /// Number of records.
        count: u64,
    },
    /// All records of the log from this one on: there were some, their number is unknown.
    Rest {
        /// Number of the first record.
        first: Lsn,
    },
    /// There is no checkpoint, and these records of the log are missing: their contents are known
    /// only as far as they were copied since.
    WithoutCheckpoint {
        /// Number of the first record.
        first: Lsn,
        /// Number of records.
        count: u64,
    },
    /// The contents of the log at this place, if any: it is unknown whether there were any.
    Unknown,
    /// The file is truncated here.
    CutOff {
        /// Whether something that is or may be needed was in the rest.
        needed: bool,
    },
    /// All contents of a segment whose file is missing.
    Segment {
        /// Number of live bodies in it.
        bodies: usize,
        /// Number of states in it.
        states: usize,
    },
    /// A whole segment without a valid record: it belongs to another store, or to this one before
    /// the damage.
    Foreign,
    /// A block of the checkpoint, in both copies, with its entries, locations or states.
    CheckpointBlock,
    /// A checkpoint that is unusable, and newer than the one that was used, if any.
    Checkpoint {
        /// Whether the used checkpoint and the log, or the whole log, are known to have everything
        /// that this one had.
        known: bool,
    },
    /// A body.
    Body {
        /// Id of the body.
        id: BodyId,
        /// The queues that have an entry of it, in order; if none has, those that seem to have had
        /// one, from what is left of its record.
        queues: Vec<QueueId>,
        /// The beginning of what is left of it; no checksum confirms it.
        remains: Box<[u8]>,
    },
    /// A state.
    State(StateKey),
}

impl Lost {
    /// Whether the lost items are not listed by name; other places were searched for them.
    pub fn is_unnamed(&self) -> bool {
        matches!(
            self,
            Lost::CheckpointBlock
                | Lost::WithoutCheckpoint { .. }
                | Lost::Checkpoint { known: false }
        )
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        match &self.lost {
            Lost::Nothing if self.error.is_some() => f.write_str("nothing lost"),
            Lost::Nothing => f.write_str("damaged, nothing lost"),
            Lost::Records { first, count: 1 } => write!(f, "record {first} lost"),
            Lost::Records { first, count } => write!(f, "{count} records from {first} on lost"),
            Lost::Rest { first } => write!(f, "what was recorded from {first} on is lost"),
            Lost::WithoutCheckpoint { first, count } => write!(
                f,
                "there is no checkpoint, and what {count} records from {first} on brought is lost \
                 as far as it was not copied since"
            ),
            Lost::Unknown => f.write_str("what was recorded there, if anything was, is lost"),
            Lost::CutOff { needed } => {
                f.write_str("the file ends here, though it was longer: ")?;
                f.write_str(match needed {
                    true => "later data is lost",
                    false => "nothing lost",
                })
            }
            Lost::Segment { bodies, states } => {
                write!(f, "{bodies} bodies and {states} states lost")
            }
            Lost::Foreign => f.write_str(
                "a segment of another store, or one of which all is damaged: nothing in it can be \
                 used",
            ),
            Lost::CheckpointBlock => f.write_str("a block of the checkpoint lost"),
            Lost::Checkpoint { known } => {
                f.write_str("no checkpoint of this store, or one whose beginning is damaged: ")?;
                f.write_str(match known {
                    true => "nothing is lost: its contents are known without it",
                    false => "contents that are not known without it are lost",
                })
            }
            Lost::Body { id, queues, .. } => {
                write!(f, "body {:#x} lost", id.0)?;
                for (index, queue) in queues.iter().enumerate() {
                    f.write_str(if index == 0 {
                        ", which was in queue "
                    } else {
                        ", "
                    })?;
                    write!(f, "{:#x}", queue.0)?;
                }
                Ok(())
            }
            Lost::State(key) => write!(
                f,
                "state {} of kind {} of {:#x} lost",
                key.number, key.kind, key.owner
            ),
        }
    }
}
