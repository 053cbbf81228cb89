//! The effective configuration: each value with its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use martlet_certificates::ClientCertificates;
use martlet_control::facts::{
    Configuration, ConfigurationValue, ConfiguredSink, KeyVariables, ListenerValue,
};

use super::check::{DEFAULT_SOURCE, KeyValues, Sourced};
use super::check::{checked, known_key};
use super::environment_file::EnvironmentFile;
use super::table::{
    HttpListenerTable, ListenerTable, RetentionTable, Table, TelemetryRuleTable, values_of,
};
use crate::config::error::ConfigError;
use crate::config::rule_table::RuleTable;
use crate::config::schema::{ListenerKeys, Settings, Tls, keys, shown, shown_of_sink};
use crate::config::seeds::NAMES;
use martlet_integrate::{KINDS, Kind};
use martlet_settings::{TableKeys, Value};

/// A sink, source or bridge as configured.
#[derive(Clone, Debug)]
pub(crate) struct SinkTable {
    /// Kind, such as `file`.
    pub(crate) kind: String,
    /// File and line of its beginning.
    pub(crate) place: String,
    /// Whether it may connect to private addresses regardless of `integrations.allow_private`: its
    /// target comes from the environment, which the operator controls.
    pub(crate) may_be_private: bool,
    pub(crate) keys: KeyValues,
}

impl SinkTable {
    /// Name of its table, such as `sinks.file`.
    pub(crate) fn section(&self) -> String {
        let known = KINDS.iter().find(|known| known.kind == self.kind);
        known.map_or_else(|| format!("sinks.{}", self.kind), Kind::table)
    }
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// The typed values.
    settings: Settings,
    /// The values of all keys, set or not, with their sources.
    values: KeyValues,
    /// Configured listeners; if empty, the default ones are used.
    pub(crate) listeners: Vec<ListenerTable>,
    /// HTTP listeners in addition to `http.listen`.
    pub(crate) http_listeners: Vec<HttpListenerTable>,
    /// Configured sinks, which exist only in the file.
    pub(crate) sinks: Vec<SinkTable>,
    /// Rules of telemetry, which exist only in the file.
    pub(crate) telemetry_rules: Vec<TelemetryRuleTable>,
    /// Retention of telemetry by device type, only in the file.
    pub(crate) telemetry_retention: Vec<RetentionTable>,
    /// Rules about messages, only in the file.
    pub(crate) rules: Vec<RuleTable>,
    /// Warnings that do not prevent the start.
    pub(crate) warnings: Vec<String>,
    /// Warnings about databases, and receivers of messages, that a setting names and the node does
    /// not use. Health shows them too.
    pub(crate) unused_addresses: Vec<String>,
    /// Notes for the start: permitted private addresses of integrations that are not configured in
    /// our own file.
    pub(crate) notes: Vec<String>,
    /// Files that were read, for the start's report.
    pub(crate) files: Vec<PathBuf>,
    /// The `.env` file, if it was read.
    pub(crate) environment_file: Option<EnvironmentFile>,
    /// Source of a `log.file` whose directory must be created, as in another system. Applies only
    /// while the value comes from this source.
    pub(crate) log_directory_of: Option<String>,
    /// Files with one secret each, from variables `MARTLET_…_FILE`.
    pub(crate) secret_files: Vec<PathBuf>,
    /// Path of our own configuration file.
    pub(crate) own_file: Option<PathBuf>,
}

impl Effective {
    /// The configuration without any set value.
    pub(super) fn defaults() -> Self {
        let defaults = keys().iter().map(|key| {
            let sourced = Sourced {
                value: key.default.clone(),
                source: DEFAULT_SOURCE.to_owned(),
            };
            (key.path.clone(), sourced)
        });
        Self {
            settings: Settings::default(),
            values: defaults.collect(),
            listeners: Vec::new(),
            http_listeners: Vec::new(),
            sinks: Vec::new(),
            telemetry_rules: Vec::new(),
            telemetry_retention: Vec::new(),
            rules: Vec::new(),
            warnings: Vec::new(),
            unused_addresses: Vec::new(),
            notes: Vec::new(),
            files: Vec::new(),
            environment_file: None,
            log_directory_of: None,
            secret_files: Vec::new(),
            own_file: None,
        }
    }

