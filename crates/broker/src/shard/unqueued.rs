//! Messages that a part which has those of all shards in order does not have yet.

use std::collections::BTreeMap;

use crate::id::{MessageId, RecordNumber};

/// Messages of this shard on their way to the queue of a durable part that is attached to the node
/// once. Nothing that depends on their records, or on later ones, is acknowledged before they are
/// there. So a message that is published after that acknowledgement, at whichever shard, comes
/// behind them.
#[derive(Debug, Default)]
pub(crate) struct Unqueued {
    /// Both ascend: a message gets its name just before its record.
    records: BTreeMap<MessageId, RecordNumber>,
}

/// Approximate bytes of an entry in a tree that is two thirds full.
const ENTRY_BYTES: usize = size_of::<(MessageId, RecordNumber)>() * 3 / 2;

impl Unqueued {
    /// A message with this record is on its way.
    pub(crate) fn insert(&mut self, message: MessageId, record: RecordNumber) {
        let last = self.records.last_key_value();
        debug_assert!(last.is_none_or(|(id, number)| *id < message && *number < record));
        self.records.insert(message, record);
    }

    /// A message is in all queues.
    pub(crate) fn remove(&mut self, message: MessageId) {
        self.records.remove(&message);
    }

    /// Record of the first message on its way.
    pub(super) fn first(&self) -> Option<RecordNumber> {
        let (_, record) = self.records.first_key_value()?;
        Some(*record)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.records.len() * ENTRY_BYTES
    }
}
