//! Commands to devices, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::commands::{Commands, keep};
use martlet_control::shared_registry::SharedRegistry;

use crate::config::NodeConfig;

/// Starts to publish commands.
pub(super) fn start(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
) -> Arc<Commands> {
    let catalogue = Arc::clone(&node.api.iotflow);
    let commands = Arc::new(Commands::new(Arc::clone(tables), catalogue));
    tokio::spawn(keep(Arc::clone(control), Arc::clone(&commands)));
    commands
}
