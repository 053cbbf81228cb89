//! The shards of a node that does not run: there are none.

use martlet_broker::{
    Command, MemoryUse, PartEvent, PartLine, PartOutlet, PartPublish, PartSpec, Settlement, ShardId,
};
use martlet_codec::ReasonCode;
use martlet_control::{Latencies, PinnedStore, Shards, StoreSize, StoreState};

#[derive(Debug)]
pub(super) struct NoShards;

/// A part that is attached to nothing.
#[derive(Debug)]
struct NoPart;

/// Why nothing is published or delivered.
const WHY: &str = "no node runs";

impl Shards for NoShards {
    fn count(&self) -> u16 {
        0
    }

    fn send(&self, _: ShardId, _: Command) {}

    fn sockets_accepted(&self) -> u64 {
        0
    }

    fn accept_pauses(&self) -> u64 {
        0
    }

    fn is_accepting_paused(&self) -> bool {
        false
    }

    fn sockets_open(&self) -> u64 {
        0
    }

    fn clients_by_listener(&self) -> Vec<u32> {
        Vec::new()
    }

    fn events_dropped(&self) -> u64 {
        0
    }

    fn events_reported(&self) -> u64 {
        0
    }

    fn latencies(&self) -> Vec<Latencies> {
        Vec::new()
    }

    fn store_state(&self) -> Option<StoreState> {
        None
    }

    fn store_size(&self) -> Option<StoreSize> {
        None
    }

    fn attach(&self, _: PartSpec, mut outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        let reason = ReasonCode::ServerUnavailable;
        outlet.notify(PartEvent::Ended { reason, why: WHY });
        Box::new(NoPart)
    }

    fn recheck_certificates(&self) {}

    fn borrow_memory(&self, _: usize) -> bool {
        true
    }

    fn return_memory(&self, _: usize) {}

    fn set_memory_outside(&self, _: usize) -> bool {
        false
    }

    fn addresses_bytes(&self) -> usize {
        0
    }

    fn events_bytes(&self) -> usize {
        0
    }

    fn store_held_bytes(&self) -> usize {
        0
    }

    fn memory_use(&self) -> MemoryUse {
        MemoryUse::default()
    }

    fn pin_store(&self) -> Result<PinnedStore, String> {
        Err(WHY.to_owned())
    }
}

impl PartLine for NoPart {
    fn settle(&self, _: Vec<Settlement>) {}

    fn set_credit(&self, _: u16) {}

    fn set_queue_bytes(&self, _: u64) {}

    fn publish(&self, _: PartPublish) {}

    fn end(&self) {}
}
