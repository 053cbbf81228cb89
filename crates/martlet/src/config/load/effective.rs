//! The configuration in force: each value with the place that it comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use martlet_control::facts::{Configuration, ConfigurationValue, ConfiguredSink, ListenerValue};

use super::environment::EnvironmentFile;
use crate::config::masking::shown as shown_of_sink;
use crate::config::rules::RuleTable;
use crate::config::schema::{Value, keys};
use crate::config::sinks::section_of;

/// Source of values that are not set.
pub(crate) const DEFAULT_SOURCE: &str = "default";

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    pub(crate) value: Value,
    /// `default`, `martlet.toml line 3`, `environment MARTLET_…`, `command line`.
    pub(crate) source: String,
}

/// A listener as configured: its keys.
pub(crate) type ListenerTable = BTreeMap<String, Sourced>;

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
    pub(crate) keys: ListenerTable,
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
    /// Every key, set or not.
    pub(crate) values: BTreeMap<String, Sourced>,
    /// Configured listeners; empty means the default ones.
    pub(crate) listeners: Vec<ListenerTable>,
    /// HTTP listeners beside `http.listen`.
    pub(crate) http_listeners: Vec<ListenerTable>,
    /// Configured sinks, which are in the file alone.
    pub(crate) sinks: Vec<SinkTable>,
    /// Rules of telemetry, which are in the file alone.
    pub(crate) telemetry_rules: Vec<ListenerTable>,
    /// How long telemetry of types of devices is kept, likewise.
    pub(crate) telemetry_retention: Vec<ListenerTable>,
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
            secret_files: Vec::new(),
            own_file: None,
        }
    }

    /// Whether other listeners are configured there, or in another way.
    pub(crate) fn listeners_differ(&self, other: &Self) -> bool {
        !self
            .listeners
            .iter()
            .map(values_of)
            .eq(other.listeners.iter().map(values_of))
    }

    /// Whether other HTTP listeners are configured there, or in another way.
    pub(crate) fn http_listeners_differ(&self, other: &Self) -> bool {
        let (own, others) = (&self.http_listeners, &other.http_listeners);
        !own.iter().map(values_of).eq(others.iter().map(values_of))
    }

    /// Whether other sinks are configured there, or in another way.
    pub(crate) fn sinks_differ(&self, other: &Self) -> bool {
        let values = |sink: &SinkTable| (sink.kind.clone(), values_of(&sink.keys));
        !self
            .sinks
            .iter()
            .map(values)
            .eq(other.sinks.iter().map(values))
    }

    /// Whether telemetry has other rules or another retention there.
    pub(crate) fn telemetry_differs(&self, other: &Self) -> bool {
        let tables = |all: &Self| {
            let tables = all.telemetry_rules.iter().chain(&all.telemetry_retention);
            tables.map(values_of).collect::<Vec<_>>()
        };
        let counts = |all: &Self| all.telemetry_rules.len();
        counts(self) != counts(other) || tables(self) != tables(other)
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
        let of_node = [
            ("auth.acl_file", false),
            ("tls.client_crl", false),
            ("tls.client_certificates", true),
        ];
        let of_listener = [
            ("acl_file", false),
            ("client_crl", false),
            ("client_certificates", true),
        ];
        for (key, is_rank) in of_node {
            let (old, new) = (before.values.get(key), self.values.get(key));
            if strength(new, is_rank) < strength(old, is_rank) {
                return Some(key.to_owned());
            }
        }
        let url = |table: &ListenerTable| table.get("url").map(|url| url.value.clone());
        for old in &before.listeners {
            // Listeners that are gone go on as they were until a restart.
            let Some(new) = self.listeners.iter().find(|new| url(new) == url(old)) else {
                continue;
            };
            for (key, is_rank) in of_listener {
                if strength(new.get(key), is_rank) < strength(old.get(key), is_rank) {
                    return Some(format!("{key} of a listener"));
                }
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
        let shown = |sourced: &Sourced| ListenerValue {
            value: sourced.value.shown().to_json(),
            source: sourced.source.clone(),
        };
        let shown_all = |table: &ListenerTable| {
            let all = table.iter();
            all.map(|(key, sourced)| (key.clone(), shown(sourced)))
                .collect()
        };
        Configuration {
            values: values.collect(),
            listeners: self.listeners.iter().map(shown_all).collect(),
            http_listeners: self.http_listeners.iter().map(shown_all).collect(),
            telemetry_rules: self.telemetry_rules.iter().map(shown_all).collect(),
            telemetry_retention: self.telemetry_retention.iter().map(shown_all).collect(),
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

    /// The files of a key of TLS: the node's, and those of listeners.
    pub(crate) fn paths(&self, key: &str) -> Vec<PathBuf> {
        let general = self.values.get(&format!("tls.{key}"));
        let own = self.listeners.iter().filter_map(|table| table.get(key));
        let all = general.into_iter().chain(own);
        let paths = all.filter_map(|sourced| match &sourced.value {
            Value::Text(path) if !path.is_empty() => Some(PathBuf::from(path)),
            _ => None,
        });
        paths.collect()
    }

    /// The value of a key that the schema has.
    pub(crate) fn get(&self, path: &str) -> &Value {
        &self
            .values
            .get(path)
            .expect("the schema has every key that is asked for")
            .value
    }

    /// Where the value of a key came from.
    pub(crate) fn source(&self, path: &str) -> &str {
        self.values
            .get(path)
            .map_or(DEFAULT_SOURCE, |found| &found.source)
    }

    pub(crate) fn integer(&self, path: &str) -> u64 {
        match self.get(path) {
            Value::Integer(value) => *value,
            _ => 0,
        }
    }

    pub(crate) fn boolean(&self, path: &str) -> bool {
        matches!(self.get(path), Value::Boolean(true))
    }

    pub(crate) fn text(&self, path: &str) -> &str {
        match self.get(path) {
            Value::Text(value) => value,
            _ => "",
        }
    }

    pub(crate) fn secret(&self, path: &str) -> &str {
        match self.get(path) {
            Value::Secret(value) => value.text(),
            _ => "",
        }
    }
}

/// Keys and values, without where they came from.
fn values_of(table: &ListenerTable) -> Vec<(String, Value)> {
    let all = table.iter();
    all.map(|(key, found)| (key.clone(), found.value.clone()))
        .collect()
}

/// How much a value protects: of a file, whether there is one.
fn strength(found: Option<&Sourced>, is_rank: bool) -> u8 {
    match found.map(|found| &found.value) {
        Some(Value::Text(word)) if is_rank => match word.as_str() {
            "required" => 2,
            "optional" => 1,
            _ => 0,
        },
        Some(Value::Text(path)) => u8::from(!path.is_empty()),
        _ => 0,
    }
}