    /// Sets a key of the node.
    ///
    /// # Errors
    /// There is no such key, or the value is invalid.
    pub(crate) fn set(&mut self, path: &str, sourced: Sourced) -> Result<(), ConfigError> {
        let key = known_key(keys(), path, &sourced.source)?;
        let settings = &mut self.settings;
        checked(path, key.takes, &sourced, |value| settings.set(path, value))?;
        self.values.insert(path.to_owned(), sourced);
        Ok(())
    }

    /// The typed values of all keys of the node.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All keys of the node, set or not.
    pub(crate) fn values(&self) -> &KeyValues {
        &self.values
    }

    /// Whether the configured listeners differ.
    pub(crate) fn listeners_differ(&self, other: &Self) -> bool {
        differ(&self.listeners, &other.listeners)
    }

    /// Whether the configured HTTP listeners differ.
    pub(crate) fn http_listeners_differ(&self, other: &Self) -> bool {
        differ(&self.http_listeners, &other.http_listeners)
    }

    /// Tables of sinks, sources and bridges that differ, such as `[[bridges]]`.
    pub(crate) fn changed_integrations(&self, other: &Self) -> BTreeSet<String> {
        let of = |sinks: &[SinkTable], section: &str| -> Vec<Vec<(String, Value)>> {
            let own = sinks.iter().filter(|sink| sink.section() == section);
            own.map(|sink| values_of(&sink.keys)).collect()
        };
        let all = self.sinks.iter().chain(&other.sinks);
        let sections: BTreeSet<String> = all.map(SinkTable::section).collect();
        let differing = sections
            .into_iter()
            .filter(|section| of(&self.sinks, section) != of(&other.sinks, section));
        differing.map(|section| format!("[[{section}]]")).collect()
    }

    /// Whether rules or retention of telemetry differ.
    pub(crate) fn telemetry_differs(&self, other: &Self) -> bool {
        differ(&self.telemetry_rules, &other.telemetry_rules)
            || differ(&self.telemetry_retention, &other.telemetry_retention)
    }

    /// Whether the rules about messages differ.
    pub(crate) fn rules_differ(&self, other: &Self) -> bool {
        let keys = |all: &Self| {
            let tables = all.rules.iter();
            tables.map(|table| table.keys.clone()).collect::<Vec<_>>()
        };
        keys(self) != keys(other)
    }

    /// Returns a key whose protection was stronger in `before`, if there is one.
    pub(crate) fn lost_protection(&self, before: &Self) -> Option<String> {
        let (old, new) = (protection(&before.settings), protection(&self.settings));
        let mut of_node = old.into_iter().zip(new);
        if let Some(((key, _), _)) = of_node.find(|((_, old), (_, new))| new < old) {
            return Some(key.to_owned());
        }
        for old in &before.listeners {
            // Removed listeners continue unchanged until a restart.
            let Some(new) = self.listeners.iter().find(|new| new.url == old.url) else {
                continue;
            };
            let (old, new) = (protection_of_listener(old), protection_of_listener(new));
            let mut of_listener = old.into_iter().zip(new);
            if let Some(((key, _), _)) = of_listener.find(|((_, old), (_, new))| new < old) {
                return Some(format!("{key} of a listener"));
            }
        }
        None
    }

    /// The configuration for output to operators; secrets are masked. With `changed`, only values
    /// that are not the default.
    pub(crate) fn shown(&self, changed: bool) -> Configuration {
        let values = self.values.iter();
        let values = values.filter(|(_, sourced)| !changed || sourced.source != DEFAULT_SOURCE);
        let values = values.map(|(key, sourced)| ConfigurationValue {
            key: key.clone(),
            value: shown(&sourced.value).to_json(),
            source: sourced.source.clone(),
        });
        Configuration {
            values: values.collect(),
            listeners: shown_tables(&self.listeners),
            http_listeners: shown_tables(&self.http_listeners),
            telemetry_rules: shown_tables(&self.telemetry_rules),
            telemetry_retention: shown_tables(&self.telemetry_retention),
            sinks: self
                .sinks
                .iter()
                .map(|sink| ConfiguredSink {
                    kind: sink.kind.clone(),
                    values: sink
                        .keys
                        .iter()
                        .map(|(key, sourced)| {
                            let value = ListenerValue {
                                value: shown_of_sink(&sourced.value).to_json(),
                                source: sourced.source.clone(),
                            };
                            (key.clone(), value)
                        })
                        .collect(),
                })
                .collect(),
        }
    }

