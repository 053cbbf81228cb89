//! Integrations of the node: the sinks that are configured, what operators ask of them, and the
//! messages that they have refused.
//!
//! * `added`: integrations that are added, changed and removed while the node runs
//! * `connections`: named connections, and their subscriptions in the tables
//! * `entry`, `start`: one integration that runs, and starting it
//! * `following`: tasks that follow one
//! * `host`: the node and its tables, as a runner sees them
//! * `letters`: the dead-letter store in the tables
//! * `maker`: what makes integrations of settings
//! * `metrics`: of the Prometheus page
//! * `operate`: what one caller sees and does
//! * `secrets`: the secrets that they use
//! * `sending`: dead letters that a restart found to be sent again
//! * `teams`: when the tenant of a team is looked for again
//! * `trouble`: what is wrong with one, in words
//! * `why`: why one does not deliver

mod added;
mod connections;
mod entry;
mod following;
mod host;
mod letters;
mod maker;
mod metrics;
mod operate;
mod own_secrets;
mod secrets;
mod sending;
mod start;
mod teams;
mod trouble;
mod why;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{ALL_TENANTS, CLIENT_IDS, Command, Handle, Host as _};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

pub use added::{AddedChange, AddedError, ENABLED, VisibleIntegration};
pub use connections::{PublishTo, SubscriptionError};
pub use maker::{AddedKind, IntegrationMaker, Unusable};
pub use martlet_integrate::AllowedNetworks;
pub use martlet_integrate::webhook::METHODS as WEBHOOK_METHODS;
pub use martlet_integrate::{
    Activity, CommandError, ConfiguredSink, DeadLetter, DeadLetterHead, Failure, OnReject,
};
pub use martlet_integrate::{ConnectionError, NamedConnection};
pub use martlet_integrate::{KINDS, Surroundings, Target};
pub use martlet_integrate::{SecretTrouble, SecretValue, Settings};
pub use martlet_registry::DeadLettersKept;
use martlet_registry::{DeadLetterCount, NotFound};
pub use metrics::IntegrationsPage;
pub(crate) use operate::Examined;
pub use operate::{Chosen, IntegrationInfo, Operator, Order, SENT_AT_ONCE_MAX, Sending};

use crate::control::{Control, ControlError};
use crate::health::HealthAudience;
use crate::secrets::SecretStore;
use crate::shared_registry::SharedRegistry;
use crate::wall_clock::now_ms;
use entry::RunningIntegration;
pub(crate) use entry::TO_WEBHOOKS;
use following::TOLD_WITHIN;
pub(crate) use host::part_of;
use host::{IntegrationSession, NodeHost};
pub(crate) use trouble::{Condition, queue_trouble};
use trouble::{Lag, trouble};
pub(crate) use why::{MissingIntegration, integration_of, is_of_node, part_in_words};

/// Time that the delivery under way may take when an integration is replaced or removed.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// Time that is waited for the node to keep messages for an integration.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);

