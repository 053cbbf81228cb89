//! Checks values against their keys.

use super::sourced::Sourced;
use crate::config::error::ConfigError;
use crate::config::nearest::nearest_of;
use crate::config::schema::{Key, Kind, Value};

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
    let value = match key.kind {
        Kind::Integer { .. } | Kind::NoneOrAtLeast { .. } => {
            text.trim().parse().ok().map(Value::Integer)
        }
        Kind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Kind::Word(_) | Kind::Text | Kind::List => Some(Value::Text(text.to_owned())),
        Kind::Texts | Kind::Topics => Some(Value::Texts(vec![text.to_owned()])),
        Kind::Headers => Some(Value::Headers(vec![text.to_owned()])),
        Kind::Secret => Some(Value::Secret(text.to_owned().into())),
    };
    value
        .filter(|value| fits(key.kind, value))
        .ok_or_else(|| ConfigError::Value {
            place: place.to_owned(),
            key: key.path.clone(),
            got: format!("{text:?}"),
            expected: expectation(key.kind) + &unit_hint(&key.path, key.kind, text),
        })
}

/// A hint for a number with a unit: what the number counts, and how to write it without a unit.
pub(super) fn unit_hint(path: &str, kind: Kind, text: &str) -> String {
    if !matches!(kind, Kind::Integer { .. } | Kind::NoneOrAtLeast { .. }) {
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
    kind: Kind,
    sourced: &Sourced,
    store: impl FnOnce(&Value) -> bool,
) -> Result<(), ConfigError> {
    let value = &sourced.value;
    if fits(kind, value) && store(value) {
        return Ok(());
    }
    let is_secret = matches!(kind, Kind::Secret | Kind::Headers);
    Err(ConfigError::Value {
        place: sourced.source.clone(),
        key: key.to_owned(),
        got: match is_secret {
            true => "of another type".to_owned(),
            false => value.to_string(),
        },
        expected: expectation(kind),
    })
}

pub(super) fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(number),
        (Kind::NoneOrAtLeast { min }, Value::Integer(number)) => *number == 0 || *number >= min,
        (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Text | Kind::List, Value::Text(_)) | (Kind::Secret, Value::Secret(_)) => true,
        (Kind::Texts | Kind::Topics, Value::Texts(_)) | (Kind::Headers, Value::Headers(_)) => true,
        (Kind::Word(words), Value::Text(word)) => words.contains(&word.as_str()),
        _ => false,
    }
}

/// Description of valid values of this kind.
pub(crate) fn expectation(kind: Kind) -> String {
    match kind {
        Kind::Integer { min, max: u64::MAX } => format!("a whole number of at least {min}"),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::NoneOrAtLeast { min } => format!("0, or a whole number of at least {min}"),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Text => "text in quotes".to_owned(),
        Kind::List => "text in quotes, or a list of such texts".to_owned(),
        Kind::Texts | Kind::Headers => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
        Kind::Topics => {
            "a list of topics, such as [{ filter = \"a/#\", direction = \"out\" }]".to_owned()
        }
        Kind::Secret => "a secret: text in quotes".to_owned(),
    }
}
