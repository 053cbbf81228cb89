//! Hash maps whose seed is an argument: client identifiers and topics are chosen by clients, so the
//! seed is random in production and fixed in the simulator. A map is never iterated into an effect.

use core::hash::BuildHasher;

use martlet_permission::TenantId;

use crate::id::{ShardId, lane_of};
use crate::limits::Settings;

/// Builds the shard's hashers.
pub(crate) type Seed = foldhash::fast::FixedState;

/// A seeded map.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, Seed>;

/// A hasher family for `seed`.
pub(crate) fn seeded(seed: u64) -> Seed {
    Seed::with_seed(seed)
}

/// A Client Identifier, for comparing alone: the same on every shard of a node. Two differ but for
/// one time in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey(u64);

impl ClientKey {
    pub(crate) fn new(settings: &Settings, tenant: TenantId, client_id: &str) -> Self {
        Self(seeded(settings.node_seed).hash_one((tenant, client_id)))
    }
}

/// The shard that owns a session, by its Client Identifier, or a share group, by its filter
/// `$share/…`: the same on every shard of a node, whatever the shard's own seed. A lane of a part
/// is with the shard of its number.
pub fn owner(settings: &Settings, tenant: TenantId, name: &str, shard_count: u16) -> ShardId {
    if let Some((_, lane)) = lane_of(name) {
        return ShardId(lane % shard_count.max(1));
    }
    let ClientKey(hash) = ClientKey::new(settings, tenant, name);
    ShardId((hash % u64::from(shard_count.max(1))) as u16)
}
