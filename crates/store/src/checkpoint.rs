//! The checkpoint: durable storage of all small data, as the exact image of the moment after one
//! record. It is written in slices, as two files with the same contents, which get their names
//! when both are complete and synced. Recovery takes each block from a copy in which it is valid.
//!
//! A checkpoint is a sequence of blocks in the format of records: numbered from 1; the first byte
//! of their operations is the kind of their contents.

mod load;
mod write;

use crate::record::{FileKey, Lsn};
pub(crate) use load::{ReplayFrom, load};

mod kind {
    pub(super) const BEGIN: u8 = 0x81;
    pub(super) const BODIES: u8 = 0x82;
    pub(super) const QUEUES: u8 = 0x83;
    pub(super) const STATES: u8 = 0x84;
    pub(super) const END: u8 = 0x85;
}

/// Bytes of a block, approximately.
const BLOCK_BYTES: usize = 64 * 1024;
pub(crate) const COPIES: [char; 2] = ['a', 'b'];

/// A checkpoint that is being written.
pub(crate) struct Checkpointing<F> {
    pub(crate) number: u64,
    pub(crate) lsn: Lsn,
    files: [F; 2],
    key: FileKey,
    offset: u64,
    synced: u64,
    blocks: u64,
    stage: Stage,
    /// Bytes written since the previous checkpoint when this one began.
    tail_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Bodies,
    Queues,
    States,
    End,
}

/// The last complete checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpointed {
    pub(crate) number: u64,
    /// Number of the record of whose moment after it is the image.
    pub(crate) lsn: Lsn,
    /// Bytes of one copy.
    pub(crate) bytes: u64,
}

/// The file name of a copy.
pub(crate) fn name(number: u64, copy: char) -> String {
    format!("{number:08}.{copy}.checkpoint")
}

/// Number and copy from a file name.
pub(crate) fn number_of(name: &str) -> Option<(u64, char)> {
    let (digits, copy) = name.strip_suffix(".checkpoint")?.split_once('.')?;
    let is_number = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let copy = COPIES.into_iter().find(|known| copy == known.to_string());
    Some((digits.parse().ok().filter(|_| is_number)?, copy?))
}

fn new_name(copy: char) -> String {
    format!("{copy}.checkpoint.new")
}

pub(crate) fn key(salt: u64, number: u64) -> FileKey {
    FileKey::new(salt, number | 1 << 63)
}
