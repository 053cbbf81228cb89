//! Kinds of sinks: their keys in the configuration, and what a configured sink is started from. A
//! new kind is one file with a [`Kind`], and one line in [`KINDS`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bridge::{BrokerAddresses, NamedConnection};
use crate::each::{self, Each, OneByOne};
use crate::host::Host;
use crate::networks::AllowedNetworks;
use crate::runner::{Handle, Runner, Settings, SourceRunner};
use crate::secret::{SecretValue, SecretsReceiver, Template};
use crate::sink::Sink;
use crate::source::MessageSource;

/// All kinds of sinks, as `[[sinks.NAME]]` names them.
pub const KINDS: &[Kind] = &[
    crate::file::KIND,
    crate::webhook::KIND,
    crate::nats::KIND,
    crate::email::KIND,
];

/// All kinds of sources, each with its name in `[[sources.NAME]]`.
pub const SOURCES: &[(&str, Kind)] = &[
    ("nats", crate::nats::SOURCE_KIND),
    ("nats-requests", crate::nats::REQUESTS_KIND),
];

/// A kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name, such as `file`.
    pub name: &'static str,
    /// Its keys in the order of the reference page; those that all kinds have come behind them.
    pub keys: &'static [Key],
    /// Makes a sink of a table of the configuration. `Settings` has what all kinds have, and may be
    /// changed. The error says what is wrong, without values that may be secret.
    pub make: fn(&Table, &Surroundings<'_>, Settings) -> Result<ConfiguredSink, String>,
}

/// A key of a kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name, such as `path`.
    pub name: &'static str,
    /// What its value may be.
    pub takes: Takes,
    /// What it means and its default, in sentences, for the reference page.
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

/// What the value of a key of the configuration may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A whole number.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// 0, which stands for no limit, or a whole number of at least `min`.
    NoneOrAtLeast {
        /// The smallest but 0.
        min: u64,
    },
    /// true or false.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text; empty means none.
    Text,
    /// A list of texts, which may contain commas. Only in configuration files.
    Texts,
    /// Topics of a bridge: a list of tables, or of texts. Only in configuration files.
    Topics,
    /// A list of texts `Name: value`, whose values are not shown. Only in configuration files.
    Headers,
    /// A text that is never shown.
    Secret,
}

/// A value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableValue {
    /// Value of [`Takes::Text`] and [`Takes::Word`].
    Text(String),
    /// Value of [`Takes::Texts`], [`Takes::Topics`] and [`Takes::Headers`].
    Texts(Vec<String>),
    /// Value of [`Takes::Secret`].
    Secret(SecretValue),
    /// Value of [`Takes::Boolean`].
    Flag(bool),
    /// Value of [`Takes::Integer`] and [`Takes::NoneOrAtLeast`].
    Number(u64),
}

/// A table of the configuration. Each value is one that its key takes; a key may be missing.
#[derive(Clone, Debug, Default)]
pub struct Table(BTreeMap<String, TableValue>);

impl FromIterator<(String, TableValue)> for Table {
    fn from_iter<I: IntoIterator<Item = (String, TableValue)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Table {
    /// The text of a key, a secret one too; none if it is missing or empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        let text = match self.0.get(key)? {
            TableValue::Text(text) => text.as_str(),
            TableValue::Secret(secret) => secret.expose(),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// Whether the key is there, be it empty.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The texts of a key; empty if it is missing.
    pub fn texts(&self, key: &str) -> &[String] {
        match self.0.get(key) {
            Some(TableValue::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// The number of a key.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        match self.0.get(key) {
            Some(TableValue::Number(number)) => *number,
            _ => default,
        }
    }

    /// Whether a key is true.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.0.get(key) {
            Some(TableValue::Flag(flag)) => *flag,
            _ => default,
        }
    }

    /// The path that a key has; a relative one begins in the data directory. None if it is missing.
    pub fn path(&self, key: &str, data_dir: &Path) -> Option<PathBuf> {
        self.text(key).map(|path| data_dir.join(path))
    }

    /// `certificate_file` and `key_file` of a TLS client; none if both are missing.
    ///
    /// # Errors
    /// Only one of them is there.
    pub fn client_certificate(
        &self,
        data_dir: &Path,
    ) -> Result<Option<(PathBuf, PathBuf)>, String> {
        let path = |key| self.path(key, data_dir);
        match (path("certificate_file"), path("key_file")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => Err("`certificate_file` and `key_file` need each other".to_owned()),
        }
    }

    /// The text of a key, in which `${secret:NAME}` stands for a secret; none if it is missing.
    ///
    /// # Errors
    /// Its references are malformed.
    pub fn template(&self, key: &str) -> Result<Option<Template>, String> {
        let parsed = self.text(key).map(Template::parse).transpose();
        parsed.map_err(|why| format!("`{key}`: {why}"))
    }

    /// As [`Table::text`], of a key that a sink cannot do without. `expected` says what it has to
    /// be, for the message of the error.
    ///
    /// # Errors
    /// It is missing.
    pub fn required(&self, key: &str, expected: &str) -> Result<&str, String> {
        self.text(key).ok_or_else(|| missing(key, expected))
    }

