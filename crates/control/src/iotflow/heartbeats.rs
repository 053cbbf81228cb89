//! Heartbeats and telemetry of devices, and what they or their Wills say of being online: a part of
//! the node takes these messages, and notes when devices sent them, and which firmware their
//! heartbeats name.
//!
//! The topic names the device. Rules decide who may publish there.

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
        take(&control, &catalogue, &activity, &versions).await;
        tokio::time::sleep(ATTACH_AGAIN).await;
    }
}

/// Takes messages until the part is ended.
async fn take(
    control: &Control,
    catalogue: &Catalogue,
    activity: &DeviceActivity,
    versions: &Versions,
) {
    let filters = FILTERS.map(|path| catalogue.topic(path));
    let mut observer = Observer::attach(control, PART, &filters);
    loop {
        match observer.next().await {
            Ok(deliveries) => {
                for delivery in &deliveries {
                    let message = &delivery.message;
                    let path = catalogue.path_of(message.topic());
                    let Some((id, kind)) = path.and_then(device_of) else {
                        continue;
                    };
                    let tenant = message.tenant();
                    match kind {
                        Kind::Telemetry => activity.note(tenant, id, true),
                        Kind::Online => activity.note(tenant, id, false),
                        // An empty one clears a retained message.
                        Kind::Offline if message.payload().is_empty() => {}
                        Kind::Offline => activity.note_offline(tenant, id),
                        Kind::Heartbeat => {
                            activity.note(tenant, id, false);
                            versions.note(tenant, id, message.payload());
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

const FILTERS: [&str; 5] = [
    "devices/+/status/heartbeat",
    "devices/+/status/online",
    "devices/+/status/offline",
    "devices/+/heartbeat",
    "devices/+/telemetry/#",
];

/// Statement of a message about its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Telemetry,
    Heartbeat,
    Online,
    Offline,
}

/// The device that a topic of this path names, and what its messages say.
fn device_of(path: &str) -> Option<(&str, Kind)> {
    let (id, rest) = path.strip_prefix("devices/")?.split_once('/')?;
    let kind = match rest {
        "status/online" => Kind::Online,
        "status/offline" => Kind::Offline,
        _ if rest.split('/').next() == Some("telemetry") => Kind::Telemetry,
        _ => Kind::Heartbeat,
    };
    Some((id, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_device() {
        assert_eq!(
            device_of("devices/7/telemetry"),
            Some(("7", Kind::Telemetry))
        );
        for (rest, kind) in [
            ("telemetry/sensors", Kind::Telemetry),
            ("status/heartbeat", Kind::Heartbeat),
            ("heartbeat", Kind::Heartbeat),
            ("status/online", Kind::Online),
            ("status/offline", Kind::Offline),
        ] {
            assert_eq!(device_of(&format!("devices/a/{rest}")), Some(("a", kind)));
        }
        assert_eq!(device_of("devices/a"), None);
        assert_eq!(device_of("system/health"), None);
    }
}
