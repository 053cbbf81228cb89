//! Why a command, or the commands of a device, do not work.

mod facts;
mod judge;
#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_registry::{Command, CommandKey, CommandStep, CommandUpdate};

use super::Commands;
use super::message::{answer_topic, filters};
use crate::control::{Control, ControlError, OwnTopics};
use crate::journal::WordedRemedy;
use crate::remedy::form;
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::{Asked, Examine, Findings, NotForDevice};
use facts::{CommandFacts, DeviceCommand, NamedCommand, Reach};

/// Commands of a device that are looked at.
const LOOKED_AT: u32 = 20;
/// How long ago a command may have ended, milliseconds.
const ENDED_SINCE_MS: i64 = 24 * 60 * 60 * 1000;
/// Groups of a device whose last command is looked at.
const GROUPS_MAX: usize = 10;
/// Subscriptions of a device that are looked at.
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// The last level of the topic of commands of rollouts.
const FIRMWARE: &str = "firmware";

impl Commands {
    /// Remembers an answer that is for no command which it has changed: `changed` are those.
    pub(super) fn has_answered(&self, update: &CommandUpdate, changed: &[Command]) {
        let (CommandKey::Id(tenant, device, id), CommandStep::Answered(_)) =
            (&update.command, &update.step)
        else {
            return;
        };
        let mut of_device = changed
            .iter()
            .filter(|command| (command.tenant, &*command.device) == (*tenant, &**device));
        match of_device.any(|command| command.id == *id) {
            true => self.misread.remove((*tenant, device)),
            false => {
                let why = format!("its command_id is {id:?}, which is no command that is open");
                self.misread.add((*tenant, device), why);
            }
        }
    }
}

impl Examine for Commands {
    type Facts = CommandFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<CommandFacts, ControlError> {
        let (device, tenant) = (asked.question.name.clone(), asked.question.tenant);
        let seen = asked.visibility();
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let since_ms = now_signed_ms() - ENDED_SINCE_MS;
                registry
                    .recent_commands_of(&seen, tenant.0, &device, since_ms, LOOKED_AT)
                    .await
            })
        });
        let found = read.await.unwrap_or_default();
        let mut commands = Vec::new();
        if let Some(first) = found.first() {
            let reach = reach_of(control, first).await;
            let all = found.iter();
            commands.extend(all.map(|command| self.recalled(control, command, &reach)));
        }
        Ok(CommandFacts {
            not_for_device: self.not_for_device(control, asked, &commands).await,
            commands,
            // All commands are looked through: only if nothing else has the name.
            named: match asked.is_unknown() {
                true => self.named_command(control, asked).await,
                false => None,
            },
        })
    }

    fn judge(facts: &CommandFacts, asked: &Asked, findings: &mut Findings) {
        judge::judge(facts, asked, findings);
    }

    fn own_topics(&self, own: &mut OwnTopics) {
        own.received.extend(filters(&self.catalogue));
    }
}

