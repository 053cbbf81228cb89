//! The share of a team of what all teams share: its clients' sessions and connections; and what
//! tenants use of all that shards share.

use std::collections::BTreeMap;

use martlet_permission::{Limit, TenantId};

use crate::id::ShardId;
use crate::node::{Cx, Node};
use crate::report::TenantUse;
use crate::shard::Shard;
use crate::tenant_counts::TenantPool;

impl Shard {
    /// Counts a session that begins, where the node may have this many. Sessions of parts are not
    /// counted.
    pub(crate) fn take_session<N: Node>(
        &self,
        cx: &Cx<'_, N>,
        tenant: TenantId,
        is_part: bool,
        sessions_max: usize,
    ) -> Result<(), Limit> {
        if is_part {
            return Ok(());
        }
        let (pool, share) = (TenantPool::Sessions, self.settings.limits.team_share());
        if !cx.node.borrow_of_tenant(tenant, pool, sessions_max, share) {
            return Err(Limit::TeamSessions);
        }
        if cx.node.borrow_session(sessions_max) {
            return Ok(());
        }
        cx.node.return_of_tenant(tenant, TenantPool::Sessions);
        Err(Limit::Sessions)
    }

    /// Counts a session that has ended, or does not begin after all.
    pub(crate) fn uncount_session<N: Node>(&self, cx: &Cx<'_, N>, tenant: TenantId, is_part: bool) {
        if !is_part {
            cx.node.return_session();
            cx.node.return_of_tenant(tenant, TenantPool::Sessions);
        }
    }

    /// Returns the use by each tenant: its subscriptions here and, on shard 0, all of its clients.
    pub(crate) fn tenant_uses<N: Node>(&self, cx: &Cx<'_, N>) -> Vec<TenantUse> {
        let mut uses = BTreeMap::new();
        let of_tenants = self.subscribers.of_tenants();
        let of_common =
            self.subscribers.bytes() - of_tenants.map(|(_, bytes)| bytes).sum::<usize>();
        let common = (TenantId::default(), of_common);
        for (tenant, bytes) in self.subscribers.of_tenants().chain([common]) {
            of(&mut uses, tenant).subscription_bytes = bytes;
        }
        for (tenant, bytes) in self.memory.wills.each() {
            of(&mut uses, tenant).will_bytes = bytes;
        }
        if self.id == ShardId(0) {
            cx.node.tenants(|counts| {
                for (tenant, count) in counts.each(TenantPool::Connections) {
                    of(&mut uses, tenant).connections = count;
                }
                for (tenant, count) in counts.each(TenantPool::Sessions) {
                    of(&mut uses, tenant).sessions = count;
                }
            });
            cx.node.retained(|store| {
                let (mut messages, mut bytes) = (store.len(), store.bytes());
                for (tenant, own_messages, own_bytes) in store.of_tenants() {
                    let own = of(&mut uses, tenant);
                    (own.retained_messages, own.retained_bytes) = (own_messages, own_bytes);
                    messages -= own_messages;
                    bytes -= own_bytes;
                }
                let common = of(&mut uses, TenantId::default());
                (common.retained_messages, common.retained_bytes) = (messages, bytes);
            });
        }
        uses.into_values().collect()
    }
}

/// Returns the use by this tenant; adds one of nothing if there is none.
fn of(uses: &mut BTreeMap<TenantId, TenantUse>, tenant: TenantId) -> &mut TenantUse {
    uses.entry(tenant).or_insert_with(|| TenantUse {
        tenant,
        ..TenantUse::default()
    })
}
