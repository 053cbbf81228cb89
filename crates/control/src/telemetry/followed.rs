//! Values that came by HTTP, for the rules: those of the keys that rules look at are published as
//! messages on a topic of the node's own, so that they wait in the queue of the rules as all else.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use martlet_broker::{EVENTS, NewMessage};
use martlet_codec::QoS;
use serde::{Deserialize, Serialize};

use super::store::StoreError;
use super::{Decoded, Telemetry, TelemetryDevice, json_of};

/// Last level of the topic.
const KIND: &str = "telemetry";
/// Client Identifier that the messages are from.
const PUBLISHER: &str = "$telemetry";
/// Values of a message, at most.
const VALUES: usize = 500;

/// Values of a device, as a message has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FollowedValues {
    /// Id of the device.
    pub(crate) device: String,
    pub(crate) values: Vec<FollowedValue>,
}

/// A value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FollowedValue {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
    /// Time of the value, milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
}

/// The topic of such messages.
pub(crate) fn topic() -> String {
    format!("{EVENTS}{KIND}")
}

impl FollowedValues {
    /// Values of a message; none: it has none.
    pub(crate) fn of(topic: &str, payload: &[u8]) -> Option<Self> {
        match topic.strip_prefix(EVENTS) {
            Some(KIND) => serde_json::from_slice(payload).ok(),
            _ => None,
        }
    }
}

impl Telemetry {
    /// From now on values of these keys are published when they arrive by HTTP.
    pub(crate) fn hand_to_rules(&self, keys: BTreeSet<String>) {
        let mut followed = self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *followed = keys;
    }

    /// The messages with what is followed of a payload.
    pub(super) fn followed_of(
        &self,
        device: &TelemetryDevice,
        decoded: &Decoded,
    ) -> Vec<NewMessage> {
        let keys = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            return Vec::new();
        }
        let readings = decoded.readings.iter();
        let values = readings.filter(|reading| keys.contains(&reading.key));
        let mut values = values.map(|reading| FollowedValue {
            key: reading.key.clone(),
            value: json_of(&reading.value),
            time_ms: reading.time / 1_000,
        });
        let mut messages = Vec::new();
        loop {
            let some: Vec<FollowedValue> = values.by_ref().take(VALUES).collect();
            if some.is_empty() {
                return messages;
            }
            let body = FollowedValues {
                device: device.id.to_string(),
                values: some,
            };
            messages.push(NewMessage {
                topic: topic().into(),
                payload: serde_json::to_vec(&body).unwrap_or_default().into(),
                qos: QoS::AtLeastOnce,
                payload_is_utf8: Some(true),
                content_type: Some("application/json".into()),
                ..NewMessage::default()
            });
        }
    }

    /// Publishes what is followed. Waits until it is in the queue of the rules.
    ///
    /// # Errors
    /// The node rejects it: the sender of the values sends them again.
    pub(super) async fn publish_followed(
        &self,
        tenant: u32,
        messages: Vec<NewMessage>,
    ) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        let tenant = martlet_broker::TenantId(tenant);
        let published = self.control.publish(PUBLISHER, tenant, messages).await;
        let published = published.map_err(|error| StoreError::Rules(error.to_string()))?;
        match published.iter().find(|one| one.reason.is_error()) {
            Some(one) => Err(StoreError::Rules(one.reason.name().to_owned())),
            None => Ok(()),
        }
    }
}
