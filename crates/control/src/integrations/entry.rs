//! One integration that runs.

use std::sync::Arc;
use std::time::Duration;

use martlet_integrate::{ConfiguredSink, Connection, Handle, Settings, State, webhook};
use tracing::warn;

use super::host::NodeHost;
use super::secrets::{self, OwnSecrets};
use super::{Following, Integrations, sending, teams};

/// Topics below this carry messages from rules to webhooks.
pub(crate) const TO_WEBHOOKS: &str = "$events/webhook/";

/// An integration that runs, and what follows it.
pub(super) struct Entry {
    pub(super) settings: Settings,
    pub(super) handle: Arc<Handle>,
    pub(super) secrets: Arc<OwnSecrets>,
    /// The named connection that it is.
    pub(super) connection: Option<Arc<Connection>>,
    /// It was added by the API; else it is of the configuration.
    pub(super) is_added: bool,
    _following: [Following; 3],
}

impl Entry {
    /// Whether it has this kind and name.
    pub(super) fn is_called(&self, kind: &str, name: &str) -> bool {
        (self.handle.kind(), self.handle.name()) == (kind, name)
    }

    /// Its state, with what is wrong with its secrets.
    pub(super) fn state(&self) -> State {
        self.secrets.with_trouble(self.handle.state())
    }

    /// Ends it: the delivery under way is finished and settled, the rest stays in the queue.
    pub(super) async fn stop(&self, within: Duration) {
        if !self.handle.stop(within).await {
            let integration = self.handle.client_id();
            warn!(
                integration,
                "a delivery was broken off: its messages will be repeated"
            );
        }
    }
}

/// A webhook takes what rules have for it, too.
fn with_rules(sink: &ConfiguredSink) -> ConfiguredSink {
    let mut sink = sink.clone();
    if sink.settings.kind == webhook::KIND.name {
        let filter = format!("{TO_WEBHOOKS}{}/#", sink.settings.name);
        sink.settings.filters.push(filter.into());
    }
    sink
}

impl Integrations {
    /// Starts an integration. `is_added` says whether it was added by the API. Needs a Tokio
    /// runtime.
    pub(super) fn started(&self, sink: &ConfiguredSink, is_added: bool) -> Arc<Entry> {
        self.host.brokers().set(&sink.settings.name, sink.broker());
        let settings = sink.settings.clone();
        let own = Arc::new(OwnSecrets::new(&settings, sink.secrets()));
        let host: Arc<NodeHost> = Arc::clone(&self.host);
        let handle = Arc::new(with_rules(sink).start(own.subscribe(), host));
        let with_secrets = vec![(Arc::clone(&own), Arc::clone(&handle))];
        let of_team = std::iter::once((settings.clone(), Arc::clone(&handle)));
        let following = [
            secrets::follow(Arc::clone(&self.store), with_secrets),
            teams::follow(Arc::clone(&self.host), self.tables.changes(), of_team),
            sending::go_on(Arc::clone(&self.host), vec![Arc::clone(&handle)]),
        ];
        Arc::new(Entry {
            settings,
            handle,
            secrets: own,
            connection: sink.connection().cloned(),
            is_added,
            _following: following,
        })
    }
}
