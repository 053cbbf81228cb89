//! One integration that runs.

use std::sync::Arc;
use std::time::Duration;

use martlet_integrate::{BrokerAddresses, Handle, NamedConnection, Settings, State};
use tracing::warn;

use super::following::Following;
use super::own_secrets::OwnSecrets;

/// Topics below this carry messages from rules to webhooks.
pub(crate) const TO_WEBHOOKS: &str = "$events/webhook/";

/// An integration that runs, and what follows it.
pub(super) struct RunningIntegration {
    pub(super) settings: Settings,
    pub(super) handle: Arc<Handle>,
    pub(super) secrets: Arc<OwnSecrets>,
    /// The named connection that it is.
    pub(super) connection: Option<Arc<NamedConnection>>,
    /// The broker that it connects to, as a bridge.
    pub(super) broker: Option<BrokerAddresses>,
    /// Whether it was added by the API; else it is of the configuration.
    pub(super) is_added: bool,
    pub(super) _following: [Following; 4],
}

impl RunningIntegration {
    /// Whether it has this kind and name.
    pub(super) fn is_called(&self, kind: &str, name: &str) -> bool {
        (self.handle.kind(), self.handle.name()) == (kind, name)
    }

    /// State of the integration, with what is wrong with its secrets.
    pub(super) fn state(&self) -> State {
        self.secrets.with_trouble(self.handle.state())
    }

    /// Ends it: the delivery under way is finished and settled, the rest stays in the queue.
    pub(super) async fn stop(&self, within: Duration) {
        if !self.handle.stop(within).await {
            let integration = self.handle.client_id();
            warn!(
                integration,
                "a delivery was interrupted: its messages will be repeated"
            );
        }
    }
}
