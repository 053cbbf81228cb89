//! Checks values against their keys.

use crate::config::error::ConfigError;
use crate::config::nearest::nearest_of;
use crate::config::schema::Key;
use martlet_settings::{Takes, Value};
use std::collections::BTreeMap;

pub(super) fn known_key<'a>(
    schema: &'a [Key],
    path: &str,
    place: &str,
) -> Result<&'a Key, ConfigError> {
    schema
        .iter()
        .find(|key| key.path == path)
        .ok_or_else(|| ConfigError::UnknownKey {
            place: place.to_owned(),
            key: path.to_owned(),
            hint: nearest_of(schema.iter().map(|key| key.path.as_str()), path),
        })
}

pub(super) fn parse_text(key: &Key, text: &str, place: &str) -> Result<Value, ConfigError> {
    let value = match key.takes {
        Takes::Integer { .. } | Takes::NoneOrAtLeast { .. } => {
            text.trim().parse().ok().map(Value::Integer)
        }
        Takes::Boolean => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Takes::Word(_) | Takes::Text => Some(Value::Text(text.to_owned())),
        Takes::Texts | Takes::Topics => Some(Value::Texts(vec![text.to_owned()])),
        Takes::Headers => Some(Value::Headers(vec![text.to_owned()])),
        Takes::Secret => Some(Value::Secret(text.to_owned().into())),
    };
    value
        .filter(|value| key.takes.fits(value))
        .ok_or_else(|| ConfigError::Value {
            place: place.to_owned(),
            key: key.path.clone(),
            got: format!("{text:?}"),
            expected: key.expectation() + &unit_hint(&key.path, key.takes, text),
        })
}

/// A hint for a number with a unit: what the number counts, and how to write it without a unit.
pub(super) fn unit_hint(path: &str, takes: Takes, text: &str) -> String {
    if !matches!(takes, Takes::Integer { .. } | Takes::NoneOrAtLeast { .. }) {
        return String::new();
    }
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let Ok(number) = number.parse::<u64>() else {
        return String::new();
    };
    let unit = unit.trim().to_ascii_lowercase();
    let (what, factor): (_, u64) = if path.contains("bytes") {
        let factor = match unit.trim_end_matches("ib").trim_end_matches('b') {
            "" if !unit.is_empty() => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            "t" => 1 << 40,
            _ => return String::new(),
        };
        ("bytes", factor)
    } else if path.ends_with("_secs") {
        let factor = match &*unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            _ => return String::new(),
        };
        ("seconds", factor)
    } else {
        return String::new();
    };
    let number = number.saturating_mul(factor);
    format!("; it is a number of {what}, without a unit: {number}")
}

/// Stores a value if it is valid for the key.
///
/// # Errors
/// The value is invalid; contains what was expected. A value of another type is never stored as 0
/// or as empty.
pub(super) fn checked(
    key: &str,
    takes: Takes,
    sourced: &Sourced,
    store: impl FnOnce(&Value) -> bool,
) -> Result<(), ConfigError> {
    let value = &sourced.value;
    if takes.fits(value) && store(value) {
        return Ok(());
    }
    let is_secret = matches!(takes, Takes::Secret | Takes::Headers);
    Err(ConfigError::Value {
        place: sourced.source.clone(),
        key: key.to_owned(),
        got: match is_secret {
            true => "of another type".to_owned(),
            false => value.to_string(),
        },
        expected: takes.expectation(false),
    })
}

/// Source of values that are not set.
pub(crate) const DEFAULT_SOURCE: &str = "default";

/// A value and its source.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    pub(crate) value: Value,
    /// `default`, `martlet.toml line 3`, `.env line 3 MARTLET_…`, `environment MARTLET_…`,
    /// `command line`.
    pub(crate) source: String,
}

/// Keys with their values and sources.
pub(crate) type KeyValues = BTreeMap<String, Sourced>;

/// The variable of a key: `MARTLET_` and the key's path in capitals, with `__` between its parts.
/// For a secret, the same name with `_FILE` contains the path of a file with the secret.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
}
