//! Integrations of the node: the sinks that are configured, what operators ask of them, and the
//! messages that they have refused.
//!
//! * `host`: the node and its tables, as a runner sees them
//! * `letters`: the dead-letter store in the tables
//! * `metrics`: of the Prometheus page
//! * `operate`: what one caller sees and does
//! * `secrets`: the secrets that they use
//! * `sending`: dead letters that a restart found to be sent again
//! * `teams`: when the tenant of a team is looked for again
//! * `trouble`: what is wrong with one, in words

mod host;
mod letters;
mod metrics;
mod operate;
mod secrets;
mod sending;
mod teams;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{ALL_TENANTS, CLIENT_IDS, Command, Handle, Host as _};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub use martlet_integrate::AllowedNetworks;
pub use martlet_integrate::{
    Activity, CommandError, ConfiguredSink, DeadLetter, DeadLetterHead, Failure, OnReject,
};
pub use martlet_integrate::{KINDS, Surroundings, Table, TableValue};
pub use martlet_integrate::{SecretTrouble, SecretValue, Settings};
use martlet_registry::DeadLetterCount;
pub use martlet_registry::DeadLettersKept;
pub(crate) use operate::Examined;
pub use operate::{Chosen, IntegrationSeen, Operator, Order, SENT_AT_ONCE_MAX, Sending};

use crate::control::{Control, ControlError};
use crate::health::Reader;
use crate::secrets::SecretStore;
use crate::tables::Tables;
pub(crate) use host::part_of;
use host::{IntegrationSession, NodeHost};
use secrets::OwnSecrets;
pub(crate) use trouble::queue_trouble;
use trouble::trouble;

/// Time that a runner may take to be told that it may try again.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

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

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The integrations of a node that runs.
pub struct Integrations {
    host: Arc<NodeHost>,
    configured: Vec<Settings>,
    /// In the order of the configuration.
    handles: Vec<Arc<Handle>>,
    /// Of each of them.
    secrets: Vec<Arc<OwnSecrets>>,
    store: Arc<SecretStore>,
    _following: [Following; 3],
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
        store: Arc<SecretStore>,
    ) -> Self {
        let host = NodeHost::new(Arc::clone(control), Arc::clone(tables), node, kept);
        let host = Arc::new(host);
        let configured = sinks.iter().map(|sink| sink.settings.clone());
        let configured: Vec<Settings> = configured.collect();
        let (mut handles, mut own_secrets) = (Vec::new(), Vec::new());
        for sink in sinks {
            let host: Arc<NodeHost> = Arc::clone(&host);
            let own = OwnSecrets::new(&sink.settings, sink.secrets());
            let handle = sink.start(own.subscribe(), host);
            handles.push(Arc::new(handle));
            own_secrets.push(Arc::new(own));
        }
        let all = own_secrets.iter().cloned().zip(handles.iter().cloned());
        let of_teams = configured.iter().cloned().zip(handles.iter().cloned());
        let following = [
            secrets::follow(Arc::clone(&store), all.collect()),
            teams::follow(Arc::clone(&host), tables.changes(), of_teams),
            sending::go_on(Arc::clone(&host), handles.clone()),
        ];
        Self {
            handles,
            secrets: own_secrets,
            configured,
            host,
            store,
            _following: following,
        }
    }

    /// Waits until each integration is attached to the node, or fails to be: from then on the node
    /// keeps what is published for it.
    pub async fn attached(&self) {
        for handle in &self.handles {
            handle.attached().await;
        }
    }

    /// Has all integrations that fail try again at once: somebody may have repaired something.
    pub async fn retry(&self) {
        let all = self.handles.iter();
        let told = all.map(|handle| handle.command(Command::Retry, TOLD_WITHIN));
        // A runner that ends tries nothing more.
        futures_util::future::join_all(told).await;
    }

    /// Removes the queues of integrations that are not configured any more, with what waits in
    /// them: they would grow for ever. The log names them.
    pub fn remove_others(&self) -> impl Future<Output = ()> + Send + 'static {
        end_removed(Arc::clone(&self.host), self.configured.clone())
    }

    /// Number of the stored dead letters of an integration, `KIND/NAME`; none while the tables do
    /// not answer.
    pub(crate) async fn letters_stored_of(&self, integration: &str) -> Option<u64> {
        let of = integration.split_once('/')?;
        let stored = self.host.letters_stored().await?;
        Some(letters_of(&stored, of))
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
        let mut all = self.configured.iter();
        let found = all.find(|settings| (settings.kind, &*settings.name) == (kind, name));
        found.is_some_and(|settings| &*settings.tenant == ALL_TENANTS)
    }

    /// The configured integration that a session of this Client Identifier belongs to.
    pub fn of_session(&self, client_id: &str) -> Option<&Arc<Handle>> {
        let part = part_of(client_id);
        let mut all = self.handles.iter();
        all.find(|handle| handle.client_id() == part)
    }

    /// The integration of this kind and name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Arc<Handle>> {
        let mut all = self.handles.iter();
        all.find(|handle| (handle.kind(), handle.name()) == (kind, name))
    }

    /// What operators should know of integrations that do not deliver, in whole sentences.
    pub(crate) fn warnings(&self, reader: Reader) -> Vec<String> {
        let all = self.handles.iter().enumerate();
        let all = all.map(|(at, handle)| (handle, self.state_at(at)));
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

/// The number of letters of an integration, kind and name, among those of all.
fn letters_of(stored: &[DeadLetterCount], of: (&str, &str)) -> u64 {
    let mut stored = stored.iter();
    let found = stored.find(|one| (&*one.kind, &*one.name) == of);
    found.map_or(0, |one| one.letters)
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
        tell_ended(
            integration,
            "the integration is not configured any more",
            *messages,
        );
    }
}

/// Ends a session of an integration. Returns how many messages waited in it; none: it could not be
/// ended, the log says why.
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
fn tell_ended(integration: &str, why: &str, messages: u64) {
    match messages {
        0 => info!(integration, "{why}: its queue is removed; it was empty"),
        _ => warn!(integration, messages, "{why}: its messages are dropped"),
    }
}
