//! Values with their sources, and names of the variables that set keys.

use std::collections::BTreeMap;

use martlet_settings::Value;

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
