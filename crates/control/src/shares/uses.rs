//! Reads the counts of all pools.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use martlet_broker::{Answer, Command, Share, TenantUse, subscriptions_part};
use martlet_registry::{ADDED_MAX, ROLLOUTS_OPEN_MAX, RULES_MAX, SharedObjects, Visibility};

use super::pool::Pool;
use super::pool_uses::{Owner, PoolUses};
use super::{Shares, SharesError};
use crate::control::ControlError;
use crate::request::slots::REQUESTS_MAX;
use crate::shared_slots::SharedSlots;

/// All pools that the node has.
type AllUses = BTreeMap<Pool, PoolUses>;

impl Shares<'_> {
    /// The uses of all pools that the node has.
    pub(super) async fn uses(&self, keys_age_max: Duration) -> Result<AllUses, SharesError> {
        let mut all = AllUses::new();
        self.add_clients(&mut all).await?;
        self.add_stored(&mut all);
        self.add_objects(&mut all).await?;
        self.add_telemetry(&mut all, keys_age_max).await;
        if let Some((rules, alarms)) = self.rules {
            let (limit, counts) = alarms.counts_of_tenants();
            let used = counts.into_iter();
            let used = used.map(|(tenant, count)| (Owner::Tenant(tenant), count as u64));
            self.add(&mut all, Pool::Alarms, limit as u64, Some(used.collect()));
            let (limit, counts) = rules.previous_values();
            let counts = counts.into_iter();
            let used = counts.map(|(tenant, count)| (Owner::Tenant(tenant), count as u64));
            let (pool, limit) = (Pool::PreviousValues, limit as u64);
            // The one with most gives way, so each may have what is free.
            self.add(&mut all, pool, limit, Some(used.collect())).share = Share::percent(100);
        }
        Ok(all)
    }

    /// Adds a pool in which each team has a share.
    fn add<'u>(
        &self,
        all: &'u mut AllUses,
        pool: Pool,
        limit: u64,
        used: Option<HashMap<Owner, u64>>,
    ) -> &'u mut PoolUses {
        let uses = PoolUses {
            limit,
            share: self.control.info.limits.team_share(),
            used,
            ..PoolUses::default()
        };
        all.entry(pool).insert_entry(uses).into_mut()
    }

    async fn add_clients(&self, all: &mut AllUses) -> Result<(), ControlError> {
        let command = |request| Command::TenantUses { request };
        let shards = self.control.ask_all(command).await?.into_iter();
        let shards: Vec<Vec<TenantUse>> = shards
            .filter_map(|answer| match answer {
                Answer::TenantUses(uses) => Some(uses),
                _ => None,
            })
            .collect();
        let of_node = |count| sum(&of_shards(&shards, count));
        let mut connections = of_node(|one| one.connections);
        let mut sessions = of_node(|one| one.sessions);
        // Those of the common tenant are counted with all others only.
        let counters = self.control.snapshot().await?;
        let rest = |all: u64, own: &HashMap<Owner, u64>| {
            let rest = all.saturating_sub(own.values().sum());
            (Owner::Tenant(0), rest)
        };
        connections.extend([rest(counters.connections, &connections)]);
        sessions.extend([rest(counters.sessions, &sessions)]);
        let limits = &self.control.info.limits;
        let (messages, bytes) = (
            of_node(|one| one.retained_messages),
            of_node(|one| one.retained_bytes),
        );
        for (pool, limit, used) in [
            (Pool::Connections, limits.connections.into(), connections),
            (Pool::Sessions, limits.sessions.into(), sessions),
            (
                Pool::RetainedMessages,
                limits.retained_messages.into(),
                messages,
            ),
            (Pool::RetainedBytes, limits.retained_bytes, bytes),
        ] {
            self.add(all, pool, limit, Some(used));
        }
        if let Some(memory) = self.control.memory_limit() {
            let limit = subscriptions_part(memory) as u64;
            let parts = of_shards(&shards, |one| one.subscription_bytes);
            self.add_parts(all, Pool::SubscriptionBytes, limit, parts);
        }
        let parts = of_shards(&shards, |one| one.will_bytes);
        self.add_parts(all, Pool::WillBytes, limits.wills_bytes, parts);
        let waiting = self.control.requests.used().into_iter();
        let waiting = waiting.map(|(tenant, count)| (Owner::Tenant(tenant.0), count as u64));
        let (pool, limit) = (Pool::WaitingRequests, REQUESTS_MAX as u64);
        self.add(all, pool, limit, Some(waiting.collect()));
        Ok(())
    }

    /// Adds the stored messages of all tenants. Blocks briefly.
    fn add_stored(&self, all: &mut AllUses) {
        let size = tokio::task::block_in_place(|| self.control.store_size());
        let Some(size) = size else { return };
        let Some(limit) = size.shared_bytes else {
            return;
        };
        let of_tenants = size.tenants.iter().map(|(_, bytes)| *bytes).sum();
        let common = (0, size.live_bytes.saturating_sub(of_tenants));
        let used = size.tenants.into_iter().chain([common]);
        let used = used.map(|(tenant, bytes)| (Owner::Tenant(tenant), bytes));
        self.add(all, Pool::StoredBytes, limit, Some(used.collect()));
    }

    async fn add_objects(&self, all: &mut AllUses) -> Result<(), SharesError> {
        let node = self.integrations.map_or("", |all| all.node()).to_owned();
        let uses = self
            .tables
            .read(move |registry| Box::pin(async move { registry.team_uses(&node).await }));
        let uses = uses.await?;
        let used = |objects: SharedObjects| {
            let own = uses.iter().filter(|one| one.objects == objects);
            own.map(|one| (Owner::Team(one.team.clone()), one.used))
                .collect()
        };
        if let Some(firmware) = self.firmware {
            let used = used(SharedObjects::FirmwareBytes);
            self.add(all, Pool::FirmwareBytes, firmware.total_bytes(), Some(used));
        }
        for (pool, limit, objects, is_there) in [
            (
                Pool::Rules,
                RULES_MAX,
                SharedObjects::Rules,
                self.rules.is_some(),
            ),
            (
                Pool::Webhooks,
                ADDED_MAX,
                SharedObjects::Webhooks,
                self.integrations.is_some(),
            ),
            (
                Pool::Bridges,
                ADDED_MAX,
                SharedObjects::Bridges,
                self.integrations.is_some(),
            ),
            (
                Pool::Rollouts,
                ROLLOUTS_OPEN_MAX,
                SharedObjects::Rollouts,
                self.firmware.is_some(),
            ),
        ] {
            if is_there {
                self.add(all, pool, limit.unsigned_abs(), Some(used(objects)));
            }
        }
        Ok(())
    }

    async fn add_telemetry(&self, all: &mut AllUses, keys_age_max: Duration) {
        let Some(telemetry) = self.telemetry else {
            return;
        };
        let series = telemetry.series_by_tenant(keys_age_max).await.ok();
        let used = series.map(|series| {
            let series = series.iter();
            series
                .map(|(tenant, count)| (Owner::Tenant(*tenant), *count))
                .collect()
        });
        self.add(all, Pool::TelemetryKeys, telemetry.series_max(), used);
        if let Some(bytes) = telemetry.tenant_bytes().await {
            let used = bytes.used.into_iter();
            let used = used.map(|(tenant, bytes)| (Owner::Tenant(tenant), bytes));
            self.add(all, Pool::TelemetryBytes, bytes.limit, Some(used.collect()));
        }
        self.add_slots(all, Pool::TelemetryQueries, self.queries);
        self.add_slots(all, Pool::TelemetryStreams, self.tails);
        if let Some(limit) = self.query_memory.limit() {
            let used = self.query_memory.used().into_iter();
            let used = used.map(|(caller, bytes)| (Owner::from(&caller), bytes as u64));
            let pool = Pool::TelemetryResultBytes;
            let uses = self.add(all, pool, limit as u64, Some(used.collect()));
            uses.is_common_bounded = true;
        }
    }

    /// Adds a pool of which each shard has an equal part.
    fn add_parts(
        &self,
        all: &mut AllUses,
        pool: Pool,
        limit: u64,
        parts: Vec<HashMap<Owner, u64>>,
    ) {
        let used = sum(&parts);
        self.add(all, pool, limit, Some(used)).parts = parts;
    }

    /// Adds a pool in which callers that see all teams have a share, too.
    fn add_slots(&self, all: &mut AllUses, pool: Pool, slots: &SharedSlots<Visibility>) {
        let used = slots.used().into_iter();
        let used = used.map(|(caller, count)| (Owner::from(&caller), count as u64));
        let uses = self.add(all, pool, slots.limit() as u64, Some(used.collect()));
        // A query waits for its turn; a stream goes on for long.
        (uses.is_common_bounded, uses.has_one) = (true, pool == Pool::TelemetryQueries);
    }
}

/// The counts of each shard by tenant.
fn of_shards(
    shards: &[Vec<TenantUse>],
    count: fn(&TenantUse) -> usize,
) -> Vec<HashMap<Owner, u64>> {
    let of_shard = |uses: &Vec<TenantUse>| {
        let uses = uses.iter();
        uses.map(|one| (Owner::Tenant(one.tenant.0), count(one) as u64))
            .collect()
    };
    shards.iter().map(of_shard).collect()
}

/// The counts of all shards by tenant.
fn sum(parts: &[HashMap<Owner, u64>]) -> HashMap<Owner, u64> {
    let mut sums = HashMap::new();
    for (owner, count) in parts.iter().flatten() {
        *sums.entry(owner.clone()).or_default() += count;
    }
    sums
}
