//! The event archive, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::event_archive::{EventArchive, keep};

use crate::config::NodeConfig;

/// Starts to archive events, if configured.
pub(super) fn start(node: &NodeConfig, control: &Arc<Control>) -> Option<Arc<EventArchive>> {
    let settings = node.event_archive.clone()?;
    let archive = Arc::new(EventArchive::new(settings));
    tokio::spawn(keep(Arc::clone(control), Arc::clone(&archive)));
    Some(archive)
}
