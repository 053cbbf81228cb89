//! Data that the shards of a node share: the interest index, the retained store, and counts of
//! memory, sessions, connections and CONNECTs.
//!
//! The core knows no locks. It reaches them through [`Node`], handed in with each call; the
//! reactor's implementation locks for as long as the closure runs, the simulator's counts each
//! access as a step at which another shard may run. A closure never calls into the node again.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_permission::{Share, TenantId};

use crate::id::ShardId;
use crate::interest::{EpochKey, Interest, InterestClass};
use crate::memory_use::{MemoryUse, ShardMemory, is_nearly_used, is_short, is_watched};
use crate::retained::Retained;
use crate::tenant_counts::{TenantCounts, TenantPool};
use crate::time::Now;

/// The node, as a shard sees it.
pub trait Node {
    /// Reads the node's interest index.
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T;

    /// Changes the node's interest index: `shard` wants a tenant's `filter` with this `class`. The
    /// implementation publishes the epoch that [`Interest::set`] raised before it lets others read.
    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass);

    /// The epochs that a cached route for topics under `key` was or is computed at: a sum that
    /// changes whenever the index may answer differently. Cheap: no lock.
    fn interest_epoch(&self, key: EpochKey) -> u64;

    /// Reads or changes the retained store.
    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T;

    /// Borrows `bytes` for buffers and queues from what the node may use; false when that is spent.
    fn borrow_memory(&self, bytes: usize) -> bool;

    /// Gives back what was borrowed.
    fn return_memory(&self, bytes: usize);

    /// Whether little is left to lend, and what one client may hold of all (`pressure.rs`).
    fn memory_pressure(&self) -> MemoryPressure {
        MemoryPressure::default()
    }

    /// Notes what a shard uses memory for. Called when that has changed much, and each turn while
    /// much of the memory is used.
    fn note_memory(&self, shard: ShardId, memory: ShardMemory) {
        let _ = (shard, memory);
    }

    /// Returns what the memory is used for, as the shards have noted.
    fn memory_use(&self) -> MemoryUse {
        MemoryUse::default()
    }

    /// Counts a session that begins; false when the node has `count_max` already.
    fn borrow_session(&self, count_max: usize) -> bool {
        let _ = count_max;
        true
    }

    /// Counts a session that has ended.
    fn return_session(&self) {}

    /// Counts a session or a connection of a tenant that begins; false when the tenant has its
    /// share of `count_max` already. The common tenant is not counted.
    fn borrow_of_tenant(
        &self,
        tenant: TenantId,
        pool: TenantPool,
        count_max: usize,
        share: Share,
    ) -> bool {
        let _ = (tenant, pool, count_max, share);
        true
    }

    /// Counts one that has ended.
    fn return_of_tenant(&self, tenant: TenantId, pool: TenantPool) {
        let _ = (tenant, pool);
    }

    /// Reads the sessions and connections of tenants.
    fn tenants<T>(&self, read: impl FnOnce(&TenantCounts) -> T) -> T {
        read(&TenantCounts::default())
    }

    /// Counts a session of a user that begins; false when the user has `count_max` already.
    fn borrow_user_session(&self, tenant: TenantId, user_name: &Arc<str>, count_max: u32) -> bool {
        let _ = (tenant, user_name, count_max);
        true
    }

    /// Counts a session of a user that has ended.
    fn return_user_session(&self, tenant: TenantId, user_name: &Arc<str>) {
        let _ = (tenant, user_name);
    }

    /// Borrows one of the node's `count_max` slots for accepted connections; false when all are in
    /// use.
    fn borrow_connection_slot(&self, count_max: usize) -> bool;

    /// Returns a slot.
    fn return_connection_slot(&self);

    /// Borrows one of the `count_max` slots of this listener; false when all are in use. Without a
    /// limit of any listener nothing is counted.
    fn borrow_listener_slot(&self, listener: u16, count_max: u32) -> bool {
        let _ = (listener, count_max);
        true
    }

    /// Returns it.
    fn return_listener_slot(&self, listener: u16) {
        let _ = listener;
    }

    /// Counts a CONNECT from this address; false when it is beyond `count_max` in this minute.
    /// Without a limit of addresses nothing is counted.
    fn counts_connect(&self, address: IpAddr, now_ms: u64, count_max: u32) -> bool {
        let _ = (address, now_ms, count_max);
        true
    }
}

/// How the node's memory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPressure {
    /// Little is left: clients that hold much give back.
    pub is_short: bool,
    /// Memory is nearly used up: clients that hold little give back too.
    pub is_nearly_used: bool,
    /// Enough is used that shards note what uses it.
    pub is_watched: bool,
    /// Bytes that may be used; none: without end.
    pub limit: Option<usize>,
    /// Bytes that one client may hold.
    pub client_max: usize,
}

impl Default for MemoryPressure {
    fn default() -> Self {
        Self {
            is_short: false,
            is_nearly_used: false,
            is_watched: false,
            limit: None,
            client_max: usize::MAX,
        }
    }
}

impl MemoryPressure {
    /// The pressure at `used` of `limit` bytes: memory is short when less than an eighth is left,
    /// and one client may hold an eighth of all, 256 KiB at least.
    pub fn of(used: usize, limit: usize) -> Self {
        Self {
            is_short: is_short(used, limit),
            is_nearly_used: is_nearly_used(used, limit),
            is_watched: is_watched(used, limit),
            limit: Some(limit),
            client_max: (limit / 8).max(256 * 1024),
        }
    }

    /// Bytes that one use may take in each of `shard_count` shards: one part in `divisor` of the
    /// limit, and one in `divisor_when_short` of that while memory is short. None: no limit.
    pub(crate) fn part(
        &self,
        divisor: usize,
        divisor_when_short: usize,
        shard_count: u16,
    ) -> Option<usize> {
        let part = self.limit? / divisor / usize::from(shard_count.max(1));
        Some(match self.is_short {
            true => part / divisor_when_short,
            false => part,
        })
    }
}

/// Context of every call into a shard: the time, the node, and where effects go.
pub struct Cx<'a, N: Node> {
    /// The time of this tick.
    pub now: Now,
    /// Data that the shards share.
    pub node: &'a N,
    /// Where effects are gathered.
    pub effects: &'a mut crate::effect::Effects,
}
