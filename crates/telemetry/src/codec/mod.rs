//! Encoding of blocks, of the journal and of roll-ups.

pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod columns;

pub(crate) use bytes::{Broken, Reader, put_signed, put_unsigned};

/// Bytes of a checksum.
const BYTES: usize = 4;

/// Appends the checksum of the bytes, for the row of these numbers.
pub(crate) fn put_checksum(to: &mut Vec<u8>, row: &[i64]) {
    let sum = checksum(to, row);
    to.extend_from_slice(&sum.to_le_bytes());
}

/// Removes the checksum from the bytes.
pub(crate) fn checked<'a>(bytes: &'a [u8], row: &[i64]) -> Result<&'a [u8], Broken> {
    let (content, sum) = bytes
        .split_last_chunk::<BYTES>()
        .ok_or(Broken("it is too short"))?;
    match checksum(content, row) == u32::from_le_bytes(*sum) {
        true => Ok(content),
        false => Err(Broken("its checksum is wrong")),
    }
}

/// The checksum of the bytes and of these numbers.
pub(crate) fn checksum(bytes: &[u8], row: &[i64]) -> u32 {
    let sum = crc32c::crc32c(bytes);
    let add = |sum, number: &i64| crc32c::crc32c_append(sum, &number.to_le_bytes());
    row.iter().fold(sum, add)
}
