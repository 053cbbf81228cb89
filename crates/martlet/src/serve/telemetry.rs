//! Telemetry, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::activity::DeviceActivity;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::telemetry::Telemetry;

use crate::config::NodeConfig;

/// Starts the telemetry of the node; `None` if it is off.
pub(super) fn start(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
    activity: &Arc<DeviceActivity>,
) -> Option<Arc<Telemetry>> {
    let settings = node.telemetry.clone()?;
    let (tables, activity) = (Arc::clone(tables), Arc::clone(activity));
    let telemetry = Telemetry::new(Arc::clone(control), tables, activity, settings);
    let telemetry = Arc::new(telemetry);
    let counted = Arc::clone(&telemetry);
    control.count_also("telemetry", Box::new(move || counted.memory_bytes()));
    tokio::spawn(Arc::clone(&telemetry).keep_retention());
    if node
        .telemetry
        .as_ref()
        .is_some_and(|one| one.measures_subscribers)
    {
        tokio::spawn(Arc::clone(&telemetry).measure_subscribers());
    }
    Some(telemetry)
}
