//! Reads records from the disk, verified.
//!
//! Nothing is returned with an invalid checksum, or of another body.

use crate::disk::Disk;
use crate::record::{BodyId, GroupHeader, Lsn, Op, Ops, StateKey, length_of, ops_of, read_u64};
use crate::segment::SegmentFile;
use martlet_fault::{self as fault, Fault};
use std::fmt;
use std::sync::Arc;

/// Bodies this close together are read with one call: bytes between them, and in total.
pub(crate) const NEIGHBOUR_BYTES: u64 = 4096;
const READ_BYTES_MAX: u64 = 256 * 1024;
/// Reason why a body or state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// There is no body or state of that name.
    Unknown,
    /// The record at its place is invalid.
    Damaged {
        /// The file.
        file: String,
        /// Offset in it, bytes.
        offset: u64,
    },
    /// The disk failed to read it.
    Disk {
        /// The file.
        file: String,
        /// Offset in it, bytes.
        offset: u64,
        /// Kind of the error.
        kind: std::io::ErrorKind,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Unknown => f.write_str("not in the store"),
            Missing::Damaged { file, offset } => write!(f, "{file} at {offset} is damaged"),
            Missing::Disk { file, offset, kind } => write!(f, "{file} at {offset}: {kind}"),
        }
    }
}

/// Where a body is stored: for reading it without the engine. While this value exists, the place
/// is not reused.
#[derive(Clone, Debug)]
pub struct Located<F> {
    pub(crate) id: BodyId,
    pub(crate) file: Arc<SegmentFile<F>>,
    pub(crate) offset: u64,
    /// Approximate number of bytes of its record.
    pub(crate) bytes: u64,
}

/// Reads many bodies in file order, neighbours with one call, and calls `each` with the value that
/// was passed with each body. Bodies of queues that were filled together are neighbours.
pub fn read_located<D: Disk, T: Copy>(
    disk: &D,
    located: &[(&Located<D::File>, T)],
    mut each: impl FnMut(T, Result<&[u8], Missing>),
) {
    let wanted = located.iter().map(|(located, what)| RecordRead {
        what: (located.id, *what),
        spot: Spot {
            file: &located.file,
            offset: located.offset,
        },
        bytes: located.bytes,
    });
    read_all(disk, wanted.collect(), |(id, what), found| {
        each(what, body_in(found, id));
    });
}

/// A record's place in a file.
pub(crate) struct Spot<'a, F> {
    pub(crate) file: &'a SegmentFile<F>,
    pub(crate) offset: u64,
}

impl<F> Spot<'_, F> {
    fn name(&self) -> String {
        crate::segment::name(self.file.number)
    }

    pub(crate) fn damaged(&self) -> Missing {
        Missing::Damaged {
            file: self.name(),
            offset: self.offset,
        }
    }

    fn failed(&self, error: &std::io::Error) -> Missing {
        Missing::Disk {
            file: self.name(),
            offset: self.offset,
            kind: error.kind(),
        }
    }

    /// Reads and verifies the whole record; `bytes` is an estimate.
    fn read<'b, D: Disk<File = F>>(
        &self,
        disk: &D,
        bytes: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], Missing> {
        buffer.resize(bytes.max(64), 0);
        let mut filled = disk
            .read_at(&self.file.file, self.offset, buffer)
            .map_err(|e| self.failed(&e))?;
        let len = length_of(&buffer[..filled]).ok_or_else(|| self.damaged())?;
        // In steps: a damaged length may be longer than the file.
        while filled < len && filled == buffer.len() {
            buffer.resize(len.min(2 * filled), 0);
            let (_, rest) = buffer.split_at_mut(filled);
            filled += disk
                .read_at(&self.file.file, self.offset + filled as u64, rest)
                .map_err(|e| self.failed(&e))?;
        }
        if len > filled {
            return Err(self.damaged());
        }
        self.verify(&buffer[..len])
    }

    fn verify<'b>(&self, record: &'b [u8]) -> Result<&'b [u8], Missing> {
        match record[..4] == self.file.key.checksum(record).to_le_bytes() {
            true => Ok(record),
            false if fault::is(Fault::ChecksumIgnored) => Ok(record),
            false => Err(self.damaged()),
        }
    }

    /// The number of the record in which an item first came.
    pub(crate) fn lsn(&self, record: &[u8], first: Option<Lsn>) -> Lsn {
        let own = read_u64(&record[8..]).unwrap_or(0) ^ self.file.key.mask;
        debug_assert!(GroupHeader::take(ops_of(record)).is_none());
        first.unwrap_or(own)
    }
}

