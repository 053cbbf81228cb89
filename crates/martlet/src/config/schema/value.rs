//! Types of values in the configuration.

use martlet_control::text::masked_target;

use crate::config::masking;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(u64),
    Boolean(bool),
    Text(String),
    Texts(Vec<String>),
    Headers(Vec<String>),
    Secret(Secret),
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text for use, not for output.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Value {
    /// The value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
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
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The value for output, for a key of a sink: potential secrets are masked, references to
    /// secrets are not.
    pub(crate) fn shown_of_sink(&self) -> Self {
        match self {
            Self::Secret(text) if masking::refers_alone(text.text()) => {
                Self::Text(text.text().to_owned())
            }
            // The path of many webhooks is a secret; with a reference, the whole path is masked.
            value => value.shown(),
        }
    }

    /// The value for output: secrets in a URL are masked.
    pub(crate) fn shown(&self) -> Self {
        match self {
            Self::Text(value) => Self::Text(masked_target(value)),
            value => value.clone(),
        }
    }
}

impl std::fmt::Display for Value {
    /// Formats the value as TOML.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_sink_references_to_secrets_are_shown_and_no_others() {
        let key = Value::Secret("known".to_owned().into());
        assert!(!key.shown_of_sink().to_string().contains("known"));
        let key = Value::Secret("${secret:k}".to_owned().into());
        assert_eq!(key.shown_of_sink(), Value::Text("${secret:k}".to_owned()));
    }
}
