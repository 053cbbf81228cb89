//! The file `MARK`: a record that was synced, and the segment that was written to then. A log that
//! ends before it has lost its end, however empty it looks; without a mark a store whose only
//! segment is gone could not be told from a new one.
//!
//! It is written in moments of housekeeping, a few bytes for each segment and each moment of rest,
//! and only after that record was synced. So a crash at any time leaves no mark that says too much;
//! one that is torn does not check and says nothing.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::record::{Lsn, read_u64};
use std::io;

const NAME: &str = "MARK";
const MAGIC: &[u8; 8] = b"MARTMARK";
const FILE_BYTES: usize = 28;

/// A record that was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the segment that was written to; 0: there is no mark.
    pub(crate) segment: u64,
    /// All records up to this one were synced.
    pub(crate) lsn: Lsn,
}

/// The mark on the disk; none if it cannot be read, or is another store's.
pub(crate) fn read<D: Disk>(disk: &D, salt: u64) -> Mark {
    let mut bytes = [0; FILE_BYTES];
    let filled = disk
        .open(NAME)
        .and_then(|file| disk.read_at(&file, 0, &mut bytes));
    let is_whole = filled.is_ok_and(|filled| filled == FILE_BYTES);
    take(&bytes, salt).filter(|_| is_whole).unwrap_or_default()
}

fn take(bytes: &[u8; FILE_BYTES], salt: u64) -> Option<Mark> {
    let mark = Mark {
        segment: read_u64(&bytes[8..])?,
        lsn: read_u64(&bytes[16..])?,
    };
    (bytes == &encode(mark, salt)).then_some(mark)
}

fn encode(mark: Mark, salt: u64) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&mark.segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.lsn.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &bytes[..24]);
    bytes[24..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl<D: Disk> Engine<D> {
    /// Sets the mark when a new segment has something that was synced, and when there is rest.
    pub(crate) fn keep_mark(&mut self) {
        let Some(segment) = self.active.and_then(|slot| self.segments.get(slot)) else {
            return;
        };
        let is_next = segment.number() != self.marked.segment && segment.first <= self.durable;
        if is_next || self.at_rest && self.marked.lsn < self.durable {
            let mark = Mark {
                segment: segment.number(),
                lsn: self.durable,
            };
            // If it fails, the next one is tried. Nothing that is promised needs it.
            let _ = self.put_mark(mark);
            self.marked = mark;
        }
    }

    fn put_mark(&self, mark: Mark) -> io::Result<()> {
        let bytes = encode(mark, self.salt);
        let (file, is_new) = match self.disk.open(NAME) {
            Ok(file) => (file, false),
            Err(_) => (self.disk.create(NAME, 0)?, true),
        };
        self.disk.write_at(&file, 0, &bytes)?;
        self.disk.sync(&file)?;
        match is_new {
            true => self.disk.sync_dir(),
            false => Ok(()),
        }
    }
}
