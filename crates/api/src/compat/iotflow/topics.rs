//! The catalogue of topics: what is sent where, with which QoS, and whether it is retained; and
//! whether a topic belongs to the system.

use axum::Json;
use axum::extract::Extension;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::Body;
use super::mqtt::missing_field;
use crate::extract::PathOf;
use crate::guard::Unchanged;
use crate::problem::Problem;

/// The first level of all topics of the system.
pub(super) const BASE: &str = "iotflow";

const DEVICE: &str = "{device_id}";

/// Bytes of a Topic Name, at most [MQTT-4.7.3-3].
const TOPIC_BYTES_MAX: usize = 65_535;

/// A topic of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    name: &'static str,
    /// Below the base.
    path: &'static str,
    /// What kind of messages it has.
    topic_type: &'static str,
    qos: u8,
    retain: bool,
    description: &'static str,
}

/// Declares the catalogue: name, path, kind, QoS, retained, description.
macro_rules! catalogue {
    ($(
        $name:literal $path:literal $kind:literal $qos:literal $retain:literal $what:literal;
    )*) => {
        /// All topics of the system.
        pub(super) const CATALOGUE: &[Entry] = &[$( Entry {
            name: $name,
            path: $path,
            topic_type: $kind,
            qos: $qos,
            retain: $retain,
            description: $what,
        }, )*];
    };
}

catalogue! {
    "device_telemetry" "devices/{device_id}/telemetry" "telemetry" 1 false "Telemetry without a kind of its own";
    "device_telemetry_sensors" "devices/{device_id}/telemetry/sensors" "telemetry" 1 false "Sensor readings of a device";
    "device_telemetry_metrics" "devices/{device_id}/telemetry/metrics" "telemetry" 1 false "Performance of a device";
    "device_telemetry_events" "devices/{device_id}/telemetry/events" "telemetry" 1 false "Events and alerts of a device";
    "device_commands_config" "devices/{device_id}/commands/config" "commands" 2 true "Commands that change the configuration of a device";
    "device_commands_control" "devices/{device_id}/commands/control" "commands" 2 false "Commands that control a device";
    "device_commands_firmware" "devices/{device_id}/commands/firmware" "commands" 2 true "Commands that update the firmware of a device";
    "device_status_heartbeat" "devices/{device_id}/status/heartbeat" "status" 0 false "Heartbeats of a device";
    "device_status_online" "devices/{device_id}/status/online" "status" 1 true "A device is online";
    "device_status_offline" "devices/{device_id}/status/offline" "status" 1 true "A device is offline";
    "device_config" "devices/{device_id}/config" "config" 1 true "Configuration of a device";
    "device_lwt" "lwt/devices/{device_id}" "lwt" 1 true "Will Message of a device";
    "discovery_register" "discovery/register/{device_id}" "discovery" 1 false "A device asks to be registered";
    "discovery_response" "discovery/response/{device_id}" "discovery" 1 false "Answer to a device that asked to be registered";
    "fleet_commands" "fleet/commands/{group_id}" "commands" 2 true "Commands for a group of devices";
    "fleet_status" "fleet/status/{group_id}" "status" 1 true "Status of a group of devices";
    "system_health" "system/health" "system" 1 true "Health of the system";
    "system_metrics" "system/metrics" "system" 0 false "Performance of the system";
    "system_alerts" "system/alerts" "alerts" 1 true "Alerts of the system";
    "monitoring_broker" "monitoring/broker" "monitoring" 0 false "Numbers about the broker";
    "monitoring_clients" "monitoring/clients" "monitoring" 0 false "Numbers about clients";
    "monitoring_traffic" "monitoring/traffic" "monitoring" 0 false "Numbers about traffic";
}

/// Topic Filters for many topics at once, below the base.
const PATTERNS: [(&str, &str); 8] = [
    ("all_device_telemetry", "devices/+/telemetry/#"),
    ("all_device_status", "devices/+/status/+"),
    ("all_device_commands", "devices/+/commands/+"),
    ("all_fleet_commands", "fleet/commands/+"),
    ("all_system_topics", "system/+"),
    ("all_monitoring", "monitoring/+"),
    ("all_discovery", "discovery/+/+"),
    ("everything", "#"),
];

pub(super) async fn structure() -> Json<Value> {
    let patterns = PATTERNS.iter();
    let patterns: Map<String, Value> = patterns
        .map(|(name, filter)| ((*name).to_owned(), format!("{BASE}/{filter}").into()))
        .collect();
    let entries: Map<String, Value> = CATALOGUE.iter().map(described).collect();
    Json(json!({
        "status": "success",
        "base_topic": BASE,
        "wildcard_patterns": patterns,
        "topic_structures": entries,
        "total_structures": CATALOGUE.len(),
    }))
}

