//! Keys of tables that may be missing or empty.

use std::path::{Path, PathBuf};

use martlet_settings::SecretValue;

use crate::secret::Template;

/// The text of a key; none: it is missing or empty.
pub(crate) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The path of a key, relative to the data directory; none: it is missing or empty.
pub(crate) fn path(path: &Option<String>, data_dir: &Path) -> Option<PathBuf> {
    given(path).map(|path| data_dir.join(path))
}

/// The text of a key that is needed. `expected` describes valid values for the error message.
///
/// # Errors
/// It is missing or empty.
pub fn required<'a>(
    key: &str,
    text: &'a Option<String>,
    expected: &str,
) -> Result<&'a str, String> {
    given(text).ok_or_else(|| format!("`{key}` is missing, expected {expected}"))
}

/// The text of a key, with references `${secret:NAME}`; none: it is missing or empty.
///
/// # Errors
/// Its references are malformed.
pub fn template(key: &str, secret: &Option<SecretValue>) -> Result<Option<Template>, String> {
    let text = secret.as_ref().map(SecretValue::expose);
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| parsed(key, text)).transpose()
}

/// The text of a key that is needed, with references `${secret:NAME}`. `expected` describes valid
/// values for the error message.
///
/// # Errors
/// It is missing, or its references are malformed.
pub(crate) fn required_template(
    key: &str,
    text: &Option<String>,
    expected: &str,
) -> Result<Template, String> {
    parsed(key, required(key, text, expected)?)
}

/// `certificate_file` and `key_file` of a TLS client; `None` if both are missing.
///
/// # Errors
/// Only one of them is set.
pub(crate) fn client_certificate(
    certificate: &Option<String>,
    key: &Option<String>,
    data_dir: &Path,
) -> Result<Option<(PathBuf, PathBuf)>, String> {
    match (path(certificate, data_dir), path(key, data_dir)) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        _ => Err("`certificate_file` and `key_file` need each other".to_owned()),
    }
}

fn parsed(key: &str, text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|why| format!("`{key}`: {why}"))
}
