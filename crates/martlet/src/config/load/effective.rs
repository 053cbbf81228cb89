//! The configuration in force: each value with the place that it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use martlet_certificates::ClientCertificates;
use martlet_control::facts::{Configuration, ConfigurationValue, ConfiguredSink, ListenerValue};

use super::check::{checked, known_key};
use super::environment_file::EnvironmentFile;
use super::sourced::{DEFAULT_SOURCE, KeyValues, Sourced};
use super::table::{
    HttpListenerTable, ListenerTable, RetentionTable, Table, TelemetryRuleTable, values_of,
};
use crate::config::error::ConfigError;
use crate::config::key;
use crate::config::rule_table::RuleTable;
use crate::config::schema::{ListenerKeys, Settings, TableKeys, Tls, Value, keys};
use crate::config::table_kinds::section_of;

/// A sink, source or bridge as configured.
#[derive(Clone, Debug)]
pub(crate) struct SinkTable {
    /// Kind, such as `file`.
    pub(crate) kind: String,
    /// Where it begins: file and line.
    pub(crate) place: String,
    /// It may connect to private addresses whatever `integrations.allow_private` is: who may set
    /// the environment has named its target.
    pub(crate) may_be_private: bool,
    pub(crate) keys: KeyValues,
}

impl SinkTable {
    /// Name of its table, such as `sinks.file`.
    pub(crate) fn section(&self) -> String {
        section_of(&self.kind)
    }
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// The values, typed.
    settings: Settings,
    /// The same of every key, set or not, with their places.
    values: KeyValues,
    /// Configured listeners; empty means the default ones.
    pub(crate) listeners: Vec<ListenerTable>,
    /// HTTP listeners beside `http.listen`.
    pub(crate) http_listeners: Vec<HttpListenerTable>,
    /// Configured sinks, which are in the file alone.
    pub(crate) sinks: Vec<SinkTable>,
    /// Rules of telemetry, which are in the file alone.
    pub(crate) telemetry_rules: Vec<TelemetryRuleTable>,
    /// How long telemetry of types of devices is kept, likewise.
    pub(crate) telemetry_retention: Vec<RetentionTable>,
    /// Rules about messages, likewise.
    pub(crate) rules: Vec<RuleTable>,
    /// What is odd but does not keep the node from starting.
    pub(crate) warnings: Vec<String>,
    /// What the start reports: private addresses that are permitted since their integration was
    /// named in another way than by our file.
    pub(crate) notes: Vec<String>,
    /// Files that were read, for the start's report.
    pub(crate) files: Vec<PathBuf>,
    /// The `.env` among them.
    pub(crate) environment_file: Option<EnvironmentFile>,
    /// The place of a `log.file` whose directory is made, as that other system does: it counts
    /// while the value is the one of this place.
    pub(crate) log_directory_of: Option<String>,
    /// Files that hold one secret each, as `MARTLET_…_FILE` names them.
    pub(crate) secret_files: Vec<PathBuf>,
    /// The one that is ours.
    pub(crate) own_file: Option<PathBuf>,
}

impl Effective {
    /// Nothing is configured.
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
    /// There is no such key, or the value does not fit.
    pub(crate) fn set(&mut self, path: &str, sourced: Sourced) -> Result<(), ConfigError> {
        let key = known_key(keys(), path, &sourced.source)?;
        let settings = &mut self.settings;
        checked(path, key.kind, &sourced, |value| settings.set(path, value))?;
        self.values.insert(path.to_owned(), sourced);
        Ok(())
    }

    /// The values of all keys of the node, typed.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every key of the node, set or not.
    pub(crate) fn values(&self) -> &KeyValues {
        &self.values
    }

    /// Whether other listeners are configured there, or in another way.
    pub(crate) fn listeners_differ(&self, other: &Self) -> bool {
        differ(&self.listeners, &other.listeners)
    }

    /// Whether other HTTP listeners are configured there, or in another way.
    pub(crate) fn http_listeners_differ(&self, other: &Self) -> bool {
        differ(&self.http_listeners, &other.http_listeners)
    }

    /// Tables of sinks, sources and bridges that differ from those there, such as `[[bridges]]`.
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

    /// Whether telemetry has other rules or another retention there.
    pub(crate) fn telemetry_differs(&self, other: &Self) -> bool {
        differ(&self.telemetry_rules, &other.telemetry_rules)
            || differ(&self.telemetry_retention, &other.telemetry_retention)
    }

    /// Whether other rules about messages are configured there, or in another way.
    pub(crate) fn rules_differ(&self, other: &Self) -> bool {
        let keys = |all: &Self| {
            let tables = all.rules.iter();
            tables.map(|table| table.keys.clone()).collect::<Vec<_>>()
        };
        keys(self) != keys(other)
    }

    /// A key that protects and did in `before`, but not any more, or less.
    pub(crate) fn lost_protection(&self, before: &Self) -> Option<String> {
        let (old, new) = (protection(&before.settings), protection(&self.settings));
        let mut of_node = old.into_iter().zip(new);
        if let Some(((key, _), _)) = of_node.find(|((_, old), (_, new))| new < old) {
            return Some(key.to_owned());
        }
        for old in &before.listeners {
            // Listeners that are gone go on as they were until a restart.
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

    /// As it is shown to operators: what is secret is masked. If asked, only what is not the
    /// default.
    pub(crate) fn shown(&self, changed: bool) -> Configuration {
        let values = self.values.iter();
        let values = values.filter(|(_, sourced)| !changed || sourced.source != DEFAULT_SOURCE);
        let values = values.map(|(key, sourced)| ConfigurationValue {
            key: key.clone(),
            value: sourced.value.shown().to_json(),
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
                                value: sourced.value.shown_of_sink().to_json(),
                                source: sourced.source.clone(),
                            };
                            (key.clone(), value)
                        })
                        .collect(),
                })
                .collect(),
        }
    }

    /// The files of a key of TLS: the node's, and those of listeners.
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

    /// Where the value of a key came from.
    pub(crate) fn source(&self, path: &str) -> &str {
        self.values
            .get(path)
            .map_or(DEFAULT_SOURCE, |found| &found.source)
    }
}

/// Whether two lists of tables are configured in different ways.
fn differ<T: TableKeys>(one: &[Table<T>], other: &[Table<T>]) -> bool {
    let values = |table: &Table<T>| values_of(table.values());
    !one.iter().map(values).eq(other.iter().map(values))
}

/// Tables as they are shown to operators.
fn shown_tables<T: TableKeys>(tables: &[Table<T>]) -> Vec<BTreeMap<String, ListenerValue>> {
    let shown = |(key, sourced): (&String, &Sourced)| {
        let value = ListenerValue {
            value: sourced.value.shown().to_json(),
            source: sourced.source.clone(),
        };
        (key.clone(), value)
    };
    let tables = tables.iter();
    tables
        .map(|table| table.values().iter().map(shown).collect())
        .collect()
}

/// How much the keys that protect clients do so, of all listeners.
fn protection(settings: &Settings) -> [(&'static str, u8); 3] {
    let (acl_file, tls) = (&settings.auth.acl_file, &settings.tls);
    [
        (key!(auth.acl_file), u8::from(!acl_file.is_empty())),
        (key!(tls.client_crl), u8::from(!tls.client_crl.is_empty())),
        (key!(tls.client_certificates), rank(tls.client_certificates)),
    ]
}

/// The same of one listener.
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
