//! Integrations of teams: after a change of the tables, a runner looks again for the tenant of its
//! team if the team has another one than the runner, or has one now.

use std::sync::Arc;

use martlet_integrate::{Command, Handle, Host as _, Settings};
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
    let all = all.filter(|(settings, _)| settings.is_of_team());
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
