//! Records and the operations in them, as bytes: what producers build and what the log holds.
//!
//! A record is `crc: u32, length of the operations: u32, lsn: u64`, the operations, zeros up to a
//! multiple of 8. The engine fills in number and checksum when it writes. An operation begins with
//! a byte: its kind in the lower half, flags in the upper. Numbers are little-endian, notes and
//! lengths variable-length. Entries that are ended or amended in a row are told by what each
//! differs from the one before. Decoding believes nothing.

use martlet_rows::{put_difference, put_varint, take_difference, take_varint};

/// Number of a record: its place in the total order. The first is 1.
pub type Lsn = u64;

/// A body's name. The upper six bits say which shard gave it; no two bodies ever have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u64);

impl BodyId {
    /// The shard's bits last: ids that several shards give at the same time lie close together.
    pub(crate) fn turned(self) -> u64 {
        self.0.rotate_left(6)
    }

    pub(crate) fn of_turned(turned: u64) -> Self {
        BodyId(turned.rotate_right(6))
    }
}

/// A queue's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A state's name. `owner` is the queue's number where both are forgotten together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// Whose it is.
    pub owner: u64,
    /// What it is; the caller's affair.
    pub kind: u8,
    /// Which one.
    pub number: u32,
}

/// Reasons for a body to live though no entry refers to it: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holds(u8);

impl Holds {
    /// None.
    pub const NONE: Holds = Holds(0);
    /// Not all queues that want it have it yet.
    pub const ROUTING: Holds = Holds(1);
    /// It is retained.
    pub const RETAINED: Holds = Holds(2);
    /// It is kept for another reason.
    pub const KEPT: Holds = Holds(4);

    /// From bits; those without a meaning are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Holds(bits & 7)
    }

    /// As bits: 0 to 7.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// These and those.
    pub const fn with(self, other: Holds) -> Self {
        Holds(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Holds) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: Holds) -> bool {
        self.0 & other.0 != 0
    }
}

/// Bytes before a record's operations.
pub(crate) const HEADER_BYTES: usize = 16;
/// A record's operations are shorter than this: bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// How many bytes a record with operations of this length takes.
pub(crate) const fn record_bytes(ops_bytes: usize) -> usize {
    (HEADER_BYTES + ops_bytes).next_multiple_of(8)
}

mod kind {
    pub(super) const BODY: u8 = 1;
    pub(super) const RELEASE: u8 = 2;
    pub(super) const ENQUEUE: u8 = 3;
    pub(super) const AMEND: u8 = 4;
    pub(super) const END: u8 = 5;
    pub(super) const TOKEN: u8 = 6;
    pub(super) const END_TOKEN: u8 = 7;
    pub(super) const STATE: u8 = 8;
    pub(super) const REMOVE_STATE: u8 = 9;
    pub(super) const FORGET: u8 = 10;
    pub(super) const MOVED_BODY: u8 = 11;
    pub(super) const MOVED_STATE: u8 = 12;
    pub(super) const AMEND_NEXT: u8 = 13;
    pub(super) const END_NEXT: u8 = 14;
    pub(super) const GROUP: u8 = 15;
}

/// The body is that of the operation before.
const SAME_BODY: u8 = 0x10;
const LANE_ZERO: u8 = 0x20;
const NOTE_ZERO: u8 = 0x40;
const HAS_EXTRA: u8 = 0x80;
/// Of a moved body: its holds are in the bits below this one.
const HOLDS_TOLD: u8 = 0x80;
const HOLDS_SHIFT: u32 = 4;
/// Of the kinds that say only what differs from the operation before: the queue does not.
const SAME_QUEUE: u8 = 0x80;

/// What the operations before in the same record named last: what the next ones differ from.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    body: Option<BodyId>,
    queue: Option<QueueId>,
    note: [u64; 2],
}

/// Records on their way to the engine, in one growing buffer. Building them allocates nothing else.
#[derive(Clone, Debug, Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    count: usize,
    too_long: usize,
}

