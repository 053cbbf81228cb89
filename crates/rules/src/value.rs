//! Converts JSON to values of expressions, and back to text.

use std::collections::HashMap;
use std::fmt;

use cel::Value;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
};
use cel::common::value::Val;
use martlet_text_file::without_bom;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Integers up to this are exact as floating point numbers.
const WHOLE_MAX: u64 = 1 << 53;

/// A value for expressions. It borrows its texts.
pub(crate) type Variable<'v> = Box<dyn Val + 'v>;

/// A JSON value, read directly, without an intermediate tree.
struct Read<'v>(Variable<'v>);

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ReadValue)
    }
}

struct ReadValue;

impl ReadValue {
    /// All numbers are floating point, as in JavaScript, so that a rule does not depend on whether
    /// a device sends 21 or 21.0. Integers that would lose digits stay integers.
    fn whole<'v>(number: i64) -> Read<'v> {
        match number.unsigned_abs() > WHOLE_MAX {
            true => Read(Box::new(CelInt::from(number))),
            false => Read(Box::new(CelDouble::from(number as f64))),
        }
    }
}

impl<'de> Visitor<'de> for ReadValue {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Read<'de>, E> {
        Ok(Read(Box::new(CelNull)))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Read<'de>, E> {
        Ok(Read(Box::new(CelBool::from(flag))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Read<'de>, E> {
        Ok(Self::whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Read<'de>, E> {
        Ok(match i64::try_from(number) {
            Ok(number) => Self::whole(number),
            Err(_) => Read(Box::new(CelDouble::from(number as f64))),
        })
    }

    fn visit_f64<E>(self, number: f64) -> Result<Read<'de>, E> {
        Ok(Read(Box::new(CelDouble::from(number))))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Read<'de>, E> {
        Ok(Read(of_text(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Read<'de>, E> {
        Ok(Read(Box::new(CelString::from(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read<'de>, A::Error> {
        let mut list: Vec<Variable<'de>> = Vec::new();
        while let Some(Read(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Read(Box::new(CelList::from(list))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read<'de>, A::Error> {
        let mut map: HashMap<CelMapKey<'de>, Variable<'de>> = HashMap::new();
        while let Some((ReadName(name), Read(value))) = members.next_entry()? {
            map.insert(name, value);
        }
        Ok(Read(Box::new(CelMap::from(map))))
    }
}

/// Name of a member.
struct ReadName<'v>(CelMapKey<'v>);

impl<'de> Deserialize<'de> for ReadName<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct ReadText;

        impl<'de> Visitor<'de> for ReadText {
            type Value = ReadName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<ReadName<'de>, E> {
                Ok(ReadName(CelMapKey::from(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<ReadName<'de>, E> {
                Ok(ReadName(CelMapKey::from(name.to_owned())))
            }
        }

        json.deserialize_str(ReadText)
    }
}

/// A value of JSON.
pub(crate) fn of_json(json: &serde_json::Value) -> Variable<'_> {
    // All kinds of JSON values can be read.
    Read::deserialize(json).map_or_else(|_| Box::new(CelNull) as Variable<'_>, |read| read.0)
}

/// A payload: JSON if it is JSON, else text if it is UTF-8, else bytes.
pub(crate) fn of_payload(payload: &[u8]) -> Variable<'_> {
    if let Ok(Read(json)) = serde_json::from_slice(without_bom(payload)) {
        return json;
    }
    match std::str::from_utf8(payload) {
        Ok(text) => of_text(text),
        Err(_) => Box::new(CelBytes::from(payload)),
    }
}

pub(crate) fn of_text(text: &str) -> Variable<'_> {
    Box::new(CelString::from(text))
}

pub(crate) fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Variable<'a> {
    Box::new(CelList::from(texts.map(of_text).collect::<Vec<_>>()))
}

pub(crate) fn of_members<'a, const N: usize>(
    members: [(&'a str, Variable<'a>); N],
) -> Variable<'a> {
    let members = members.into_iter();
    let map: HashMap<CelMapKey<'a>, Variable<'a>> = members
        .map(|(name, value)| (CelMapKey::from(name), value))
        .collect();
    Box::new(CelMap::from(map))
}

/// An owned copy of the value; `None`: the value has no JSON equivalent.
pub(crate) fn kept(value: &Variable<'_>) -> Option<Value> {
    Value::try_from(&**value).ok()
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

/// As text: a text unchanged, bytes as UTF-8, all else as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => json_text(other),
    }
}

/// A number without a fraction, as an integer.
fn whole(number: f64) -> Option<i64> {
    let fits = number.fract() == 0.0 && number.abs() <= WHOLE_MAX as f64;
    fits.then_some(number as i64)
}

/// Approximate bytes of a value.
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
    use std::sync::Arc;

    use super::*;

    fn read(payload: &[u8]) -> Value {
        kept(&of_payload(payload)).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::String(Arc::new(text.to_owned()))
    }

    #[test]
    fn a_payload_is_json_or_text_or_bytes() {
        assert_eq!(read(b"21"), Value::Float(21.0));
        let cases = [
            ("9007199254740993", Value::Int(9_007_199_254_740_993)),
            ("-9007199254740993", Value::Int(-9_007_199_254_740_993)),
            ("9007199254740992", Value::Float(9_007_199_254_740_992.0)),
            (
                "18446744073709551615",
                Value::Float(18_446_744_073_709_551_615.0),
            ),
            (r#""a\u0041""#, text("aA")),
        ];
        for (json, value) in cases {
            assert_eq!(read(json.as_bytes()), value, "{json}");
        }
        assert_eq!(read(b"on"), text("on"));
        assert_eq!(read(b"21 "), Value::Float(21.0));
        assert_eq!(read(b"21 22"), text("21 22"));
        assert_eq!(read(b"\xef\xbb\xbf21"), Value::Float(21.0));
        assert_eq!(read(b"\xff"), Value::Bytes(Arc::new(vec![0xff])));
        let payload = br#"{"a":[1,2.5,"x",null,true]}"#;
        assert_eq!(json_text(&read(payload)).as_bytes(), payload);
        assert_eq!(json_text(&read(br#"{"a":1,"\u0061":2}"#)), r#"{"a":2}"#);
        assert_eq!(text_of(&text("on")), "on");
        let json = serde_json::from_slice(payload).unwrap();
        assert_eq!(kept(&of_json(&json)), Some(read(payload)));
    }

    #[test]
    fn deep_json_is_text() {
        let deep = "[".repeat(100_000);
        assert_eq!(read(deep.as_bytes()), text(&deep));
    }
}
