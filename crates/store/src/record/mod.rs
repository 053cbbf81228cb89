//! Records and their operations, as bytes: built by producers and stored in the log.
//!
//! A record is `crc: u32, length of the operations: u32, lsn: u64`, the operations, zeros up to a
//! multiple of 8. The engine fills in number and checksum when it writes. An operation begins with
//! a byte: its kind in the lower half, flags in the upper. Numbers are little-endian, notes and
//! lengths variable-length. Consecutive entries that are ended or amended are encoded as
//! differences from the one before. The decoder trusts no input.

mod build;
mod file_key;
mod format;
mod group;
mod kind;
mod names;
mod operations;

pub use build::{RecordBuffer, RecordBuilder};
pub(crate) use file_key::FileKey;
pub use format::RECORD_BYTES_MAX;
pub(crate) use format::{HEADER_BYTES, length_of, ops_of, read_u32, read_u64, record_bytes};
pub(crate) use group::{GROUP_BYTES, GroupHeader, LENGTH_UNIT};
pub(crate) use names::EntryKey;
pub use names::{BodyId, Holds, Lsn, QueueId, StateKey};
pub(crate) use operations::{Op, Ops};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_built_is_read() {
        let mut buffer = RecordBuffer::new();
        let entry = EntryKey {
            queue: QueueId(9),
            body: BodyId(u64::MAX),
            lane: 0,
        };
        let other = EntryKey { lane: 3, ..entry };
        let key = StateKey {
            owner: 1,
            kind: 2,
            number: u32::MAX,
        };
        {
            let mut record = buffer.record();
            record.body(entry.body, Holds::ROUTING, &[b"ab", b"c"]);
            record.enqueue(entry.queue, entry.body, 0, [0, 0], b"");
            record.enqueue(other.queue, other.body, 3, [1, u64::MAX], b"extra");
            record.amend(entry.queue, BodyId(4), 0, [5, 6]);
            record.end(entry.queue, entry.body, 0);
            record.end(entry.queue, BodyId(3), 7);
            record.end(QueueId(2), BodyId(1 << 58), 0);
            record.amend(QueueId(2), BodyId(2 << 58), 0, [4, u64::MAX]);
            record.release(BodyId(4), Holds::KEPT);
            record.token(QueueId(7), 1, 2);
            record.end_token(QueueId(7), 1);
            record.state(key, &[b"x"]);
            record.remove_state(key);
            record.forget(12);
        }
        let end = buffer.bytes();
        assert_eq!(end % 8, 0);
        drop(buffer.record());
        assert_eq!((buffer.bytes(), buffer.count()), (end, 1));
        let len = read_u32(&buffer.as_bytes()[4..]).unwrap() as usize;
        let ops: Vec<Op<'_>> = Ops::new(&buffer.as_bytes()[HEADER_BYTES..][..len]).collect();
        let four = EntryKey {
            body: BodyId(4),
            ..entry
        };
        let expected = [
            Op::Body(entry.body, Holds::ROUTING, b"abc"),
            Op::Enqueue(entry, [0, 0], b""),
            Op::Enqueue(other, [1, u64::MAX], b"extra"),
            Op::Amend(four, [5, 6]),
            Op::End(entry),
            Op::End(EntryKey {
                body: BodyId(3),
                lane: 7,
                ..entry
            }),
            Op::End(EntryKey {
                queue: QueueId(2),
                body: BodyId(1 << 58),
                lane: 0,
            }),
            Op::Amend(
                EntryKey {
                    queue: QueueId(2),
                    body: BodyId(2 << 58),
                    lane: 0,
                },
                [4, u64::MAX],
            ),
            Op::Release(BodyId(4), Holds::KEPT),
            Op::Token(QueueId(7), 1, 2),
            Op::EndToken(QueueId(7), 1),
            Op::State(key, b"x"),
            Op::RemoveState(key),
            Op::Forget(12),
        ];
        assert_eq!(ops, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_operations_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ops::new(&bytes).count();
            let _ = GroupHeader::take(&bytes);
        }
    }
}