    /// The files of a TLS key, for the node and for listeners.
    pub(crate) fn paths(
        &self,
        of_node: fn(&Tls) -> &String,
        of_listener: fn(&ListenerKeys) -> &Option<String>,
    ) -> Vec<PathBuf> {
        let own = self
            .listeners
            .iter()
            .filter_map(|table| of_listener(table).as_ref());
        let all = std::iter::once(of_node(&self.settings.tls)).chain(own);
        all.filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect()
    }

    /// Whether something sets the value of a key.
    pub(crate) fn is_set(&self, path: &str) -> bool {
        self.source(path) != DEFAULT_SOURCE
    }

    /// The source of a key's value.
    pub(crate) fn source(&self, path: &str) -> &str {
        self.values
            .get(path)
            .map_or(DEFAULT_SOURCE, |found| &found.source)
    }
}

impl Effective {
    /// Keys that variables of other programs set, with these variables.
    pub(crate) fn foreign_variables(&self) -> KeyVariables {
        let keys = self.values.keys();
        let pair = |key: &String| Some((key.clone(), self.foreign_variable(key)?.to_owned()));
        KeyVariables::new(keys.filter_map(pair))
    }

    /// The variable of another program that sets a key, or the key itself: what its user knows.
    pub(crate) fn name_of<'a>(&self, key: &'a str) -> &'a str {
        self.foreign_variable(key).unwrap_or(key)
    }

    fn foreign_variable(&self, key: &str) -> Option<&'static str> {
        let (_, name) = self.source(key).rsplit_once(' ')?;
        let mut known = NAMES.iter().map(|(known, _)| *known);
        known.find(|known| *known == name)
    }
}

/// Whether two lists of tables differ.
fn differ<T: TableKeys>(one: &[Table<T>], other: &[Table<T>]) -> bool {
    let values = |table: &Table<T>| values_of(table.values());
    !one.iter().map(values).eq(other.iter().map(values))
}

/// Tables for output to operators.
fn shown_tables<T: TableKeys>(tables: &[Table<T>]) -> Vec<BTreeMap<String, ListenerValue>> {
    let shown = |(key, sourced): (&String, &Sourced)| {
        let value = ListenerValue {
            value: shown(&sourced.value).to_json(),
            source: sourced.source.clone(),
        };
        (key.clone(), value)
    };
    let tables = tables.iter();
    tables
        .map(|table| table.values().iter().map(shown).collect())
        .collect()
}

/// Strength of the keys that protect clients, for all listeners.
fn protection(settings: &Settings) -> [(&'static str, u8); 3] {
    let (acl_file, tls) = (&settings.auth.acl_file, &settings.tls);
    [
        (key!(auth.acl_file), u8::from(!acl_file.is_empty())),
        (key!(tls.client_crl), u8::from(!tls.client_crl.is_empty())),
        (key!(tls.client_certificates), rank(tls.client_certificates)),
    ]
}

/// Strength of the keys that protect clients, for one listener.
fn protection_of_listener(keys: &ListenerKeys) -> [(&'static str, u8); 3] {
    let is_set = |path: &Option<String>| path.as_ref().is_some_and(|path| !path.is_empty());
    [
        ("acl_file", u8::from(is_set(&keys.acl_file))),
        ("client_crl", u8::from(is_set(&keys.client_crl))),
        (
            "client_certificates",
            keys.client_certificates.map_or(0, rank),
        ),
    ]
}

fn rank(asked: ClientCertificates) -> u8 {
    match asked {
        ClientCertificates::Off => 0,
        ClientCertificates::Optional => 1,
        ClientCertificates::Required => 2,
    }
}
