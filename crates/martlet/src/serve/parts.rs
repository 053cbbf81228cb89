//! Parts of the control plane, while the node runs: each has its tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use martlet_api::{CompatApi, RouteSettings};
use martlet_control::activity::DeviceActivity;
use martlet_control::alarms::{AlarmSettings, Alarms};
use martlet_control::commands::Commands;
use martlet_control::event_archive::EventArchive;
use martlet_control::firmware::{FirmwareStore, serve_chunks};
use martlet_control::integrations::Integrations;
use martlet_control::iotflow::{note_activity, publish_state};
use martlet_control::rollouts::Rollouts;
use martlet_control::rules::{RuleParts, Rules};
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::telemetry::Telemetry;
use martlet_control::topic_memory::{TopicMemory, remember_topics};
use martlet_control::twins::Twins;
use martlet_control::{Control, activity, commands, event_archive, rollouts, twins};

use crate::config::NodeConfig;

/// Starts the parts of a node.
#[derive(Clone, Copy)]
pub(super) struct PartStarter<'n> {
    pub(super) node: &'n NodeConfig,
    pub(super) control: &'n Arc<Control>,
    pub(super) tables: &'n Arc<SharedRegistry>,
}

impl PartStarter<'_> {
    /// Starts to record when devices were active last.
    pub(super) fn activity(self) -> Arc<DeviceActivity> {
        let (control, tables) = (Arc::clone(self.control), Arc::clone(self.tables));
        let devices = Arc::new(DeviceActivity::new());
        let counted = Arc::clone(&devices);
        control.count_also("activity", Box::new(move || counted.memory_bytes()));
        tokio::spawn(activity::keep(control, tables, Arc::clone(&devices)));
        devices
    }

    /// Starts to publish commands.
    pub(super) fn commands(self) -> Arc<Commands> {
        let catalogue = Arc::clone(&self.node.api.iotflow);
        let all = Arc::new(Commands::new(Arc::clone(self.tables), catalogue));
        tokio::spawn(commands::keep(Arc::clone(self.control), Arc::clone(&all)));
        all
    }

    /// Starts to publish desired values and to process reports.
    pub(super) fn twins(self) -> Arc<Twins> {
        let catalogue = Arc::clone(&self.node.api.iotflow);
        let all = Arc::new(Twins::new(Arc::clone(self.tables), catalogue));
        tokio::spawn(twins::keep(Arc::clone(self.control), Arc::clone(&all)));
        all
    }

    /// Starts the telemetry of the node; `None` if it is off.
    pub(super) fn telemetry(self, activity: &Arc<DeviceActivity>) -> Option<Arc<Telemetry>> {
        let settings = self.node.telemetry.clone()?;
        let measures_subscribers = settings.measures_subscribers;
        let (control, tables) = (Arc::clone(self.control), Arc::clone(self.tables));
        let telemetry = Telemetry::new(control, tables, Arc::clone(activity), settings);
        let telemetry = Arc::new(telemetry);
        let counted = Arc::clone(&telemetry);
        let count = Box::new(move || counted.memory_bytes());
        self.control.count_also("telemetry", count);
        tokio::spawn(Arc::clone(&telemetry).keep_retention());
        if measures_subscribers {
            tokio::spawn(Arc::clone(&telemetry).measure_subscribers());
        }
        Some(telemetry)
    }

    /// Creates rules about messages, and alarms. When this returns, those of the tables are in
    /// force, unless the tables do not respond. `name` is that of the node in alarms.
    pub(super) async fn rules(
        self,
        integrations: &Arc<Integrations>,
        commands: &Arc<Commands>,
        telemetry: Option<&Arc<Telemetry>>,
        name: &str,
    ) -> (Arc<Rules>, Arc<Alarms>) {
        let Self {
            node,
            control,
            tables,
        } = self;
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

    /// Starts to serve firmware and to advance rollouts.
    pub(super) fn firmware(
        self,
        commands: &Arc<Commands>,
        alarms: &Arc<Alarms>,
    ) -> (Arc<FirmwareStore>, Arc<Rollouts>) {
        let (control, tables) = (self.control, self.tables);
        let settings = self.node.firmware.clone();
        let firmware = Arc::new(FirmwareStore::new(Arc::clone(tables), settings));
        let all = Arc::new(Rollouts::new(Arc::clone(tables), Arc::clone(commands)));
        let catalogue = Arc::clone(&self.node.api.iotflow);
        let served = Arc::clone(&firmware);
        tokio::spawn(serve_chunks(Arc::clone(control), served, catalogue));
        let (control, alarms) = (Arc::clone(control), Arc::clone(alarms));
        tokio::spawn(rollouts::keep(control, Arc::clone(&all), alarms));
        (firmware, all)
    }

    /// Starts to archive events, if configured.
    pub(super) fn event_archive(self) -> Option<Arc<EventArchive>> {
        let settings = self.node.event_archive.clone()?;
        let archive = Arc::new(EventArchive::new(settings));
        let kept = Arc::clone(&archive);
        tokio::spawn(event_archive::keep(Arc::clone(self.control), kept));
        Some(archive)
    }

    /// Starts the tasks for topics of IoTFlow.
    pub(super) fn iotflow(self, integrations: &Arc<Integrations>, activity: &Arc<DeviceActivity>) {
        let Self {
            node,
            control,
            tables,
        } = self;
        let catalogue = &node.api.iotflow;
        let has_routes = |routes: &RouteSettings| routes.compat.contains(&CompatApi::IotFlow);
        let mut listeners = node.http.iter().map(|listener| &listener.routes);
        if has_routes(&node.api.routes) || listeners.any(has_routes) {
            let (control, tables) = (Arc::clone(control), Arc::clone(tables));
            let (catalogue, activity) = (Arc::clone(catalogue), Arc::clone(activity));
            tokio::spawn(note_activity(control, tables, catalogue, activity));
        }
        if node.iotflow_publish_secs > 0 {
            let every = Duration::from_secs(node.iotflow_publish_secs);
            let (control, integrations) = (Arc::clone(control), Arc::clone(integrations));
            let catalogue = Arc::clone(catalogue);
            tokio::spawn(publish_state(control, integrations, catalogue, every));
        }
    }
}

/// Starts to record topics.
pub(super) fn start_topic_memory(topics: &Arc<TopicMemory>, control: &Arc<Control>) {
    let counted = Arc::clone(topics);
    control.count_also("topics", Box::new(move || counted.memory_bytes()));
    tokio::spawn(remember_topics(Arc::clone(control), Arc::clone(topics)));
}
