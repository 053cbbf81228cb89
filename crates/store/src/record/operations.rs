//! Decodes the operations of a record.

use martlet_rows::{take_difference, take_varint};

use super::format::{
    HAS_EXTRA, HOLDS_SHIFT, HOLDS_TOLD, LANE_ZERO, Last, NOTE_ZERO, SAME_BODY, SAME_QUEUE, read_u64,
};
use super::kind;
use super::names::{BodyId, EntryKey, Holds, Lsn, QueueId, StateKey};

/// One operation, as decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Body(BodyId, Holds, &'a [u8]),
    Release(BodyId, Holds),
    Enqueue(EntryKey, [u64; 2], &'a [u8]),
    Amend(EntryKey, [u64; 2]),
    End(EntryKey),
    Token(QueueId, u32, u32),
    EndToken(QueueId, u32),
    State(StateKey, &'a [u8]),
    RemoveState(StateKey),
    Forget(u64),
    MovedBody(BodyId, Lsn, Option<Holds>, &'a [u8]),
    MovedState(StateKey, &'a [u8]),
}

/// The operations of a record, in order; ends early at invalid bytes.
#[derive(Clone, Debug)]
pub(crate) struct Ops<'a> {
    rest: &'a [u8],
    last: Last,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(ops: &'a [u8]) -> Self {
        Ops {
            rest: ops,
            last: Last::default(),
        }
    }

    fn take_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn take_u64(&mut self) -> Option<u64> {
        let value = read_u64(self.rest)?;
        self.rest = &self.rest[8..];
        Some(value)
    }

    fn take_u32(&mut self) -> Option<u32> {
        u32::try_from(take_varint(&mut self.rest)?).ok()
    }

    fn take_bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(take_varint(&mut self.rest)?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn take_key(&mut self) -> Option<StateKey> {
        Some(StateKey {
            owner: self.take_u64()?,
            kind: self.take_byte()?,
            number: self.take_u32()?,
        })
    }

    fn take_body(&mut self, tag: u8) -> Option<BodyId> {
        if tag & SAME_BODY == 0 {
            self.last.body = Some(BodyId(self.take_u64()?));
        }
        self.last.body
    }

    fn take_entry(&mut self, tag: u8) -> Option<EntryKey> {
        let queue = QueueId(self.take_u64()?);
        let body = self.take_body(tag)?;
        let lane = self.take_lane(tag)?;
        self.last.queue = Some(queue);
        Some(EntryKey { queue, body, lane })
    }

    fn take_next_entry(&mut self, tag: u8) -> Option<EntryKey> {
        let queue = match tag & SAME_QUEUE {
            0 => QueueId(self.take_u64()?),
            _ => self.last.queue?,
        };
        let before = self.last.body?.turned();
        let body = BodyId::of_turned(take_difference(&mut self.rest, before)?);
        let lane = self.take_lane(tag)?;
        (self.last.queue, self.last.body) = (Some(queue), Some(body));
        Some(EntryKey { queue, body, lane })
    }

    fn take_lane(&mut self, tag: u8) -> Option<u8> {
        match tag & LANE_ZERO {
            0 => self.take_byte(),
            _ => Some(0),
        }
    }

    fn take_note(&mut self, tag: u8) -> Option<[u64; 2]> {
        self.last.note = match tag & NOTE_ZERO {
            0 => [take_varint(&mut self.rest)?, take_varint(&mut self.rest)?],
            _ => [0, 0],
        };
        Some(self.last.note)
    }

    fn take_next_note(&mut self) -> Option<[u64; 2]> {
        let [first, second] = self.last.note;
        let first = take_difference(&mut self.rest, first)?;
        let second = take_difference(&mut self.rest, second)?;
        self.last.note = [first, second];
        Some(self.last.note)
    }

    #[inline]
    fn take_op(&mut self) -> Option<Op<'a>> {
        let tag = self.take_byte()?;
        Some(match tag & 0x0f {
            kind::BODY => {
                let id = BodyId(self.take_u64()?);
                self.last.body = Some(id);
                let holds = Holds::from_bits(self.take_byte()?);
                Op::Body(id, holds, self.take_bytes()?)
            }
            kind::RELEASE => {
                let id = self.take_body(tag)?;
                Op::Release(id, Holds::from_bits(self.take_byte()?))
            }
            kind::ENQUEUE => {
                let entry = self.take_entry(tag)?;
                let note = self.take_note(tag)?;
                let extra = match tag & HAS_EXTRA {
                    0 => &[],
                    _ => self.take_bytes()?,
                };
                Op::Enqueue(entry, note, extra)
            }
            kind::AMEND => Op::Amend(self.take_entry(tag)?, self.take_note(tag)?),
            kind::END => Op::End(self.take_entry(tag)?),
            kind::AMEND_NEXT => Op::Amend(self.take_next_entry(tag)?, self.take_next_note()?),
            kind::END_NEXT => Op::End(self.take_next_entry(tag)?),
            kind::TOKEN => {
                let queue = QueueId(self.take_u64()?);
                Op::Token(queue, self.take_u32()?, self.take_u32()?)
            }
            kind::END_TOKEN => Op::EndToken(QueueId(self.take_u64()?), self.take_u32()?),
            kind::STATE => Op::State(self.take_key()?, self.take_bytes()?),
            kind::REMOVE_STATE => Op::RemoveState(self.take_key()?),
            kind::FORGET => Op::Forget(self.take_u64()?),
            kind::MOVED_BODY => {
                let id = BodyId(self.take_u64()?);
                self.last.body = Some(id);
                let holds = Holds::from_bits(tag >> HOLDS_SHIFT);
                let holds = (tag & HOLDS_TOLD != 0).then_some(holds);
                Op::MovedBody(id, self.take_u64()?, holds, self.take_bytes()?)
            }
            kind::MOVED_STATE => Op::MovedState(self.take_key()?, self.take_bytes()?),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    #[inline]
    fn next(&mut self) -> Option<Op<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let op = self.take_op();
        if op.is_none() {
            self.rest = &[];
        }
        op
    }
}
