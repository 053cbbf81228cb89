//! Values as they are read.

use std::collections::BTreeMap;
use std::fmt;

use crate::masking;
use crate::secret::SecretValue;

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// true or false.
    Boolean(bool),
    /// A text, or a word.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of texts `Name: value`.
    Headers(Vec<String>),
    /// A text that is never shown.
    Secret(SecretValue),
}

/// The values of a table, by key.
pub type Values = BTreeMap<String, Value>;

impl Value {
    /// The value as JSON, without secrets.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(value) => (*value).into(),
            Self::Boolean(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Texts(values) => values.as_slice().into(),
            Self::Headers(lines) => masking::headers(lines).into(),
            Self::Secret(value) => value.to_string().into(),
        }
    }

    /// The text or word; `None` if the value has another type.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// Formats the value as TOML, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Texts(values) => write!(f, "{values:?}"),
            Self::Headers(lines) => write!(f, "{:?}", masking::headers(lines)),
            Self::Secret(value) => write!(f, "\"{value}\""),
        }
    }
}
