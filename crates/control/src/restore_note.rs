//! A note that a restore leaves in the data directory, for later questions about missing data:
//! the times of the backup and of the restore, and the name of the node that was backed up.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Name of the note in the data directory.
pub(crate) const NOTE: &str = "restored.json";

/// A restore of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreNote {
    /// When the backup was made, milliseconds since the Unix epoch; none: not in the backup.
    pub backup_ms: Option<u64>,
    /// When it was restored, likewise.
    pub restored_ms: u64,
    /// Users and devices were restored with it.
    pub has_tables: bool,
    /// The name among those with the same tables of the node that the backup is of; none: not in
    /// the backup.
    #[serde(default)]
    pub node: Option<String>,
}

impl RestoreNote {
    /// The last restore into a data directory; none if there was none, or it left no note that can
    /// be read.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read(data_dir.join(NOTE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes it to a new file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }
}
