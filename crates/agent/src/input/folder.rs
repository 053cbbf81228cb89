//! Reads the files of a folder line by line: files that are appended to, and files that are added.
//!
//! Responsible for the selection and order of files, and for read positions. A position is stored
//! together with the line before it, so that a crash neither loses a line nor reads one twice. A
//! file is identified by its inode and creation time, so a renamed file continues at its position.
//! The folder is never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use martlet_store::Disk;
use rustix::fs::OFlags;

use crate::lines::LineSplitter;
use crate::log::{self, Level, Seldom};
use crate::queue::{Queue, StateKind};

/// Number of bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Approximate number of bytes that one [`Folder::scan`] reads.
const SCAN_BYTES: usize = 256 * 1024;
/// Bytes of queue changes at which a scan ends. Short lines take more than their length.
const UNCOMMITTED_BYTES: usize = 256 * 1024;
/// Number of bytes at the beginning of a file that are compared to detect overwriting.
const HEAD_BYTES: usize = 256;
/// Most files whose positions are stored.
const FILES_MAX: usize = 1_000;
/// How long a file must be unchanged before its last line is accepted without a line end.
const QUIET: Duration = Duration::from_secs(10);
/// Suffixes of file names that are not read: unfinished and compressed files.
const IGNORED_ENDS: &[&str] = &[
    "~", ".bz2", ".gz", ".part", ".swp", ".tmp", ".xz", ".zip", ".zst",
];

/// Identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    inode: u64,
    /// Creation time in nanoseconds since 1970; 0 if the file system does not support it.
    made: u64,
}

/// Read position of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    identity: Identity,
    /// Offset of the next line.
    offset: u64,
    /// Length and checksum of the beginning of the file.
    head: (u16, u32),
    /// First name of the file: a renamed file keeps its topic.
    name: String,
}

impl Position {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(30 + self.name.len());
        bytes.extend_from_slice(&self.identity.inode.to_le_bytes());
        bytes.extend_from_slice(&self.identity.made.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.head.0.to_le_bytes());
        bytes.extend_from_slice(&self.head.1.to_le_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut take = || {
            let (word, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            Some(u64::from_le_bytes(*word))
        };
        let identity = Identity {
            inode: take()?,
            made: take()?,
        };
        let offset = take()?;
        let ([a, b, c, d, e, f], name) = rest.split_first_chunk::<6>()?;
        let head = (
            u16::from_le_bytes([*a, *b]),
            u32::from_le_bytes([*c, *d, *e, *f]),
        );
        Some(Self {
            identity,
            offset,
            head,
            // Empty if an earlier version of the program has written it.
            name: str::from_utf8(name).ok()?.to_owned(),
        })
    }
}

/// A file that is read.
#[derive(Debug)]
struct Tracked {
    /// Number of its state in the queue.
    number: u32,
    position: Position,
    /// Length at the last check, and time of its last change.
    len: u64,
    changed: Duration,
    /// Whether an unfinished line follows the position.
    has_partial: bool,
    /// Set while a line that is too long is skipped: the offset up to which it was read.
    skipped_to: Option<u64>,
}

/// Result of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Whether there is more to read now.
    pub(crate) more: bool,
    /// Number of lines skipped because they were too long.
    pub(crate) too_long: u64,
}

/// The folder.
pub(crate) struct Folder {
    path: PathBuf,
    line_bytes_max: usize,
    files: BTreeMap<Identity, Tracked>,
    too_many: Seldom,
    unreadable: Seldom,
}

impl Folder {
    /// Continues at the positions stored in the queue.
    ///
    /// # Errors
    /// The path is no directory, or cannot be read. The text is a line for the user.
    pub(crate) fn open<D: Disk>(
        path: &Path,
        line_bytes_max: usize,
        queue: &Queue<D>,
    ) -> Result<Self, String> {
        let listed = fs::read_dir(path);
        listed.map_err(|error| format!("cannot read the folder {}: {error}", path.display()))?;
        let states = queue.states(StateKind::File).into_iter();
        let files = states.filter_map(|(number, value)| {
            let position = Position::from_bytes(&value)?;
            Some((position.identity, Tracked::new(number, position)))
        });
        Ok(Self {
            path: path.to_owned(),
            line_bytes_max,
            files: files.collect(),
            too_many: Seldom::default(),
            unreadable: Seldom::default(),
        })
    }

