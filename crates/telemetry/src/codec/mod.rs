//! Encoding of blocks, of the journal and of roll-ups.

pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod columns;

pub(crate) use bytes::{Broken, Reader, put_signed, put_unsigned};
