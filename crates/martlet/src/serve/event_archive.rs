//! The event archive, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::event_archive::{EventArchive, keep};

use crate::config::NodeConfig;

/// Begins to archive events, if any are to be.
pub(super) fn start(node: &NodeConfig, control: &Arc<Control>) {
    let Some(settings) = node.event_archive.clone() else {
        return;
    };
    let archive = Arc::new(EventArchive::new(settings));
    control.set_event_archive(Arc::clone(&archive));
    tokio::spawn(keep(Arc::clone(control), archive));
}
