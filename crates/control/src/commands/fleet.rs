//! The states of commands to groups and filters, as messages on the topics of fleets.

use std::sync::Arc;

use martlet_broker::{NewMessage, TenantId};
use martlet_codec::QoS;
use martlet_registry::{FleetReport, Visibility};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::{Commands, Fleet};
use crate::control::Control;
use crate::rfc3339;
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::now_ms;

/// The publisher that events show.
const PUBLISHER: &str = "$commands";
/// Time within which the states of a fleet are certainly published, milliseconds.
const RECENT_MS: i64 = 60_000;
/// Commands of a group whose states are published: the newest ones.
const REPORTS: u32 = 10;

/// The states of a command to a group, as JSON: a member for each state that some device is in.
pub(super) fn states(report: &FleetReport) -> Value {
    let states = report.states.iter();
    let states = states.map(|(state, count)| (state.word().to_owned(), json!(count)));
    Value::Object(states.collect::<Map<_, _>>())
}

impl Commands {
    /// The states of fleets that may have changed shortly before the end of the last run are
    /// published once more: the change may be in the tables without its message.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) async fn restore_fleets(&self) -> Result<(), SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(());
        }
        let read = self
            .tables
            .read(|registry| Box::pin(async move { registry.recent_fleets(RECENT_MS).await }));
        for (group, id) in read.await? {
            self.fleet_has_changed(match group.is_empty() {
                true => Fleet::Filter(id),
                false => Fleet::Group(group),
            });
        }
        Ok(())
    }

    /// Publishes the states of fleets in which something has changed.
    pub(super) async fn publish_states(&self, control: &Control) {
        for fleet in self.take_changed_fleets() {
            let messages = match &fleet {
                Fleet::Group(id) => self.group_messages(control, id).await,
                Fleet::Filter(id) => self.filter_messages(&fleet, id).await,
            };
            let messages = match messages {
                Ok(messages) => messages,
                // The group was removed.
                Err(error) if !error.is_fault() => continue,
                Err(error) => {
                    warn!(%error, "cannot publish the states of commands to several devices");
                    self.fleet_has_changed(fleet);
                    continue;
                }
            };
            for (tenant, message) in messages {
                let published = control.publish_all(PUBLISHER, tenant, vec![message]);
                if let Err(error) = published.await {
                    warn!(%error, "cannot publish the states of commands to several devices; retrying");
                    self.fleet_has_changed(fleet);
                    break;
                }
            }
        }
    }

    async fn group_messages(
        &self,
        control: &Control,
        id: &str,
    ) -> Result<Vec<(TenantId, NewMessage)>, SharedRegistryError> {
        let read = self.of_group(Visibility::All, id.to_owned(), None, REPORTS);
        let (group, reports) = read.await?;
        let tenant = match group.team.is_empty() {
            true => Some(TenantId::default()),
            false => control.tenant_of_team(&group.team),
        };
        let payload = json!({
            "group_id": group.name,
            "commands": reports.iter().map(state_view).collect::<Vec<_>>(),
            "timestamp": rfc3339::text(now_ms()),
        });
        let message = self.state_message(&group.name, &payload);
        let message = message.map(|message| (tenant.unwrap_or_default(), message));
        Ok(message.into_iter().collect())
    }

    /// Each tenant has the sum of its own devices.
    async fn filter_messages(
        &self,
        fleet: &Fleet,
        id: &str,
    ) -> Result<Vec<(TenantId, NewMessage)>, SharedRegistryError> {
        let command = id.to_owned();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.filter_report_by_tenant(&command).await })
        });
        let reports = read.await?;
        let states = reports.iter().flat_map(|(_, report)| &report.states);
        if { states }.all(|(state, _)| state.is_final()) {
            self.fleet_is_done(fleet);
        }
        let messages = reports.iter().filter_map(|(tenant, report)| {
            let payload = json!({
                "commands": [state_view(report)],
                "timestamp": rfc3339::text(now_ms()),
            });
            let message = self.state_message(id, &payload)?;
            // Each command has a topic of its own: retained messages would become more and more.
            let retain = false;
            Some((TenantId(*tenant), NewMessage { retain, ..message }))
        });
        Ok(messages.collect())
    }

    /// `name`: of the group, or the id of the command. None if it cannot be a level of a topic.
    fn state_message(&self, name: &str, payload: &Value) -> Option<NewMessage> {
        if name.is_empty() || name.contains(['/', '+', '#', '\0']) {
            return None;
        }
        let catalogue: &Arc<_> = &self.catalogue;
        let entry = catalogue.entry("fleet_status");
        Some(NewMessage {
            topic: catalogue.topic(&format!("fleet/status/{name}")).into(),
            payload: payload.to_string().into_bytes().into(),
            qos: entry.map_or(QoS::AtLeastOnce, |entry| entry.qos),
            retain: entry.is_none_or(|entry| entry.retain),
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            ..NewMessage::default()
        })
    }
}

/// A command and the states of its devices in sum.
fn state_view(report: &FleetReport) -> Value {
    json!({
        "command_id": report.id,
        "command": report.name,
        "timestamp": rfc3339::text(u64::try_from(report.created_ms).unwrap_or(0)),
        "states": states(report),
    })
}
