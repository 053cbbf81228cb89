//! A configured sink, which is started with the node.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bridge::{BrokerAddresses, NamedConnection};
use crate::each::{self, Each, OneByOne};
use crate::host::Host;
use crate::runner::{Handle, Runner, Settings, SourceRunner};
use crate::secret::{SecretCheck, SecretTrouble, SecretValues, SecretsReceiver, Template};
use crate::sink::Sink;
use crate::source::MessageSource;

/// A configured sink.
#[derive(Clone)]
pub struct ConfiguredSink {
    /// Settings of its runner.
    pub settings: Settings,
    secrets: Vec<Box<str>>,
    check: SecretCheck,
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
    /// A sink that `make` creates when the node starts.
    pub fn new<S: Sink>(
        settings: Settings,
        make: impl Fn(SecretsReceiver) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::in_node(settings, move |secrets, _| make(secrets))
    }

    /// A sink that `make` creates when the node starts, and that takes one message at a time.
    pub fn one_by_one<S: OneByOne>(
        mut settings: Settings,
        make: impl Fn(SecretsReceiver) -> S + Send + Sync + 'static,
    ) -> Self {
        settings.deliver_within = each::deliver_within(S::WITHIN);
        Self::new(settings, move |secrets| Each(make(secrets)))
    }

    /// A sink that `make` creates when the node of this name starts.
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

    /// A source that `make` creates when the node starts.
    pub fn of_source<S: MessageSource>(
        settings: Settings,
        make: impl Fn(SecretsReceiver, &Arc<dyn Host>) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::started_by(settings, move |settings, secrets, host| {
            let source = make(secrets, &host);
            SourceRunner::start(settings, source, host)
        })
    }

    /// An integration that `start` starts: one with its own task.
    pub(crate) fn started_by(
        settings: Settings,
        start: impl Fn(Settings, SecretsReceiver, Arc<dyn Host>) -> Handle + Send + Sync + 'static,
    ) -> Self {
        Self {
            settings,
            secrets: Vec::new(),
            check: Arc::new(|_| Ok(())),
            files: Vec::new(),
            read_files: Vec::new(),
            connection: None,
            broker: None,
            start: Arc::new(start),
        }
    }

    /// Adds the names of secrets that it uses.
    #[must_use]
    pub fn with_secrets(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.secrets.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds the secrets that these texts refer to.
    #[must_use]
    pub fn with_secrets_of<'a>(self, texts: impl IntoIterator<Item = &'a Template>) -> Self {
        let names = texts.into_iter().flat_map(Template::names);
        self.with_secrets(names.map(str::to_owned))
    }

    /// Sets the check of the values of its secrets, which is run when they are read.
    #[must_use]
    pub(crate) fn checking_secrets(
        mut self,
        check: impl Fn(&SecretValues) -> Result<(), SecretTrouble> + Send + Sync + 'static,
    ) -> Self {
        self.check = Arc::new(check);
        self
    }

    /// The check of the values of its secrets.
    pub fn secret_check(&self) -> &SecretCheck {
        &self.check
    }

    /// Adds the broker, for a bridge.
    #[must_use]
    pub(crate) fn with_broker(mut self, broker: BrokerAddresses) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The broker that it connects to, for a bridge.
    pub fn broker(&self) -> Option<&BrokerAddresses> {
        self.broker.as_ref()
    }

    /// Adds the named connection.
    #[must_use]
    pub(crate) fn with_connection(mut self, connection: Arc<NamedConnection>) -> Self {
        self.connection = Some(connection);
        self
    }

    /// The named connection, if it is one.
    pub fn connection(&self) -> Option<&Arc<NamedConnection>> {
        self.connection.as_ref()
    }

    /// Adds a file that it writes and renames to `PATH.1`, `PATH.2` and so on.
    #[must_use]
    pub fn with_file(mut self, path: PathBuf) -> Self {
        self.files.push(path);
        self
    }

    /// Adds files that it reads when it connects.
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

    /// Limits its queue to this number of bytes, if the configuration sets no limit.
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
