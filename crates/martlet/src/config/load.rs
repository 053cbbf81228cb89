//! Lays the sources of configuration over each other and remembers where each value came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use martlet_control::facts::{Configuration, ConfigurationValue, ConfiguredSink, ListenerValue};
use martlet_environment::{parse, unclosed_quotes, variables};
use toml::de::{DeArray, DeTable, DeValue};

use crate::config::bridges::topic_line;
use crate::config::file_access::{read_environment_file, unreadable_files};
use crate::config::masking::shown as shown_of_sink;
use crate::config::schema::{HTTP_LISTENER_KEYS, Key, Kind, LISTENER_KEYS, Value, is_list, keys};
use crate::config::sinks::{TableKind, section_of, table_kinds};
use crate::config::{database, mosquitto, seeds};

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
    fn defaults() -> Self {
        let defaults = keys().into_iter().map(|key| {
            let sourced = Sourced {
                value: key.default,
                source: DEFAULT_SOURCE.to_owned(),
            };
            (key.path, sourced)
        });
        Self {
            values: defaults.collect(),
            listeners: Vec::new(),
            http_listeners: Vec::new(),
            sinks: Vec::new(),
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

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--mosquitto-conf`.
    pub(crate) mosquitto: Option<PathBuf>,
    /// Key, value as text, and the option that says so.
    pub(crate) values: Vec<(String, String, &'static str)>,
    /// `--listen`, replacing all configured listeners.
    pub(crate) listen: Vec<String>,
    /// Further HTTP listeners.
    pub(crate) http: Vec<HttpAddress>,
    /// Variables that `.env` sets, whether or not the process has them too.
    pub(crate) names_of_file: Vec<String>,
}

/// An HTTP listener that an option or variable of another system asks for.
#[derive(Clone, Debug)]
pub(crate) struct HttpAddress {
    /// Number of the system, as in `http.compat`.
    pub(crate) system: &'static str,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// Which option or variable.
    pub(crate) source: String,
}

/// Why a configuration is not accepted: which source, which key, what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), beginning(.path))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and what is wrong.
        text: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`{}", nearest(.hint))]
    UnknownKey {
        /// Source and line.
        place: String,
        /// The key as written.
        key: String,
        /// The nearest known one.
        hint: Option<String>,
    },
    /// The value does not fit.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    Value {
        /// Source and line.
        place: String,
        /// Which key.
        key: String,
        /// The value as written.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// Several of these at once.
    #[error("{} errors:\n  {}", .0.len(), .0.join("\n  "))]
    Several(Vec<String>),
    /// Values that do not go together, or cannot be used on this machine.
    #[error("{0}")]
    Unusable(String),
}

/// Where a path begins that is not whole.
fn beginning(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(directory) if path.is_relative() => {
            format!(
                "; it begins at the working directory, {}",
                directory.display()
            )
        }
        _ => String::new(),
    }
}

