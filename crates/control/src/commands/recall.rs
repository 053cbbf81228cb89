//! What is known of the commands of a device, or of a command, that is asked about why it does
//! not work.

use martlet_broker::TenantId;
use martlet_registry::{Command, CommandKey, CommandStep, CommandUpdate, Visibility};

use super::Commands;
use super::message::{answer_topic, filters};
use crate::control::Control;
use crate::journal::WordedRemedy;
use crate::text::typed;
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::facts::{DeviceCommand, Facts, NamedCommand, NotForDevice, Reach};

/// Commands of a device that are looked at.
const LOOKED_AT: u32 = 20;
/// How long ago a command may have ended, milliseconds.
const ENDED_SINCE_MS: i64 = 24 * 60 * 60 * 1000;
/// Groups of a device whose last command is looked at.
const GROUPS_MAX: usize = 10;
/// Subscriptions of a device that are looked at.
const SUBSCRIPTIONS_MAX: usize = 1_000;

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

    /// Adds it. `team`: the caller sees commands of this team's devices alone. Where the tables
    /// cannot be read, health reports it, and the rest is shown.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        let (device, tenant) = (facts.question.name.clone(), facts.question.tenant);
        facts.own_topics.received.extend(filters(&self.catalogue));
        let visibility = Visibility::of(team);
        let seen = visibility.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let since_ms = now_signed_ms() - ENDED_SINCE_MS;
                let device = (tenant.0, &*device);
                registry
                    .recent_commands_of(&seen, device, since_ms, LOOKED_AT)
                    .await
            })
        });
        let commands = read.await.unwrap_or_default();
        if let Some(first) = commands.first() {
            let reach = reach_of(control, first).await;
            let all = commands.iter();
            let all = all.map(|command| self.recalled(control, command, &reach));
            facts.commands = all.collect();
        }
        self.not_for_device(control, &visibility, facts).await;
        // All commands are looked through: only if nothing else has the name.
        let is_other = facts.registered_as.is_some()
            || facts.session.is_some()
            || facts.presence.is_some()
            || facts.from_address.is_some()
            || !facts.runs.is_empty()
            || !facts.clients.is_empty()
            || facts.named_rollout.is_some()
            || facts.named_rule.is_some();
        if !is_other {
            let id = facts.question.name.clone();
            facts.named_command = self.named_command(control, visibility, id).await;
        }
    }

    /// Adds the last command to each group of the device, if it is recent and not for the device.
    async fn not_for_device(&self, control: &Control, visibility: &Visibility, facts: &mut Facts) {
        if !facts.is_device() {
            return;
        }
        let (tenant, device) = (facts.question.tenant, facts.question.name.clone());
        let seen = visibility.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.groups_of_device(&seen, (tenant.0, &device)).await })
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
            let mut own = facts.commands.iter();
            let is_sent = own.any(|one| one.name == last.name && one.created_ms >= created_ms);
            // Of many commands, that one may be no longer among those that are looked at.
            let is_unknown = facts.commands.len() >= LOOKED_AT as usize
                && facts.commands.iter().all(|one| one.created_ms > created_ms);
            if created_ms < since_ms || is_sent || is_unknown {
                continue;
            }
            let mut joined = facts.joined.iter();
            let joined = joined.find(|joined| joined.id == group);
            let (seen, id) = (visibility.clone(), last.id.clone());
            let read = self.tables.read(move |registry| {
                Box::pin(async move { registry.commands_of_id(&seen, &id, 1).await })
            });
            let found = read.await.unwrap_or_default();
            let again = found.first().map(|command| {
                let parameters = match &*command.parameters {
                    "" | "{}" | "null" => String::new(),
                    json => format!("-p {} ", typed(json)),
                };
                let arguments = format!(
                    "--device {} --topic {} {parameters}{}",
                    typed(&facts.question.name),
                    typed(&command.kind),
                    typed(&command.name)
                );
                control.command_of_tenant("command send", facts.question.tenant, &arguments)
            });
            facts.not_for_device.push(NotForDevice {
                what: format!("the command {} ({})", last.name, last.id),
                is_rollout: false,
                group: name,
                created_ms,
                joined_ms: joined
                    .map(|joined| joined.at_ms)
                    .filter(|at_ms| *at_ms >= created_ms),
                worded: WordedRemedy {
                    text: "send it to the device too".to_owned(),
                    command: again,
                },
            });
        }
    }

    /// The command of this id.
    async fn named_command(
        &self,
        control: &Control,
        visibility: Visibility,
        id: String,
    ) -> Option<NamedCommand> {
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
        let (of_group, report) = match &*first.fleet_group {
            "" => {
                let reports = self.of_filters(visibility, Some(id.clone()), 1).await;
                (String::new(), reports.ok()?.pop()?)
            }
            group => {
                let reports = self.of_group(visibility, group.to_owned(), Some(id.clone()), 1);
                let option = format!("--group {} ", typed(group));
                (option, reports.await.ok()?.1.pop()?)
            }
        };
        let arguments = format!("{of_group}{}", typed(&id));
        Some(NamedCommand::Many {
            id,
            name: report.name,
            states: report.states,
            show: control.command_with_options("command show", &arguments),
        })
    }

    fn recalled(&self, control: &Control, command: &Command, reach: &Reach) -> DeviceCommand {
        let line = |action: &str| {
            let arguments = format!("--device {} {}", typed(&command.device), typed(&command.id));
            let tenant = TenantId(command.tenant);
            control.command_of_tenant(&format!("command {action}"), tenant, &arguments)
        };
        let device = (&*command.device, &*command.device_type);
        DeviceCommand {
            id: command.id.clone(),
            name: command.name.clone(),
            device: command.device.clone(),
            state: command.state,
            result: command.result.clone(),
            progress: command.progress,
            topic: self.topic_of(command),
            answers: answer_topic(&self.catalogue, device),
            created_ms: unsigned(command.created_ms),
            expires_ms: unsigned(command.expires_ms),
            sent_ms: unsigned(command.sent_ms),
            delivered_ms: unsigned(command.delivered_ms),
            acknowledged_ms: unsigned(command.acknowledged_ms),
            finished_ms: unsigned(command.finished_ms),
            misread: self.misread.of((command.tenant, &command.device)),
            reach: reach.clone(),
            retry: line("retry"),
            cancel: line("cancel"),
            show: line("show"),
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
