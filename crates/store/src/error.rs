//! What can go wrong, in words that name the file.

use std::fmt;
use std::io;

/// A call to the disk failed.
#[derive(Debug)]
pub struct StoreError {
    /// What was to be done.
    pub what: &'static str,
    /// With which file.
    pub file: String,
    /// Why not.
    pub source: io::Error,
}

impl StoreError {
    pub(crate) fn new(what: &'static str, file: &str, source: io::Error) -> Self {
        StoreError {
            what,
            file: file.to_owned(),
            source,
        }
    }

    /// Whether there is no space left: it may pass by itself.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// There is no space left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.file, self.source)
    }
}

impl std::error::Error for StoreError {
    // What the system said is part of the text already.
}

/// A store was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A call to the disk failed.
    Disk(StoreError),
    /// The options make no sense; says which.
    Options(&'static str),
    /// There are segments but no readable `STORE` file: no store, or its identity is damaged.
    NoIdentity,
    /// Written by a newer version of the format.
    TooNew {
        /// The version found.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The beginning of the checkpoint is damaged in both copies: what the log means without it is
    /// unknown. [`repair`](crate::repair) makes the best of the segments.
    Checkpoint {
        /// One of the two files.
        file: String,
    },
    /// There is no checkpoint, and the beginning of the log is not there either: it was given back
    /// while there was one. [`repair`](crate::repair) makes the best of the others.
    NoCheckpoint {
        /// The first segment that is not there.
        file: String,
    },
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        OpenError::Disk(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Disk(error) => error.fmt(f),
            OpenError::Options(what) => write!(f, "options of the store: {what}"),
            OpenError::NoIdentity => f.write_str(
                "there are segments of a store, but its file STORE is missing or damaged",
            ),
            OpenError::TooNew { found, known } => write!(
                f,
                "the store has format version {found}; this program knows versions up to {known}: \
                 use a newer program"
            ),
            OpenError::Checkpoint { file } => write!(
                f,
                "both copies of checkpoint {file} are damaged at their beginning: \
                 martlet store repair makes the best of the rest"
            ),
            OpenError::NoCheckpoint { file } => write!(
                f,
                "there is no checkpoint, and {file} is missing from the log: put the checkpoint \
                 back, or martlet store repair makes the best of the rest"
            ),
        }
    }
}

impl std::error::Error for OpenError {}
