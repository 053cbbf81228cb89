//! Hash maps whose seed is an argument: client identifiers and topics are chosen by clients, so the
//! seed is random in production and fixed in the simulator. A map is never iterated into an effect.

use core::hash::BuildHasher;

use crate::id::{ShardId, TenantId};
use crate::limits::Settings;

/// Builds the shard's hashers.
pub(crate) type Seed = foldhash::fast::FixedState;

/// A seeded map.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, Seed>;

/// A hasher family for `seed`.
pub(crate) fn seeded(seed: u64) -> Seed {
    Seed::with_seed(seed)
}

/// The shard that owns a session, by its Client Identifier, or a share group, by its filter
/// `$share/…`: the same on every shard of a node, whatever the shard's own seed.
pub fn owner(settings: &Settings, tenant: TenantId, name: &str, shard_count: u16) -> ShardId {
    let hash = seeded(settings.node_seed).hash_one((tenant, name));
    ShardId((hash % u64::from(shard_count.max(1))) as u16)
}