impl RecordBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        RecordBuffer::default()
    }

    /// Begins a record. It ends when the builder is dropped; without an operation it was never
    /// there.
    pub fn record(&mut self) -> RecordBuilder<'_> {
        let begin = self.bytes.len();
        self.bytes.resize(begin + HEADER_BYTES, 0);
        RecordBuilder {
            buffer: self,
            begin,
            last: Last::default(),
        }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many records were left out because they were longer than [`RECORD_BYTES_MAX`].
    pub fn too_long(&self) -> usize {
        self.too_long
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.too_long = 0;
    }

    /// Adds the records of another buffer behind these, in order.
    pub fn extend(&mut self, other: &RecordBuffer) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
        self.too_long += other.too_long;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A record under construction: what it says happens all at once or not at all.
#[derive(Debug)]
pub struct RecordBuilder<'a> {
    buffer: &'a mut RecordBuffer,
    begin: usize,
    last: Last,
}

impl RecordBuilder<'_> {
    /// A content, stored once, given in pieces. Known already: ignored. Without a hold it dies at
    /// the end of this record, unless an entry refers to it by then.
    pub fn body(&mut self, id: BodyId, holds: Holds, pieces: &[&[u8]]) {
        self.begin_op(kind::BODY);
        self.put_u64(id.0);
        self.out().push(holds.bits());
        self.put_pieces(pieces);
        self.last.body = Some(id);
    }

    /// Takes holds away from a body; one that comes later arrives without them.
    pub fn release(&mut self, id: BodyId, holds: Holds) {
        let same = self.same_body(id);
        self.begin_op(kind::RELEASE | same);
        self.put_body(same, id);
        self.out().push(holds.bits());
    }

    /// Adds an entry at the queue's end. There already: ignored.
    pub fn enqueue(
        &mut self,
        queue: QueueId,
        body: BodyId,
        lane: u8,
        note: [u64; 2],
        extra: &[u8],
    ) {
        let extra_flag = if extra.is_empty() { 0 } else { HAS_EXTRA };
        self.put_entry(kind::ENQUEUE | extra_flag, queue, body, lane, Some(note));
        if !extra.is_empty() {
            self.put_pieces(&[extra]);
        }
    }

    /// Replaces an entry's note; it keeps its place. Not there: ignored.
    pub fn amend(&mut self, queue: QueueId, body: BodyId, lane: u8, note: [u64; 2]) {
        let before = self.last.note;
        if !self.put_next(kind::AMEND_NEXT, queue, body, lane) {
            return self.put_entry(kind::AMEND, queue, body, lane, Some(note));
        }
        put_difference(self.out(), before[0], note[0]);
        put_difference(self.out(), before[1], note[1]);
        self.last.note = note;
    }

    /// Ends an entry.
    pub fn end(&mut self, queue: QueueId, body: BodyId, lane: u8) {
        if !self.put_next(kind::END_NEXT, queue, body, lane) {
            self.put_entry(kind::END, queue, body, lane, None);
        }
    }

    /// Puts a token into the queue's small set, or replaces its note.
    pub fn token(&mut self, queue: QueueId, token: u32, note: u32) {
        self.begin_op(kind::TOKEN);
        self.put_u64(queue.0);
        put_varint(self.out(), token.into());
        put_varint(self.out(), note.into());
    }

    /// Takes a token out.
    pub fn end_token(&mut self, queue: QueueId, token: u32) {
        self.begin_op(kind::END_TOKEN);
        self.put_u64(queue.0);
        put_varint(self.out(), token.into());
    }

    /// Sets a state, given in pieces: the latest wins.
    pub fn state(&mut self, key: StateKey, pieces: &[&[u8]]) {
        self.begin_op(kind::STATE);
        self.put_key(key);
        self.put_pieces(pieces);
    }

    /// Removes a state.
    pub fn remove_state(&mut self, key: StateKey) {
        self.begin_op(kind::REMOVE_STATE);
        self.put_key(key);
    }

    /// Ends all entries and tokens of the queue with this number, and all states of this owner.
    pub fn forget(&mut self, owner: u64) {
        self.begin_op(kind::FORGET);
        self.put_u64(owner);
    }

    /// A body that reclaim copies, with the number of its first record; with its holds if all
    /// entries that refer to it follow in this record, so that the record says all there is to say.
    pub(crate) fn moved_body(
        &mut self,
        id: BodyId,
        first: Lsn,
        holds: Option<Holds>,
        bytes: &[u8],
    ) {
        let told = holds.map_or(0, |holds| HOLDS_TOLD | holds.bits() << HOLDS_SHIFT);
        self.begin_op(kind::MOVED_BODY | told);
        self.put_u64(id.0);
        self.put_u64(first);
        self.put_pieces(&[bytes]);
        self.last.body = Some(id);
    }

    /// A state that reclaim copies.
    pub(crate) fn moved_state(&mut self, key: StateKey, bytes: &[u8]) {
        self.begin_op(kind::MOVED_STATE);
        self.put_key(key);
        self.put_pieces(&[bytes]);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.buffer.bytes
    }

    fn begin_op(&mut self, tag: u8) {
        self.out().push(tag);
    }

    fn put_u64(&mut self, value: u64) {
        self.out().extend_from_slice(&value.to_le_bytes());
    }

    fn put_pieces(&mut self, pieces: &[&[u8]]) {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        put_varint(self.out(), bytes as u64);
        for piece in pieces {
            self.out().extend_from_slice(piece);
        }
    }

    fn put_key(&mut self, key: StateKey) {
        self.put_u64(key.owner);
        self.out().push(key.kind);
        put_varint(self.out(), key.number.into());
    }

    fn same_body(&self, id: BodyId) -> u8 {
        if self.last.body == Some(id) {
            SAME_BODY
        } else {
            0
        }
    }

    fn put_body(&mut self, same: u8, id: BodyId) {
        if same == 0 {
            self.put_u64(id.0);
            self.last.body = Some(id);
        }
    }

    /// An entry as what it differs from the one before; false: none is before it in this record.
    fn put_next(&mut self, kind: u8, queue: QueueId, body: BodyId, lane: u8) -> bool {
        let (Some(last_queue), Some(last_body)) = (self.last.queue, self.last.body) else {
            return false;
        };
        let same_queue = if queue == last_queue { SAME_QUEUE } else { 0 };
        let lane_zero = if lane == 0 { LANE_ZERO } else { 0 };
        self.begin_op(kind | same_queue | lane_zero);
        if same_queue == 0 {
            self.put_u64(queue.0);
        }
        put_difference(self.out(), last_body.turned(), body.turned());
        if lane != 0 {
            self.out().push(lane);
        }
        (self.last.queue, self.last.body) = (Some(queue), Some(body));
        true
    }

    fn put_entry(
        &mut self,
        kind: u8,
        queue: QueueId,
        body: BodyId,
        lane: u8,
        note: Option<[u64; 2]>,
    ) {
        let same = self.same_body(body);
        let lane_zero = if lane == 0 { LANE_ZERO } else { 0 };
        let note_zero = if note == Some([0, 0]) { NOTE_ZERO } else { 0 };
        self.begin_op(kind | same | lane_zero | note_zero);
        self.put_u64(queue.0);
        self.put_body(same, body);
        if lane != 0 {
            self.out().push(lane);
        }
        self.last.queue = Some(queue);
        let Some(note) = note else { return };
        self.last.note = note;
        if note_zero == 0 {
            put_varint(self.out(), note[0]);
            put_varint(self.out(), note[1]);
        }
    }
}

