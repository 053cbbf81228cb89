//! The bytes of a record: its header, and flags of its operations.

use super::names::{BodyId, QueueId};

/// Bytes before a record's operations.
pub(crate) const HEADER_BYTES: usize = 16;

/// Bound of the length of a record's operations: bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// Number of bytes of a record with operations of this length.
pub(crate) const fn record_bytes(ops_bytes: usize) -> usize {
    (HEADER_BYTES + ops_bytes).next_multiple_of(8)
}

/// Flag: the body is that of the operation before.
pub(super) const SAME_BODY: u8 = 0x10;
pub(super) const LANE_ZERO: u8 = 0x20;
pub(super) const NOTE_ZERO: u8 = 0x40;
pub(super) const HAS_EXTRA: u8 = 0x80;
/// Flag of a moved body: its holds are in the bits below this one.
pub(super) const HOLDS_TOLD: u8 = 0x80;
pub(super) const HOLDS_SHIFT: u32 = 4;
/// Flag of the difference kinds: the queue is the same as in the operation before.
pub(super) const SAME_QUEUE: u8 = 0x80;

/// Values that earlier operations of the record named last: the base of differences.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) body: Option<BodyId>,
    pub(super) queue: Option<QueueId>,
    pub(super) note: [u64; 2],
}

pub(crate) fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// Length of the record that begins here, with padding; `None` if there is no valid header.
pub(crate) fn length_of(record: &[u8]) -> Option<usize> {
    let ops_bytes = read_u32(record.get(4..)?)? as usize;
    (1..=RECORD_BYTES_MAX)
        .contains(&ops_bytes)
        .then_some(record_bytes(ops_bytes))
}

/// The operations of a whole record.
pub(crate) fn ops_of(record: &[u8]) -> &[u8] {
    let ops_bytes = record.get(4..).and_then(read_u32).unwrap_or(0) as usize;
    let ops = record.get(HEADER_BYTES..).unwrap_or_default();
    ops.get(..ops_bytes).unwrap_or_default()
}