/// Dead letters whose reasons are looked at, and the time for that.
const LETTERS_LOOKED_AT: usize = 100;
const LETTERS_WITHIN: Duration = Duration::from_secs(1);

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum IntegrationError {
    /// There is no such integration.
    #[error(transparent)]
    Unknown(#[from] NotFound),
    /// There is no such dead letter.
    #[error("{0}")]
    NotFound(String),
    /// The integration did not do it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The dead letter of this number is damaged.
    #[error("the dead letter {0} is {1}: remove it (martlet integration dead-letter rm)")]
    Damaged(u64, String),
    /// The dead-letter store cannot be read or written.
    #[error("the dead letters cannot be read or changed now: {0}")]
    Store(String),
}

/// The integrations of a node that runs.
pub struct Integrations {
    host: Arc<NodeHost>,
    /// In the order of the configuration, those that were added later behind them.
    entries: RwLock<Arc<[Arc<RunningIntegration>]>>,
    store: Arc<SecretStore>,
    tables: Arc<SharedRegistry>,
    /// Makes integrations that are added while the node runs.
    maker: Arc<dyn IntegrationMaker>,
    /// Held while an integration is added, changed or removed.
    changing: Mutex<()>,
}

/// The registry and the settings by which integrations run.
pub struct IntegrationSettings {
    /// Name of the node among those with the same tables.
    pub node: String,
    /// How many dead letters are kept.
    pub dead_letters: DeadLettersKept,
    /// Secrets of other systems.
    pub secrets: Arc<SecretStore>,
    /// Makes integrations that are added while the node runs.
    pub maker: Arc<dyn IntegrationMaker>,
}

impl Integrations {
    /// The integrations of a node. None is started yet.
    pub fn new(
        control: &Arc<Control>,
        tables: &Arc<SharedRegistry>,
        settings: IntegrationSettings,
    ) -> Self {
        let IntegrationSettings {
            node,
            dead_letters,
            secrets,
            maker,
        } = settings;
        let host = NodeHost::new(Arc::clone(control), Arc::clone(tables), &node, dead_letters);
        Self {
            host: Arc::new(host),
            entries: RwLock::new(Arc::new([])),
            store: secrets,
            tables: Arc::clone(tables),
            maker,
            changing: Mutex::default(),
        }
    }

    /// Name of the node among those with the same tables.
    pub(crate) fn node(&self) -> &str {
        self.host.name()
    }

    /// Starts the configured sinks. Their queues have the bounds of the maker, unless they have
    /// bounds of their own. Needs a Tokio runtime.
    pub fn start(&self, sinks: Vec<ConfiguredSink>) {
        let bytes_max = self.maker.queue_bytes();
        let sinks = sinks.into_iter().map(|sink| sink.bounded(bytes_max));
        let entries = sinks.map(|sink| self.started(&sink, false));
        self.set_entries(entries.collect());
    }

    /// The secrets that they use.
    pub fn secrets(&self) -> &SecretStore {
        &self.store
    }

    /// All integrations that run now.
    fn entries(&self) -> Arc<[Arc<RunningIntegration>]> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&entries)
    }

    fn set_entries(&self, entries: Vec<Arc<RunningIntegration>>) {
        let mut own = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        *own = entries.into();
    }

    /// Waits until each integration is attached to the node, or fails to be: from then on the node
    /// keeps what is published for it.
    pub async fn attached(&self) {
        for entry in &*self.entries() {
            entry.handle.attached().await;
        }
    }

    /// Lets all failing integrations retry at once: the fault may be repaired.
    pub async fn retry(&self) {
        let all = self.entries();
        let outcomes = all.iter();
        let outcomes = outcomes.map(|entry| entry.handle.command(Command::Retry, TOLD_WITHIN));
        // A runner that ends tries nothing more.
        futures_util::future::join_all(outcomes).await;
    }

    /// Removes the queues of integrations that are not there any more, with what waits in them:
    /// they would grow for ever. The log names them.
    pub async fn remove_others(&self) {
        let entries = self.entries();
        let kept = entries.iter().map(|entry| entry.settings.clone());
        end_removed(Arc::clone(&self.host), kept.collect()).await;
    }

    /// Number of the stored dead letters of an integration, `KIND/NAME`; none while the tables do
    /// not answer.
    pub(crate) async fn letters_stored_of(&self, integration: &str) -> Option<u64> {
        let of = integration.split_once('/')?;
        let stored = self.host.letters_stored().await?;
        Some(letters_of(&stored, of))
    }

    /// Why the target has refused the last of the first dead letters of an integration,
    /// `KIND/NAME`; none: there is none, or the tables do not answer in time.
    pub(crate) async fn letter_reason_of(&self, integration: &str) -> Option<String> {
        let (kind, name) = integration.split_once('/')?;
        let letters = self.host.letters();
        let read = letters.list(kind, name, None, LETTERS_LOOKED_AT);
        let page = tokio::time::timeout(LETTERS_WITHIN, read)
            .await
            .ok()?
            .ok()?;
        page.items
            .into_iter()
            .next_back()
            .map(|letter| letter.reason)
    }

    /// The dead letters of an integration, `KIND/NAME`, that a client has published, or that name
    /// this device in their topic; none if the tables do not answer in time.
    pub(crate) async fn letters_about(
        &self,
        integration: &str,
        tenant: TenantId,
        client_id: &str,
        device: &str,
    ) -> Vec<DeadLetterHead> {
        let Some((kind, name)) = integration.split_once('/') else {
            return Vec::new();
        };
        let is_about = |by: Option<&str>, topic: &str| {
            by == Some(client_id) || topic.split('/').any(|level| level == device)
        };
        let read = self.host.letters().find(kind, name, tenant.0, is_about);
        let read = tokio::time::timeout(LETTERS_WITHIN, read).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Client Identifiers of the sessions that a part has as lanes in a tenant, or has left.
    pub(crate) async fn lanes_of(
        &self,
        tenant: TenantId,
        part: &str,
    ) -> Result<Vec<String>, ControlError> {
        let found = self.host.sessions_of_part(tenant, part).await?;
        Ok(found.into_iter().map(|one| one.client_id).collect())
    }

    /// Whether an integration takes the messages of all tenants: it is the node's then.
    pub(crate) fn takes_all_tenants(&self, kind: &str, name: &str) -> bool {
        let found = self.entry(kind, name);
        found.is_some_and(|entry| &*entry.settings.tenant == ALL_TENANTS)
    }

    /// The integration that a session of this Client Identifier and tenant belongs to.
    pub fn of_session(&self, tenant: TenantId, client_id: &str) -> Option<Arc<Handle>> {
        let part = part_of(client_id);
        let entries = self.entries();
        let mut all = entries
            .iter()
            .filter(|entry| entry.handle.client_id() == part && self.is_of(entry, Some(tenant)));
        all.next().map(|entry| Arc::clone(&entry.handle))
    }

    /// The integration of this kind, and this name among all of the node.
    fn entry(&self, kind: &str, name: &str) -> Option<Arc<RunningIntegration>> {
        let entries = self.entries();
        let mut all = entries.iter();
        all.find(|entry| entry.is_called(kind, name)).cloned()
    }

    /// Warnings about integrations that do not deliver, in whole sentences.
    pub(crate) fn warnings(&self, reader: HealthAudience) -> Vec<String> {
        let entries = self.entries();
        let outcomes = entries.iter().filter_map(|entry| {
            let (handle, state) = (&entry.handle, entry.state());
            let why = trouble(&state, handle.on_full())?;
            let waiting = Lag::of(&state, now_ms()).words();
            let waiting = waiting.map_or_else(String::new, |words| format!(", {words}"));
            let (kind, name) = (handle.kind(), handle.name());
            Some(match reader {
                HealthAudience::Operator => {
                    format!("The integration {kind}/{name} {why}{waiting}.")
                }
                HealthAudience::Anybody => format!("An integration does not deliver{waiting}."),
            })
        });
        outcomes.collect()
    }

    /// Notes about what operators have done to integrations and should remember, in whole
    /// sentences.
    pub(crate) fn notes(&self) -> Vec<String> {
        let entries = self.entries();
        let outcomes = entries.iter().filter_map(|entry| {
            let (handle, state) = (&entry.handle, entry.state());
            let what = trouble::pause(&state)?;
            let waiting = Lag::of(&state, now_ms()).words();
            let waiting = waiting.map_or_else(String::new, |words| format!(", {words}"));
            let (kind, name) = (handle.kind(), handle.name());
            Some(format!(
                "The integration {kind}/{name} {what}{waiting}: \
                 `martlet integration resume {kind}/{name}` resumes it."
            ))
        });
        outcomes.collect()
    }

    /// How each integration is doing; none of one whose team does not exist.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let entries = self.entries();
        let conditions = entries.iter().filter_map(|entry| {
            let (handle, state) = (&entry.handle, entry.state());
            Some(Condition {
                name: format!("{}/{}", handle.kind(), handle.name()),
                tenant: state.tenant?,
                trouble: trouble(&state, handle.on_full()),
                lag: Lag::of(&state, now_ms()),
            })
        });
        conditions.collect()
    }

    /// Maker of integrations from settings.
    pub(crate) fn maker(&self) -> &dyn IntegrationMaker {
        &*self.maker
    }

    /// Starts an integration of the node itself, or one in place of that of its name. Messages
    /// that wait in its queue stay. Waits until the node keeps messages for it.
    pub(crate) async fn replace_own(&self, sink: ConfiguredSink) {
        let _changing = self.changing.lock().await;
        let sink = sink.bounded(self.maker.queue_bytes());
        let (kind, name) = (sink.settings.kind, &*sink.settings.name);
        let mut entries = self.entries().to_vec();
        if let Some(at) = entries.iter().position(|entry| entry.is_called(kind, name)) {
            entries.remove(at).stop(STOPPED_WITHIN).await;
        }
        let entry = self.started(&sink, false);
        entries.push(Arc::clone(&entry));
        self.set_entries(entries);
        // One that is not attached in time is in health.
        let _ = tokio::time::timeout(ATTACHED_WITHIN, entry.handle.attached()).await;
    }

    /// Ends an integration of the node itself, with the messages in its queue.
    pub(crate) async fn remove_own(&self, kind: &str, name: &str) {
        let _changing = self.changing.lock().await;
        let mut entries = self.entries().to_vec();
        let Some(at) = entries.iter().position(|entry| entry.is_called(kind, name)) else {
            return;
        };
        let entry = entries.remove(at);
        entry.stop(STOPPED_WITHIN).await;
        self.set_entries(entries);
        self.end_queues_of(&entry).await;
    }

    /// Ends all integrations: deliveries under way are finished and settled, the rest stays in the
    /// queues. What takes longer than given is broken off, and comes again with the next start.
    pub async fn stop(&self, within: Duration) {
        let entries = self.entries();
        let ends = entries.iter().map(|entry| entry.stop(within));
        futures_util::future::join_all(ends).await;
    }
}

