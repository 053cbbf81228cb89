//! Times of devices' last activity, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::activity::{DeviceActivity, keep};
use martlet_control::shared_registry::SharedRegistry;

/// Starts to record activity.
pub(super) fn start(control: &Arc<Control>, tables: &Arc<SharedRegistry>) -> Arc<DeviceActivity> {
    let activity = Arc::new(DeviceActivity::new());
    let counted = Arc::clone(&activity);
    control.count_also("activity", Box::new(move || counted.memory_bytes()));
    tokio::spawn(keep(
        Arc::clone(control),
        Arc::clone(tables),
        Arc::clone(&activity),
    ));
    activity
}
