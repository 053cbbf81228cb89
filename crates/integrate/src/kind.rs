//! Kinds of sinks: their keys in the configuration. A new kind is one file with a [`Kind`], and one
//! line in [`KINDS`](crate::KINDS).

use std::path::Path;

use crate::configured_sink::ConfiguredSink;
use crate::networks::AllowedNetworks;
use crate::runner::Settings;
use crate::table::Table;

/// A kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name, such as `file`.
    pub name: &'static str,
    /// Keys of the kind in the order of the reference page; the keys of all kinds follow them.
    pub keys: &'static [Key],
    /// Creates a sink from a table of the configuration. `Settings` has the values of all kinds,
    /// and may be changed. The error does not contain values that may be secret.
    pub make: fn(&Table, &Surroundings<'_>, Settings) -> Result<ConfiguredSink, String>,
}

/// A key of a kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name, such as `path`.
    pub name: &'static str,
    /// Permitted values of the key.
    pub takes: Takes,
    /// Meaning and default, in sentences, for the reference page.
    pub meaning: &'static str,
}

impl Key {
    /// A key of this name.
    pub const fn new(name: &'static str, takes: Takes, meaning: &'static str) -> Self {
        Self {
            name,
            takes,
            meaning,
        }
    }
}

/// Type of the value of a configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A whole number.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// 0 for no limit, or a whole number of at least `min`.
    NoneOrAtLeast {
        /// The smallest value besides 0.
        min: u64,
    },
    /// true or false.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text; empty means none.
    Text,
    /// Any text with parts that are separated by commas; in configuration files also a list of
    /// texts without commas.
    List,
    /// A list of texts, which may contain commas. Only in configuration files.
    Texts,
    /// Topics of a bridge: a list of tables, or of texts. Only in configuration files.
    Topics,
    /// A list of texts `Name: value`, whose values are not shown. Only in configuration files.
    Headers,
    /// A text that is never shown.
    Secret,
}

/// The part of the node's configuration that a sink may need.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Base of relative paths.
    pub data_dir: &'a Path,
    /// `integrations.allow_private`.
    pub allowed: &'a AllowedNetworks,
}