fn described(entry: &Entry) -> (String, Value) {
    let value = json!({
        "base_path": entry.path,
        "topic_type": entry.topic_type,
        "qos": entry.qos,
        "retain": entry.retain,
        "description": entry.description,
        "full_topic_example": format!("{BASE}/{}", entry.path),
    });
    (entry.name.to_owned(), value)
}

/// Topics of a device, which need not be there.
pub(super) async fn of_device(PathOf(id): PathOf<String>) -> Result<Json<Value>, Problem> {
    if id.contains(['/', '+', '#', '\0']) {
        let detail = "a device id that is part of a topic has none of / + #";
        return Err(Problem::bad_request(detail).with_heading("Invalid device ID format"));
    }
    let mut topics: Map<String, Value> = Map::new();
    let mut total = 0;
    for entry in CATALOGUE.iter().filter(|entry| entry.path.contains(DEVICE)) {
        let path = entry.path.replace(DEVICE, &id);
        let topic = json!({
            "name": entry.name,
            "path": format!("{BASE}/{path}"),
            "qos": entry.qos,
            "retain": entry.retain,
            "description": entry.description,
        });
        let of_type = topics.entry(entry.topic_type).or_insert_with(|| json!([]));
        if let Value::Array(of_type) = of_type {
            of_type.push(topic);
            total += 1;
        }
    }
    Ok(Json(json!({
        "status": "success",
        "device_id": id,
        "topics": topics,
        "total_topics": total,
    })))
}

/// A topic to be looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    topic: Option<String>,
}

pub(super) async fn validate(
    Body(body): Body<Wanted>,
) -> Result<(Extension<Unchanged>, Json<Value>), Problem> {
    let topic = body.topic;
    let topic = topic.ok_or_else(|| missing_field("Missing required field: topic"))?;
    let errors = errors_of(&topic);
    let mut answer = json!({
        "status": "success",
        "topic": topic,
        "is_valid": errors.is_empty(),
        "parsed": match errors.is_empty() {
            true => parsed(&topic),
            false => Value::Null,
        },
    });
    if !errors.is_empty() {
        answer["validation_errors"] = errors.into();
    }
    Ok((Extension(Unchanged), Json(answer)))
}

/// What is wrong with a topic of the system.
pub(super) fn errors_of(topic: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let below = topic
        .strip_prefix(BASE)
        .and_then(|rest| rest.strip_prefix('/'));
    if below.is_none_or(str::is_empty) {
        errors.push(format!("Topic must start with '{BASE}/'"));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        errors.push(format!("Topic too long (max {TOPIC_BYTES_MAX} bytes)"));
    }
    for letter in ['+', '#', '\0'] {
        if topic.contains(letter) {
            errors.push(format!("Invalid character: {letter:?}"));
        }
    }
    errors
}

/// The parts of a valid topic.
fn parsed(topic: &str) -> Value {
    let path = topic.strip_prefix(BASE).unwrap_or(topic);
    let path = path.strip_prefix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let mut parsed = Map::from_iter([
        ("base".to_owned(), BASE.into()),
        ("full_topic".to_owned(), topic.into()),
        ("path".to_owned(), path.into()),
        ("parts".to_owned(), json!(parts)),
    ]);
    let mut set = |name: &str, part: &str| {
        parsed.insert(name.to_owned(), part.into());
    };
    if let [category, _, ..] = parts[..] {
        set("category", category);
    }
    match parts[..] {
        ["devices", id, topic_type, ref rest @ ..] => {
            set("device_id", id);
            set("topic_type", topic_type);
            if let Some(subtopic) = rest.first() {
                set("subtopic", subtopic);
            }
        }
        ["fleet", topic_type, group, ..] => {
            set("topic_type", topic_type);
            set("group_id", group);
        }
        ["system", topic_type, ..] => set("topic_type", topic_type),
        _ => {}
    }
    parsed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_complete() {
        assert_eq!(CATALOGUE.len(), 22);
        for entry in CATALOGUE {
            let topic = format!("{BASE}/{}", entry.path);
            assert_eq!(errors_of(&topic), Vec::<String>::new(), "{topic}");
            let same = CATALOGUE.iter().filter(|other| other.name == entry.name);
            assert_eq!(same.count(), 1, "{}", entry.name);
        }
    }

    #[test]
    fn topics_are_told_from_others() {
        for (topic, count) in [
            ("iotflow/devices/7/telemetry", 0),
            ("iotflow", 1),
            ("iotflow/", 1),
            ("other/devices", 1),
            ("iotflow/devices/+/status/#", 2),
            ("", 1),
        ] {
            assert_eq!(errors_of(topic).len(), count, "{topic}");
        }
        let parsed = parsed("iotflow/devices/s1/telemetry/sensors");
        assert_eq!(parsed["category"], "devices");
        assert_eq!(parsed["device_id"], "s1");
        assert_eq!(parsed["topic_type"], "telemetry");
        assert_eq!(parsed["subtopic"], "sensors");
        assert_eq!(super::parsed("iotflow/fleet/commands/g")["group_id"], "g");
    }
}
