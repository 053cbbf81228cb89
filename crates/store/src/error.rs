//! Errors, with the name of the file.

use std::fmt;
use std::io;

/// A call to the disk failed.
#[derive(Debug)]
pub struct StoreError {
    /// The operation that failed.
    pub what: &'static str,
    /// The file.
    pub file: String,
    /// The error of the system.
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

    /// Whether there is no space left: this may resolve by itself.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether there is no space left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.file, self.source)?;
        advice(&self.source).map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Advice for an error whose own text has none.
fn advice(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => {
            Some("raise the limit of the process (ulimit -n, LimitNOFILE of its unit)")
        }
        Some(Errno::NFILE) => Some("raise the limit of the system (sysctl fs.file-max)"),
        Some(Errno::ISDIR) => Some("the store needs that name: move the directory away"),
        Some(Errno::ACCESS | Errno::PERM) => {
            Some("the store's files have to belong to the user of the process")
        }
        _ => None,
    }
}

impl std::error::Error for StoreError {
    // The error of the system is already part of the text.
}

/// Why a store was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A call to the disk failed.
    Disk(StoreError),
    /// The options are invalid, with the reason.
    Options(&'static str),
    /// There are segments but no readable `STORE` file: no store, or its identity is damaged.
    NoIdentity,
    /// There is a mark, so there was a store: its `STORE` file, segments and checkpoints are
    /// missing.
    Gone {
        /// The file with the mark.
        mark: String,
    },
    /// `STORE` belongs to another store, or all other files do: no checksum is valid under it.
    Foreign {
        /// A file that was written under another identity.
        file: String,
    },
    /// Written by a newer version of the format.
    TooNew {
        /// The version found.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
    },
    /// The beginning of the checkpoint is damaged in both copies: without it the log cannot be
    /// interpreted. [`repair`](crate::repair) recovers what the segments have.
    Checkpoint {
        /// One of the two files.
        file: String,
    },
    /// There is no checkpoint, and the beginning of the log is missing too: it was freed while
    /// there was a checkpoint. [`repair`](crate::repair) recovers what the other segments have.
    NoCheckpoint {
        /// The first missing segment.
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
                "segments of a store exist, but its file STORE is missing or damaged: restore it; \
                 it never changes, so the file from any backup of this store can be used",
            ),
            OpenError::Gone { mark } => write!(
                f,
                "the directory contained a store, and only its file {mark} is left: restore the other \
                 files, or move the directory away and restore a backup (martlet backup \
                 restore); to begin with an empty store remove {mark}"
            ),
            OpenError::Foreign { file } => write!(
                f,
                "the file STORE is another store's: {file} was not written under it, nor was \
                 anything else here. Put the right one back; it never changes, so that of any \
                 backup of this store will do"
            ),
            OpenError::TooNew { found, known } => write!(
                f,
                "the store has format version {found}; this program supports versions up to \
                 {known}: use a newer program"
            ),
            OpenError::Checkpoint { file } => write!(
                f,
                "checkpoint {file} is damaged at its beginning, in both copies, and earlier \
                 segments are missing: martlet store repair recovers what is left"
            ),
            OpenError::NoCheckpoint { file } => write!(
                f,
                "there is no checkpoint, and {file} is missing from the log: restore the \
                 checkpoint, or recover what is left with martlet store repair"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn only_what_says_that_there_is_no_space_is_a_full_disk() {
        for (errno, is_full, advice) in [
            (Errno::NOSPC, true, ""),
            (Errno::DQUOT, true, ""),
            (Errno::MFILE, false, "ulimit -n"),
            (Errno::ISDIR, false, "move the directory away"),
            (Errno::ACCESS, false, "the user of the process"),
            (Errno::ROFS, false, "read-only"),
            (Errno::IO, false, ""),
        ] {
            let error = StoreError::new("creating", "spare.log", errno.into());
            assert_eq!(error.is_full(), is_full, "{error}");
            let text = error.to_string().to_lowercase();
            assert!(text.starts_with("creating spare.log: "), "{text}");
            assert!(text.contains(advice), "{text}");
        }
    }
}
