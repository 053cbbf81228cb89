//! The share of a team of what all teams share: its clients' sessions and connections.

use martlet_permission::{Limit, TenantId};

use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::tenant_counts::TenantPool;

impl Shard {
    /// Counts a session that begins, where the node may have this many.
    pub(crate) fn take_session<N: Node>(
        &self,
        cx: &Cx<'_, N>,
        tenant: TenantId,
        sessions_max: usize,
    ) -> Result<(), Limit> {
        let of_tenant = self.share_of(sessions_max);
        if !cx
            .node
            .borrow_of_tenant(tenant, TenantPool::Sessions, of_tenant)
        {
            return Err(Limit::TeamSessions);
        }
        if cx.node.borrow_session(sessions_max) {
            return Ok(());
        }
        cx.node.return_of_tenant(tenant, TenantPool::Sessions);
        Err(Limit::Sessions)
    }

    /// Counts a session that has ended, or does not begin after all.
    pub(crate) fn uncount_session<N: Node>(&self, cx: &Cx<'_, N>, tenant: TenantId) {
        cx.node.return_session();
        cx.node.return_of_tenant(tenant, TenantPool::Sessions);
    }

    /// The share of one team, where all teams together may have `all`.
    pub(crate) fn share_of(&self, all: usize) -> usize {
        match all {
            usize::MAX => usize::MAX,
            all => self.settings.limits.team_share().of_size(all),
        }
    }
}
