//! A configured table of a list, such as `[[listeners]]`.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::check::checked;
use super::check::{KeyValues, Sourced};
use crate::config::error::ConfigError;
use crate::config::nearest::nearest_of;
use crate::config::schema::{HttpListenerKeys, ListenerKeys, RetentionKeys, TelemetryRuleKeys};
use martlet_settings::{TableKeys, Value};

/// A table: its keys as a struct, to which it derefs, and the source of each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table<T> {
    keys: T,
    values: KeyValues,
}

pub(crate) type ListenerTable = Table<ListenerKeys>;
pub(crate) type HttpListenerTable = Table<HttpListenerKeys>;
pub(crate) type TelemetryRuleTable = Table<TelemetryRuleKeys>;
pub(crate) type RetentionTable = Table<RetentionKeys>;

impl<T> Deref for Table<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.keys
    }
}

impl<T: TableKeys> Table<T> {
    /// Creates a table with these keys.
    ///
    /// # Errors
    /// There is no such key, or a value is invalid.
    pub(crate) fn of(
        values: impl IntoIterator<Item = (String, Sourced)>,
    ) -> Result<Self, ConfigError> {
        let mut table = Self {
            keys: T::default(),
            values: BTreeMap::new(),
        };
        for (key, sourced) in values {
            table.set(&key, sourced)?;
        }
        Ok(table)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// There is no such key, or the value is invalid.
    pub(crate) fn set(&mut self, name: &str, sourced: Sourced) -> Result<(), ConfigError> {
        let keys = T::keys();
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            return Err(ConfigError::UnknownKey {
                place: sourced.source,
                key: name.to_owned(),
                hint: nearest_of(keys.iter().map(|key| key.name), name),
            });
        };
        checked(name, key.takes, &sourced, |value| {
            self.keys.set(name, value)
        })?;
        self.values.insert(name.to_owned(), sourced);
        Ok(())
    }

    /// Each key that is set, with its source.
    pub(crate) fn values(&self) -> &KeyValues {
        &self.values
    }

    /// The source of a key; empty if it is not set.
    pub(crate) fn source(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |found| &found.source)
    }
}

/// Keys and values without their sources.
pub(super) fn values_of(values: &KeyValues) -> Vec<(String, Value)> {
    let all = values.iter();
    all.map(|(key, found)| (key.clone(), found.value.clone()))
        .collect()
}
