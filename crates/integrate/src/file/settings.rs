//! Settings of a file sink.

use std::path::PathBuf;

/// Settings of a file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Path of the file; its directory has to exist.
    pub path: PathBuf,
    /// Size at which the file is renamed to `PATH.1`, bytes; 0: never.
    pub file_bytes: u64,
    /// Number of renamed files that are kept, 1 or more.
    pub files_kept: u32,
}
