//! Values with their sources.

use std::collections::BTreeMap;

use crate::config::schema::Value;

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
