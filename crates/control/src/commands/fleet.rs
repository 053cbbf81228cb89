//! The states of commands to groups, as messages on the topics of fleets.

use std::sync::Arc;

use martlet_broker::{NewMessage, TenantId};
use martlet_codec::QoS;
use martlet_registry::{FleetReport, Scope};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::Commands;
use crate::control::Control;
use crate::rfc3339;
use crate::wall_clock::now_ms;

/// As events show who publishes.
const PUBLISHER: &str = "$commands";
/// Commands of a group whose states are published: the newest ones.
const REPORTS: u32 = 10;

/// The states of a command to a group, as JSON: a member for each state that some device is in.
pub(super) fn states(report: &FleetReport) -> Value {
    let states = report.states.iter();
    let states = states.map(|(state, count)| (state.word().to_owned(), json!(count)));
    Value::Object(states.collect::<Map<_, _>>())
}

impl Commands {
    /// Publishes the states of groups in which something has changed.
    pub(super) async fn publish_states(&self, control: &Control) {
        for id in self.take_changed_groups() {
            let read = self.of_group(Scope::All, id.clone(), None, REPORTS);
            let (group, reports) = match read.await {
                Ok(found) => found,
                // The group was removed.
                Err(error) if !error.is_fault() => continue,
                Err(error) => {
                    warn!(%error, "the states of commands to a group are not published");
                    self.group_has_changed(&id);
                    continue;
                }
            };
            let tenant = match group.team.is_empty() {
                true => Some(TenantId::default()),
                false => control.tenant_of_team(&group.team),
            };
            let tenant = tenant.unwrap_or_default();
            if let Some(message) = self.state_message(&group.name, &reports) {
                let published = control.publish(PUBLISHER, tenant, vec![message]);
                if let Err(error) = published.await {
                    warn!(%error, "the states of commands to a group are not published");
                }
            }
        }
    }

    /// None if the name of the group cannot be a level of a topic.
    fn state_message(&self, group: &str, reports: &[FleetReport]) -> Option<NewMessage> {
        if group.is_empty() || group.contains(['/', '+', '#', '\0']) {
            return None;
        }
        let commands: Vec<Value> = reports
            .iter()
            .map(|report| {
                json!({
                    "command_id": report.id,
                    "command": report.name,
                    "timestamp": rfc3339::text(u64::try_from(report.created_ms).unwrap_or(0)),
                    "states": states(report),
                })
            })
            .collect();
        let payload = json!({
            "group_id": group,
            "commands": commands,
            "timestamp": rfc3339::text(now_ms()),
        });
        let catalogue: &Arc<_> = &self.catalogue;
        let entry = catalogue.entry("fleet_status");
        Some(NewMessage {
            topic: catalogue.topic(&format!("fleet/status/{group}")).into(),
            payload: payload.to_string().into_bytes().into(),
            qos: entry.map_or(QoS::AtLeastOnce, |entry| entry.qos),
            retain: entry.is_none_or(|entry| entry.retain),
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            ..NewMessage::default()
        })
    }
}
