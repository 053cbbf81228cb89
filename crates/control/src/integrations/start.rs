//! Starting an integration.

use std::sync::Arc;

use martlet_integrate::{ConfiguredSink, own_name, webhook};

use super::Integrations;
use super::entry::{RunningIntegration, TO_WEBHOOKS};
use super::following::follow_names;
use super::host::NodeHost;
use super::own_secrets::OwnSecrets;
use super::{secrets, sending, teams};

/// A webhook takes what rules have for it, too.
fn with_rules(sink: &ConfiguredSink) -> ConfiguredSink {
    let mut sink = sink.clone();
    if sink.settings.kind == webhook::NAME {
        let filter = format!("{TO_WEBHOOKS}{}/#", own_name(&sink.settings.name));
        sink.settings.filters.push(filter.into());
    }
    sink
}

impl Integrations {
    /// Starts an integration. `is_added`: whether it was added by the API. Needs a Tokio runtime.
    pub(super) fn started(&self, sink: &ConfiguredSink, is_added: bool) -> Arc<RunningIntegration> {
        self.host.brokers().set(&sink.settings.name, sink.broker());
        let settings = sink.settings.clone();
        let own = Arc::new(OwnSecrets::new(sink));
        let host: Arc<NodeHost> = Arc::clone(&self.host);
        let handle = Arc::new(with_rules(sink).start(own.subscribe(), host));
        let with_secrets = vec![(Arc::clone(&own), Arc::clone(&handle))];
        let of_team = std::iter::once((settings.clone(), Arc::clone(&handle)));
        let following = [
            secrets::follow(Arc::clone(&self.store), with_secrets),
            teams::follow(Arc::clone(&self.host), self.tables.changes(), of_team),
            follow_names(settings.target.clone(), Arc::clone(&handle)),
            sending::go_on(Arc::clone(&self.host), vec![Arc::clone(&handle)]),
        ];
        Arc::new(RunningIntegration {
            settings,
            handle,
            secrets: own,
            connection: sink.connection().cloned(),
            broker: sink.broker().cloned(),
            is_added,
            _following: following,
        })
    }
}
