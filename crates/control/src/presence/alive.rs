//! When the node was last alive, and which one it is, in a file of its data directory.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::restore_note::RestoreNote;
use crate::wall_clock::now_ms;

/// Name of the file.
const FILE: &str = "alive";

/// The file, and what the run before left in it.
#[derive(Debug)]
pub struct Alive {
    path: PathBuf,
    before: Option<(u64, bool)>,
    node: String,
}

impl Alive {
    /// In this directory.
    pub fn open(data_dir: &Path) -> Self {
        let (before, node) = read(data_dir);
        Self {
            path: data_dir.join(FILE),
            before,
            node: node.unwrap_or_else(new_name),
        }
    }

    /// When the run before ended at the latest, and why its clients are not connected since; none
    /// if there was none.
    pub fn before(&self) -> Option<(u64, &'static str)> {
        self.before.map(|(at_ms, is_stopped)| match is_stopped {
            true => (at_ms, "the node was stopped"),
            false => (at_ms, "the node ended without a stop"),
        })
    }

    /// The node among others that have the same tables: the same as long as its data directory is,
    /// and after a restore of its backup.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The node stops now.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn note_stop(&self) -> io::Result<()> {
        self.note(now_ms(), true)
    }

    /// The node is alive at this time, or stops then. Synced, and never half a file.
    pub(super) fn note(&self, now_ms: u64, is_stopped: bool) -> io::Result<()> {
        let word = if is_stopped { "stopped" } else { "running" };
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{now_ms} {word} {}", self.node)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

/// When the node of a data directory was last alive, whether it was stopped then, and which one it
/// is.
fn read(data_dir: &Path) -> (Option<(u64, bool)>, Option<String>) {
    let text = std::fs::read_to_string(data_dir.join(FILE)).unwrap_or_default();
    let mut words = text.split_whitespace();
    let at_ms: Option<u64> = words.next().and_then(|word| word.parse().ok());
    let is_stopped = words.next() == Some("stopped");
    let own = words.next().map(str::to_owned);
    // Its rows in the tables are under the name of the node that the backup is of.
    let restored = RestoreNote::read(data_dir);
    let restored = restored.filter(|note| own.is_none() || at_ms <= Some(note.restored_ms));
    let taken_over = restored.and_then(|note| note.node);
    (at_ms.map(|at_ms| (at_ms, is_stopped)), taken_over.or(own))
}

/// The node that a data directory is of; none: none has run in it yet.
pub(crate) fn node_of(data_dir: &Path) -> Option<String> {
    read(data_dir).1
}

/// Without a source of randomness it is the node that there is alone.
fn new_name() -> String {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => format!("{:016x}", u64::from_be_bytes(bytes)),
        Err(_) => "node".to_owned(),
    }
}