pub(super) fn nearest(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// Lays file, environment and command line over the defaults. `environment` is the process's, with
/// `.env` below it.
pub(crate) fn load(
    overlay: &Overlay,
    environment: &[(String, String)],
) -> Result<Effective, ConfigError> {
    let schema = keys();
    let mut effective = Effective::defaults();
    if let Some(path) = &overlay.file {
        read_file(path, &schema, &mut effective)?;
        effective.files.push(path.clone());
        effective.own_file = Some(path.clone());
    }
    if let Some(path) = &overlay.mosquitto {
        mosquitto::read(path, &mut effective)?;
    }
    let variables = seeds::Variables::new(environment, &overlay.names_of_file);
    seeds::read(&variables, &mut effective, !overlay.listen.is_empty())?;
    read_environment(environment, &schema, &mut effective)?;
    for (path, text, option) in &overlay.values {
        let place = format!("command line {option}");
        let key = known_key(&schema, path, &place)?;
        if key.kind == Kind::Secret {
            return Err(ConfigError::Unusable(format!(
                "{place} {path}: other users of this machine can read command lines; put it into the \
                 configuration file or into the environment, as {}",
                environment_name(path)
            )));
        }
        let value = parse_text(key, text, &place)?;
        effective.values.insert(
            path.clone(),
            Sourced {
                value,
                source: place,
            },
        );
    }
    if !overlay.listen.is_empty() {
        effective.listeners = overlay.listen.iter().map(|url| listener_of(url)).collect();
    }
    seeds::add_http_listeners(&variables, &overlay.http, &mut effective)?;
    database::adopt(environment, &mut effective)?;
    Ok(effective)
}

fn listener_of(url: &str) -> ListenerTable {
    let source = "command line --listen".to_owned();
    let url = Sourced {
        value: Value::Text(url.to_owned()),
        source,
    };
    ListenerTable::from([("url".to_owned(), url)])
}

fn read_file(path: &Path, schema: &[Key], effective: &mut Effective) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        text: syntax_error(&text, &error),
    })?;
    let file = File { path, text: &text };
    for (section, content) in table.get_ref() {
        let place = file.place(section.span().start);
        match (&**section.get_ref(), content.get_ref()) {
            ("listeners", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    effective.listeners.push(file.listener(table)?);
                }
            }
            ("http_listeners", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    effective.http_listeners.push(file.http_listener(table)?);
                }
            }
            (name @ ("sinks" | "sources"), DeValue::Table(kinds)) => {
                effective.sinks.extend(file.sinks(name, kinds)?);
            }
            ("bridges", DeValue::Array(tables)) => {
                effective.sinks.extend(file.bridges(tables)?);
            }
            (name, DeValue::Table(entries)) => {
                if !is_section(schema, name) {
                    return Err(unknown_section(schema, name, place));
                }
                for (key, value) in entries {
                    let dotted = format!("{name}.{}", key.get_ref());
                    let place = file.place(key.span().start);
                    let known = known_key(schema, &dotted, &place)?;
                    let value = file.value(known.kind, &dotted, value, &place)?;
                    effective.values.insert(
                        dotted,
                        Sourced {
                            value,
                            source: place,
                        },
                    );
                }
            }
            (name, _) => return Err(outside_sections(schema, name, place)),
        }
    }
    Ok(())
}

fn is_section(schema: &[Key], name: &str) -> bool {
    let mut all = schema.iter().filter_map(|key| key.path.split_once('.'));
    all.any(|(section, _)| section == name)
}

/// `[name]`, which is none.
fn unknown_section(schema: &[Key], name: &str, place: String) -> ConfigError {
    let sections = schema.iter().filter_map(|key| key.path.split_once('.'));
    let hint = nearest_of(sections.map(|(section, _)| section), name);
    let hint = match (name, hint) {
        ("listener" | "listeners", _) => Some("[[listeners]]".to_owned()),
        ("http_listener" | "http_listeners", _) => Some("[[http_listeners]]".to_owned()),
        ("sink", _) => Some("[[sinks.file]]".to_owned()),
        ("source", _) => Some("[[sources.nats]]".to_owned()),
        ("bridge" | "bridges", _) => Some("[[bridges]]".to_owned()),
        (_, hint) => hint.map(|section| format!("[{section}]")),
    };
    ConfigError::UnknownKey {
        place,
        key: format!("[{name}]"),
        hint,
    }
}

/// A key before the first section, or a section that is written as a value.
fn outside_sections(schema: &[Key], name: &str, place: String) -> ConfigError {
    if is_section(schema, name)
        || matches!(
            name,
            "listeners" | "http_listeners" | "bridges" | "sinks" | "sources"
        )
    {
        let expected = match name {
            "listeners" | "http_listeners" | "bridges" => format!("[[{name}]] tables"),
            "sinks" | "sources" => format!("[[{name}.KIND]] tables"),
            name => format!("a section, [{name}]"),
        };
        return ConfigError::Value {
            place,
            key: name.to_owned(),
            got: "a value".to_owned(),
            expected,
        };
    }
    // `packet_bytes` alone is of a section that is missing above it.
    let mut whole = schema.iter().map(|key| &*key.path);
    let whole = whole.find(|path| path.split_once('.').is_some_and(|(_, key)| key == name));
    ConfigError::UnknownKey {
        place,
        key: name.to_owned(),
        hint: whole.map(str::to_owned),
    }
}

