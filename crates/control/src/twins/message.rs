//! Topics and payloads of twins.

use martlet_broker::{Message, NewMessage};
use martlet_codec::{QoS, TopicFilter, TopicName};
use martlet_registry::{IOTFLOW, TWIN_BYTES_MAX, Twin, Values, values_of_json};
use martlet_text_file::without_bom;
use serde_json::json;

use crate::iotflow::Catalogue;
use crate::rfc3339;

/// Where devices of other types than `iotflow` have their topics.
const NATIVE: &str = "d";

/// Topic Filters of what devices report and ask for.
pub(super) fn filters(catalogue: &Catalogue) -> [String; 4] {
    [
        format!("{NATIVE}/+/twin/reported"),
        format!("{NATIVE}/+/twin/get"),
        catalogue.topic("devices/+/status/config"),
        catalogue.topic("devices/+/status/config/get"),
    ]
}

/// A message of a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TwinMessage {
    /// The device reports values: a merge patch, or why it is none.
    Reports(Result<Values, String>),
    /// The device asks for its desired values.
    Asks,
}

/// The device of a message, and its content; none: the topic belongs to no twin.
pub(super) fn read(catalogue: &Catalogue, message: &Message) -> Option<(String, TwinMessage)> {
    let topic = message.topic();
    let of_iotflow = catalogue.path_of(topic);
    let of_iotflow = of_iotflow.and_then(|path| path.strip_prefix("devices/"));
    let native = topic.strip_prefix(NATIVE);
    let native = native.and_then(|rest| rest.strip_prefix('/'));
    let (device, rest) = of_iotflow.or(native)?.split_once('/')?;
    let content = match rest {
        "twin/reported" | "status/config" => TwinMessage::Reports(values_of(message.payload())),
        "twin/get" | "status/config/get" => TwinMessage::Asks,
        _ => return None,
    };
    Some((device.to_owned(), content))
}

fn values_of(payload: &[u8]) -> Result<Values, String> {
    if payload.len() > TWIN_BYTES_MAX {
        return Err(format!(
            "a report may have {TWIN_BYTES_MAX} bytes, and this one has {}",
            payload.len()
        ));
    }
    values_of_json(without_bom(payload)).map_err(str::to_owned)
}

/// The topics on which a device is sent its desired values, one for each family of types.
fn topics(catalogue: &Catalogue, device: &str) -> [String; 2] {
    [
        format!("{NATIVE}/{device}/config"),
        catalogue.topic(&format!("devices/{device}/config")),
    ]
}

/// The topic on which this device is sent its desired values.
fn topic_of(catalogue: &Catalogue, device_type: &str, device: &str) -> String {
    let [native, iotflow] = topics(catalogue, device);
    match device_type == IOTFLOW {
        true => iotflow,
        false => native,
    }
}

/// The topics of a device, by its type and id: for its desired values and its reports.
pub(super) fn topics_of(
    catalogue: &Catalogue,
    device_type: &str,
    device: &str,
) -> (String, String) {
    let reports = match device_type == IOTFLOW {
        true => catalogue.topic(&format!("devices/{device}/status/config")),
        false => format!("{NATIVE}/{device}/twin/reported"),
    };
    (topic_of(catalogue, device_type, device), reports)
}

/// Whether a subscription of a device may be one to its desired values.
pub(super) fn takes_desired(catalogue: &Catalogue, device: &str, filter: &str) -> bool {
    let Ok(filter) = TopicFilter::new(filter) else {
        return false;
    };
    let topics = topics(catalogue, device);
    let mut topics = topics.iter().filter_map(|topic| TopicName::new(topic).ok());
    topics.any(|topic| filter.matches(topic))
}

/// The message with the desired values for a device.
///
/// It is not retained: the values would outlive the device as a retained message, for all clients
/// that may read it. A device that subscribes gets them anyway.
pub(super) fn desired_message(catalogue: &Catalogue, twin: &Twin, now_ms: u64) -> NewMessage {
    let payload = json!({
        "version": twin.desired.version,
        "desired": twin.merged_desired(),
        "difference": twin.difference(),
        "reported_version": twin.reported.version,
        "timestamp": rfc3339::text(now_ms),
    });
    message(
        topic_of(catalogue, &twin.device_type, &twin.device),
        payload.to_string(),
    )
}

/// The message, with these hops, to a device with the reason why its report was not applied.
pub(super) fn error_message(
    catalogue: &Catalogue,
    topic: &str,
    device: &str,
    why: &str,
    hops: u8,
) -> NewMessage {
    let is_iotflow = catalogue.path_of(topic).is_some();
    let [native, iotflow] = topics(catalogue, device);
    let topic = if is_iotflow { iotflow } else { native };
    NewMessage {
        hops,
        ..message(
            format!("{topic}/error"),
            json!({ "error": why }).to_string(),
        )
    }
}

fn message(topic: String, payload: String) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: payload.into_bytes().into(),
        qos: QoS::AtLeastOnce,
        payload_is_utf8: Some(true),
        content_type: Some("application/json".into()),
        ..NewMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_to_the_topic_of_desired_values_is_known() {
        let catalogue = Catalogue::default();
        for filter in [
            "d/pump/config",
            "d/pump/#",
            "d/pump/+",
            "#",
            "iotflow/devices/pump/config",
            "iotflow/devices/pump/config/#",
        ] {
            assert!(takes_desired(&catalogue, "pump", filter), "{filter}");
        }
        for filter in [
            "d/pump/commands/#",
            "d/other/config",
            "iotflow/devices/pump/commands/+",
        ] {
            assert!(!takes_desired(&catalogue, "pump", filter), "{filter}");
        }
    }

    #[test]
    fn a_report_is_an_object_of_some_size() {
        assert!(values_of(br#"{"a": 1}"#).is_ok());
        assert!(values_of(b"[1]").is_err());
        assert!(values_of(b"on").is_err());
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(TWIN_BYTES_MAX));
        assert!(values_of(long.as_bytes()).is_err());
    }
}
