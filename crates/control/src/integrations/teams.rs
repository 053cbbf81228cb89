//! Integrations of teams: each time that teams may have changed, a runner whose team has got a
//! tenant, or another one, is told to look again.

use std::sync::Arc;

use martlet_integrate::{ALL_TENANTS, Command, Handle, Host as _, Settings};
use tokio::sync::watch;

use super::host::NodeHost;
use super::{Following, TOLD_WITHIN};

/// Follows the teams of all integrations. `changes` sees each change of the tables after it is in
/// force.
pub(super) fn follow(
    host: Arc<NodeHost>,
    mut changes: watch::Receiver<()>,
    all: impl Iterator<Item = (Settings, Arc<Handle>)>,
) -> Following {
    let is_of_team =
        |settings: &Settings| !settings.tenant.is_empty() && *settings.tenant != *ALL_TENANTS;
    let all = all.filter(|(settings, _)| is_of_team(settings));
    let all: Vec<(Settings, Arc<Handle>)> = all.collect();
    Following(tokio::spawn(async move {
        loop {
            for (settings, handle) in &all {
                if handle.state().tenant != host.tenant(&settings.tenant) {
                    // A runner that ends attaches no more.
                    let _ = handle.command(Command::Retry, TOLD_WITHIN).await;
                }
            }
            // Without the tables the node ends.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }))
}