/// A value as it is written, if it is not long.
fn shortened(written: &str) -> String {
    const SHOWN: usize = 60;
    let line = written.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < written.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{} line {line}", self.path.display())
    }

    fn listener(&self, table: &toml::Spanned<DeValue<'_>>) -> Result<ListenerTable, ConfigError> {
        let place = self.place(table.span().start);
        let listener = self.table("listeners", LISTENER_KEYS, table)?;
        if !listener.contains_key("url") {
            let text =
                format!("{place}: a listener needs `url`, such as \"mqtt://127.0.0.1:1883\"");
            return Err(ConfigError::Unusable(text));
        }
        Ok(listener)
    }

    fn http_listener(
        &self,
        table: &toml::Spanned<DeValue<'_>>,
    ) -> Result<ListenerTable, ConfigError> {
        let place = self.place(table.span().start);
        let listener = self.table("http_listeners", HTTP_LISTENER_KEYS, table)?;
        if !listener.contains_key("url") {
            let text =
                format!("{place}: an HTTP listener needs `url`, such as \"http://127.0.0.1:9091\"");
            return Err(ConfigError::Unusable(text));
        }
        Ok(listener)
    }

    /// The tables `[[sinks.KIND]]`, or those of sources.
    fn sinks(&self, section: &str, kinds: &DeTable<'_>) -> Result<Vec<SinkTable>, ConfigError> {
        let mut sinks = Vec::new();
        for (kind, tables) in kinds {
            let name = &**kind.get_ref();
            let place = self.place(kind.span().start);
            let mut all = table_kinds().filter(|known| known.section == section);
            let Some(known) = all.find(|known| known.name == Some(name)) else {
                let all = table_kinds().filter(|known| known.section == section);
                let hint = nearest_of(all.filter_map(|known| known.name), name);
                return Err(ConfigError::UnknownKey {
                    place,
                    key: format!("[[{section}.{name}]]"),
                    hint: hint.map(|kind| format!("[[{section}.{kind}]]")),
                });
            };
            let DeValue::Array(tables) = tables.get_ref() else {
                return Err(no_tables(place, &known.table()));
            };
            sinks.extend(self.tables_of(&known, tables)?);
        }
        Ok(sinks)
    }

    /// The tables `[[bridges]]`.
    fn bridges(&self, tables: &DeArray<'_>) -> Result<Vec<SinkTable>, ConfigError> {
        let bridges = table_kinds().filter(|known| known.section == "bridges");
        let bridges = bridges.map(|known| self.tables_of(&known, tables));
        Ok(bridges.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The tables of a kind of integration.
    fn tables_of(
        &self,
        known: &TableKind,
        tables: &DeArray<'_>,
    ) -> Result<Vec<SinkTable>, ConfigError> {
        let section = known.table();
        let tables = tables.iter().map(|table| {
            Ok(SinkTable {
                kind: known.kind.to_owned(),
                place: self.place(table.span().start),
                may_be_private: false,
                keys: self.table(&section, &known.keys, table)?,
            })
        });
        tables.collect()
    }

    /// A table of a list, with its keys.
    fn table(
        &self,
        section: &str,
        keys: &[(&str, Kind, &str)],
        table: &toml::Spanned<DeValue<'_>>,
    ) -> Result<ListenerTable, ConfigError> {
        let DeValue::Table(entries) = table.get_ref() else {
            return Err(no_tables(self.place(table.span().start), section));
        };
        let mut found = ListenerTable::new();
        for (key, value) in entries {
            let place = self.place(key.span().start);
            let name = &**key.get_ref();
            let known = keys.iter().find(|known| known.0 == name);
            let Some(&(_, kind, _)) = known else {
                let hint = nearest_of(keys.iter().map(|known| known.0), name);
                return Err(ConfigError::UnknownKey {
                    place,
                    key: name.to_owned(),
                    hint,
                });
            };
            let value = self.value(kind, name, value, &place)?;
            found.insert(
                name.to_owned(),
                Sourced {
                    value,
                    source: place,
                },
            );
        }
        Ok(found)
    }

    /// Topics of a bridge, as lines.
    fn topics(&self, topics: &DeArray<'_>) -> Result<Vec<String>, ConfigError> {
        let lines = topics.iter().map(|topic| {
            topic_line(topic.get_ref()).map_err(|why| {
                let place = self.place(topic.span().start);
                ConfigError::Unusable(format!("{place}: topics: {why}"))
            })
        });
        lines.collect()
    }

    fn value(
        &self,
        kind: Kind,
        key: &str,
        value: &toml::Spanned<DeValue<'_>>,
        place: &str,
    ) -> Result<Value, ConfigError> {
        let written = self.text.get(value.span()).unwrap_or_default();
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(Value::Integer),
            DeValue::Boolean(flag) => Some(Value::Boolean(*flag)),
            DeValue::Array(topics) if kind == Kind::Topics => {
                Some(Value::Texts(self.topics(topics)?))
            }
            DeValue::String(text) if matches!(kind, Kind::Texts | Kind::Topics) => {
                Some(Value::Texts(vec![text.to_string()]))
            }
            DeValue::String(text) if kind == Kind::Headers => {
                Some(Value::Headers(vec![text.to_string()]))
            }
            DeValue::String(text) => Some(text_of(kind, text.to_string())),
            DeValue::Array(texts) if kind == Kind::Texts => texts_of(texts).map(Value::Texts),
            DeValue::Array(texts) if kind == Kind::Headers => texts_of(texts).map(Value::Headers),
            DeValue::Array(texts) if is_list(key) => joined(texts).map(|text| text_of(kind, text)),
            _ => None,
        };
        let is_secret = matches!(kind, Kind::Secret | Kind::Headers);
        let got = match &parsed {
            Some(value) if !is_secret => value.to_string(),
            None if !is_secret => shortened(written),
            _ => "of another type".to_owned(),
        };
        parsed
            .filter(|value| fits(kind, value))
            .ok_or_else(|| ConfigError::Value {
                place: place.to_owned(),
                key: key.to_owned(),
                got,
                expected: expectation(kind),
            })
    }
}