impl Drop for RecordBuilder<'_> {
    fn drop(&mut self) {
        let begin = self.begin;
        let bytes = &mut self.buffer.bytes;
        let ops_bytes = bytes.len() - begin - HEADER_BYTES;
        if ops_bytes == 0 || ops_bytes > RECORD_BYTES_MAX {
            bytes.truncate(begin);
            self.buffer.too_long += usize::from(ops_bytes > 0);
            return;
        }
        bytes[begin + 4..begin + 8].copy_from_slice(&(ops_bytes as u32).to_le_bytes());
        bytes.resize(begin + record_bytes(ops_bytes), 0);
        self.buffer.count += 1;
    }
}

/// What stands at the beginning of each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) number: u64,
    /// Every record up to this one was synced when the group was written.
    pub(crate) synced: Lsn,
    /// The first record of the segment.
    pub(crate) segment_first: Lsn,
    /// What older segments hold from this record on is void.
    pub(crate) void_from: Lsn,
    /// Bytes of the records that follow.
    pub(crate) bytes: u64,
    /// Length of the file, a multiple of [`LENGTH_UNIT`]; 0: not said.
    pub(crate) segment_len: u64,
}

/// What lengths of segments are counted in: bytes.
pub(crate) const LENGTH_UNIT: u64 = 4096;

