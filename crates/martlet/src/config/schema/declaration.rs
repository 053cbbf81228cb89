//! Declarations of keys.

pub(crate) use martlet_integrate::Takes as Kind;

use super::value::Value;

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Path in the TOML file, such as `limits.packet_bytes`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) default: Value,
    /// Description, one sentence.
    pub(crate) what: &'static str,
    /// For limits, the behaviour when the limit is reached.
    pub(crate) at_limit: Option<&'static str>,
    /// Whether it is comma-separated text, for which a file may also contain a list of texts.
    pub(crate) is_list: bool,
}

/// A key of a table of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Description, one sentence.
    pub(crate) what: &'static str,
    /// Whether it is a list, as in [`Key`].
    pub(crate) is_list: bool,
}

/// Keys of sinks, sources and bridges are never comma-separated lists.
impl From<(&'static str, Kind, &'static str)> for TableKey {
    fn from(key: (&'static str, Kind, &'static str)) -> Self {
        let (name, kind, what) = key;
        Self {
            name,
            kind,
            what,
            is_list: false,
        }
    }
}