fn text_of(kind: Kind, text: String) -> Value {
    match kind {
        Kind::Secret => Value::Secret(text.into()),
        _ => Value::Text(text),
    }
}

/// No list of tables stands where one has to.
fn no_tables(place: String, section: &str) -> ConfigError {
    ConfigError::Value {
        place,
        key: section.to_owned(),
        got: "no table".to_owned(),
        expected: format!("[[{section}]] tables"),
    }
}

/// A list of texts; none: something else is in it.
fn texts_of(texts: &DeArray<'_>) -> Option<Vec<String>> {
    let texts = texts.iter().map(|text| match text.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    });
    texts.collect()
}

/// A list of texts as one; none: something else is in it, or a text with several values.
fn joined(texts: &DeArray<'_>) -> Option<String> {
    let texts = texts.iter().map(|text| match text.get_ref() {
        DeValue::String(text) if !text.contains(',') => Some(text.as_ref()),
        _ => None,
    });
    Some(texts.collect::<Option<Vec<&str>>>()?.join(", "))
}

/// `MARTLET_` + the key's path with `__` between its parts, in capitals. Of a secret, the same with
/// `_FILE` names the file that holds it.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
}

fn read_environment(
    environment: &[(String, String)],
    schema: &[Key],
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let names: Vec<(String, &Key)> = schema
        .iter()
        .map(|key| (environment_name(&key.path), key))
        .collect();
    for (name, text) in environment {
        if !name.starts_with("MARTLET_") || NOT_CONFIGURATION.contains(&name.as_str()) {
            continue;
        }
        let place = format!("environment {name}");
        if let Some(own) = name.strip_suffix("_FILE")
            && let Some((_, key)) = names.iter().find(|(known, _)| known == own)
            && key.kind == Kind::Secret
        {
            if environment.iter().any(|(known, _)| known == own) {
                return Err(ConfigError::Unusable(format!(
                    "{place}: {own} is set too; which of them is meant?"
                )));
            }
            effective.secret_files.push(PathBuf::from(text));
            let text = std::fs::read_to_string(text).map_err(|error| {
                ConfigError::Unusable(format!("{place}: cannot read {text}: {error}"))
            })?;
            let value = parse_text(key, text.trim_end_matches(['\n', '\r']), &place)?;
            let sourced = Sourced {
                value,
                source: place,
            };
            effective.values.insert(key.path.clone(), sourced);
            continue;
        }
        match names.iter().find(|(known, _)| known == name) {
            Some((_, key)) => {
                let value = parse_text(key, text, &place)?;
                effective.values.insert(
                    key.path.clone(),
                    Sourced {
                        value,
                        source: place,
                    },
                );
            }
            None => {
                let hint = nearest_of(names.iter().map(|(known, _)| known.as_str()), name);
                effective
                    .warnings
                    .push(format!("{place}: no such setting{}", nearest(&hint)));
            }
        }
    }
    Ok(())
}

