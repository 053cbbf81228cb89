//! SUBACK packets that wait for share groups.

use martlet_codec::{PacketId, ReasonCode};
use slab::Slab;

use crate::id::{ConnectionId, RecordNumber};
use crate::subscribe::half_done::HalfDone;

/// Answers to SUBSCRIBE that wait for share groups.
#[derive(Debug, Default)]
pub(crate) struct PendingSubAcks {
    all: Slab<PendingSubAck>,
    /// Bytes of these answers, and of those to packets that are half done.
    bytes: usize,
}

/// Entries for which the table keeps its memory while it is empty.
const KEPT_ENTRIES: usize = 16 * 1024;

impl PendingSubAcks {
    /// The token that the next answer will have.
    pub(crate) fn next_token(&self) -> usize {
        self.all.vacant_key()
    }

    /// Keeps an answer; its token.
    pub(crate) fn insert(&mut self, pending: PendingSubAck) -> usize {
        self.bytes += pending.origin.bytes();
        self.all.insert(pending)
    }

    /// Adds the answers of `joining` more share groups to those that are awaited.
    pub(crate) fn add_expected(&mut self, token: usize, joining: u32) {
        if let Some(pending) = self.all.get_mut(token) {
            pending.missing += joining;
        }
    }

    /// All filters of the packet have their answer, except for those of share groups. Returns false
    /// if the answer is not awaited any more.
    pub(crate) fn set_all_requested(
        &mut self,
        token: usize,
        origin: SubscribeOrigin,
        record: RecordNumber,
    ) -> bool {
        let Some(pending) = self.all.get_mut(token) else {
            return false;
        };
        self.bytes += origin.bytes();
        (pending.origin, pending.record) = (origin, record);
        true
    }

    /// A share group has answered. Returns the whole answer if it was the last.
    pub(crate) fn joined(&mut self, token: usize) -> Option<PendingSubAck> {
        let pending = self.all.get_mut(token)?;
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        let pending = self.all.remove(token);
        self.bytes -= pending.origin.bytes();
        Some(pending)
    }

    /// A packet is half done.
    pub(crate) fn count(&mut self, half_done: &HalfDone) {
        self.bytes += half_done.bytes();
    }

    /// The packet goes on.
    pub(crate) fn uncount(&mut self, half_done: &HalfDone) {
        self.bytes -= half_done.bytes();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PendingSubAck> {
        self.all.iter().map(|(_, pending)| pending)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes of answers.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that the table takes, without the answers.
    pub(crate) fn table_bytes(&self) -> usize {
        self.all.capacity() * size_of::<PendingSubAck>()
    }

    /// Gives the table's memory back if it was long and is empty.
    pub(crate) fn shrink(&mut self) {
        if self.all.is_empty() && self.all.capacity() > KEPT_ENTRIES {
            self.all = Slab::new();
        }
    }
}

/// An answer to SUBSCRIBE that waits for share groups.
#[derive(Debug)]
pub(crate) struct PendingSubAck {
    pub(crate) origin: SubscribeOrigin,
    pub(crate) record: RecordNumber,
    pub(crate) missing: u32,
}

/// The origin of a request for subscriptions, and its results.
#[derive(Debug)]
pub(crate) enum SubscribeOrigin {
    /// The client.
    Client {
        connection: ConnectionId,
        packet_id: PacketId,
        codes: Vec<u8>,
        /// Why the first refused filter was refused.
        why: Option<&'static str>,
    },
    /// A client whose packet is half done; none if its connection has ended.
    Unfinished,
    /// An operator.
    Operator {
        request: u64,
        codes: Vec<ReasonCode>,
    },
}

impl SubscribeOrigin {
    /// Bytes of memory that it takes, without its place in the table.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Client { codes, .. } => codes.capacity(),
            Self::Unfinished => 0,
            Self::Operator { codes, .. } => codes.capacity() * size_of::<ReasonCode>(),
        }
    }
}
