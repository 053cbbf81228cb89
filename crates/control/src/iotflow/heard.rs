//! When devices sent heartbeats and telemetry: a part of the node takes these messages, and what
//! they say of their devices is noted in the tables, in batches.
//!
//! The topic names the device; who may publish there is a matter of rules. Will Messages are not
//! looked at: they have topics of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::Delivery;
use martlet_registry::{DeviceFilter, Heard, IOTFLOW, Scope};
use tracing::warn;

use super::Catalogue;
use crate::control::Control;
use crate::observer::Observer;
use crate::tables::Tables;
use crate::wall_clock::now_signed_ms;

/// Client Identifier of the part.
const PART: &str = "$iotflow/heard";
/// Time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Time within which a device is written at most once.
const DEVICE_EVERY: Duration = Duration::from_secs(5);
/// Devices that wait to be written, at most; of others nothing is noted until there is room.
const DEVICES_MAX: usize = 100_000;
/// Time until a part that was ended is attached again.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);
/// Devices of one transaction. Others who write to the tables wait for its end.
const ROWS: usize = 500;

/// Notes when devices sent messages, for as long as the node runs. The part is attached once there
/// is a device of the type [`IOTFLOW`].
pub async fn note_heard(control: Arc<Control>, tables: Arc<Tables>, catalogue: Arc<Catalogue>) {
    let mut changes = tables.changes();
    while !has_devices(&tables).await {
        // Without the tables the node ends.
        if changes.changed().await.is_err() {
            return;
        }
    }
    let mut waiting = HeardDevices::default();
    loop {
        take(&control, &tables, &catalogue, &mut waiting).await;
        tokio::time::sleep(ATTACH_AGAIN).await;
    }
}

/// Whether there is a device of the type; not if that cannot be read.
async fn has_devices(tables: &Tables) -> bool {
    if !tables.are_there() {
        return false;
    }
    let read = tables.read(|registry| {
        Box::pin(async move {
            let filter = DeviceFilter {
                device_type: Some(IOTFLOW.to_owned()),
                ..DeviceFilter::default()
            };
            registry.count_devices(&Scope::All, &filter).await
        })
    });
    read.await.is_ok_and(|count| count > 0)
}

/// Takes messages until the part is ended.
async fn take(
    control: &Control,
    tables: &Arc<Tables>,
    catalogue: &Catalogue,
    waiting: &mut HeardDevices,
) {
    let filters = FILTERS.map(|path| catalogue.topic(path));
    let mut observer = Observer::attach(control, PART, &filters);
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let heard = tokio::select! {
            heard = observer.next() => heard,
            _ = ticks.tick() => {
                waiting.write(tables).await;
                continue;
            }
        };
        match heard {
            Ok(deliveries) => {
                for delivery in &deliveries {
                    waiting.note(catalogue, delivery);
                }
            }
            Err(why) => {
                return warn!(why, "heartbeats and telemetry of devices are not noticed");
            }
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

/// Times that are to be written, by device.
#[derive(Debug, Default)]
pub(crate) struct HeardDevices {
    /// By tenant and id: the last message, and the last telemetry; 0 is none.
    heard: HashMap<(u32, String), (i64, i64)>,
    /// When devices were written that are not to be written again yet.
    written: HashMap<(u32, String), Instant>,
}

impl HeardDevices {
    fn note(&mut self, catalogue: &Catalogue, delivery: &Delivery) {
        let message = &delivery.message;
        let path = catalogue.path_of(message.topic());
        if let Some((id, is_telemetry)) = path.and_then(device_of) {
            self.note_of(message.tenant().0, id, is_telemetry, now_signed_ms());
        }
    }

    /// Notes that a device sent something, at a time in milliseconds since the Unix epoch.
    pub(crate) fn note_of(&mut self, tenant: u32, id: &str, is_telemetry: bool, at_ms: i64) {
        let key = (tenant, id.to_owned());
        if self.heard.len() >= DEVICES_MAX && !self.heard.contains_key(&key) {
            return;
        }
        let (message_ms, telemetry_ms) = self.heard.entry(key).or_default();
        *message_ms = at_ms;
        if is_telemetry {
            *telemetry_ms = at_ms;
        }
    }

    /// Takes out those that may be written now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Heard> {
        self.written
            .retain(|_, at| now.duration_since(*at) < DEVICE_EVERY);
        let written = &mut self.written;
        let due = self
            .heard
            .extract_if(|device, _| !written.contains_key(device));
        let due: Vec<Heard> = due
            .map(|((tenant, id), (message_ms, telemetry_ms))| Heard {
                tenant,
                id,
                message_ms,
                telemetry_ms,
            })
            .collect();
        let keys = due.iter().map(|heard| (heard.tenant, heard.id.clone()));
        self.written.extend(keys.map(|key| (key, now)));
        due
    }

    async fn write(&mut self, tables: &Arc<Tables>) {
        write_heard(tables, self.due(Instant::now())).await;
    }
}

/// Notes in the tables when devices were heard of.
pub(crate) async fn write_heard(tables: &Arc<Tables>, due: Vec<Heard>) {
    for rows in due.chunks(ROWS) {
        let rows = rows.to_vec();
        let noted =
            tables.note(move |registry| Box::pin(async move { registry.note_heard(&rows).await }));
        if let Err(error) = noted.await {
            warn!(%error, "when devices were heard of is not noted");
        }
    }
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

    #[test]
    fn a_device_is_written_at_once_and_then_after_a_while() {
        let mut waiting = HeardDevices::default();
        let begun = Instant::now();
        waiting.note_of(0, "a", true, 1_000);
        waiting.note_of(0, "a", false, 2_000);
        let heard = |message_ms, telemetry_ms| Heard {
            tenant: 0,
            id: "a".to_owned(),
            message_ms,
            telemetry_ms,
        };
        assert_eq!(waiting.due(begun), [heard(2_000, 1_000)]);
        waiting.note_of(0, "a", false, 3_000);
        assert_eq!(waiting.due(begun + WRITE_EVERY), []);
        assert_eq!(waiting.due(begun + DEVICE_EVERY), [heard(3_000, 0)]);
        assert_eq!(waiting.due(begun + 3 * DEVICE_EVERY), []);
    }
}
