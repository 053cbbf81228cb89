//! Reading a file of records piece by piece, and finding the next record that checks behind one
//! that does not. For recovery, reclaim and checks.

use crate::disk::Disk;
use crate::record::{FileKey, GroupHeader, HEADER_BYTES, Lsn, length_of, ops_of, read_u64};
use martlet_fault::{self as fault, Fault};
use std::io;

/// Bytes read at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Numbers further ahead than this are not believed.
const LSN_AHEAD_MAX: u64 = 1 << 40;

/// A file seen through a buffer.
pub(crate) struct Window<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    key: FileKey,
    /// Length of the file.
    len: u64,
    buffer: Vec<u8>,
    begin: u64,
}

/// What begins at a place.
pub(crate) enum Found<'b> {
    /// A group's header; the number is that of the group's first record.
    Group(GroupHeader, Lsn),
    /// A record with its operations and its length.
    Record(Lsn, &'b [u8], u64),
    /// Nothing that checks.
    Nothing,
}

impl<'a, D: Disk> Window<'a, D> {
    pub(crate) fn new(disk: &'a D, file: &'a D::File, key: FileKey, len: u64) -> Self {
        Window {
            disk,
            file,
            key,
            len,
            buffer: Vec::new(),
            begin: 0,
        }
    }

    /// Bytes from `offset`, fewer at the end of the file.
    fn view(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let end = (offset + bytes as u64).min(self.len);
        if offset < self.begin || end > self.begin + self.buffer.len() as u64 {
            let wanted = bytes.max(PIECE_BYTES) as u64;
            let count = wanted.min(self.len.saturating_sub(offset)) as usize;
            self.buffer.resize(count, 0);
            // Nothing of it counts while the reading may fail.
            self.begin = u64::MAX;
            let filled = self.disk.read_at(self.file, offset, &mut self.buffer)?;
            self.buffer.truncate(filled);
            self.begin = offset;
        }
        let from = ((offset - self.begin) as usize).min(self.buffer.len());
        let to = (from + bytes).min(self.buffer.len());
        Ok(&self.buffer[from..to])
    }

    /// The bytes of the record at `offset`, not verified; empty if none begins there.
    pub(crate) fn record(&mut self, offset: u64) -> io::Result<&[u8]> {
        let header = self.view(offset, HEADER_BYTES)?;
        let bytes = length_of(header).unwrap_or(0);
        self.view(offset, bytes)
    }

    /// What begins at `offset`, if its number is at least `lsn_min`.
    pub(crate) fn at(&mut self, offset: u64, lsn_min: Lsn) -> io::Result<Found<'_>> {
        let (key, len) = (self.key, self.len);
        let header = self.view(offset, HEADER_BYTES)?;
        let Some((lsn, bytes)) = plausible(header, key, lsn_min) else {
            return Ok(Found::Nothing);
        };
        if offset + bytes as u64 > len {
            return Ok(Found::Nothing);
        }
        let record = self.view(offset, bytes)?;
        let checks = record.get(..4) == Some(&key.checksum(record).to_le_bytes()[..]);
        if record.len() < bytes || !checks && !fault::is(Fault::ScanIgnoresChecksum) {
            return Ok(Found::Nothing);
        }
        let ops = ops_of(record);
        Ok(match GroupHeader::take(ops) {
            Some(header) => Found::Group(header, lsn),
            None => Found::Record(lsn, ops, bytes as u64),
        })
    }

    /// The first place from `offset` on where something begins that checks.
    pub(crate) fn search(&mut self, mut offset: u64, lsn_min: Lsn) -> io::Result<Option<u64>> {
        let key = self.key;
        while offset + HEADER_BYTES as u64 <= self.len {
            let piece = self.view(offset, PIECE_BYTES)?;
            if piece.len() < HEADER_BYTES {
                return Ok(None);
            }
            let hit = (0..=piece.len() - HEADER_BYTES)
                .step_by(8)
                .find(|at| plausible(&piece[*at..], key, lsn_min).is_some());
            let passed = hit.unwrap_or((piece.len() - HEADER_BYTES) / 8 * 8 + 8);
            offset += passed as u64;
            if hit.is_some() {
                if !matches!(self.at(offset, lsn_min)?, Found::Nothing) {
                    return Ok(Some(offset));
                }
                offset += 8;
            }
        }
        Ok(None)
    }
}

/// Number and length, if a record with a believable number may begin here.
fn plausible(header: &[u8], key: FileKey, lsn_min: Lsn) -> Option<(Lsn, usize)> {
    let lsn = read_u64(header.get(8..)?)? ^ key.mask;
    let is_near = lsn.checked_sub(lsn_min)? < LSN_AHEAD_MAX;
    is_near.then_some((lsn, length_of(header)?))
}