impl Commands {
    /// The last command to each group of the device, if it is recent and not for the device.
    async fn not_for_device(
        &self,
        control: &Control,
        asked: &Asked,
        own: &[DeviceCommand],
    ) -> Vec<NotForDevice> {
        let mut found = Vec::new();
        if !asked.is_device {
            return found;
        }
        let (tenant, device) = (asked.question.tenant, asked.question.name.clone());
        let (seen, visibility) = (asked.visibility(), asked.visibility());
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.groups_of_device(&seen, tenant.0, &device).await })
        });
        let groups = read.await.unwrap_or_default();
        let since_ms = unsigned(now_signed_ms() - ENDED_SINCE_MS);
        for (group, name) in groups.into_iter().take(GROUPS_MAX) {
            let reports = self.of_group(visibility.clone(), group.clone(), None, 1);
            let Ok((_, reports)) = reports.await else {
                continue;
            };
            let Some(last) = reports.into_iter().next() else {
                continue;
            };
            let created_ms = unsigned(last.created_ms);
            // The same was sent to the device itself.
            let mut sent = own.iter();
            let is_sent = sent.any(|one| one.name == last.name && one.created_ms >= created_ms);
            // Of many commands, that one may be no longer among those that are looked at.
            let is_unknown = own.len() >= LOOKED_AT as usize
                && own.iter().all(|one| one.created_ms > created_ms);
            if created_ms < since_ms || is_sent || is_unknown {
                continue;
            }
            let mut joined = asked.joined.iter();
            let joined = joined.find(|joined| joined.id == group);
            let (seen, id) = (visibility.clone(), last.id.clone());
            let read = self.tables.read(move |registry| {
                Box::pin(async move { registry.commands_of_id(&seen, &id, 1).await })
            });
            let commands = read.await.unwrap_or_default();
            let again = commands.first().and_then(|command| {
                let parameters = match &*command.parameters {
                    "{}" | "null" => "",
                    json => json,
                };
                let values = [
                    &*asked.question.name,
                    &command.kind,
                    parameters,
                    &command.name,
                ];
                control.command_of_tenant(form::COMMAND_SEND, tenant, &values)
            });
            found.push(NotForDevice {
                what: format!("the command {} ({})", last.name, last.id),
                group: name,
                created_ms,
                joined_ms: joined
                    .map(|joined| joined.at_ms)
                    .filter(|at_ms| *at_ms >= created_ms),
                worded: WordedRemedy::new("send it to the device too", again),
            });
        }
        found
    }

    /// The command of this id.
    async fn named_command(&self, control: &Control, asked: &Asked) -> Option<NamedCommand> {
        let (visibility, id) = (asked.visibility(), asked.question.name.clone());
        let (seen, command_id) = (visibility.clone(), id.clone());
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.commands_of_id(&seen, &command_id, 2).await })
        });
        let found = read.await.unwrap_or_default();
        let first = found.first()?;
        if found.len() == 1 || first.fleet.is_empty() {
            let reach = reach_of(control, first).await;
            let one = self.recalled(control, first, &reach);
            return Some(NamedCommand::One(Box::new(one)));
        }
        let (show, report) = match &*first.fleet_group {
            "" => {
                let reports = self.of_filters(visibility, Some(id.clone()), 1).await;
                (
                    control.command(form::COMMAND_SHOW, &[&id]),
                    reports.ok()?.pop()?,
                )
            }
            group => {
                let reports = self.of_group(visibility, group.to_owned(), Some(id.clone()), 1);
                let shown = control.command(form::COMMAND_SHOW_OF_GROUP, &[group, &id]);
                (shown, reports.await.ok()?.1.pop()?)
            }
        };
        Some(NamedCommand::Many {
            id,
            name: report.name,
            states: report.states,
            show,
        })
    }

    fn recalled(&self, control: &Control, command: &Command, reach: &Reach) -> DeviceCommand {
        let tenant = TenantId(command.tenant);
        let values = [&*command.device, &*command.id];
        let line = |form| control.command_of_tenant(form, tenant, &values);
        DeviceCommand {
            id: command.id.clone(),
            name: command.name.clone(),
            device: command.device.clone(),
            state: command.state,
            result: command.result.clone(),
            progress: command.progress,
            is_of_rollout: is_of_rollout(command),
            topic: self.topic_of(command),
            answers: answer_topic(&self.catalogue, &command.device, &command.device_type),
            created_ms: unsigned(command.created_ms),
            expires_ms: unsigned(command.expires_ms),
            sent_ms: unsigned(command.sent_ms),
            delivered_ms: unsigned(command.delivered_ms),
            acknowledged_ms: unsigned(command.acknowledged_ms),
            finished_ms: unsigned(command.finished_ms),
            misread: self.misread.of((command.tenant, &command.device)),
            reach: reach.clone(),
            retry: line(form::COMMAND_RETRY),
            cancel: line(form::COMMAND_CANCEL),
            show: line(form::COMMAND_SHOW_OF_DEVICE),
            why: line(form::WHY),
        }
    }
}

/// Whether the device of a command is connected, and its subscriptions.
async fn reach_of(control: &Control, command: &Command) -> Reach {
    let (tenant, id) = (TenantId(command.tenant), &*command.device);
    let client = control.client(tenant, id, SUBSCRIPTIONS_MAX).await;
    let client = client.unwrap_or_default();
    let presence = control.presence(tenant, id);
    let subscriptions = client.iter().flat_map(|client| &client.subscriptions);
    let subscriptions = subscriptions.map(|one| (one.filter.to_string(), one.qos as u8));
    Reach {
        subscriptions: subscriptions.collect(),
        is_connected: client.is_some_and(|client| client.info.connected),
        gone_ms: presence.and_then(|found| (!found.online).then_some(found.since_ms)),
    }
}

/// A rollout names itself in the parameters of its commands.
fn is_of_rollout(command: &Command) -> bool {
    let parameters: Option<serde_json::Value> = serde_json::from_str(&command.parameters).ok();
    let of_rollout = parameters.is_some_and(|parameters| parameters.get("rollout").is_some());
    command.kind == FIRMWARE && of_rollout
}
