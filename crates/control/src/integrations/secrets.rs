//! The secrets of integrations: read at the start, when one changes and every few seconds, because
//! another node may change them and the key file may be moved. An integration whose secrets cannot
//! be used delivers nothing, and goes on by itself when they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{
    ALL_TENANTS, Activity, Command, Failure, Handle, SecretTrouble, Secrets, SecretsReceiver,
    Settings, State,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Integrations;
use super::following::{Following, TOLD_WITHIN};
use crate::control::Control;
use crate::secrets::SecretStore;
use crate::wall_clock::now_ms;

/// Pause between two looks at the secrets of all integrations.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The secrets of one integration.
#[derive(Debug)]
pub(super) struct OwnSecrets {
    team: Box<str>,
    names: Vec<Box<str>>,
    now: watch::Sender<Secrets>,
    /// Time since when they cannot be used, milliseconds since the Unix epoch.
    since_ms: AtomicU64,
}

impl OwnSecrets {
    /// The secrets that an integration refers to, not read yet.
    pub(super) fn new<'a>(settings: &Settings, names: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<str>> = names.map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        let first = match names.is_empty() {
            true => Ok(Arc::default()),
            false => Err(SecretTrouble::NotRead),
        };
        Self {
            // The node's administrators configure what takes the messages of all tenants.
            team: match &*settings.tenant {
                ALL_TENANTS => Box::default(),
                team => team.into(),
            },
            names,
            now: watch::Sender::new(first),
            since_ms: AtomicU64::new(now_ms()),
        }
    }

    /// For the sink.
    pub(super) fn subscribe(&self) -> SecretsReceiver {
        self.now.subscribe()
    }

    /// Names of the secrets.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Why they cannot be used; none if they can.
    pub(super) fn trouble(&self) -> Option<SecretTrouble> {
        self.now.borrow().as_ref().err().cloned()
    }

    /// Reads them. Returns whether they have changed.
    async fn renew(&self, store: &SecretStore, integration: &str) -> bool {
        let found = store.values(&self.team, &self.names).await;
        // While the tables do not answer, the values from before are good.
        let is_unknown = matches!(found, Err(SecretTrouble::Tables(_)));
        if (is_unknown && self.now.borrow().is_ok()) || *self.now.borrow() == found {
            return false;
        }
        match &found {
            Ok(_) => info!(integration, "the secrets of an integration are read"),
            Err(trouble) => {
                if self.now.borrow().is_ok() {
                    self.since_ms.store(now_ms(), Ordering::Relaxed);
                }
                let (cause, error) = (trouble.cause(), trouble.to_string());
                warn!(
                    integration,
                    cause, error, "secrets of an integration cannot be used"
                );
            }
        }
        drop(self.now.send_replace(found));
        true
    }

    /// The state of the integration, with what is wrong with its secrets. That fails also while no
    /// message comes.
    pub(super) fn with_trouble(&self, mut state: State) -> State {
        let is_delivering = matches!(state.activity, Activity::Running | Activity::Retrying);
        if let Some(trouble) = self.trouble().filter(|_| is_delivering) {
            let attempts = state.failure.map_or(0, |failure| failure.attempts);
            state.activity = Activity::Retrying;
            state.failure = Some(Failure {
                error: trouble.to_string(),
                since_ms: self.since_ms.load(Ordering::Relaxed),
                attempts,
            });
        }
        state
    }
}

/// Follows the secrets of all integrations.
pub(super) fn follow(
    store: Arc<SecretStore>,
    all: Vec<(Arc<OwnSecrets>, Arc<Handle>)>,
) -> Following {
    Following(tokio::spawn(async move {
        let mut changes = store.changes();
        loop {
            for (own, handle) in all.iter().filter(|(own, _)| !own.names.is_empty()) {
                if own.renew(&store, handle.client_id()).await {
                    // A runner that ends needs no secrets.
                    let _ = handle.command(Command::Retry, TOLD_WITHIN).await;
                }
            }
            // Without the store the node ends.
            let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        }
    }))
}

impl Integrations {
    /// Reads the secrets of all integrations again. Requests that begin after it have the new ones.
    pub async fn renew_secrets(&self) {
        for entry in &*self.entries() {
            let (own, handle) = (&entry.secrets, &entry.handle);
            if !own.names.is_empty() && own.renew(&self.store, handle.client_id()).await {
                // A runner that ends needs no secrets.
                let _ = handle.command(Command::Retry, TOLD_WITHIN).await;
            }
        }
    }

    /// Integrations that use a secret, as `KIND/NAME`. `team` is the id of the team that owns it;
    /// empty: the common tenant.
    pub fn using_secret(&self, control: &Control, team: &str, name: &str) -> Vec<String> {
        let tenant_of = |team: &str| match team {
            "" => Some(TenantId::default()),
            team => control.tenant_of_team(team),
        };
        let Some(owner) = tenant_of(team) else {
            return Vec::new();
        };
        let entries = self.entries();
        let users = entries.iter().filter(|entry| {
            let own = &entry.secrets;
            own.names.iter().any(|one| &**one == name) && tenant_of(&own.team) == Some(owner)
        });
        let users = users.map(|entry| &entry.handle);
        let users = users.map(|handle| format!("{}/{}", handle.kind(), handle.name()));
        users.collect()
    }
}