/// Variables that tests and tools use and that configure nothing.
const NOT_CONFIGURATION: &[&str] = &["MARTLET_BIN"];

fn known_key<'a>(schema: &'a [Key], path: &str, place: &str) -> Result<&'a Key, ConfigError> {
    schema
        .iter()
        .find(|key| key.path == path)
        .ok_or_else(|| ConfigError::UnknownKey {
            place: place.to_owned(),
            key: path.to_owned(),
            hint: nearest_of(schema.iter().map(|key| key.path.as_str()), path),
        })
}

fn parse_text(key: &Key, text: &str, place: &str) -> Result<Value, ConfigError> {
    let value = match key.kind {
        Kind::Integer { .. } | Kind::NoneOrAtLeast { .. } => {
            text.trim().parse().ok().map(Value::Integer)
        }
        Kind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Kind::Word(_) | Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Texts | Kind::Topics => Some(Value::Texts(vec![text.to_owned()])),
        Kind::Headers => Some(Value::Headers(vec![text.to_owned()])),
        Kind::Secret => Some(Value::Secret(text.to_owned().into())),
    };
    value
        .filter(|value| fits(key.kind, value))
        .ok_or_else(|| ConfigError::Value {
            place: place.to_owned(),
            key: key.path.clone(),
            got: format!("{text:?}"),
            expected: expectation(key.kind),
        })
}

/// What a file of Mosquitto's alone says, and what becomes of each line.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) effective: Effective,
    pub(crate) report: Vec<mosquitto::ReportLine>,
    /// What keeps the file from being used.
    pub(crate) error: Option<ConfigError>,
}

/// Reads a file of Mosquitto's alone.
///
/// # Errors
/// It cannot be read.
pub(crate) fn import_mosquitto(path: &Path) -> Result<Imported, ConfigError> {
    let mut effective = Effective::defaults();
    let (report, result) = mosquitto::read_all(path, &mut effective)?;
    let error = result.err().map(|error| {
        let mut all = match error {
            ConfigError::Several(all) => all,
            error => vec![error.to_string()],
        };
        all.extend(unreadable_files(&effective));
        match all.len() {
            1 => ConfigError::Unusable(all.remove(0)),
            _ => ConfigError::Several(all),
        }
    });
    Ok(Imported {
        effective,
        report,
        error,
    })
}

