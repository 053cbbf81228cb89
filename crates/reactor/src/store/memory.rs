//! A store that keeps nothing.

use martlet_broker::{Now, Record, RecordNumber, ShardId};
use martlet_tick::Storage;

use super::durable::Durable;
use super::interface::{Store, Writer};

/// Stores nothing. State exists in the memory of the shards only; records count as durable at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn writer(&mut self, _: ShardId, _: Durable) -> Box<dyn Writer> {
        Box::new(MemoryWriter)
    }
}

#[derive(Debug)]
struct MemoryWriter;

impl Writer for MemoryWriter {}

impl Storage for MemoryWriter {
    fn append(
        &mut self,
        _: &[Record],
        last: RecordNumber,
        _: Now,
        _: bool,
    ) -> Option<RecordNumber> {
        Some(last)
    }
}
