//! The secrets of one integration, and what is wrong with them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use martlet_integrate::{
    ALL_TENANTS, Activity, ConfiguredSink, Failure, SecretCheck, SecretTrouble, Secrets,
    SecretsReceiver, State,
};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::secrets::SecretStore;
use crate::wall_clock::now_ms;

/// The secrets of one integration.
pub(super) struct OwnSecrets {
    pub(super) team: Box<str>,
    names: Vec<Box<str>>,
    check: SecretCheck,
    now: watch::Sender<Secrets>,
    /// Time since when they cannot be used, milliseconds since the Unix epoch.
    since_ms: AtomicU64,
}

impl fmt::Debug for OwnSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnSecrets").field(&self.names).finish()
    }
}

impl OwnSecrets {
    /// The secrets that an integration refers to, not read yet.
    pub(super) fn new(sink: &ConfiguredSink) -> Self {
        let mut names: Vec<Box<str>> = sink.secrets().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        let first = match names.is_empty() {
            true => Ok(Arc::default()),
            false => Err(SecretTrouble::NotRead),
        };
        Self {
            // The node's administrators configure what takes the messages of all tenants.
            team: match &*sink.settings.tenant {
                ALL_TENANTS => Box::default(),
                team => team.into(),
            },
            names,
            check: Arc::clone(sink.secret_check()),
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
    pub(super) async fn renew(&self, store: &SecretStore, integration: &str) -> bool {
        let found = store.values(&self.team, &self.names, &self.check).await;
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
