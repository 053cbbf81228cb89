//! QoS 2 messages of a client between PUBLISH and PUBREL (MQTT 5 section 4.3.3).

use std::sync::Arc;

use martlet_codec::PacketId;

use crate::gauge::MemoryGauge;
use crate::id::RecordNumber;
use crate::session::packet_ids::PacketIdRing;

/// Exchanges that a session remembers of what its client publishes. Empty while the client has
/// never published at QoS 2, which is nearly always so.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Option<Box<Exchanges>>);

/// Exchanges of QoS 2.
#[derive(Debug, Default)]
struct Exchanges {
    /// Packet Identifiers of messages between PUBLISH and PUBREL, with the record that their
    /// PUBREC waits for.
    receipts: PacketIdRing<RecordNumber>,
    /// The record of the last release: a PUBREL that comes again waits for it too.
    released: RecordNumber,
}

impl Receipts {
    /// QoS 2 messages between PUBLISH and PUBREL.
    #[inline]
    pub(crate) fn receipt_count(&self) -> usize {
        self.0.as_ref().map_or(0, |found| found.receipts.len())
    }

    /// The record that the PUBREC of a message waits for, if it is between PUBLISH and PUBREL.
    #[inline]
    pub(crate) fn receipt(&self, packet_id: PacketId) -> Option<RecordNumber> {
        self.0.as_ref()?.receipts.get(packet_id).copied()
    }

    /// A message is between PUBLISH and PUBREL from now on.
    pub(crate) fn insert_receipt(
        &mut self,
        packet_id: PacketId,
        record: RecordNumber,
        gauge: &Arc<MemoryGauge>,
    ) {
        let exchanges = self.0.get_or_insert_default();
        exchanges.receipts.count_by(gauge);
        exchanges.receipts.insert(packet_id, record);
    }

    /// The record of the last release.
    #[inline]
    pub(super) fn released(&self) -> RecordNumber {
        self.0
            .as_ref()
            .map_or(RecordNumber(0), |exchanges| exchanges.released)
    }

    /// This is the record of the last release.
    #[inline]
    pub(super) fn set_released(&mut self, record: RecordNumber) {
        if let Some(exchanges) = &mut self.0 {
            exchanges.released = record;
        }
    }

    /// PUBREL has come in a session that has no records; false if nothing is known of the message,
    /// or if it was known to an earlier run of the session that had records.
    #[inline]
    pub(super) fn release_unrecorded(&mut self, packet_id: PacketId) -> bool {
        let Some(exchanges) = &mut self.0 else {
            return false;
        };
        exchanges.released == RecordNumber(0) && exchanges.receipts.remove(packet_id).is_some()
    }

    /// Gives memory back if nothing is between PUBLISH and PUBREL.
    #[inline]
    pub(super) fn rest(&mut self) {
        if let Some(exchanges) = &mut self.0 {
            exchanges.receipts.rest();
        }
    }

    /// PUBREL has come; false if nothing is known of the message.
    #[inline]
    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        let Some(exchanges) = &mut self.0 else {
            return false;
        };
        let known = exchanges.receipts.remove(packet_id).is_some();
        exchanges.receipts.rest();
        known
    }
}
