//! The header of each group of records.

use super::format::{HEADER_BYTES, read_u32, read_u64, record_bytes};
use super::kind;
use super::names::Lsn;

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) number: u64,
    /// Every record up to this one was synced when the group was written.
    pub(crate) synced: Lsn,
    /// The first record of the segment.
    pub(crate) segment_first: Lsn,
    /// Records from this one on in older segments are void.
    pub(crate) void_from: Lsn,
    /// Bytes of the records that follow.
    pub(crate) bytes: u64,
    /// Length of the file, a multiple of [`LENGTH_UNIT`]; 0: unknown.
    pub(crate) segment_len: u64,
}

/// Unit of segment lengths: bytes.
pub(crate) const LENGTH_UNIT: u64 = 4096;

const GROUP_OPS_BYTES: usize = 48;

/// Bytes of a group's header, as a record.
pub(crate) const GROUP_BYTES: usize = record_bytes(GROUP_OPS_BYTES);

impl GroupHeader {
    /// Writes the header over the first [`GROUP_BYTES`] of `out`.
    pub(crate) fn put(&self, out: &mut [u8]) {
        out[..GROUP_BYTES].fill(0);
        out[4..8].copy_from_slice(&(GROUP_OPS_BYTES as u32).to_le_bytes());
        out[HEADER_BYTES] = kind::GROUP;
        let units = (self.segment_len / LENGTH_UNIT) as u32;
        out[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&units.to_le_bytes());
        let fields = [
            self.number,
            self.synced,
            self.segment_first,
            self.void_from,
            self.bytes,
        ];
        for (index, field) in fields.iter().enumerate() {
            let at = HEADER_BYTES + 8 + index * 8;
            out[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Decodes it from the operations of a record; `None` if the record is an ordinary one.
    pub(crate) fn take(ops: &[u8]) -> Option<Self> {
        if ops.first() != Some(&kind::GROUP) || ops.len() < GROUP_OPS_BYTES {
            return None;
        }
        let field = |index: usize| read_u64(&ops[8 + index * 8..]);
        Some(GroupHeader {
            number: field(0)?,
            synced: field(1)?,
            segment_first: field(2)?,
            void_from: field(3)?,
            bytes: field(4)?,
            segment_len: u64::from(read_u32(&ops[4..])?) * LENGTH_UNIT,
        })
    }
}
