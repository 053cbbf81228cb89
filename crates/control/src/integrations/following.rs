//! Tasks that follow an integration.

use std::sync::Arc;
use std::time::Duration;

use martlet_integrate::{Command, Handle, Target};
use tokio::task::JoinHandle;

/// Maximum time to notify a runner that it may try again.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Following(pub(super) JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Interval of the look-ups of a name that has no address, or none that is permitted.
const LOOKS_EVERY: Duration = Duration::from_secs(30);

/// Looks up the names of a target until the integration may connect to it, and tells the
/// integration what was found. After that the integration reports what it finds when it connects.
pub(super) fn follow_names(target: Option<Target>, handle: Arc<Handle>) -> Following {
    let target = target.filter(Target::has_unknown_names);
    Following(tokio::spawn(async move {
        let Some(target) = target else {
            return;
        };
        let mut told = None;
        loop {
            let found = target.looked_up().await;
            let why = found.refused_all();
            if why != told {
                let command = Command::Unreachable(why.clone());
                // A runner that could not be told is told at the next look-up.
                if handle.command(command, TOLD_WITHIN).await.is_ok() {
                    told.clone_from(&why);
                }
            }
            if why.is_none() && told.is_none() && !found.has_unknown_names() {
                return;
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }))
}