    /// Puts new lines into the queue: first from renamed files, since another file may be their
    /// continuation, then from the others in the order of their names. `topic` returns the topic
    /// for the first name of a file. The caller must commit the queue.
    pub(crate) fn scan<D: Disk>(
        &mut self,
        queue: &mut Queue<D>,
        now: Duration,
        topic: impl Fn(&str) -> String,
    ) -> Scan {
        let mut scan = Scan::default();
        let found = match self.list() {
            Ok(found) => found,
            Err(error) => {
                let path = self.path.display();
                let text = format!("cannot read the folder {path}: {error}; retrying");
                self.unreadable.line(Level::Warning, &text);
                return scan;
            }
        };
        self.forget_missing(queue, &found);
        let mut budget = SCAN_BYTES;
        for (name, metadata) in self.in_order(&found) {
            let Some(tracked) = self.tracked(name, metadata) else {
                continue;
            };
            if tracked.is_due(metadata.len(), now) {
                if budget == 0 || queue.uncommitted_bytes() >= UNCOMMITTED_BYTES {
                    scan.more = true;
                    break;
                }
                let topic = topic(&tracked.position.name);
                let path = self.path.join(name);
                let read = self.read_file(&path, identity(metadata), queue, now, &topic, budget);
                match read {
                    Ok((bytes, too_long)) => {
                        budget = budget.saturating_sub(bytes);
                        scan.too_long += too_long;
                    }
                    Err(error) => {
                        // A name may contain control characters.
                        let text = format!("cannot read {path:?}: {error}");
                        self.unreadable.line(Level::Warning, &text);
                    }
                }
            }
        }
        scan.more |= budget == 0 || queue.uncommitted_bytes() >= UNCOMMITTED_BYTES;
        scan
    }

    /// Files that were renamed since they were first seen, then the others; each group sorted by
    /// name.
    fn in_order<'f>(
        &self,
        found: &'f BTreeMap<OsString, Metadata>,
    ) -> Vec<(&'f OsString, &'f Metadata)> {
        let is_renamed = |(name, metadata): &(&OsString, &Metadata)| {
            let known = self.files.get(&identity(metadata));
            known.is_some_and(|known| known.position.name != name.to_string_lossy())
        };
        let (mut all, others): (Vec<_>, Vec<_>) = found.iter().partition(is_renamed);
        all.extend(others);
        all
    }

    /// Returns the regular files by name.
    fn list(&self) -> io::Result<BTreeMap<OsString, Metadata>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            // A file may have been deleted meanwhile; symbolic links are not followed.
            if is_read(&name.to_string_lossy())
                && let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                found.insert(name, metadata);
            }
        }
        Ok(found)
    }

    fn forget_missing<D: Disk>(
        &mut self,
        queue: &mut Queue<D>,
        found: &BTreeMap<OsString, Metadata>,
    ) {
        let there: BTreeSet<Identity> = found.values().map(identity).collect();
        self.files.retain(|identity, tracked| {
            let is_there = there.contains(identity);
            if !is_there {
                queue.remove_state(StateKind::File, tracked.number);
            }
            is_there
        });
    }

    /// Returns the entry of the file, creating it if needed; `None` if there are too many files.
    fn tracked(&mut self, name: &OsStr, metadata: &Metadata) -> Option<&mut Tracked> {
        let identity = identity(metadata);
        if !self.files.contains_key(&identity) {
            if self.files.len() >= FILES_MAX {
                let path = self.path.display();
                let text = format!(
                    "the folder {path} has more than {FILES_MAX} files: the others are read when \
                     some are removed"
                );
                self.too_many.line(Level::Warning, &text);
                return None;
            }
            let used: BTreeSet<u32> = self.files.values().map(|file| file.number).collect();
            let number = (1..).find(|number| !used.contains(number))?;
            let position = Position {
                identity,
                offset: 0,
                head: (0, 0),
                name: String::new(),
            };
            self.files.insert(identity, Tracked::new(number, position));
        }
        let tracked = self.files.get_mut(&identity)?;
        if tracked.position.name.is_empty() {
            tracked.position.name = name.to_string_lossy().into_owned();
        }
        Some(tracked)
    }

    /// Reads a file from its position. Returns the number of bytes read and of lines that were too
    /// long.
    fn read_file<D: Disk>(
        &mut self,
        path: &Path,
        identity_found: Identity,
        queue: &mut Queue<D>,
        now: Duration,
        topic: &str,
        budget: usize,
    ) -> io::Result<(usize, u64)> {
        let Some(tracked) = self.files.get_mut(&identity_found) else {
            return Ok((0, 0));
        };
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if identity(&metadata) != identity_found {
            // Another file has this name now. The next scan finds it.
            return Ok((0, 0));
        }
        let is_quiet = tracked.look(metadata.len(), now);
        if tracked.check_head(&file)? {
            log::line(
                Level::Warning,
                &format!("{path:?} was overwritten or cut: it is read from its beginning"),
            );
        }
        tracked.read(&file, queue, topic, self.line_bytes_max, budget, is_quiet)
    }
}

