//! Values as they are answered.

use std::collections::HashMap;

use martlet_control::telemetry::{Row, Value, time_text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A value of one device.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReadingView {
    /// When it was measured; of values that came without a time, when they came.
    #[schema(format = DateTime)]
    pub time: String,
    /// Key of the value.
    pub key: String,
    /// A number, a boolean, a text, or JSON.
    pub value: serde_json::Value,
}

impl From<Row> for ReadingView {
    fn from(row: Row) -> Self {
        Self {
            time: time_text(row.time),
            key: row.key.to_string(),
            value: json_of(&row.value),
        }
    }
}

/// A value of one of several devices.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeviceReadingView {
    /// Id of its device.
    pub device: String,
    /// When it was measured; of values that came without a time, when they came.
    #[schema(format = DateTime)]
    pub time: String,
    /// Key of the value.
    pub key: String,
    /// A number, a boolean, a text, or JSON.
    pub value: serde_json::Value,
}

impl DeviceReadingView {
    /// The view of a row. `ids` are the ids of devices.
    pub(super) fn new(row: Row, ids: &HashMap<i64, String>) -> Self {
        Self {
            device: id_of(row.device, ids),
            time: time_text(row.time),
            key: row.key.to_string(),
            value: json_of(&row.value),
        }
    }
}

/// The id of a device by its number.
pub(super) fn id_of(number: i64, ids: &HashMap<i64, String>) -> String {
    ids.get(&number)
        .cloned()
        .unwrap_or_else(|| number.to_string())
}

/// A value as JSON.
pub(crate) fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Number(number) => (*number).into(),
        Value::Bool(flag) => (*flag).into(),
        Value::Text(text) => (**text).into(),
        // It was JSON when it was stored.
        Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| (**text).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types() {
        for (value, json) in [
            (Value::Integer(7), "7"),
            (Value::Number(21.5), "21.5"),
            (Value::Number(7.0), "7.0"),
            (Value::Bool(true), "true"),
            (Value::Text("7".into()), "\"7\""),
            (Value::Json("{\"a\":[1]}".into()), "{\"a\":[1]}"),
        ] {
            assert_eq!(json_of(&value).to_string(), json);
        }
    }
}
