//! Rules about messages, and alarms, while the node runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use martlet_control::Control;
use martlet_control::alarms::{AlarmSettings, Alarms};
use martlet_control::commands::Commands;
use martlet_control::integrations::Integrations;
use martlet_control::rules::{RuleParts, Rules};
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::telemetry::Telemetry;

use crate::config::NodeConfig;

/// Creates them. When this returns, those of the tables are in force, unless the tables do not
/// respond.
pub(super) async fn start(
    node: &NodeConfig,
    (control, tables, integrations): (&Arc<Control>, &Arc<SharedRegistry>, &Arc<Integrations>),
    (commands, telemetry): (&Arc<Commands>, Option<&Arc<Telemetry>>),
    name: &str,
) -> (Arc<Rules>, Arc<Alarms>) {
    let settings = AlarmSettings {
        node: name.to_owned(),
        kept: node.rules.kept,
        watches_node: node.rules.watches_node,
        trouble_ms: node.rules.trouble_ms,
        lag_ms: node.rules.lag_ms,
        catalogue: Arc::clone(&node.api.iotflow),
    };
    let alarms = Arc::new(Alarms::new(control, tables, integrations, settings));
    let published: BTreeSet<String> = node.events_published_names.iter().cloned().collect();
    let parts = RuleParts {
        control: Arc::clone(control),
        tables: Arc::clone(tables),
        integrations: Arc::clone(integrations),
        telemetry: telemetry.cloned(),
        commands: Arc::clone(commands),
        alarms: Arc::clone(&alarms),
    };
    let rules = Rules::new(parts, node.rules.rules.clone(), published);
    let rules = Arc::new(rules);
    let told = Arc::clone(&alarms);
    control.observe_silence(Box::new(move |tenant, device, secs| {
        told.note_inactive(tenant, device, secs);
    }));
    alarms.start().await;
    rules.start().await;
    (rules, alarms)
}
