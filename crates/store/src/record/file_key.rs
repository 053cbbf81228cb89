//! The key that ties records to their file.

use super::names::Lsn;

/// The key that ties records to one file of one store: checksums begin with it, and numbers are
/// masked by it. So old records of a reused file are not taken for records of the file. The same
/// holds for records imitated in a message by a client that does not know the store's salt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileKey {
    crc: u32,
    pub(crate) mask: u64,
}

impl FileKey {
    /// `number` must never be used for two files of a store.
    pub(crate) fn new(salt: u64, number: u64) -> Self {
        let crc = crc32c::crc32c(&salt.to_le_bytes());
        let mut mask = salt ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mask = (mask ^ (mask >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mask = (mask ^ (mask >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        FileKey {
            crc: crc32c::crc32c_append(crc, &number.to_le_bytes()),
            mask: mask ^ (mask >> 31),
        }
    }

    /// Writes number and checksum into a record, padding included.
    pub(crate) fn seal(self, lsn: Lsn, record: &mut [u8]) {
        record[8..16].copy_from_slice(&(lsn ^ self.mask).to_le_bytes());
        let crc = self.checksum(record);
        record[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Checksum over all bytes after it, padding included.
    pub(crate) fn checksum(self, record: &[u8]) -> u32 {
        crc32c::crc32c_append(self.crc, record.get(4..).unwrap_or_default())
    }
}
