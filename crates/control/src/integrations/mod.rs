//! Integrations of the node: the sinks that are configured, what operators ask of them, and the
//! messages that they have refused.
//!
//! * `host`: the node and its tables, as a runner sees them
//! * `letters`: the dead-letter store in the tables
//! * `metrics`: of the Prometheus page
//! * `operate`: what one caller sees and does
//! * `trouble`: what is wrong with one, in words

mod host;
mod letters;
mod metrics;
mod operate;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{ClientQuery, Search, TenantId};
use martlet_integrate::file::FileSink;
use martlet_integrate::{CLIENT_IDS, Command, DeadLetterPage, Handle, Host as _, Runner};
use tracing::{error, info, warn};

pub use martlet_integrate::Settings;
pub use martlet_integrate::file::FileSettings;
pub use martlet_integrate::{
    Activity, CommandError, DeadLetter, DeadLetterHead, Failure, OnReject,
};
pub use martlet_registry::DeadLettersKept;
pub use operate::{Chosen, IntegrationSeen, Operator, SENT_AT_ONCE_MAX, Sending};

use crate::control::{Control, ControlError};
use crate::health::Reader;
use crate::tables::Tables;
use host::NodeHost;
use trouble::trouble;

/// Sessions that are looked at in one step.
const SESSIONS_PER_PAGE: usize = 1_000;
/// Time that a command may take; a delivery that is under way does not hold it up.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);
/// Time that a test may take: it waits for a delivery that is under way.
const TEST_WITHIN: Duration = Duration::from_secs(65);

/// A sink of the configuration.
#[derive(Clone, Debug)]
pub enum ConfiguredSink {
    /// `[[sinks.file]]`.
    File(Settings, FileSettings),
}

impl ConfiguredSink {
    fn settings(&self) -> &Settings {
        let Self::File(settings, _) = self;
        settings
    }

    /// The sink with at most this number of bytes in its queue, where the configuration does not
    /// say how many.
    #[must_use]
    pub fn bounded(mut self, bytes_max: u64) -> Self {
        let Self::File(settings, _) = &mut self;
        if settings.queue.bytes_max == 0 {
            settings.queue.bytes_max = bytes_max.max(1);
        }
        self
    }
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum IntegrationError {
    /// There is no such integration or dead letter.
    #[error("{0}")]
    NotFound(String),
    /// The integration did not do it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The dead-letter store cannot be read or written.
    #[error("the dead letters cannot be read or changed now: {0}")]
    Store(String),
}

/// The integrations of a node that runs.
pub struct Integrations {
    host: Arc<NodeHost>,
    configured: Vec<Settings>,
    /// In the order of the configuration.
    handles: Vec<Arc<Handle>>,
}

impl Integrations {
    /// Starts the configured sinks. `node` names the node among those with the same tables.
    /// Needs a Tokio runtime.
    pub fn start(
        control: &Arc<Control>,
        tables: &Arc<Tables>,
        node: &str,
        sinks: Vec<ConfiguredSink>,
        kept: DeadLettersKept,
    ) -> Self {
        let host = NodeHost::new(Arc::clone(control), Arc::clone(tables), node, kept);
        let host = Arc::new(host);
        let configured = sinks.iter().map(|sink| sink.settings().clone());
        let configured: Vec<Settings> = configured.collect();
        let handles = sinks.into_iter().map(|sink| {
            let host: Arc<NodeHost> = Arc::clone(&host);
            let handle = match sink {
                ConfiguredSink::File(settings, file) => {
                    Runner::start(settings, FileSink::new(file), host)
                }
            };
            Arc::new(handle)
        });
        Self {
            handles: handles.collect(),
            configured,
            host,
        }
    }

    /// Waits until each integration is attached to the node, or fails to be: from then on the node
    /// keeps what is published for it.
    pub async fn attached(&self) {
        for handle in &self.handles {
            handle.attached().await;
        }
    }

    /// Removes the queues of integrations that are not configured any more, with what waits in
    /// them: they would grow for ever. The log names them.
    pub fn remove_others(&self) -> impl Future<Output = ()> + Send + 'static {
        end_removed(Arc::clone(&self.host), self.configured.clone())
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Handle>] {
        &self.handles
    }

