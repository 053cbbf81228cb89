//! Events that are archived, and for how long.

use std::path::PathBuf;

use crate::feed::Kinds;

/// Events that are archived, and for how long.
#[derive(Clone, Debug)]
pub struct ArchiveSettings {
    /// Where the files are.
    pub directory: PathBuf,
    /// Kinds of events.
    pub kinds: Kinds,
    /// Milliseconds after which events are deleted; none: never.
    pub age_ms: Option<u64>,
    /// Bytes of all files, at most.
    pub bytes: u64,
}
