//! What opening or checking a store found, in words and numbers.

use crate::disk::Disk;
use crate::record::{BodyId, Lsn, QueueId, StateKey};
use std::fmt;
use std::io;

/// What is said of a segment that is not there, instead of what the disk says.
pub(crate) const NO_SUCH_FILE: &str = "no such file";

/// Renames a file so that it is not read, but kept for an analysis.
pub(crate) fn set_aside<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    disk.rename(name, &format!("{name}.damaged"))
}

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

impl Report {
    /// Tells of a file, unless something was told of it already.
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
    /// From where on it does not count.
    pub offset: u64,
}

/// A place that does not check, or that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file; empty if it is not known where it was.
    pub file: String,
    /// Where in it, bytes.
    pub offset: u64,
    /// What the disk said, if it could not be read.
    pub error: Option<String>,
    /// What it cost.
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

    /// File, offset and what the disk said, as the beginning of a sentence; empty if nothing is
    /// known of the place.
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
    /// All records of the log from this one on: some were there, nothing says how many.
    Rest {
        /// Number of the first.
        first: Lsn,
    },
    /// There is no checkpoint, and these records of the log are not there any more: what they
    /// brought is known only as far as it was copied since.
    WithoutCheckpoint {
        /// Number of the first.
        first: Lsn,
        /// How many.
        count: u64,
    },
    /// What the log held there, if it held anything: nothing says whether it did.
    Unknown,
    /// The file ends here, though it was longer.
    CutOff {
        /// Something that was needed, or may have been, lay behind.
        needed: bool,
    },
    /// All of a segment whose file is not there.
    Segment {
        /// Bodies in it that were alive.
        bodies: usize,
        /// States in it.
        states: usize,
    },
    /// A whole segment in which nothing checks: it is another store's, or was one of this.
    Foreign,
    /// A block of the checkpoint, in both copies: entries, locations, or states that it held.
    CheckpointBlock,
    /// A checkpoint newer than the one that was used, or than none, of which nothing can be used.
    Checkpoint {
        /// That one and the log, or all of the log, are known to say all that this one could.
        known: bool,
    },
    /// A body.
    Body {
        /// Its name.
        id: BodyId,
        /// The queues that have an entry of it, in order; if none has, those that seem to have had
        /// one, from what is left of its record.
        queues: Vec<QueueId>,
        /// The beginning of what is left of it: nothing vouches for it.
        remains: Box<[u8]>,
    },
    /// A state.
    State(StateKey),
}

impl Lost {
    /// What was lost is not known by name: it was sought elsewhere, as far as it is to be found.
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
                    true => "what lay behind is lost",
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
                    true => "nothing lost, all it could say is known without it",
                    false => "if it said more than is known without it, that is lost",
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
