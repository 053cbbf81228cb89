//! What is declared of a key.

pub(crate) use martlet_integrate::Takes as Kind;

use super::value::Value;

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Path in the TOML file, such as `limits.packet_bytes`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) default: Value,
    /// What it means, in a sentence.
    pub(crate) what: &'static str,
    /// What happens at it, for limits.
    pub(crate) at_limit: Option<&'static str>,
    /// Text with commas between several values: a file may have a list of texts in its place.
    pub(crate) is_list: bool,
}

/// A key of a table of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it means, in a sentence.
    pub(crate) what: &'static str,
    /// As of [`Key`].
    pub(crate) is_list: bool,
}

/// Keys of sinks, sources and bridges have no lists with commas.
impl From<(&'static str, Kind, &'static str)> for TableKey {
    fn from((name, kind, what): (&'static str, Kind, &'static str)) -> Self {
        Self {
            name,
            kind,
            what,
            is_list: false,
        }
    }
}
