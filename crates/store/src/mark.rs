//! The file `MARK`: the number of a synced record, and of the segment that was active then. A log
//! that ends before that record has lost its end, even if it looks empty. Without a mark, a store
//! whose only segment is missing would look like a new one.
//!
//! The mark is written during housekeeping, a few bytes for each segment and each idle phase, and
//! before a checkpoint gets its name; but only after that record was synced. So after a crash at
//! any time, the mark never names a record that was not synced. The file has two places, written
//! in turn, and gets its name when both are complete: a crash tears at most one of them, and a
//! file in which neither is valid was damaged.

use crate::disk::Disk;
use crate::record::{Lsn, read_u64};
use crate::report::{Damage, Lost};
use std::io;

pub(crate) const NAME: &str = "MARK";
const NEW_NAME: &str = "MARK.new";
const MAGIC: &[u8; 8] = b"MARTMARK";
const MARK_BYTES: usize = 28;
/// Offsets of the two places. Older versions use only the first.
const PLACES: [u64; 2] = [0, 4096];

/// A record that was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the active segment; 0: there is no mark.
    pub(crate) segment: u64,
    /// All records up to this one were synced.
    pub(crate) lsn: Lsn,
}

/// State of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MarkFile {
    /// Mark, if valid.
    pub(crate) mark: Option<Mark>,
    /// Whether it exists and is not empty.
    pub(crate) is_there: bool,
    /// The error of the disk for a place that cannot be read.
    pub(crate) error: Option<String>,
}

impl MarkFile {
    /// Damage of the file if it is invalid or cannot be read: it was damaged, or belongs to
    /// another store.
    pub(crate) fn damage(&self) -> Option<Damage> {
        let is_bad = self.is_there && self.mark.is_none() || self.error.is_some();
        let damage = Damage::new(NAME.to_owned(), 0, Lost::Nothing);
        is_bad.then(|| damage.with_error(self.error.clone()))
    }
}

/// The mark on the disk.
pub(crate) fn read<D: Disk>(disk: &D, salt: u64) -> MarkFile {
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return MarkFile::default(),
        Err(error) => {
            return MarkFile {
                mark: None,
                is_there: true,
                error: Some(error.to_string()),
            };
        }
    };
    let found = read_places(disk, &file, salt);
    let newest = found.marks.iter().flatten().max_by_key(|mark| mark.lsn);
    MarkFile {
        mark: newest.copied(),
        is_there: !found.is_empty,
        error: found.error.map(|error| error.to_string()),
    }
}

/// Contents of the places of a file.
struct InPlaces {
    marks: [Option<Mark>; 2],
    is_empty: bool,
    error: Option<io::Error>,
}

fn read_places<D: Disk>(disk: &D, file: &D::File, salt: u64) -> InPlaces {
    let mut found = InPlaces {
        marks: [None; 2],
        is_empty: true,
        error: None,
    };
    for (mark, place) in found.marks.iter_mut().zip(PLACES) {
        let mut bytes = [0; MARK_BYTES];
        match disk.read_at(file, place, &mut bytes) {
            Ok(filled) => {
                found.is_empty &= filled == 0;
                *mark = take(&bytes, salt).filter(|_| filled == MARK_BYTES);
            }
            Err(error) => {
                found.is_empty = false;
                found.error = Some(error);
            }
        }
    }
    found
}

fn take(bytes: &[u8; MARK_BYTES], salt: u64) -> Option<Mark> {
    let mark = Mark {
        segment: read_u64(&bytes[8..])?,
        lsn: read_u64(&bytes[16..])?,
    };
    (bytes == &encode(mark, salt)).then_some(mark)
}

fn encode(mark: Mark, salt: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&mark.segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.lsn.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &bytes[..24]);
    bytes[24..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Writes a mark over the older one, or over both if none is valid.
///
/// # Errors
/// The disk failed to write it.
pub(crate) fn put<D: Disk>(disk: &D, salt: u64, mark: Mark) -> io::Result<()> {
    let bytes = encode(mark, salt);
    let Ok(file) = disk.open(NAME) else {
        return put_first(disk, &bytes);
    };
    let found = read_places(disk, &file, salt);
    let [first, second] = found.marks.map(|mark| mark.map(|mark| mark.lsn));
    // A mark with a higher number is of records lost since, which has been reported.
    let says_more = first.max(second) > Some(mark.lsn);
    if first.is_none() && second.is_none() || says_more || found.error.is_some() {
        return put_first(disk, &bytes);
    }
    // Over the older one.
    let place = PLACES[usize::from(first >= second)];
    disk.write_at(&file, place, &bytes)?;
    disk.sync(&file)
}

fn put_first<D: Disk>(disk: &D, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create(NEW_NAME, 0)?;
    for place in PLACES {
        // Both, so that the file does not have to grow on a full disk.
        disk.write_at(&file, place, bytes)?;
    }
    disk.sync(&file)?;
    disk.rename(NEW_NAME, NAME)?;
    disk.sync_dir()
}
