//! Variables of the environment, as other programs name them.

use super::names::{GENERIC, UNIQUE};
use crate::config::error::ConfigError;
use crate::config::load::{EnvironmentFile, place_of};

/// Variables of the environment.
#[derive(Debug)]
pub(crate) struct Variables<'a> {
    pub(super) all: &'a [(String, String)],
    /// The `.env` that some of them come from.
    pub(super) file: Option<&'a EnvironmentFile>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(all: &'a [(String, String)], file: Option<&'a EnvironmentFile>) -> Self {
        Self { all, file }
    }

    /// Where the value of a variable comes from.
    pub(super) fn place(&self, name: &str) -> String {
        place_of(self.file, name)
    }

    /// That the value of a variable cannot be used.
    pub(super) fn unusable(&self, name: &str, why: &str) -> ConfigError {
        ConfigError::Unusable(format!("{} {why}", self.place(name)))
    }

    /// Whether the text of a variable is a word for true.
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

    /// Without spaces around it; none: it is empty, or not meant for the node.
    ///
    /// A name that many programs have is meant if `.env` sets it, or if a name stands beside it
    /// that only one of these systems has.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let is_meant = !GENERIC.contains(&name)
            || self.file.is_some_and(|file| file.sets(name))
            || self.has_unique();
        self.value(name).filter(|_| is_meant)
    }

    /// Without spaces around it; none: it is empty.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        let found = self.all.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// Whether there is a name that only one of these systems has.
    pub(super) fn has_unique(&self) -> bool {
        let has = |name: &str| self.value(name).is_some();
        UNIQUE.iter().any(|name| has(name)) || (has("NATS_URL") && has("LISTEN_ADDR"))
    }
}
