//! Reads a file of records piece by piece, and finds the next valid record after an invalid one.
//! For recovery, reclaim and checks.
//!
//! A place that the disk cannot read counts as invalid, and is recorded.

use crate::disk::Disk;
use crate::record::{FileKey, GroupHeader, HEADER_BYTES, Lsn, length_of, ops_of, read_u64};
use martlet_fault::{self as fault, Fault};
use std::ops::Range;

/// Bytes read at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes per read where a whole piece cannot be read.
const BLOCK_BYTES: u64 = 4096;
/// Record numbers further ahead than this are rejected as invalid.
const LSN_AHEAD_MAX: u64 = 1 << 40;

/// A file read through a buffer.
pub(crate) struct Window<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    key: FileKey,
    /// Length of the file.
    len: u64,
    buffer: Vec<u8>,
    begin: u64,
    unreadable: Vec<Unreadable>,
}

/// A place that the disk could not read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub(crate) place: Range<u64>,
    /// The error of the disk.
    pub(crate) error: String,
}

/// Item that is stored at an offset.
pub(crate) enum ScanItem<'b> {
    /// A group's header; the number is that of the group's first record.
    Group(GroupHeader, Lsn),
    /// A record with its operations and its length.
    Record(Lsn, &'b [u8], u64),
    /// No valid record.
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
            unreadable: Vec::new(),
        }
    }

    /// The first of the unreadable places found so far that overlaps these bytes.
    pub(crate) fn unreadable(&self, bytes: Range<u64>) -> Option<&Unreadable> {
        let places = self.unreadable.iter().filter(|unreadable| {
            unreadable.place.start < bytes.end && bytes.start < unreadable.place.end
        });
        places.min_by_key(|unreadable| unreadable.place.start)
    }

    /// Bytes from `offset`; fewer at the end of the file.
    fn view(&mut self, offset: u64, bytes: usize) -> &[u8] {
        let end = (offset + bytes as u64).min(self.len);
        if offset < self.begin || end > self.begin + self.buffer.len() as u64 {
            let wanted = bytes.max(PIECE_BYTES) as u64;
            let count = wanted.min(self.len.saturating_sub(offset)) as usize;
            self.buffer.resize(count, 0);
            self.begin = offset;
            match self.disk.read_at(self.file, offset, &mut self.buffer) {
                Ok(filled) => self.buffer.truncate(filled),
                Err(_) => self.fill_block_by_block(),
            }
        }
        let from = (offset.saturating_sub(self.begin) as usize).min(self.buffer.len());
        let to = (from + bytes).min(self.buffer.len());
        &self.buffer[from..to]
    }

    /// Fills the buffer when not all of it can be read, with zeros for the unreadable blocks.
    fn fill_block_by_block(&mut self) {
        let mut at = 0;
        while at < self.buffer.len() {
            let begin = self.begin + at as u64;
            let end = (begin / BLOCK_BYTES + 1) * BLOCK_BYTES;
            let to = ((end - self.begin) as usize).min(self.buffer.len());
            match self
                .disk
                .read_at(self.file, begin, &mut self.buffer[at..to])
            {
                Ok(filled) if filled == to - at => {}
                Ok(filled) => return self.buffer.truncate(at + filled),
                Err(error) => {
                    self.buffer[at..to].fill(0);
                    self.note_unreadable(begin..self.begin + to as u64, &error);
                }
            }
            at = to;
        }
    }

    fn note_unreadable(&mut self, place: Range<u64>, error: &std::io::Error) {
        if self
            .unreadable
            .iter()
            .any(|known| known.place.contains(&place.start))
        {
            return;
        }
        match self.unreadable.last_mut() {
            Some(last) if last.place.end == place.start => last.place.end = place.end,
            _ => self.unreadable.push(Unreadable {
                place,
                error: error.to_string(),
            }),
        }
    }

    /// The bytes of the record at `offset`, not verified; empty if there is none.
    pub(crate) fn record(&mut self, offset: u64) -> &[u8] {
        let header = self.view(offset, HEADER_BYTES);
        let bytes = length_of(header).unwrap_or(0);
        self.view(offset, bytes)
    }

    /// Whether the record or group at `offset` extends beyond the end of the file.
    pub(crate) fn is_cut_off(&mut self, offset: u64) -> bool {
        let (key, len) = (self.key, self.len);
        let header = self.view(offset, HEADER_BYTES);
        let Some((_, bytes)) = plausible(header, key, 0) else {
            return offset < len && header.len() < HEADER_BYTES;
        };
        let behind = match self.at(offset, 0) {
            ScanItem::Group(header, _) => header.bytes,
            _ => 0,
        };
        offset + bytes as u64 + behind > len
    }

    /// The item at `offset`, if its number is at least `lsn_min`.
    pub(crate) fn at(&mut self, offset: u64, lsn_min: Lsn) -> ScanItem<'_> {
        let (key, len) = (self.key, self.len);
        let header = self.view(offset, HEADER_BYTES);
        let Some((lsn, bytes)) = plausible(header, key, lsn_min) else {
            return ScanItem::Nothing;
        };
        if offset + bytes as u64 > len {
            return ScanItem::Nothing;
        }
        let record = self.view(offset, bytes);
        let checks = record.get(..4) == Some(&key.checksum(record).to_le_bytes()[..]);
        if record.len() < bytes || !checks && !fault::is(Fault::ScanIgnoresChecksum) {
            return ScanItem::Nothing;
        }
        let ops = ops_of(record);
        match GroupHeader::take(ops) {
            Some(header) => ScanItem::Group(header, lsn),
            None => ScanItem::Record(lsn, ops, bytes as u64),
        }
    }

    /// The first offset from `offset` on at which a valid item begins.
    pub(crate) fn search(&mut self, mut offset: u64, lsn_min: Lsn) -> Option<u64> {
        let key = self.key;
        while offset + HEADER_BYTES as u64 <= self.len {
            let piece = self.view(offset, PIECE_BYTES);
            if piece.len() < HEADER_BYTES {
                return None;
            }
            let hit = (0..=piece.len() - HEADER_BYTES)
                .step_by(8)
                .find(|at| plausible(&piece[*at..], key, lsn_min).is_some());
            let passed = hit.unwrap_or((piece.len() - HEADER_BYTES) / 8 * 8 + 8);
            offset += passed as u64;
            if hit.is_some() {
                if !matches!(self.at(offset, lsn_min), ScanItem::Nothing) {
                    return Some(offset);
                }
                offset += 8;
            }
        }
        None
    }
}

/// Number and length, if a record with a plausible number may begin here.
fn plausible(header: &[u8], key: FileKey, lsn_min: Lsn) -> Option<(Lsn, usize)> {
    let lsn = read_u64(header.get(8..)?)? ^ key.mask;
    let is_near = lsn.checked_sub(lsn_min)? < LSN_AHEAD_MAX;
    is_near.then_some((lsn, length_of(header)?))
}
