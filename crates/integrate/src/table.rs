//! A table of the configuration, as read by kinds of sinks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::secret::{SecretValue, Template};

/// A value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableValue {
    /// Value of [`Text`](crate::Takes::Text) and [`Word`](crate::Takes::Word).
    Text(String),
    /// Value of [`Texts`](crate::Takes::Texts), [`Topics`](crate::Takes::Topics) and
    /// [`Headers`](crate::Takes::Headers).
    Texts(Vec<String>),
    /// Value of [`Secret`](crate::Takes::Secret).
    Secret(SecretValue),
    /// Value of [`Boolean`](crate::Takes::Boolean).
    Flag(bool),
    /// Value of [`Integer`](crate::Takes::Integer) and
    /// [`NoneOrAtLeast`](crate::Takes::NoneOrAtLeast).
    Number(u64),
}

/// A table of the configuration. Each value is valid for its key; a key may be missing.
#[derive(Clone, Debug, Default)]
pub struct Table(BTreeMap<String, TableValue>);

impl FromIterator<(String, TableValue)> for Table {
    fn from_iter<I: IntoIterator<Item = (String, TableValue)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Table {
    /// The text of a key, also of a secret one; `None` if missing or empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        let text = match self.0.get(key)? {
            TableValue::Text(text) => text.as_str(),
            TableValue::Secret(secret) => secret.expose(),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// Whether the key exists, even if empty.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The texts of a key; empty if it is missing.
    pub fn texts(&self, key: &str) -> &[String] {
        match self.0.get(key) {
            Some(TableValue::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// The number of a key.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        match self.0.get(key) {
            Some(TableValue::Number(number)) => *number,
            _ => default,
        }
    }

    /// Whether a key is true.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.0.get(key) {
            Some(TableValue::Flag(flag)) => *flag,
            _ => default,
        }
    }

    /// The path of a key, relative to the data directory. `None` if missing.
    pub fn path(&self, key: &str, data_dir: &Path) -> Option<PathBuf> {
        self.text(key).map(|path| data_dir.join(path))
    }

    /// `certificate_file` and `key_file` of a TLS client; `None` if both are missing.
    ///
    /// # Errors
    /// Only one of them is set.
    pub fn client_certificate(
        &self,
        data_dir: &Path,
    ) -> Result<Option<(PathBuf, PathBuf)>, String> {
        let path = |key| self.path(key, data_dir);
        match (path("certificate_file"), path("key_file")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => Err("`certificate_file` and `key_file` need each other".to_owned()),
        }
    }

    /// The text of a key, with references `${secret:NAME}`; `None` if missing.
    ///
    /// # Errors
    /// Its references are malformed.
    pub fn template(&self, key: &str) -> Result<Option<Template>, String> {
        let parsed = self.text(key).map(Template::parse).transpose();
        parsed.map_err(|why| format!("`{key}`: {why}"))
    }

    /// As [`Table::text`], for a required key. `expected` describes valid values for the error
    /// message.
    ///
    /// # Errors
    /// It is missing.
    pub fn required(&self, key: &str, expected: &str) -> Result<&str, String> {
        self.text(key).ok_or_else(|| missing(key, expected))
    }

    /// As [`Table::template`], for a required key.
    ///
    /// # Errors
    /// It is missing, or its references are malformed.
    pub fn required_template(&self, key: &str, expected: &str) -> Result<Template, String> {
        self.template(key)?.ok_or_else(|| missing(key, expected))
    }
}

fn missing(key: &str, expected: &str) -> String {
    format!("`{key}` is missing, expected {expected}")
}
