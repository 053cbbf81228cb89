//! Dead letters that were to be sent again when the node stopped: their runners get the command
//! again.

use std::sync::Arc;
use std::time::Duration;

use martlet_integrate::{Command, CommandError, Handle};
use tracing::info;

use super::following::Following;
use super::host::NodeHost;

/// Maximum time to notify a runner.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Pause after the tables or a runner did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Sends the command to all runners, each once it can take it.
pub(super) fn go_on(host: Arc<NodeHost>, all: Vec<Arc<Handle>>) -> Following {
    Following(tokio::spawn(async move {
        let all = all.iter().map(|handle| go_on_with(&host, handle));
        futures_util::future::join_all(all).await;
    }))
}

async fn go_on_with(host: &NodeHost, handle: &Handle) {
    while !has_continued(host, handle).await {
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Whether there is nothing more to send to the runner.
async fn has_continued(host: &NodeHost, handle: &Handle) -> bool {
    let Ok(ids) = host.letters().to_send(handle.kind(), handle.name()).await else {
        return false;
    };
    if ids.is_empty() {
        return true;
    }
    let letters = ids.len();
    let outcome = handle.command(Command::SendAgain(ids), TOLD_WITHIN).await;
    if outcome.is_ok() {
        let integration = handle.client_id();
        info!(
            integration,
            letters, "dead letters from before the restart are sent again"
        );
    }
    matches!(outcome, Ok(()) | Err(CommandError::Ended))
}
