//! Heartbeats and telemetry of devices: a part of the node takes these messages, and notes when
//! devices sent them, and which firmware their heartbeats name.
//!
//! The topic names the device. Rules decide who may publish there. Will Messages are not looked at:
//! they have topics of their own.

use std::sync::Arc;
use std::time::Duration;

use martlet_registry::{DeviceFilter, IOTFLOW};
use tracing::warn;

use super::Catalogue;
use super::versions::Versions;
use crate::activity::{DeviceActivity, until_devices};
use crate::control::Control;
use crate::observer::Observer;
use crate::shared_registry::SharedRegistry;

/// Client Identifier of the part.
const PART: &str = "$iotflow/heard";
/// Time until a part that was ended is attached again.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);

/// Notes when devices sent messages, for as long as the node runs. The part is attached once there
/// is a device of the type [`IOTFLOW`].
pub async fn note_activity(
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    catalogue: Arc<Catalogue>,
    activity: Arc<DeviceActivity>,
) {
    let filter = DeviceFilter {
        device_type: Some(IOTFLOW.to_owned()),
        ..DeviceFilter::default()
    };
    if !until_devices(&tables, filter).await {
        return;
    }
    let versions = Versions::keep(Arc::clone(&tables));
    loop {
        take(&control, &catalogue, (&activity, &versions)).await;
        tokio::time::sleep(ATTACH_AGAIN).await;
    }
}

/// Takes messages until the part is ended.
async fn take(
    control: &Control,
    catalogue: &Catalogue,
    (activity, versions): (&DeviceActivity, &Versions),
) {
    let filters = FILTERS.map(|path| catalogue.topic(path));
    let mut observer = Observer::attach(control, PART, &filters);
    loop {
        match observer.next().await {
            Ok(deliveries) => {
                for delivery in &deliveries {
                    let message = &delivery.message;
                    let path = catalogue.path_of(message.topic());
                    if let Some((id, is_telemetry)) = path.and_then(device_of) {
                        activity.note(message.tenant(), id, is_telemetry);
                        if !is_telemetry {
                            versions.note(message.tenant(), id, message.payload());
                        }
                    }
                }
            }
            Err(Some(why)) => {
                return warn!(why, "cannot read heartbeats and telemetry");
            }
            Err(None) => return,
        }
    }
}

const FILTERS: [&str; 3] = [
    "devices/+/status/heartbeat",
    "devices/+/heartbeat",
    "devices/+/telemetry/#",
];

/// The device that a topic of this path names, and whether its messages are telemetry.
fn device_of(path: &str) -> Option<(&str, bool)> {
    let (id, rest) = path.strip_prefix("devices/")?.split_once('/')?;
    let kind = rest.split('/').next().unwrap_or_default();
    Some((id, kind == "telemetry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_device() {
        assert_eq!(device_of("devices/7/telemetry"), Some(("7", true)));
        assert_eq!(device_of("devices/a/telemetry/sensors"), Some(("a", true)));
        assert_eq!(device_of("devices/a/status/heartbeat"), Some(("a", false)));
        assert_eq!(device_of("devices/a"), None);
        assert_eq!(device_of("system/health"), None);
    }
}
