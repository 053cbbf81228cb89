//! Connects the reactors to the authentication chain of the control plane, and to the screening of
//! messages. Records the tables that logins are checked against.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use martlet_broker::{Authentication, RefusalCause, Screening, ScreeningKind};
use martlet_control::Control;
use martlet_control::authentication::{AuthenticationChain, KeyFault, Policy};
use martlet_control::devices::{DeviceError, Devices};
use martlet_control::discovery::Discovery;
use martlet_control::shared_registry::SharedRegistry;
use martlet_reactor::{Authenticator, LoginAnswer, ScreenedAnswer};
use martlet_registry::Location;
use tokio::runtime::Handle;
use tracing::warn;

use crate::config::{self, NodeConfig};

/// Payloads up to this length are checked on the thread of the reactor.
const AT_ONCE_BYTES: usize = 8 * 1024;

/// The authentication chain as an authenticator of the reactors.
#[derive(Clone, Debug)]
pub(super) struct ChainAuthenticator {
    pub(super) chain: AuthenticationChain,
    /// Registers devices; empty before the tables are open.
    discovery: Arc<OnceLock<Arc<Discovery>>>,
    runtime: Handle,
}

impl ChainAuthenticator {
    /// Creates an authenticator for the policy. Its caches take about `bytes_max` at most.
    pub(super) fn new(policy: Arc<Policy>, bytes_max: usize) -> anyhow::Result<Self> {
        let mut key = [0; 32];
        let mut source = std::fs::File::open("/dev/urandom").context("no source of randomness")?;
        std::io::Read::read_exact(&mut source, &mut key).context("no source of randomness")?;
        let runtime = Handle::current();
        Ok(Self {
            chain: AuthenticationChain::new(policy, runtime.clone(), &key, Some(bytes_max)),
            discovery: Arc::default(),
            runtime,
        })
    }

    /// Enables the registration of devices.
    pub(super) fn begin_discovery(
        &self,
        node: &NodeConfig,
        control: &Arc<Control>,
        tables: &Arc<SharedRegistry>,
    ) {
        let devices = Devices::new(Arc::clone(tables));
        self.chain.check_keys_by(Box::new(move |key| {
            let devices = devices.clone();
            Box::pin(async move {
                let checked = devices.check_provisioning_key(key).await;
                checked.map_err(|error| match error {
                    DeviceError::Unavailable(why) => KeyFault::Unavailable(why),
                    refused => {
                        let cause = refused.refusal_cause();
                        let cause = cause.unwrap_or(RefusalCause::ProvisioningKey);
                        KeyFault::NotValid(cause, refused.to_string())
                    }
                })
            })
        }));
        let discovery = Discovery::new(
            Arc::clone(control),
            Arc::clone(tables),
            self.chain.clone(),
            Arc::clone(&node.api.iotflow),
        );
        // It is set once, at the start.
        let _ = self.discovery.set(Arc::new(discovery));
    }
}

impl Authenticator for ChainAuthenticator {
    fn ask(&self, authentication: Authentication, answer: LoginAnswer) {
        self.chain
            .ask(authentication, move |found| answer.give(found));
    }

    fn screen(&self, screening: Screening, answer: ScreenedAnswer) {
        match screening.kind {
            ScreeningKind::Registration => {
                // Before the tables are open the message is refused, and may be sent again.
                let Some(discovery) = self.discovery.get().cloned() else {
                    return;
                };
                self.runtime.spawn(async move {
                    answer.give(discovery.register(screening).await);
                });
            }
            ScreeningKind::PayloadKey if screening.payload.len() <= AT_ONCE_BYTES => {
                self.chain
                    .ask_payload_key(screening, move |found| answer.give(found));
            }
            ScreeningKind::PayloadKey => {
                let chain = self.chain.clone();
                self.runtime.spawn(async move {
                    chain.ask_payload_key(screening, move |found| answer.give(found));
                });
            }
        }
    }
}

/// The identity of the tables that logins are checked against, if any.
pub(super) fn identity_of_tables(node: &NodeConfig) -> Option<String> {
    let tables = node.policy.as_ref()?.tables()?;
    Some(tables.identity())
}

/// Records the tables for the next start, which must use the same.
pub(super) fn note_tables(data_dir: &Path, location: &Location, identity: Option<String>) {
    if let Err(error) = config::note_tables(data_dir, location, identity.as_deref()) {
        warn!(%error, "cannot note which tables the node uses");
    }
}

/// Reports to health the listeners that do not use the tables.
pub(super) fn tell_ignored(control: &Control, warnings: &[String]) {
    let mut all = warnings.iter();
    let told = all.find(|warning| warning.starts_with(config::IGNORES_TABLES));
    match told {
        Some(warning) => control
            .health
            .warn_as(config::IGNORES_TABLES, format!("{warning}.")),
        None => control.health.withdraw(config::IGNORES_TABLES),
    }
}
