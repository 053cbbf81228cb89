//! Words for parts of the program, which are asked about as if they were clients.

use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::remedy::Command;
use crate::remedy::form::{self, CommandForm};
use crate::why::{Asked, Examine, Finding, Findings, nearest_names};

/// The parts of the program that have a name.
pub(crate) struct NamedParts;

/// A part of the program that was asked about, which no client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedPart {
    /// The command that it has of its own, if it is not the one that shows it.
    pub(crate) own_command: Option<&'static str>,
    /// Whether it is shown with what the node warns about.
    pub(crate) is_health: bool,
    pub(crate) command: Option<Command>,
}

impl Examine for NamedParts {
    type Facts = Option<NamedPart>;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        let name = asked.question.name.to_ascii_lowercase();
        let is_named =
            |(words, _): &&(&str, CommandForm)| words.split(' ').any(|word| word == name);
        let Some((words, shows)) = PARTS.iter().find(is_named) else {
            return Ok(None);
        };
        let tables = control.tables();
        let tenant = asked.question.tenant.0;
        let is_seen = asked.question.sees_node || tenant != 0;
        // A name that is spelt nearly so is likelier to be meant.
        if let Some(tables) = tables.filter(|_| is_seen && !asked.is_registered)
            && !nearest_names(&asked.question.name, tables.names(tenant)).is_empty()
        {
            return Ok(None);
        }
        Ok(Some(NamedPart {
            own_command: name.starts_with("backup").then_some("martlet backup"),
            is_health: words.contains("health"),
            command: control.command(*shows, &[]),
        }))
    }

    fn judge(part: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        let Some(part) = part.as_ref().filter(|_| findings.has_no_name()) else {
            return;
        };
        let name = &asked.question.name;
        let sentence = format!(
            "{name} is unknown: no client, device or user has that name, which is the name of a \
             part of Martlet; martlet why explains a client, device or user, an integration, a \
             rule, a rollout or a command"
        );
        let own = part.own_command.map_or_else(String::new, |command| {
            format!("{command} --help shows what can be done with it; ")
        });
        let remedy = match part.is_health {
            true => format!("{own}to see what the node warns about, run"),
            false => format!("{own}give martlet why the name of one of them; to list them, run"),
        };
        let cause = Cause::NobodyKnown;
        findings.add_named(Finding::advised(cause, sentence, &remedy, &part.command));
    }
}

/// Words, and the command that shows what they mean.
const PARTS: [(&str, CommandForm); 22] = [
    (
        "backup backups broker cert certificate certificates disk health listener listeners \
         martlet memory node server store tls",
        form::HEALTH,
    ),
    ("alarm alarms", form::ALARM_LS),
    ("api key keys", form::KEY_LS),
    ("audit", form::AUDIT),
    ("ban bans", form::BAN_LS),
    ("client clients", form::CLIENT_LS),
    ("command commands", form::COMMAND_LS),
    ("config configuration", form::CONFIG_SHOW),
    ("device devices", form::DEVICE_LS),
    ("events log logs", form::LOGS),
    ("firmware", form::FIRMWARE_LS),
    ("group groups", form::GROUP_LS),
    (
        "bridge bridges integration integrations webhook webhooks",
        form::INTEGRATION_LS,
    ),
    ("lockout lockouts", form::LOCKOUT_LS),
    ("provision provisioning", form::PROVISION_LS),
    ("retained", form::RETAINED_LS),
    ("role roles", form::ROLE_LS),
    ("rollout rollouts", form::ROLLOUT_LS),
    ("rule rules", form::RULE_LS),
    ("secret secrets", form::SECRET_LS),
    ("session sessions", form::SESSION_LS),
    ("telemetry", form::TELEMETRY_REJECTED),
];