/// The body in a verified record, and the number of the record it first came with (masked if it is
/// this record).
pub(crate) fn body_of(record: &[u8], id: BodyId) -> Option<(Option<Lsn>, &[u8])> {
    Ops::new(ops_of(record)).find_map(|op| match op {
        Op::Body(other, _, bytes) if other == id => Some((None, bytes)),
        Op::MovedBody(other, first, _, bytes) if other == id => Some((Some(first), bytes)),
        _ => None,
    })
}

pub(crate) fn state_of(record: &[u8], key: StateKey) -> Option<&[u8]> {
    // The last one wins.
    let states = Ops::new(ops_of(record)).filter_map(|op| match op {
        Op::State(other, bytes) | Op::MovedState(other, bytes) if other == key => Some(bytes),
        _ => None,
    });
    states.last()
}

/// Result for one place: a valid record or an error.
pub(crate) type Read<'a, 'b, F> = Result<(&'b Spot<'a, F>, &'b [u8]), Missing>;

/// The body `id` from the record that was read for it.
pub(crate) fn body_in<'b, F>(found: Read<'_, 'b, F>, id: BodyId) -> Result<&'b [u8], Missing> {
    let (spot, record) = found?;
    let body = body_of(record, id).ok_or_else(|| spot.damaged())?;
    Ok(body.1)
}

/// A record to read.
pub(crate) struct RecordRead<'a, F, T> {
    pub(crate) what: T,
    pub(crate) spot: Spot<'a, F>,
    /// Approximate number of bytes of its record.
    pub(crate) bytes: u64,
}

/// Reads records in disk order, neighbours with one call.
pub(crate) fn read_all<D: Disk, T: Copy>(
    disk: &D,
    mut wanted: Vec<RecordRead<'_, D::File, T>>,
    mut each: impl FnMut(T, Read<'_, '_, D::File>),
) {
    // The pages of each queue are already in order, which a stable sort uses.
    wanted.sort_by_key(|wanted| (wanted.spot.file.number, wanted.spot.offset));
    let mut buffer = Vec::new();
    let mut alone = Vec::new();
    let mut rest = &wanted[..];
    while let Some(first) = rest.first() {
        let (begin, end, count) = neighbours(first, rest);
        let (run, others) = rest.split_at(count);
        rest = others;
        buffer.resize((end - begin) as usize, 0);
        let read = disk.read_at(&first.spot.file.file, begin, &mut buffer);
        // After a failed read, each record is read alone, to get its own error.
        let filled = read.unwrap_or(0);
        for RecordRead { what, spot, bytes } in run {
            let there = buffer.get((spot.offset - begin) as usize..filled);
            let there = there.unwrap_or_default();
            let record = match length_of(there) {
                Some(len) if len <= there.len() => spot.verify(&there[..len]),
                _ => spot.read(disk, *bytes as usize, &mut alone),
            };
            each(*what, record.map(|record| (spot, record)));
        }
    }
}

/// How many of the wanted records, from the first on, are read together, and their range.
fn neighbours<F, T>(
    first: &RecordRead<'_, F, T>,
    wanted: &[RecordRead<'_, F, T>],
) -> (u64, u64, usize) {
    let begin = first.spot.offset;
    let mut end = begin + first.bytes;
    let run = wanted.iter().take_while(|next| {
        let next_end = next.spot.offset + next.bytes;
        let is_near = next.spot.file.number == first.spot.file.number
            && next.spot.offset <= end + NEIGHBOUR_BYTES
            && next_end - begin <= READ_BYTES_MAX.max(first.bytes);
        end = if is_near { end.max(next_end) } else { end };
        is_near
    });
    let count = run.count();
    (begin, end, count)
}
