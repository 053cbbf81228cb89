//! Integrations of teams, after a change of the tables: a runner looks again for the tenant of its
//! team if the team has another one than the runner, or has one now. The queues of a team that was
//! removed for good are removed.

use std::sync::Arc;

use martlet_broker::TenantId;
use martlet_integrate::{Command, Handle, Host as _, Settings};
use tokio::sync::watch;
use tracing::warn;

use super::following::{Following, TOLD_WITHIN};
use super::host::NodeHost;
use super::{end_queue, log_ended};

/// An integration of a team.
struct OfTeam {
    settings: Settings,
    handle: Arc<Handle>,
    /// Tenant of its team when that was known last.
    tenant: Option<TenantId>,
}

/// Follows the teams of all integrations. `changes` sees each change of the tables after it is in
/// force.
pub(super) fn follow(
    host: Arc<NodeHost>,
    mut changes: watch::Receiver<()>,
    all: impl Iterator<Item = (Settings, Arc<Handle>)>,
) -> Following {
    let all = all.filter(|(settings, _)| settings.is_of_team());
    let all = all.map(|(settings, handle)| OfTeam {
        settings,
        handle,
        tenant: None,
    });
    let mut all: Vec<OfTeam> = all.collect();
    Following(tokio::spawn(async move {
        loop {
            for one in &mut all {
                look(&host, one).await;
            }
            // Without the tables the node ends.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }))
}

/// Looks whether the team of an integration has another tenant.
async fn look(host: &NodeHost, one: &mut OfTeam) {
    let tenant = host.tenant(&one.settings.tenant);
    if one.handle.state().tenant != tenant {
        // A runner that ends attaches no more.
        let _ = one.handle.command(Command::Retry, TOLD_WITHIN).await;
    }
    let before = match (one.tenant, tenant) {
        (Some(before), now) if now != Some(before) => before,
        (_, now) => {
            one.tenant = now;
            return;
        }
    };
    // A team that was deleted may be restored: its messages wait.
    match host.tenants_of_teams().await {
        Ok(tenants) if !tenants.contains(&before) => {
            end_queues(host, &one.settings.client_id(), before).await;
            one.tenant = tenant;
        }
        Ok(_) => {}
        Err(error) => {
            let integration = one.settings.client_id();
            let what = "the tenants of teams could not be read: the queue stays until a restart";
            warn!(integration, error, "{what}");
        }
    }
}

/// Removes the queues of an integration in the tenant of a team that was removed for good.
async fn end_queues(host: &NodeHost, integration: &str, tenant: TenantId) {
    let sessions = match host.sessions_of_part(tenant, integration).await {
        Ok(sessions) => sessions,
        Err(error) => {
            warn!(integration, %error, "the queue of a removed team could not be looked for");
            return;
        }
    };
    let mut messages = 0;
    for session in sessions {
        messages += end_queue(host, &session).await.unwrap_or_default();
    }
    log_ended(
        integration,
        "the team of the integration was removed",
        messages,
    );
}
