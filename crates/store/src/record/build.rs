//! Building records.

use martlet_rows::{put_difference, put_varint};

use super::format::{
    HAS_EXTRA, HEADER_BYTES, HOLDS_SHIFT, HOLDS_TOLD, LANE_ZERO, Last, NOTE_ZERO, RECORD_BYTES_MAX,
    SAME_BODY, SAME_QUEUE, record_bytes,
};
use super::kind;
use super::names::{BodyId, Holds, Lsn, QueueId, StateKey};

/// A buffer of records for the engine; it grows. Building records allocates nothing else.
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

    /// Begins a record. It ends when the builder is dropped; a record without operations is left
    /// out.
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

    /// Bytes of memory of the buffer.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Number of records.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of records that were left out because they were longer than [`RECORD_BYTES_MAX`].
    pub fn too_long(&self) -> usize {
        self.too_long
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.too_long = 0;
    }

    /// Appends the records of another buffer, in order.
    pub fn extend(&mut self, other: &RecordBuffer) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
        self.too_long += other.too_long;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A record under construction: all its operations take effect, or none.
#[derive(Debug)]
pub struct RecordBuilder<'a> {
    buffer: &'a mut RecordBuffer,
    begin: usize,
    last: Last,
}

impl RecordBuilder<'_> {
    /// Stores a body, given in pieces. Ignored if the id exists already. Without a hold it dies at
    /// the end of this record, unless an entry refers to it by then.
    pub fn body(&mut self, id: BodyId, holds: Holds, pieces: &[&[u8]]) {
        self.begin_op(kind::BODY);
        self.put_u64(id.0);
        self.out().push(holds.bits());
        self.put_pieces(pieces);
        self.last.body = Some(id);
    }

    /// Removes holds of a body; if the body comes later, it arrives without them.
    pub fn release(&mut self, id: BodyId, holds: Holds) {
        let same = self.same_body(id);
        self.begin_op(kind::RELEASE | same);
        self.put_body(same, id);
        self.out().push(holds.bits());
    }

    /// Adds an entry at the queue's end. Ignored if it exists already.
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

    /// Replaces an entry's note; the entry keeps its position. Ignored if it does not exist.
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

    /// Adds a token to the queue's small set, or replaces its note.
    pub fn token(&mut self, queue: QueueId, token: u32, note: u32) {
        self.begin_op(kind::TOKEN);
        self.put_u64(queue.0);
        put_varint(self.out(), token.into());
        put_varint(self.out(), note.into());
    }

    /// Removes a token.
    pub fn end_token(&mut self, queue: QueueId, token: u32) {
        self.begin_op(kind::END_TOKEN);
        self.put_u64(queue.0);
        put_varint(self.out(), token.into());
    }

    /// Sets a state, given in pieces: the latest value wins.
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

    /// Ends all entries and tokens of the queue with this number, and removes all states of this
    /// owner.
    pub fn forget(&mut self, owner: u64) {
        self.begin_op(kind::FORGET);
        self.put_u64(owner);
    }

    /// A body that reclaim copies, with the number of its first record. With its holds if all
    /// entries that refer to it follow in this record: then the record is complete.
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

    /// Encodes an entry as the difference from the one before; false: this record has none before
    /// it.
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
