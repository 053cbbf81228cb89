//! Tracks which clients are connected.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::presence::{Alive, Keeper};
use martlet_control::shared_registry::{PresenceInTables, SharedRegistry};
use tokio::sync::oneshot;
use tracing::error;

use crate::config::NodeConfig;

/// A running task that tracks presence.
pub(super) struct KeptPresence {
    stopped: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl KeptPresence {
    /// Stops the task; writes the remaining changes.
    pub(super) async fn stop(self) {
        let _ = self.stopped.send(());
        if let Err(error) = self.task.await {
            error!(%error, "presence of clients is no longer kept");
        }
    }
}

/// Starts to track presence. When it returns, clients that were connected before are included.
pub(super) async fn keep_presence(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
    alive: &Arc<Alive>,
) -> KeptPresence {
    let topics = node.presence_topics.clone();
    let store = PresenceInTables::new(Arc::clone(tables), alive.node(), topics.is_some());
    let (control, alive) = (Arc::clone(control), Arc::clone(alive));
    let mut keeper = Keeper::new(control, Arc::new(store), topics, alive);
    keeper.restore().await;
    let (stopped, is_stopped) = oneshot::channel();
    let task = tokio::spawn(keeper.run(async move {
        let _ = is_stopped.await;
    }));
    KeptPresence { stopped, task }
}