    /// The integration of this kind and name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, kind: &str, name: &str) -> Result<&Arc<Handle>, IntegrationError> {
        let is_it = |handle: &&Arc<Handle>| handle.kind() == kind && handle.name() == name;
        let found = self.handles.iter().find(is_it);
        found.ok_or_else(|| {
            IntegrationError::NotFound(format!("there is no integration {kind}/{name}"))
        })
    }

    /// Pauses an integration until it is resumed, also over restarts.
    ///
    /// # Errors
    /// There is none of this name, or it did not answer.
    pub async fn pause(&self, kind: &str, name: &str) -> Result<(), IntegrationError> {
        self.tell(kind, name, Command::Pause).await
    }

    /// Lets an integration go on that was paused or has stopped.
    ///
    /// # Errors
    /// As [`Integrations::pause`].
    pub async fn resume(&self, kind: &str, name: &str) -> Result<(), IntegrationError> {
        self.tell(kind, name, Command::Resume).await
    }

    /// Has an integration deliver what waits now, and pause then. Returns when that has begun.
    ///
    /// # Errors
    /// As [`Integrations::pause`].
    pub async fn drain(&self, kind: &str, name: &str) -> Result<(), IntegrationError> {
        self.tell(kind, name, Command::Drain).await
    }

    /// Asks whether the other system can be reached now.
    ///
    /// # Errors
    /// It cannot, and why; or as [`Integrations::pause`].
    pub async fn test(&self, kind: &str, name: &str) -> Result<(), IntegrationError> {
        let handle = self.get(kind, name)?;
        Ok(handle.command(Command::Test, TEST_WITHIN).await?)
    }

    async fn tell(&self, kind: &str, name: &str, command: Command) -> Result<(), IntegrationError> {
        let handle = self.get(kind, name)?;
        Ok(handle.command(command, COMMAND_WITHIN).await?)
    }

    /// A page of dead letters, of one integration (kind and name) or of all, `limit` at most, 1 to
    /// 1,000. Letters of integrations that are not configured any more are among them.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn dead_letters(
        &self,
        of: Option<(&str, &str)>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<DeadLetterPage, IntegrationError> {
        let page = self.host.dead_letters().list(of, after, limit).await;
        page.map_err(IntegrationError::Store)
    }

    /// A dead letter with its payload.
    ///
    /// # Errors
    /// There is none of this number, or the tables cannot be read.
    pub async fn dead_letter(&self, id: u64) -> Result<DeadLetter, IntegrationError> {
        let found = self.host.dead_letters().get(id).await;
        let found = found.map_err(IntegrationError::Store)?;
        found.ok_or_else(|| IntegrationError::NotFound(format!("there is no dead letter {id}")))
    }

    /// Has dead letters sent again, each by its integration. Those that are taken are removed;
    /// those that are refused stay, with the new reason. Returns how many are to be sent.
    ///
    /// # Errors
    /// There is none of a number, its integration is not configured any more, or it did not
    /// answer. Nothing was changed for those that were not begun with.
    pub async fn send_again(&self, ids: &[u64]) -> Result<usize, IntegrationError> {
        let mut of: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for id in ids {
            let head = self.dead_letter(*id).await?.head;
            self.get(&head.kind, &head.name)?;
            of.entry((head.kind, head.name)).or_default().push(*id);
        }
        let mut sent = 0;
        for ((kind, name), ids) in of {
            let count = ids.len();
            self.tell(&kind, &name, Command::SendAgain(ids)).await?;
            sent += count;
        }
        Ok(sent)
    }

    /// Drops dead letters. Returns how many there were.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn drop_dead_letters(&self, ids: Vec<u64>) -> Result<u64, IntegrationError> {
        let removed = self.host.dead_letters().remove(ids).await;
        removed.map_err(IntegrationError::Store)
    }

    /// What operators should know of integrations that do not deliver, in whole sentences.
    pub(crate) fn warnings(&self, reader: Reader) -> Vec<String> {
        let all = self.handles.iter().map(|handle| (handle, handle.state()));
        let told = all.filter_map(|(handle, state)| {
            let why = trouble(&state, handle.on_full())?;
            let waiting = match state.lag {
                Some(1) => ", 1 message waits".to_owned(),
                Some(lag) => format!(", {lag} messages wait"),
                None => String::new(),
            };
            let (kind, name) = (handle.kind(), handle.name());
            Some(match reader {
                Reader::Operator => format!("The integration {kind}/{name} {why}{waiting}."),
                Reader::Anybody => format!("An integration does not deliver{waiting}."),
            })
        });
        told.collect()
    }

    /// Ends all integrations: deliveries under way are finished and settled, the rest stays in the
    /// queues. What takes longer than given is broken off, and comes again with the next start.
    pub async fn stop(&self, within: Duration) {
        let ends = self.handles.iter().map(|handle| async {
            if !handle.stop(within).await {
                let integration = handle.client_id();
                warn!(
                    integration,
                    "a delivery was broken off: its messages will be repeated"
                );
            }
        });
        futures_util::future::join_all(ends).await;
    }
}

impl std::fmt::Debug for Integrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.handles).finish()
    }
}

/// As [`Integrations::remove_others`].
async fn end_removed(host: Arc<NodeHost>, configured: Vec<Settings>) {
    if let Err(error) = host.forget_states(&configured).await {
        warn!(
            error,
            "states of removed integrations could not be forgotten"
        );
    }
    let is_configured = |tenant: TenantId, client_id: &str| {
        configured.iter().any(|settings| {
            let own = host.tenant(&settings.tenant);
            settings.client_id() == client_id && own.is_none_or(|own| own == tenant)
        })
    };
    let control = host.control();
    let mut query = ClientQuery {
        search: Some(Search {
            text: CLIENT_IDS.into(),
            anywhere: false,
        }),
        limit: SESSIONS_PER_PAGE,
        ..ClientQuery::default()
    };
    loop {
        let page = match control.clients(&query).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "sessions of removed integrations could not be looked for");
                return;
            }
        };
        for one in page.clients {
            // The search finds user names too.
            let is_own = one.client_id.starts_with(CLIENT_IDS);
            if is_own && !is_configured(one.tenant, &one.client_id) {
                let ended = control.end_session(one.tenant, &one.client_id).await;
                tell_ended(&one.client_id, one.queued + one.in_flight, ended);
            }
        }
        if page.end.is_none() {
            return;
        }
        query.after = page.end;
    }
}

fn tell_ended(integration: &str, messages: usize, ended: Result<bool, ControlError>) {
    match ended {
        Ok(_) if messages == 0 => {
            info!(
                integration,
                "an integration is not configured any more: its queue is removed"
            );
        }
        Ok(_) => warn!(
            integration,
            messages, "an integration is not configured any more: its messages are dropped"
        ),
        Err(error) => {
            error!(integration, %error, "the queue of a removed integration could not be removed");
        }
    }
}
