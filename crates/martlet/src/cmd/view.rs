//! Members of objects in answers of the API, as texts for columns and lines.

use serde_json::Value;

/// The text of a member; empty if it is null or missing. Elements of a list have commas between
/// them.
pub(super) fn text(object: &Value, member: &str) -> String {
    match &object[member] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all = all.iter().filter_map(Value::as_str);
            all.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The time of a member, to the second; `-` if there is none.
pub(super) fn time(object: &Value, member: &str) -> String {
    let at = object[member].as_str().and_then(|at| at.parse().ok());
    at.map_or_else(
        || "-".to_owned(),
        |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A time for the API; null if there is none.
pub(super) fn moment(ms: Option<i64>) -> Value {
    let at = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or(Value::Null, |at| at.to_string().into())
}