const GROUP_OPS_BYTES: usize = 48;
/// Bytes of a group's header, as a record.
pub(crate) const GROUP_BYTES: usize = record_bytes(GROUP_OPS_BYTES);

impl GroupHeader {
    /// Writes it over the first [`GROUP_BYTES`] of `out`.
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

    /// From the operations of a record; `None` if it is an ordinary one.
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

/// One operation, as decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Body(BodyId, Holds, &'a [u8]),
    Release(BodyId, Holds),
    Enqueue(Entry, [u64; 2], &'a [u8]),
    Amend(Entry, [u64; 2]),
    End(Entry),
    Token(QueueId, u32, u32),
    EndToken(QueueId, u32),
    State(StateKey, &'a [u8]),
    RemoveState(StateKey),
    Forget(u64),
    MovedBody(BodyId, Lsn, Option<Holds>, &'a [u8]),
    MovedState(StateKey, &'a [u8]),
}

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) queue: QueueId,
    pub(crate) body: BodyId,
    pub(crate) lane: u8,
}

/// The operations of a record, in order; ends early at bytes that are none.
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

    fn take_entry(&mut self, tag: u8) -> Option<Entry> {
        let queue = QueueId(self.take_u64()?);
        let body = self.take_body(tag)?;
        let lane = self.take_lane(tag)?;
        self.last.queue = Some(queue);
        Some(Entry { queue, body, lane })
    }

    fn take_next_entry(&mut self, tag: u8) -> Option<Entry> {
        let queue = match tag & SAME_QUEUE {
            0 => QueueId(self.take_u64()?),
            _ => self.last.queue?,
        };
        let before = self.last.body?.turned();
        let body = BodyId::of_turned(take_difference(&mut self.rest, before)?);
        let lane = self.take_lane(tag)?;
        (self.last.queue, self.last.body) = (Some(queue), Some(body));
        Some(Entry { queue, body, lane })
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

pub(crate) fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// What makes the records of one file of one store its own: checksums begin with it and numbers are
/// masked by it. So records of a file used again, or imitated in a message by a client that does
/// not know the store's salt, are not taken for the file's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileKey {
    crc: u32,
    pub(crate) mask: u64,
}

impl FileKey {
    /// `number` is never used for two files of a store.
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

    /// Puts number and checksum into a record, padding included.
    pub(crate) fn seal(self, lsn: Lsn, record: &mut [u8]) {
        record[8..16].copy_from_slice(&(lsn ^ self.mask).to_le_bytes());
        let crc = self.checksum(record);
        record[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Over all that follows it, padding too.
    pub(crate) fn checksum(self, record: &[u8]) -> u32 {
        crc32c::crc32c_append(self.crc, record.get(4..).unwrap_or_default())
    }
}

/// Length of the record that begins here, its padding included; `None` if no header does.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_built_is_read() {
        let mut buffer = RecordBuffer::new();
        let entry = Entry {
            queue: QueueId(9),
            body: BodyId(u64::MAX),
            lane: 0,
        };
        let other = Entry { lane: 3, ..entry };
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
        let four = Entry {
            body: BodyId(4),
            ..entry
        };
        let expected = [
            Op::Body(entry.body, Holds::ROUTING, b"abc"),
            Op::Enqueue(entry, [0, 0], b""),
            Op::Enqueue(other, [1, u64::MAX], b"extra"),
            Op::Amend(four, [5, 6]),
            Op::End(entry),
            Op::End(Entry {
                body: BodyId(3),
                lane: 7,
                ..entry
            }),
            Op::End(Entry {
                queue: QueueId(2),
                body: BodyId(1 << 58),
                lane: 0,
            }),
            Op::Amend(
                Entry {
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
