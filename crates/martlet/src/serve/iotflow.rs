//! Topics of IoTFlow, while the node runs.

use std::sync::Arc;
use std::time::Duration;

use martlet_api::{CompatApi, RouteSettings};
use martlet_control::Control;
use martlet_control::activity::DeviceActivity;
use martlet_control::integrations::Integrations;
use martlet_control::iotflow::{note_activity, publish_state};
use martlet_control::shared_registry::SharedRegistry;

use crate::config::NodeConfig;

/// Starts the tasks for topics of IoTFlow.
pub(super) fn start(
    node: &NodeConfig,
    (control, tables, integrations): (&Arc<Control>, &Arc<SharedRegistry>, &Arc<Integrations>),
    activity: &Arc<DeviceActivity>,
) {
    let catalogue = &node.api.iotflow;
    let has_routes = |routes: &RouteSettings| routes.compat.contains(&CompatApi::IotFlow);
    let mut listeners = node.http.iter().map(|listener| &listener.routes);
    if has_routes(&node.api.routes) || listeners.any(has_routes) {
        let (control, tables) = (Arc::clone(control), Arc::clone(tables));
        let (catalogue, activity) = (Arc::clone(catalogue), Arc::clone(activity));
        tokio::spawn(note_activity(control, tables, catalogue, activity));
    }
    if node.iotflow_publish_secs > 0 {
        let every = Duration::from_secs(node.iotflow_publish_secs);
        let (control, integrations) = (Arc::clone(control), Arc::clone(integrations));
        let catalogue = Arc::clone(catalogue);
        tokio::spawn(publish_state(control, integrations, catalogue, every));
    }
}
