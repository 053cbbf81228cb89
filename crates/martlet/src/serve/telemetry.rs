//! Telemetry, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::tables::Tables;
use martlet_control::telemetry::Telemetry;

use crate::config::NodeConfig;

/// Starts the telemetry of the node; none: it is off.
pub(super) fn start(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<Tables>,
) -> Option<Arc<Telemetry>> {
    let settings = node.telemetry.clone()?;
    let telemetry = Telemetry::new(Arc::clone(control), Arc::clone(tables), settings);
    let telemetry = Arc::new(telemetry);
    control.set_telemetry(Arc::clone(&telemetry));
    tokio::spawn(Arc::clone(&telemetry).keep_heard());
    tokio::spawn(Arc::clone(&telemetry).keep_retention());
    Some(telemetry)
}
