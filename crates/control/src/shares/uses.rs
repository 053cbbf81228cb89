//! Reads the counts of all pools.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use martlet_broker::{Answer, Command, TenantUse, subscriptions_part};
use martlet_registry::{ADDED_MAX, ROLLOUTS_OPEN_MAX, RULES_MAX, SharedObjects, Visibility};

use super::pool::Pool;
use super::pool_uses::{Owner, PoolUses, ratio};
use super::{Shares, SharesError};
use crate::control::ControlError;
use crate::shared_slots::SharedSlots;

/// All pools that the node has.
type AllUses = BTreeMap<Pool, PoolUses>;

impl Shares<'_> {
    /// The uses of all pools that the node has.
    pub(super) async fn uses(
        &self,
        with_common: bool,
        keys_age_max: Duration,
    ) -> Result<AllUses, SharesError> {
        let mut all = AllUses::new();
        self.add_clients(&mut all, with_common).await?;
        self.add_objects(&mut all).await?;
        self.add_telemetry(&mut all, keys_age_max).await;
        if let Some(rules) = self.rules {
            let (limit, counts) = rules.previous_values();
            let counts = counts.into_iter();
            let used = counts.map(|(tenant, count)| (Owner::Tenant(tenant), count as u64));
            self.add(
                &mut all,
                Pool::PreviousValues,
                limit as u64,
                Some(used.collect()),
            );
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
            share: self.control.info.limits.team_share().of(limit),
            used,
            ..PoolUses::default()
        };
        all.entry(pool).insert_entry(uses).into_mut()
    }

    async fn add_clients(&self, all: &mut AllUses, with_common: bool) -> Result<(), ControlError> {
        let command = |request| Command::TenantUses { request };
        let shards = self.control.ask_all(command).await?.into_iter();
        let shards: Vec<Vec<TenantUse>> = shards
            .filter_map(|answer| match answer {
                Answer::TenantUses(uses) => Some(uses),
                _ => None,
            })
            .collect();
        let sum = |count: fn(&TenantUse) -> usize| {
            let mut sums = HashMap::<Owner, u64>::new();
            for one in shards.iter().flatten() {
                *sums.entry(Owner::Tenant(one.tenant.0)).or_default() += count(one) as u64;
            }
            sums
        };
        let mut connections = sum(|one| one.connections);
        let mut sessions = sum(|one| one.sessions);
        if with_common {
            // Those of the common tenant are counted with all others only.
            let counters = self.control.snapshot().await?;
            let rest = |all: u64, own: &HashMap<Owner, u64>| {
                let rest = all.saturating_sub(own.values().sum());
                (Owner::Tenant(0), rest)
            };
            connections.extend([rest(counters.connections, &connections)]);
            sessions.extend([rest(counters.sessions, &sessions)]);
        }
        let limits = &self.control.info.limits;
        let (messages, bytes) = (
            sum(|one| one.retained_messages),
            sum(|one| one.retained_bytes),
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
            let limit = subscriptions_part(memory);
            let used = sum(|one| one.subscription_bytes);
            let uses = self.add(all, Pool::SubscriptionBytes, limit as u64, Some(used));
            let of_shard = limits.team_share().of_size(limit / shards.len().max(1));
            uses.fullest = fullest_shards(&shards, of_shard);
        }
        Ok(())
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

    /// Adds a pool in which callers that see all teams have a share, too.
    fn add_slots(&self, all: &mut AllUses, pool: Pool, slots: &SharedSlots<Visibility>) {
        let used = slots.used().into_iter();
        let used = used.map(|(caller, count)| (Owner::from(&caller), count as u64));
        let uses = self.add(all, pool, slots.limit() as u64, Some(used.collect()));
        uses.is_common_bounded = true;
    }
}

/// How full the fullest shard of each tenant is, where its subscriptions may take `bytes_max` bytes
/// on each.
fn fullest_shards(shards: &[Vec<TenantUse>], bytes_max: usize) -> HashMap<Owner, f64> {
    let mut fullest = HashMap::<Owner, f64>::new();
    for one in shards.iter().flatten() {
        let ratio = ratio(one.subscription_bytes as u64, bytes_max as u64);
        let own = fullest.entry(Owner::Tenant(one.tenant.0)).or_default();
        *own = own.max(ratio);
    }
    fullest
}
