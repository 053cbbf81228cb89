//! Twins of devices, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::twins::{Twins, keep};

use crate::config::NodeConfig;

/// Starts to publish desired values and to process reports.
pub(super) fn start(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
) -> Arc<Twins> {
    let catalogue = Arc::clone(&node.api.iotflow);
    let twins = Arc::new(Twins::new(Arc::clone(tables), catalogue));
    tokio::spawn(keep(Arc::clone(control), Arc::clone(&twins)));
    twins
}
