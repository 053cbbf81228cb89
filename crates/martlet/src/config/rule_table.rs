//! A table `[[rules]]` of the file.

use serde_json::{Map, Value};
use toml::de::{DeArray, DeTable, DeValue};

/// A table `[[rules]]` of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleTable {
    /// File and line of its beginning.
    pub(crate) place: String,
    /// Keys of the table.
    pub(crate) keys: Map<String, Value>,
}

/// Converts a table of the file to JSON.
pub(super) fn keys_of(table: &DeTable<'_>) -> Map<String, Value> {
    let entries = table.iter();
    entries
        .map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref())))
        .collect()
}

fn array_of(array: &DeArray<'_>) -> Value {
    array.iter().map(|value| json_of(value.get_ref())).collect()
}

fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| number.as_str().into(), Value::from)
        }
        DeValue::Float(number) => {
            let parsed: Result<f64, _> = number.as_str().parse();
            parsed.map_or_else(|_| number.as_str().into(), Value::from)
        }
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(array) => array_of(array),
        DeValue::Table(table) => Value::Object(keys_of(table)),
    }
}
