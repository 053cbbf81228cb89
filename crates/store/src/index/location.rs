//! Location of a record.

/// Location of a record: the segment's slot in the table of segments, and the offset in units of 8
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// At least 1.
    pub(crate) slot: u16,
    /// Offset / 8, below 2^23.
    pub(crate) at: u32,
}

impl Location {
    pub(crate) fn new(slot: u16, offset: u64) -> Self {
        Location {
            slot,
            at: (offset / 8) as u32,
        }
    }

    pub(crate) fn offset(self) -> u64 {
        u64::from(self.at) * 8
    }
}
