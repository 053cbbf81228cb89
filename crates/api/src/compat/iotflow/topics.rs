//! The catalogue of topics, and whether a topic belongs to the system.

use axum::Json;
use axum::extract::{Extension, State};
use martlet_codec::TopicFilter;
use martlet_control::iotflow::{Catalogue, CatalogueTopic, DEVICE, PATTERNS};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{Body, missing_field};
use crate::api::Api;
use crate::extensions::Unchanged;
use crate::extract::PathOf;
use crate::problem::Problem;

/// Bytes of a Topic Name, at most [MQTT-4.7.3-3].
const TOPIC_BYTES_MAX: usize = 65_535;

/// The catalogue of topics
#[utoipa::path(get, path = "/api/v1/mqtt/topics/structure",
    responses((status = 200, description = "The topics by name", body = Value)))]
pub(super) async fn structure(State(api): State<Api>) -> Json<Value> {
    let catalogue = &api.settings.iotflow;
    let patterns = PATTERNS.iter();
    let patterns: Map<String, Value> = patterns
        .map(|(name, filter)| ((*name).to_owned(), catalogue.topic(filter).into()))
        .collect();
    let entries = catalogue.entries().iter();
    let entries: Map<String, Value> = entries.map(|entry| described(catalogue, entry)).collect();
    Json(json!({
        "status": "success",
        "base_topic": catalogue.base(),
        "wildcard_patterns": patterns,
        "topic_structures": entries,
        "total_structures": catalogue.entries().len(),
    }))
}

fn described(catalogue: &Catalogue, entry: &CatalogueTopic) -> (String, Value) {
    let value = json!({
        "base_path": entry.path,
        "topic_type": entry.topic_type,
        "qos": entry.qos as u8,
        "retain": entry.retain,
        "description": entry.description,
        "full_topic_example": catalogue.topic(entry.path),
    });
    (entry.name.to_owned(), value)
}

/// Topics of a device
///
/// It need not be there.
#[utoipa::path(get, path = "/api/v1/mqtt/topics/device/{id}",
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "The topics by type", body = Value)))]
pub(super) async fn of_device(
    State(api): State<Api>,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    if id.contains(['/', '+', '#', '\0']) {
        let detail = "a device id that is part of a topic has none of / + #";
        return Err(Problem::bad_request(detail).with_heading("Invalid device ID format"));
    }
    let mut topics: Map<String, Value> = Map::new();
    let mut total = 0;
    let catalogue = &api.settings.iotflow;
    let entries = catalogue.entries().iter();
    for entry in entries.filter(|entry| entry.path.contains(DEVICE)) {
        let path = entry.path.replace(DEVICE, &id);
        let topic = json!({
            "name": entry.name,
            "path": catalogue.topic(&path),
            "qos": entry.qos as u8,
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
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Topic)]
pub(super) struct TopicBody {
    /// Topic Name.
    #[schema(value_type = String)]
    topic: Option<String>,
}

/// Check a topic
#[utoipa::path(post, path = "/api/v1/mqtt/topics/validate",
    request_body = TopicBody,
    responses((status = 200, description = "Whether it is valid, and its parts", body = Value)))]
pub(super) async fn validate(
    State(api): State<Api>,
    Body(body): Body<TopicBody>,
) -> Result<(Extension<Unchanged>, Json<Value>), Problem> {
    let topic = body.topic;
    let topic = topic.ok_or_else(|| missing_field("Missing required field: topic"))?;
    let catalogue = &api.settings.iotflow;
    let errors = errors_of(catalogue, &topic);
    let mut answer = json!({
        "status": "success",
        "topic": topic,
        "is_valid": errors.is_empty(),
        "parsed": match errors.is_empty() {
            true => parsed(catalogue, &topic),
            false => Value::Null,
        },
    });
    if !errors.is_empty() {
        answer["validation_errors"] = errors.into();
    }
    Ok((Extension(Unchanged), Json(answer)))
}

/// Errors of a topic of the system.
pub(super) fn errors_of(catalogue: &Catalogue, topic: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if catalogue.path_of(topic).is_none_or(str::is_empty) {
        errors.push(format!("Topic must start with '{}'", catalogue.topic("")));
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

/// Error of a Topic Filter of the system; none: it is valid.
pub(super) fn error_of_filter(catalogue: &Catalogue, filter: &str) -> Option<String> {
    if catalogue.path_of(filter).is_none_or(str::is_empty) {
        return Some(format!("Topic must start with '{}'", catalogue.topic("")));
    }
    TopicFilter::new(filter)
        .err()
        .map(|error| error.to_string())
}

/// The parts of a valid topic.
fn parsed(catalogue: &Catalogue, topic: &str) -> Value {
    let path = catalogue.path_of(topic).unwrap_or(topic);
    let parts: Vec<&str> = path.split('/').collect();
    let mut parsed = Map::from_iter([
        ("base".to_owned(), catalogue.base().into()),
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
    fn topics_are_told_from_others() {
        let catalogue = Catalogue::default();
        for (topic, count) in [
            ("iotflow/devices/7/telemetry", 0),
            ("iotflow", 1),
            ("iotflow/", 1),
            ("other/devices", 1),
            ("iotflow/devices/+/status/#", 2),
            ("", 1),
        ] {
            assert_eq!(errors_of(&catalogue, topic).len(), count, "{topic}");
        }
        for (filter, is_valid) in [
            ("iotflow/devices/+/status/#", true),
            ("iotflow/#", true),
            ("iotflow/", false),
            ("iotflow/a#", false),
            ("iotflow/\0", false),
            ("#", false),
            ("", false),
        ] {
            let error = error_of_filter(&catalogue, filter);
            assert_eq!(error.is_none(), is_valid, "{filter}");
        }
        let parsed = |topic: &str| parsed(&catalogue, topic);
        let of_group = parsed("iotflow/fleet/commands/g");
        let parsed = parsed("iotflow/devices/s1/telemetry/sensors");
        assert_eq!(parsed["category"], "devices");
        assert_eq!(parsed["device_id"], "s1");
        assert_eq!(parsed["topic_type"], "telemetry");
        assert_eq!(parsed["subtopic"], "sensors");
        assert_eq!(of_group["group_id"], "g");
    }
}
