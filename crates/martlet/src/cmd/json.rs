//! JSON text in the format of mosquitto's clients.
//!
//! Responsible for a value that preserves the order of its keys. It is parsed from a payload and
//! written either compactly or in mosquitto's `--pretty` layout (tabs, arrays on one line). The
//! fields of a message are determined elsewhere.

use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. An object preserves the order of its keys and may contain duplicates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as text.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A string value.
    pub(crate) fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// A number value.
    pub(crate) fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    /// Parses `text` as one JSON value.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Changes the texts of the members with these names, at any depth, also those in lists.
    pub(crate) fn map_members(&mut self, names: &[&str], change: &dyn Fn(&str) -> String) {
        match self {
            Self::Array(items) => items
                .iter_mut()
                .for_each(|item| item.map_members(names, change)),
            Self::Object(members) => {
                members
                    .iter_mut()
                    .for_each(|(name, value)| match names.contains(&&**name) {
                        true => value.map_texts(change),
                        false => value.map_members(names, change),
                    })
            }
            _ => {}
        }
    }

    fn map_texts(&mut self, change: &dyn Fn(&str) -> String) {
        match self {
            Self::String(text) => *text = change(text),
            Self::Array(items) => items.iter_mut().for_each(|item| item.map_texts(change)),
            Self::Object(members) => {
                let values = members.iter_mut().map(|(_, value)| value);
                values.for_each(|value| value.map_texts(change));
            }
            _ => {}
        }
    }

    /// The text without spaces.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None, 0);
        out
    }

    /// The text on several lines.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some("\t"), 0);
        out
    }

    /// Appends the text. `indent` is the indentation per level, `None` for compact text.
    fn write(&self, out: &mut String, indent: Option<&str>, depth: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => _ = write!(out, "{value}"),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(if indent.is_some() { ", " } else { "," });
                    }
                    item.write(out, indent, depth + 1);
                }
                out.push(']');
            }
            Self::Object(members) => write_object(out, members, indent, depth),
        }
    }
}

fn write_object(out: &mut String, members: &[(String, Json)], indent: Option<&str>, depth: usize) {
    out.push('{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if let Some(indent) = indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth + 1));
        }
        write_string(out, key);
        out.push_str(if indent.is_some() { ":\t" } else { ":" });
        value.write(out, indent, depth + 1);
    }
    if let Some(indent) = indent {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
    out.push('}');
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always valid JSON"));
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::number(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        // As short as possible without changing the value; whole numbers have no decimal point.
        if value.fract() == 0.0 && value.abs() < 1e15 {
            return Ok(Json::number(value as i64));
        }
        let number = serde_json::Number::from_f64(value);
        Ok(number.map_or(Json::Null, Json::number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::string(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_text_keeps_the_order_of_keys_and_drops_blanks() {
        let json =
            Json::parse(br#" {"z": 1,  "a":[1,2.50,{"c":null}], "s":"x/\u00e9\n", "z":-3.0}"#);
        let want = r#"{"z":1,"a":[1,2.5,{"c":null}],"s":"x/é\n","z":-3}"#;
        assert_eq!(json.unwrap().compact(), want);
    }

    #[test]
    fn pretty_text_is_indented_by_tabs_with_arrays_in_one_line() {
        let json = Json::parse(br#"{"a":1,"b":[1,{"c":true}]}"#).unwrap();
        assert_eq!(
            json.pretty(),
            "{\n\t\"a\":\t1,\n\t\"b\":\t[1, {\n\t\t\t\"c\":\ttrue\n\t\t}]\n}"
        );
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in ["", "x", "{", "1 2", "{\"a\":}"] {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text}");
        }
    }
}
