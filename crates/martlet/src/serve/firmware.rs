//! Firmware for devices, and its rollouts, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::alarms::Alarms;
use martlet_control::commands::Commands;
use martlet_control::firmware::{FirmwareStore, serve_chunks};
use martlet_control::rollouts::{Rollouts, keep};
use martlet_control::shared_registry::SharedRegistry;

use crate::config::NodeConfig;

/// Starts to serve firmware and to advance rollouts.
pub(super) fn start(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
    (commands, alarms): (&Arc<Commands>, &Arc<Alarms>),
) -> (Arc<FirmwareStore>, Arc<Rollouts>) {
    let settings = node.firmware.clone();
    let firmware = Arc::new(FirmwareStore::new(Arc::clone(tables), settings));
    let rollouts = Arc::new(Rollouts::new(Arc::clone(tables), Arc::clone(commands)));
    let catalogue = Arc::clone(&node.api.iotflow);
    tokio::spawn(serve_chunks(
        Arc::clone(control),
        Arc::clone(&firmware),
        catalogue,
    ));
    let (control, alarms) = (Arc::clone(control), Arc::clone(alarms));
    tokio::spawn(keep(control, Arc::clone(&rollouts), alarms));
    (firmware, rollouts)
}
