//! JSON to values of expressions, and back to text.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};

/// Whole numbers up to this are the same with and without a fraction.
const WHOLE_MAX: u64 = 1 << 53;

/// A value of JSON. All numbers have a fraction, as in JavaScript, so that a rule does not depend
/// on whether a device sends 21 or 21.0; whole numbers that would lose digits are left whole.
pub(crate) fn of_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) if whole.unsigned_abs() > WHOLE_MAX => Value::Int(whole),
            _ => Value::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(of_json).collect()))
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter();
            let map: HashMap<Key, Value> = members
                .map(|(name, value)| (Key::from(name), of_json(value)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// A payload: JSON if it is JSON, else text if it is UTF-8, else bytes.
pub(crate) fn of_payload(payload: &[u8]) -> Value {
    if let Ok(json) = serde_json::from_slice(payload) {
        return of_json(json);
    }
    match std::str::from_utf8(payload) {
        Ok(text) => of_text(text),
        Err(_) => Value::Bytes(Arc::new(payload.to_vec())),
    }
}

pub(crate) fn of_text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

pub(crate) fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    Value::List(Arc::new(texts.map(of_text).collect()))
}

pub(crate) fn of_members<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter();
    let map: HashMap<Key, Value> = members
        .map(|(name, value)| (Key::from(name), value))
        .collect();
    Value::Map(Map { map: Arc::new(map) })
}

/// As JSON. Members are in the order of their names.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => match whole(*number) {
            Some(whole) => whole.into(),
            None => (*number).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(members) => {
            let members = members.map.iter();
            members
                .map(|(name, value)| (name.to_string(), to_json(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        _ => serde_json::Value::Null,
    }
}

/// As JSON text.
pub fn json_text(value: &Value) -> String {
    to_json(value).to_string()
}

/// As text: a text as it is, bytes as UTF-8, all else as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => json_text(other),
    }
}

/// A number without a fraction, as a whole one.
fn whole(number: f64) -> Option<i64> {
    let fits = number.fract() == 0.0 && number.abs() <= WHOLE_MAX as f64;
    fits.then_some(number as i64)
}

/// Bytes that a value takes, approximately.
pub(crate) fn bytes_of(value: &Value) -> usize {
    const OWN: usize = 24;
    OWN + match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.iter().map(bytes_of).sum(),
        Value::Map(members) => {
            let members = members.map.iter();
            members
                .map(|(name, value)| 2 * OWN + name.to_string().len() + bytes_of(value))
                .sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_text_or_bytes() {
        assert_eq!(of_payload(b"21"), Value::Float(21.0));
        assert_eq!(
            of_payload(b"9007199254740993"),
            Value::Int(9_007_199_254_740_993)
        );
        assert_eq!(of_payload(b"on"), of_text("on"));
        assert_eq!(of_payload(b"\xff"), Value::Bytes(Arc::new(vec![0xff])));
        let payload = br#"{"a":[1,2.5,"x",null,true]}"#;
        assert_eq!(json_text(&of_payload(payload)).as_bytes(), payload);
        assert_eq!(text_of(&of_text("on")), "on");
    }

    #[test]
    fn deep_json_is_text() {
        let deep = "[".repeat(100_000);
        assert_eq!(of_payload(deep.as_bytes()), of_text(&deep));
    }
}