    /// As [`Table::template`], of a key that a sink cannot do without.
    ///
    /// # Errors
    /// It is missing, or its references are malformed.
    pub fn required_template(&self, key: &str, expected: &str) -> Result<Template, String> {
        self.template(key)?.ok_or_else(|| missing(key, expected))
    }
}

fn missing(key: &str, expected: &str) -> String {
    format!("`{key}` is missing, expected {expected}")
}

/// What of the node's configuration a sink may need.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Relative paths begin here.
    pub data_dir: &'a Path,
    /// `integrations.allow_private`.
    pub allowed: &'a AllowedNetworks,
}

/// A sink of the configuration.
#[derive(Clone)]
pub struct ConfiguredSink {
    /// How it is run.
    pub settings: Settings,
    secrets: Vec<Box<str>>,
    files: Vec<PathBuf>,
    read_files: Vec<PathBuf>,
    connection: Option<Arc<NamedConnection>>,
    broker: Option<BrokerAddresses>,
    start: Arc<Start>,
}

type Start = dyn Fn(Settings, SecretsReceiver, Arc<dyn Host>) -> Handle + Send + Sync;

impl fmt::Debug for ConfiguredSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfiguredSink")
            .field(&self.settings)
            .finish()
    }
}

impl ConfiguredSink {
    /// A sink that `make` makes when the node starts.
    pub fn new<S: Sink>(
        settings: Settings,
        make: impl Fn(SecretsReceiver) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::in_node(settings, move |secrets, _| make(secrets))
    }

    /// A sink that `make` makes when the node starts, and that takes one message at a time.
    pub fn one_by_one<S: OneByOne>(
        mut settings: Settings,
        make: impl Fn(SecretsReceiver) -> S + Send + Sync + 'static,
    ) -> Self {
        settings.deliver_within = each::deliver_within(S::WITHIN);
        Self::new(settings, move |secrets| Each(make(secrets)))
    }

    /// A sink that `make` makes when the node of this name starts.
    pub fn in_node<S: Sink>(
        settings: Settings,
        make: impl Fn(SecretsReceiver, &str) -> S + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        Self::started_by(settings, move |settings, secrets: SecretsReceiver, host| {
            let (make, node) = (Arc::clone(&make), host.node().to_owned());
            Runner::start(settings, move || make(secrets.clone(), &node), host)
        })
    }

    /// A source that `make` makes when the node starts.
    pub fn of_source<S: MessageSource>(
        settings: Settings,
        make: impl Fn(SecretsReceiver, &Arc<dyn Host>) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::started_by(settings, move |settings, secrets, host| {
            let source = make(secrets, &host);
            SourceRunner::start(settings, source, host)
        })
    }

    /// An integration that is started by `start`: one with a task of its own.
    pub(crate) fn started_by(
        settings: Settings,
        start: impl Fn(Settings, SecretsReceiver, Arc<dyn Host>) -> Handle + Send + Sync + 'static,
    ) -> Self {
        Self {
            settings,
            secrets: Vec::new(),
            files: Vec::new(),
            read_files: Vec::new(),
            connection: None,
            broker: None,
            start: Arc::new(start),
        }
    }

    /// It uses the secrets of these names.
    #[must_use]
    pub fn with_secrets(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.secrets.extend(names.into_iter().map(Into::into));
        self
    }

    /// It uses the secrets that these texts refer to.
    #[must_use]
    pub fn with_secrets_of<'a>(self, texts: impl IntoIterator<Item = &'a Template>) -> Self {
        let names = texts.into_iter().flat_map(Template::names);
        self.with_secrets(names.map(str::to_owned))
    }

    /// It is a bridge to this broker.
    #[must_use]
    pub(crate) fn with_broker(mut self, broker: BrokerAddresses) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The broker that it connects to, if it is a bridge.
    pub fn broker(&self) -> Option<&BrokerAddresses> {
        self.broker.as_ref()
    }

    /// It is this named connection.
    #[must_use]
    pub(crate) fn with_connection(mut self, connection: Arc<NamedConnection>) -> Self {
        self.connection = Some(connection);
        self
    }

    /// The named connection that it is, if it is one.
    pub fn connection(&self) -> Option<&Arc<NamedConnection>> {
        self.connection.as_ref()
    }

    /// It writes this file, and renames it to `PATH.1`, `PATH.2` and so on.
    #[must_use]
    pub fn with_file(mut self, path: PathBuf) -> Self {
        self.files.push(path);
        self
    }

    /// It reads these files when it connects.
    #[must_use]
    pub(crate) fn reading(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read_files.extend(files);
        self
    }

    /// Files that it reads when it connects: certificates and credentials.
    pub fn read_files(&self) -> &[PathBuf] {
        &self.read_files
    }

    /// Names of the secrets that it uses.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|name| &**name)
    }

    /// Files that it writes.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The sink with at most this number of bytes in its queue, where the configuration does not
    /// say how many.
    #[must_use]
    pub fn bounded(mut self, bytes_max: u64) -> Self {
        let queue = &mut self.settings.queue;
        if queue.bytes_max == 0 {
            queue.bytes_max = bytes_max.max(1);
        }
        self
    }

    /// Starts it. Needs a Tokio runtime.
    pub fn start(&self, secrets: SecretsReceiver, host: Arc<dyn Host>) -> Handle {
        (self.start)(self.settings.clone(), secrets, host)
    }
}
