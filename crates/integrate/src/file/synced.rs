//! The length of a file that is synced, kept in a file beside it.
//!
//! After a power cut the end of a file may have zeros where lines were being written. The kept
//! length says from where on that is possible. It is written after each sync of the file, and
//! synced itself only when the file is opened: a length that is too small costs a longer check.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::opening;

/// Suffix that is added to the path of the file.
const SUFFIX: &str = ".synced";
/// Bytes of its contents, which fit into one sector: inode and length, 20 digits each.
const BYTES: usize = 42;

/// The file beside the file of a sink.
#[derive(Debug)]
pub(super) struct SyncedLength(File);

impl SyncedLength {
    /// Opens or creates the file beside the one at `path`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        opening::open_regular(&beside(path)).map(Self)
    }

    /// The kept length of this file; none if none is kept, or it is that of another file.
    pub(super) fn of(&self, file: &File) -> io::Result<Option<u64>> {
        let mut contents = [0; BYTES];
        let read = self.0.read_at(&mut contents, 0)?;
        let found = file.metadata()?;
        let kept = contents.get(..read).and_then(parse);
        let kept = kept.filter(|(inode, length)| *inode == found.ino() && *length <= found.len());
        let Some((_, length)) = kept else {
            return Ok(None);
        };
        // It is the end of a line.
        let mut last = [b'\n'];
        if let Some(at) = length.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        Ok((last == [b'\n']).then_some(length))
    }

    /// Keeps the length of this file, which is synced.
    pub(super) fn keep(&self, file: &File, length: u64) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let contents = format!("{inode:020} {length:020}\n");
        self.0.write_all_at(contents.as_bytes(), 0)
    }

    /// Makes the kept length survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn parse(contents: &[u8]) -> Option<(u64, u64)> {
    let text = str::from_utf8(contents).ok()?.strip_suffix('\n')?;
    let (inode, length) = text.split_once(' ')?;
    Some((inode.parse().ok()?, length.parse().ok()?))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}