/// The number of letters of an integration, kind and name, among those of all.
fn letters_of(stored: &[DeadLetterCount], of: (&str, &str)) -> u64 {
    let mut stored = stored.iter();
    let found = stored.find(|one| (&*one.kind, &*one.name) == of);
    found.map_or(0, |one| one.letters)
}

impl std::fmt::Debug for Integrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.entries();
        let all = entries.iter().map(|entry| &entry.handle);
        f.debug_list().entries(all).finish()
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
    let tenants = match host.tenants_of_teams().await {
        Ok(tenants) => Some(tenants),
        Err(error) => {
            let what = "the tenants of teams could not be read: queues of removed teams stay";
            warn!(error, "{what}");
            None
        }
    };
    // A team that was deleted may be restored, with its tenant.
    let may_be_restored =
        |tenant: TenantId| tenants.as_ref().is_none_or(|all| all.contains(&tenant));
    let is_configured = |tenant: TenantId, client_id: &str| {
        let mut own = configured.iter();
        own.any(|settings| {
            settings.client_id() == client_id
                && match host.tenant(&settings.tenant) {
                    Some(own) => own == tenant,
                    None => may_be_restored(tenant),
                }
        })
    };
    let sessions = match host.sessions_of(CLIENT_IDS).await {
        Ok(sessions) => sessions,
        Err(error) => {
            warn!(%error, "sessions of removed integrations could not be looked for");
            return;
        }
    };
    // Messages of each integration, in all of its lanes.
    let mut dropped = BTreeMap::<(TenantId, String), u64>::new();
    for one in sessions {
        let part = part_of(&one.client_id);
        if !is_configured(one.tenant, part)
            && let Some(messages) = end_queue(&host, &one).await
        {
            *dropped.entry((one.tenant, part.to_owned())).or_default() += messages;
        }
    }
    for ((_, integration), messages) in &dropped {
        log_ended(
            integration,
            "the integration is no longer configured",
            *messages,
        );
    }
}

/// Ends a session of an integration. Returns how many messages waited in it; none: it could not be
/// ended, the log has the reason.
async fn end_queue(host: &NodeHost, session: &IntegrationSession) -> Option<u64> {
    let (tenant, integration) = (session.tenant, &*session.client_id);
    match host.control().end_session(tenant, integration).await {
        Ok(_) => Some(session.messages),
        Err(error) => {
            error!(integration, %error, "the queue of an integration could not be removed");
            None
        }
    }
}

/// Logs that the queues of an integration were removed, and `why`.
fn log_ended(integration: &str, why: &str, messages: u64) {
    match messages {
        0 => info!(integration, "{why}: its queue is removed; it was empty"),
        _ => warn!(integration, messages, "{why}: its messages are dropped"),
    }
}
