//! Kinds of integrations: their keys in the configuration. A new kind is one file with a type that
//! implements [`MakeIntegration`], and one line in [`KINDS`](crate::KINDS).

use std::path::Path;

use martlet_settings::{Both, Key, TableKeys, Values};

use crate::common_keys::{BridgeKeys, CommonKeys, SinkKeys, SourceKeys};
use crate::configured_sink::ConfiguredSink;
use crate::networks::AllowedNetworks;
use crate::runner::Settings;
use crate::target::Target;

/// A kind of integration.
pub trait MakeIntegration {
    /// Name, such as `file`.
    const NAME: &'static str;
    /// Keys of the kind in the order of the reference page; the keys that kinds have in common
    /// follow them.
    type Keys: TableKeys;

    /// Creates an integration from a table of the configuration. `Settings` has the values that
    /// kinds have in common, and may be changed.
    ///
    /// # Errors
    /// It is not usable. The error does not contain values that may be secret.
    fn make(
        keys: &Self::Keys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String>;

    /// URL of the target, as it is written; none: it has no target.
    fn target(_: &Self::Keys) -> Option<String> {
        None
    }
}

/// A kind of integration in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `sinks`, `sources` or `bridges`.
    pub section: &'static str,
    /// Name in `[[SECTION.NAME]]`; none: the tables are `[[SECTION]]`.
    pub name: Option<&'static str>,
    /// Name of the kind of integration.
    pub kind: &'static str,
    /// All of its keys, in the order of the reference page.
    pub keys: fn() -> Vec<Key>,
    /// Creates an integration from a table, whose values fit their keys.
    pub make: fn(&Values, &Surroundings<'_>) -> Result<ConfiguredSink, String>,
}

impl Kind {
    /// A kind of sinks, in tables `[[sinks.NAME]]`.
    pub const fn of_sinks<K: MakeIntegration>() -> Self {
        Self {
            name: Some(K::NAME),
            ..Self::of::<SinkKeys, K>("sinks")
        }
    }

    /// A kind of sources, in tables `[[sources.NAME]]`.
    pub(crate) const fn of_sources<K: MakeIntegration>(name: &'static str) -> Self {
        Self {
            name: Some(name),
            ..Self::of::<SourceKeys, K>("sources")
        }
    }

    /// The kind of bridges, in tables `[[bridges]]`.
    pub(crate) const fn of_bridges<K: MakeIntegration>() -> Self {
        Self::of::<BridgeKeys, K>("bridges")
    }

    const fn of<C: CommonKeys, K: MakeIntegration>(section: &'static str) -> Self {
        Self {
            section,
            name: None,
            kind: K::NAME,
            keys: Both::<C::Name, Both<K::Keys, C>>::keys,
            make: |values, surroundings| {
                let Both(name, Both(own, common)) = Both::<C::Name, Both<K::Keys, C>>::of(values);
                let settings = common.settings(K::NAME, &name, surroundings.owner)?;
                let mut made = K::make(&own, surroundings, settings)?;
                let target = K::target(&own);
                made.settings.target = target.map(|url| Target::of(&url, surroundings.allowed));
                Ok(made)
            },
        }
    }

    /// Name of its tables, such as `sinks.file`.
    pub fn table(&self) -> String {
        match self.name {
            Some(name) => format!("{}.{name}", self.section),
            None => self.section.to_owned(),
        }
    }
}

/// The part of the node's configuration that an integration may need.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Base of relative paths.
    pub data_dir: &'a Path,
    /// `integrations.allow_private`.
    pub allowed: &'a AllowedNetworks,
    /// Name of the team that has added it; empty: it is in the configuration.
    pub owner: &'a str,
}
