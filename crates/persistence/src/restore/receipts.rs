//! The part that has requested receipts of a message: its body has the publisher.

use martlet_broker::{EnqueuedAs, EntryRecord, MessageId, Node, SessionAddress, owner};
use martlet_fault::{self as fault, Fault};
use martlet_store::{BodyId, Disk, Engine};

use super::Restoring;
use crate::body::{StoredBody, decode_body};

impl<N: Node> Restoring<'_, N> {
    /// The session of the part that gets the outcome of an entry; nearly always `None`, and then
    /// nothing is read.
    pub(super) fn part_for_receipt<D: Disk>(
        &mut self,
        engine: &Engine<D>,
        entry: &EntryRecord,
    ) -> Option<SessionAddress> {
        let id = entry.message;
        let is_retained = matches!(entry.why, EnqueuedAs::Retained(_));
        if !id.wants_receipts() || is_retained || fault::is(Fault::PartReceiptsNotRestored) {
            return None;
        }
        if let Some(known) = self.receipt_requests.get(&id) {
            return *known;
        }
        let mut part = None;
        engine.read_bodies(&[BodyId(id.0)], |id, bytes| {
            // Damage is noted where the message itself is needed.
            let body = bytes.ok().map(|bytes| decode_body(MessageId(id.0), bytes));
            if let Some(Ok(body)) = body {
                part = self.part_of_body(&body);
            }
        });
        self.receipt_requests.insert(id, part);
        part
    }

    fn part_of_body(&mut self, body: &StoredBody<'_>) -> Option<SessionAddress> {
        let publisher = body.publisher.filter(|found| found.wants_receipts)?;
        let (tenant, count) = (body.message.tenant, self.shards.count());
        let shard = owner(self.shards.settings, tenant, publisher.client_id, count);
        let found = self.shards.call(shard, |shard, _| {
            shard.session_for_receipts(tenant, publisher.client_id)
        });
        let (epoch, address) = found?;
        // A message that a share group has recorded late does not have its session.
        let is_same = publisher.epoch == epoch || publisher.epoch.0 == 0;
        is_same.then_some(address)
    }
}
