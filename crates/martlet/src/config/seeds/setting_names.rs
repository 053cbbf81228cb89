//! Configuration from variables of other programs.

use std::net::IpAddr;

use super::names::NAMES;
use super::variables::Variables;
use crate::config::error::ConfigError;
use crate::config::load::{Effective, SinkTable, Sourced, environment_name};
use martlet_settings::Value;

/// Variables, and the configuration that they change.
pub(super) struct SettingNames<'a> {
    pub(super) variables: &'a Variables<'a>,
    pub(super) effective: &'a mut Effective,
}

impl SettingNames<'_> {
    /// The text of a variable; `None` if it is empty or not for the node.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            name.starts_with("MARTLET_") || NAMES.iter().any(|(known, _)| *known == name),
            "{name} is not in the reference"
        );
        self.variables.get(name)
    }

    /// The source of a variable's value.
    pub(super) fn place(&self, name: &str) -> String {
        self.variables.place(name)
    }

    /// The error for an invalid value of a variable.
    pub(super) fn unusable(&self, name: &str, why: &str) -> ConfigError {
        self.variables.unusable(name, why)
    }

    /// Adds a warning for the start.
    pub(super) fn warn(&mut self, warning: String) {
        self.effective.warnings.push(warning);
    }

    /// Whether the configuration has a sink of this kind and name.
    pub(super) fn has_sink_of(&self, kind: &str, of: &str) -> bool {
        let mut sinks = self.effective.sinks.iter();
        sinks.any(|sink| {
            let name = sink.keys.get("name").map(|name| &name.value);
            sink.kind == kind && matches!(name, Some(Value::Text(name)) if name == of)
        })
    }

    /// Adds an integration of this kind with keys from variables. It may connect to private
    /// addresses; the notes of the start mention this with `what`.
    pub(super) fn add_sink(
        &mut self,
        kind: &str,
        source: &str,
        what: &str,
        keys: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.effective.notes.push(format!("{source}: {what}"));
        let keys = keys.into_iter().map(|(key, value)| {
            let source = source.to_owned();
            (key.to_owned(), Sourced { value, source })
        });
        self.effective.sinks.push(SinkTable {
            kind: kind.to_owned(),
            place: source.to_owned(),
            may_be_private: true,
            keys: keys.collect(),
        });
    }

    /// Parses a boolean variable.
    pub(super) fn switch(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.get(name)
            .map(|text| self.variables.truth(name, text))
            .transpose()
    }

    /// Parses a variable that is a port.
    pub(super) fn port(&self, name: &str) -> Result<Option<u16>, ConfigError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let port = text.parse().ok().filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| {
            self.unusable(
                name,
                &format!("is {text:?}, expected a port from 1 to 65535"),
            )
        })
    }

    /// Sets a key to a value from this variable.
    pub(super) fn set(&mut self, key: &str, value: Value, name: &str) -> Result<(), ConfigError> {
        let source = self.place(name);
        self.effective.set(key, Sourced { value, source })
    }

    /// Whether Martlet's own variable of a key is set.
    pub(super) fn has_own(&self, key: &str) -> bool {
        self.get(&environment_name(key)).is_some()
    }
}

/// `HOST:PORT`, with an IPv6 address in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}
