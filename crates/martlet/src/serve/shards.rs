//! The shards, as used by the control plane.

use std::path::PathBuf;
use std::sync::Arc;

use martlet_broker::{Command, MemoryUse, PartLine, PartOutlet, PartSpec, ShardId};
use martlet_control::{Latencies, PinnedStore, Shards, StoreSize, StoreState};
use martlet_reactor::{LATENCY_BOUNDS_US, LatencyHistogram, Running};

pub(super) struct ReactorShards {
    pub(super) running: Arc<Running>,
    /// The directory of the store.
    pub(super) store: PathBuf,
}

impl Shards for ReactorShards {
    fn count(&self) -> u16 {
        self.running.shard_count()
    }

    fn send(&self, shard: ShardId, command: Command) {
        self.running.command(shard, command);
    }

    fn sockets_accepted(&self) -> u64 {
        self.running.stats().accepted
    }

    fn accept_pauses(&self) -> u64 {
        self.running.stats().accept_pauses
    }

    fn is_accepting_paused(&self) -> bool {
        self.running.is_accepting_paused()
    }

    fn sockets_open(&self) -> u64 {
        self.running.open_connections() as u64
    }

    fn clients_by_listener(&self) -> Vec<u32> {
        self.running.clients_by_listener()
    }

    fn events_dropped(&self) -> u64 {
        self.running.stats().events_dropped
    }

    fn events_reported(&self) -> u64 {
        self.running.events().put()
    }

    fn latencies(&self) -> Vec<Latencies> {
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let bounds: Vec<f64> = bounds.chain([f64::INFINITY]).collect();
        let seconds = |found: LatencyHistogram| Latencies {
            buckets: bounds.iter().copied().zip(found.counts).collect(),
            sum_secs: found.sum_us as f64 / 1e6,
        };
        self.running.latencies().into_iter().map(seconds).collect()
    }

    fn store_state(&self) -> Option<StoreState> {
        let status = self.running.store_health()?.status();
        let failing = status.failure.map(|failure| {
            let secs = failure.since.elapsed().as_secs();
            (secs, failure.error)
        });
        Some(StoreState {
            failing,
            low: status.is_low.then_some(status.low_because),
            is_at_limit: status.is_at_limit,
            at_share: status.at_share,
            behind: status.is_behind,
            unreadable: status.unreadable,
            syncs: status.syncs,
            records: status.records,
        })
    }

    fn store_size(&self) -> Option<StoreSize> {
        let stats = self.running.store_stats()?;
        Some(StoreSize {
            waiting_bytes: stats.staged_bytes as u64,
            disk_bytes: stats.disk_bytes,
            live_bytes: stats.live_bytes,
            messages: stats.bodies as u64,
            entries: stats.entries as u64,
            shared_bytes: stats.shared_bytes,
            tenants: stats.tenants,
        })
    }

    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        self.running.attach(spec, outlet)
    }

    fn recheck_certificates(&self) {
        self.running.recheck_certificates();
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        self.running.borrow_memory(bytes)
    }

    fn return_memory(&self, bytes: usize) {
        self.running.return_memory(bytes);
    }

    fn set_memory_outside(&self, bytes: usize) -> bool {
        self.running.set_memory_outside(bytes)
    }

    fn addresses_bytes(&self) -> usize {
        self.running.addresses_bytes()
    }

    fn events_bytes(&self) -> usize {
        self.running.events().memory_bytes()
    }

    fn store_held_bytes(&self) -> usize {
        self.running.store_held_bytes()
    }

    fn memory_use(&self) -> MemoryUse {
        self.running.memory_use()
    }

    fn pin_store(&self) -> Result<PinnedStore, String> {
        let pinned = self.running.pin_store()?;
        Ok(PinnedStore {
            directory: self.store.clone(),
            files: pinned.files,
            pin: pinned.pin,
        })
    }
}