impl Tracked {
    fn new(number: u32, position: Position) -> Self {
        Self {
            number,
            position,
            len: 0,
            changed: Duration::ZERO,
            has_partial: false,
            skipped_to: None,
        }
    }

    /// Offset at which reading continues.
    fn next(&self) -> u64 {
        self.skipped_to.unwrap_or(self.position.offset)
    }

    fn is_due(&self, len: u64, now: Duration) -> bool {
        // Whether it has changed, or was not read to its end.
        len != self.len
            || (self.next() < len && !self.has_partial)
            || (self.has_partial && now >= self.changed + QUIET)
    }

    /// Stores the length. Returns true if the file has been unchanged for some time.
    fn look(&mut self, len: u64, now: Duration) -> bool {
        if len != self.len {
            self.len = len;
            self.changed = now;
        }
        now >= self.changed + QUIET
    }

    /// Starts at the beginning if the file was overwritten. Returns true in this case.
    fn check_head(&mut self, file: &File) -> io::Result<bool> {
        let mut bytes = [0; HEAD_BYTES];
        let count = read_at(file, &mut bytes, 0)?;
        let (len, checksum) = self.position.head;
        let known = bytes[..count].get(..len.into());
        let is_same = self.len >= self.position.offset
            && known.is_some_and(|known| len == 0 || crc32c::crc32c(known) == checksum);
        if !is_same {
            self.position.offset = 0;
            self.skipped_to = None;
            self.has_partial = false;
        }
        // A program that appends to the file does not change these bytes.
        self.position.head = (count as u16, crc32c::crc32c(&bytes[..count]));
        Ok(!is_same)
    }

    fn read<D: Disk>(
        &mut self,
        file: &File,
        queue: &mut Queue<D>,
        topic: &str,
        line_bytes_max: usize,
        budget: usize,
        is_quiet: bool,
    ) -> io::Result<(usize, u64)> {
        let mut lines = match self.skipped_to {
            Some(_) => LineSplitter::skipping(line_bytes_max),
            None => LineSplitter::new(line_bytes_max),
        };
        let mut at = self.next();
        let begin = self.position.offset;
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut read, mut is_written, mut is_end) = (0, true, false);
        while !is_end {
            // Regardless of the budget, one line is read to its end, or until it is too long.
            let has_come_on = self.position.offset > begin || lines.is_skipping();
            let is_full = read >= budget || queue.uncommitted_bytes() >= UNCOMMITTED_BYTES;
            if has_come_on && is_full {
                break;
            }
            let count = read_at(file, &mut buffer, at)?;
            is_end = count < buffer.len();
            lines.take(&buffer[..count], |line, end| {
                self.position.offset = at + end as u64;
                is_written = self.put(queue, topic, line.unwrap_or_default());
            });
            at += count as u64;
            read += count;
        }
        self.has_partial = is_end && lines.has_partial();
        self.skipped_to = lines.is_skipping().then_some(at);
        if is_end && is_quiet && lines.has_partial() {
            lines.finish(|line| {
                self.position.offset = at;
                is_written = self.put(queue, topic, line);
            });
            self.has_partial = false;
        }
        if !is_written {
            queue.set_state(StateKind::File, self.number, &self.position.to_bytes());
        }
        Ok((read.max(1), lines.too_long))
    }

    /// Puts a line into the queue with the position after it. Returns false for an empty line, so
    /// that the position is not stored yet.
    fn put<D: Disk>(&self, queue: &mut Queue<D>, topic: &str, line: &[u8]) -> bool {
        if line.is_empty() {
            return false;
        }
        let position = self.position.to_bytes();
        queue.push(topic, line, Some((self.number, &position)));
        true
    }
}

fn identity(metadata: &Metadata) -> Identity {
    let made = metadata.created().ok();
    let made = made.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Identity {
        inode: metadata.ino(),
        made: made.map_or(0, |since| since.as_nanos() as u64),
    }
}

fn is_read(name: &str) -> bool {
    !name.starts_with('.') && !IGNORED_ENDS.iter().any(|end| name.ends_with(end))
}

/// Fills the buffer, up to the end of the file.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
