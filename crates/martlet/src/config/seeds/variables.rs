//! Environment variables of other programs.

use super::names::{GENERIC, UNIQUE};
use crate::config::error::ConfigError;
use crate::config::load::{EnvironmentFile, place_of};

/// Environment variables.
#[derive(Debug)]
pub(crate) struct Variables<'a> {
    pub(super) all: &'a [(String, String)],
    /// The `.env` file that contains some of them.
    pub(super) file: Option<&'a EnvironmentFile>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(all: &'a [(String, String)], file: Option<&'a EnvironmentFile>) -> Self {
        Self { all, file }
    }

    /// The source of a variable's value.
    pub(super) fn place(&self, name: &str) -> String {
        place_of(self.file, name)
    }

    /// The error for an invalid value of a variable.
    pub(super) fn unusable(&self, name: &str, why: &str) -> ConfigError {
        ConfigError::Unusable(format!("{} {why}", self.place(name)))
    }

    /// Parses a boolean word.
    pub(super) fn truth(&self, name: &str, text: &str) -> Result<bool, ConfigError> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => {
                let why = format!("is {other:?}, expected true or false");
                Err(self.unusable(name, &why))
            }
        }
    }

    /// The value without surrounding spaces; `None` if it is empty or not for the node.
    ///
    /// A name that many programs use counts if `.env` sets it, or if a name is also set that only
    /// one of these systems uses.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let is_meant = !GENERIC.contains(&name)
            || self.file.is_some_and(|file| file.sets(name))
            || self.has_unique();
        self.value(name).filter(|_| is_meant)
    }

    /// The value without surrounding spaces; `None` if it is empty.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        let found = self.all.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// Why a variable that applies is not used; none: it is not switched off.
    pub(super) fn why_off(&self, name: &str) -> Option<&'static str> {
        let switch = "WEBHOOK_ENABLED";
        let is_on = |text: &str| self.truth(switch, text).is_ok_and(|is_on| is_on);
        let is_off = name.starts_with("WEBHOOK_") && name != switch;
        let is_off = is_off && !self.get(switch).is_some_and(is_on);
        is_off.then_some("WEBHOOK_ENABLED is not true")
    }

    /// Whether a name is set that only one of these systems uses.
    pub(super) fn has_unique(&self) -> bool {
        let has = |name: &str| self.value(name).is_some();
        UNIQUE.iter().any(|name| has(name)) || (has("NATS_URL") && has("LISTEN_ADDR"))
    }
}