/// Whether a key takes this value.
///
/// # Errors
/// What was expected.
pub(super) fn check_value(path: &str, value: &Value, place: &str) -> Result<(), ConfigError> {
    let schema = keys();
    let key = known_key(&schema, path, place)?;
    match fits(key.kind, value) {
        true => Ok(()),
        false => Err(ConfigError::Value {
            place: place.to_owned(),
            key: key.path.clone(),
            got: value.to_string(),
            expected: expectation(key.kind),
        }),
    }
}

fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(number),
        (Kind::NoneOrAtLeast { min }, Value::Integer(number)) => *number == 0 || *number >= min,
        (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Text, Value::Text(_)) | (Kind::Secret, Value::Secret(_)) => true,
        (Kind::Texts | Kind::Topics, Value::Texts(_)) | (Kind::Headers, Value::Headers(_)) => true,
        (Kind::Word(words), Value::Text(word)) => words.contains(&word.as_str()),
        _ => false,
    }
}

/// What a value of this kind is, in words.
pub(crate) fn expectation(kind: Kind) -> String {
    match kind {
        Kind::Integer { min, max: u64::MAX } => format!("a whole number of at least {min}"),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::NoneOrAtLeast { min } => format!("0, or a whole number of at least {min}"),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Text => "text in quotes".to_owned(),
        Kind::Texts | Kind::Headers => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
        Kind::Topics => {
            "a list of topics, such as [{ filter = \"a/#\", direction = \"out\" }]".to_owned()
        }
        Kind::Secret => "a secret: text in quotes".to_owned(),
    }
}

/// How like two names are, from 0 to 1. What they begin with alike counts for much, so within one
/// section only what follows it is compared: keys of a section are not alike by its name alone.
fn likeness(known: &str, name: &str) -> f64 {
    let of_section = known
        .split_once('.')
        .zip(name.split_once('.'))
        .filter(|((known, _), (name, _))| known == name);
    let (known, name) = of_section.map_or((known, name), |((_, known), (_, name))| (known, name));
    match strsim::normalized_damerau_levenshtein(known, name) {
        edits if edits < 0.4 => 0.0,
        _ => strsim::jaro_winkler(known, name),
    }
}

/// The known name most like a misspelt one, if any is near.
pub(super) fn nearest_of<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    known
        .map(|candidate| (likeness(candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Variables of the process, over those of `.env` in the working directory.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    /// The `.env`; none: there is no such file.
    pub(crate) file: Option<EnvironmentFile>,
}

/// A `.env` that was read.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentFile {
    /// From the root.
    pub(crate) path: PathBuf,
    /// Variables that it sets.
    pub(crate) names: Vec<String>,
    /// Variables whose value begins with a quote that is not closed, each with its line.
    pub(crate) unclosed: Vec<(usize, String)>,
}

/// The environment of this process.
///
/// # Errors
/// There is a `.env` that another user can have written, or that cannot be read.
pub(crate) fn environment() -> Result<Environment, ConfigError> {
    let (path, text) = read_environment_file()?.unzip();
    let text = text.unwrap_or_default();
    let names = parse(&text).into_iter().map(|(name, _)| name).collect();
    let unclosed = unclosed_quotes(&text);
    let file = path.map(|path| EnvironmentFile {
        path,
        names,
        unclosed,
    });
    let variables = variables(&text);
    Ok(Environment { variables, file })
}

/// Where it is and what was expected. Of the line only what stands before its `=` is shown: behind
/// it a password may be.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or(text);
    let line_at = before.rfind('\n').map_or(0, |end| end + 1);
    let number = before.matches('\n').count() + 1;
    let column = before[line_at..].chars().count() + 1;
    let line = text[line_at..].lines().next().unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let named = match key.is_empty() {
        true => String::new(),
        false => format!(" ({key})"),
    };
    let message = error.message().replace("\\u{a}", "end of line");
    format!("line {number}, column {column}{named}: {message}")
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
