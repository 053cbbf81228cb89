//! JSON whose objects keep the order of their members: of more values than a limit permits, the
//! last ones in the text are too many.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// Members of an object in the order of the text, each name once.
pub(super) type Members = Vec<(String, Json)>;

/// A JSON value.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Members),
}

impl Json {
    /// As one text, without members of this name.
    pub(super) fn text_without(self, name: &str) -> String {
        self.value_without(name).to_string()
    }

    fn value_without(self, name: &str) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(number) => Value::Number(number),
            Self::String(text) => Value::String(text),
            Self::Array(items) => {
                let items = items.into_iter().map(|item| item.value_without(name));
                Value::Array(items.collect())
            }
            Self::Object(members) => {
                let members = members.into_iter().filter(|(own, _)| own != name);
                let members = members.map(|(own, json)| (own, json.value_without(name)));
                Value::Object(members.collect())
            }
        }
    }
}

/// Removes a member and returns it.
pub(super) fn take(members: &mut Members, name: &str) -> Option<Json> {
    let at = members.iter().position(|(own, _)| own == name)?;
    Some(members.remove(at).1)
}

/// Members with unique names. Of several with one name, the last one applies.
fn once_each(members: Members) -> Members {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    if names.is_sorted_by(|one, next| one < next) {
        return members;
    }
    let mut seen = HashSet::new();
    let last = members.into_iter().rev();
    let mut once: Members = last.filter(|(name, _)| seen.insert(name.clone())).collect();
    once.reverse();
    once
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Json::Object(once_each(all)))
    }
}
