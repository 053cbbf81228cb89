//! Names that may be meant by another one: a device that was moved to a team, a device, user, rule
//! or key with a similar name, a client of another tenant, a name that the tables have while logins
//! are not checked against them, or a word for a part of the program.

use martlet_registry::Snapshot;

use super::facts::{Facts, IdleInTables, NamedPart, Namesakes, RefusedElsewhere};
use super::found::{Bearing, RECENT_MS};
use super::{Finding, Question};
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::control::Control;
use crate::journal::Entry;
use crate::remedy::form::{self, CommandForm};

/// An unknown name may be a misspelt name, or one that was used before.
pub(super) fn with_namesakes(facts: &Facts, mut finding: Finding) -> Finding {
    if finding.cause == Cause::WrongClientId && facts.by_team_token {
        return meant(facts.namesakes.near.iter().map(String::as_str), finding);
    }
    if !matches!(
        finding.cause,
        Cause::UnknownName | Cause::NobodyKnown | Cause::Deleted
    ) {
        return finding;
    }
    let Namesakes {
        elsewhere,
        deleted,
        client_elsewhere,
        refused_elsewhere,
        add,
        near: _,
        near_of_kind: _,
    } = &facts.namesakes;
    let name = &facts.question.name;
    if let Some(command) = client_elsewhere {
        finding.sentence.push_str(&format!(
            "; a client with the Client Identifier {name} is connected in another tenant"
        ));
        return finding
            .remedy("ask about the client of that tenant")
            .command(command);
    }
    if !elsewhere.is_empty() {
        return of_other_tenant(finding, name, elsewhere);
    }
    if let Some(refused) = refused_elsewhere
        && finding.cause == Cause::NobodyKnown
    {
        return of_refused_elsewhere(name, refused);
    }
    if !deleted.is_empty() {
        finding.command = None;
        let remedy = format!(
            "a device {name} belonged to a deleted team: ask why {} does not work, and restore the \
             team",
            deleted.join(" or ")
        );
        return finding.remedy(remedy);
    }
    if finding.cause == Cause::Deleted {
        return finding;
    }
    // An address is not the name of a device.
    if let (None, Some(add), None) = (&finding.remedy, add, &facts.from_address) {
        finding.remedy = Some(add.text.clone());
        finding.command.clone_from(&add.command);
    }
    meant(facts.namesakes.suggestions(), finding)
}

/// The name is unknown. It may be that of a rule in a configuration file that the node was not
/// started with.
pub(super) fn or_of_configuration(facts: &Facts, mut finding: Finding) -> Finding {
    let is_of_nobody = finding.cause == Cause::NobodyKnown && !facts.namesakes.has_suggestions();
    if let Some(remedy) = &mut finding.remedy
        && is_of_nobody
        && facts.has_no_configuration
    {
        const START: &str = "if it is a rule of a configuration file, start the node with that file \
                             (martlet serve -c FILE)";
        // The command follows the last clause.
        *remedy = match remedy.rsplit_once("; ") {
            Some((first, last)) if finding.command.is_some() => {
                format!("{first}; {START}; {last}")
            }
            _ => format!("{remedy}; {START}"),
        };
    }
    finding
}

/// The Client Identifier is that of a client that was refused in another tenant.
fn of_refused_elsewhere(name: &str, refused: &RefusedElsewhere) -> Finding {
    let RefusedElsewhere { run, tenant, near } = refused;
    let finding = Finding::of_run(run, run.cause.unwrap_or(Cause::Other));
    let sentence = format!(
        "a client with the Client Identifier {name} was refused in {tenant}: {}",
        finding.sentence
    );
    meant(
        near.iter().map(String::as_str),
        Finding {
            sentence,
            ..finding
        },
    )
}

/// With the names that may be meant, if there are some.
fn meant<'a>(near: impl Iterator<Item = &'a str>, mut finding: Finding) -> Finding {
    let near: Vec<&str> = near.collect();
    if near.is_empty() {
        return finding;
    }
    let remedy = finding.remedy.take();
    let other = remedy.map_or_else(String::new, |remedy| format!(" Else {remedy}"));
    finding.remedy(format!("did you mean {}?{other}", near.join(", ")))
}

/// With the client that was refused with nearly the id of the device.
pub(super) fn with_near_refused(facts: &Facts, mut finding: Finding) -> Finding {
    let is_recent = |entry: &&Entry| facts.now_ms.saturating_sub(entry.at_ms) <= RECENT_MS;
    if let Some(entry) = facts.near_refused.as_ref().filter(is_recent) {
        let (name, client_id) = (&facts.question.name, &entry.client_id);
        let why = entry.why.as_deref().unwrap_or_default();
        finding.sentence.push_str(&format!(
            "; a client with the Client Identifier {client_id} was refused: {why}"
        ));
        finding.last_ms = Some(entry.at_ms);
        let otherwise = finding.remedy.take();
        let otherwise = otherwise.map_or_else(String::new, |other| format!(". Else {other}"));
        return finding.remedy(format!(
            "if that is the device, set its Client Identifier to {name}{otherwise}"
        ));
    }
    finding
}

/// The name is that of a device of another tenant, which comes with one of these User Names.
pub(super) fn of_other_tenant(mut finding: Finding, name: &str, user_names: &[String]) -> Finding {
    let names = user_names.join(" or ");
    finding.command = None;
    finding.sentence.push_str(&format!(
        "; the device {name} belongs to another tenant, where its User Name is {names}"
    ));
    finding.remedy(format!(
        "the device {name} belongs to another tenant: set the User Name of the client to {names} \
         (its Client Identifier stays {name})"
    ))
}

/// The tables have the name, and the logins of the node or of the client's listener are not checked
/// against them.
pub(super) fn beside_tables(facts: &Facts, mut finding: Finding) -> Finding {
    let name = &facts.question.name;
    if !matches!(finding.cause, Cause::UnknownName | Cause::NobodyKnown) {
        return finding;
    }
    if let Some(idle) = &facts.idle_in_tables {
        finding
            .sentence
            .push_str(&format!("; {}", is_idle(idle, name)));
        finding.command = None;
        return finding.remedy(USE_TABLES);
    }
    let (Some(listeners), Some(what)) = (&facts.listeners_of_tables, &facts.registered_as) else {
        return finding;
    };
    finding.sentence.push_str(&format!(
        "; the {what} {name} is in the tables, and the listener that it connects to has a password \
         file of its own and does not use them"
    ));
    let other = match &finding.command {
        Some(_) => "; or add the name to that file:",
        None => ", or add the name to that file",
    };
    finding.remedy(format!(
        "have the client connect to a listener that uses the tables ({}){other}",
        listeners.join(", ")
    ))
}

/// What to do about tables that nobody is looked up in.
const USE_TABLES: &str = "to check logins against the tables, set auth.registry = \"on\" (with \
                          auth.enabled and auth.order that permit it), and restart the node";

fn is_idle(IdleInTables { what, why }: &IdleInTables, name: &str) -> String {
    format!("the {what} {name} is in the tables, and no login is checked against them: {why}")
}

/// It has not tried, and would not be let in by the tables that have it.
pub(super) fn idle_tables(facts: &Facts) -> Option<(Bearing, Finding)> {
    let idle = facts.idle_in_tables.as_ref()?;
    if matches!(facts.standing, Some(Standing::Known | Standing::Barred(_))) {
        return None;
    }
    let sentence = is_idle(idle, &facts.question.name);
    let finding = Finding::new(Cause::UnknownName, sentence).remedy(USE_TABLES);
    Some((Bearing::Refused, finding))
}

/// A word for a part of the program, unless a name that is spelt nearly so is likelier to be meant.
pub(super) fn of_part(facts: &Facts) -> Option<Finding> {
    let part = facts.named_part.as_ref();
    let part = part.filter(|_| !facts.namesakes.has_suggestions())?;
    let name = &facts.question.name;
    let sentence = format!(
        "{name} is unknown: no client, device or user has that name, which is the name of a part \
         of Martlet; martlet why explains a client, device or user, an integration, a rule, a \
         rollout or a command"
    );
    let own = part.own_command.map_or_else(String::new, |command| {
        format!("{command} --help shows what can be done with it; ")
    });
    let remedy = match part.is_health {
        true => format!("{own}to see what the node warns about, run"),
        false => format!("{own}give martlet why the name of one of them; to list them, run"),
    };
    Some(Finding::advised(
        Cause::NobodyKnown,
        sentence,
        &remedy,
        &part.command,
    ))
}

/// Words, and the command that shows what they mean.
const PARTS: [(&[&str], CommandForm); 22] = [
    (
        &[
            "backup",
            "backups",
            "broker",
            "cert",
            "certificate",
            "certificates",
            "disk",
            "health",
            "listener",
            "listeners",
            "martlet",
            "memory",
            "node",
            "server",
            "store",
            "tls",
        ],
        form::HEALTH,
    ),
    (&["alarm", "alarms"], form::ALARM_LS),
    (&["api", "key", "keys"], form::KEY_LS),
    (&["audit"], form::AUDIT),
    (&["ban", "bans"], form::BAN_LS),
    (&["client", "clients"], form::CLIENT_LS),
    (&["command", "commands"], form::COMMAND_LS),
    (&["config", "configuration"], form::CONFIG_SHOW),
    (&["device", "devices"], form::DEVICE_LS),
    (&["events", "log", "logs"], form::LOGS),
    (&["firmware"], form::FIRMWARE_LS),
    (&["group", "groups"], form::GROUP_LS),
    (
        &[
            "bridge",
            "bridges",
            "integration",
            "integrations",
            "webhook",
            "webhooks",
        ],
        form::INTEGRATION_LS,
    ),
    (&["lockout", "lockouts"], form::LOCKOUT_LS),
    (&["provision", "provisioning"], form::PROVISION_LS),
    (&["retained"], form::RETAINED_LS),
    (&["role", "roles"], form::ROLE_LS),
    (&["rollout", "rollouts"], form::ROLLOUT_LS),
    (&["rule", "rules"], form::RULE_LS),
    (&["secret", "secrets"], form::SECRET_LS),
    (&["session", "sessions"], form::SESSION_LS),
    (&["telemetry"], form::TELEMETRY_REJECTED),
];

impl Control {
    /// The part of the program that a name is a word for.
    pub(super) fn part_named(&self, name: &str) -> Option<NamedPart> {
        let name = name.to_ascii_lowercase();
        let (words, shows) = PARTS.iter().find(|(words, _)| words.contains(&&*name))?;
        let is_health = words.contains(&"health");
        Some(NamedPart {
            own_command: name.starts_with("backup").then_some("martlet backup"),
            is_health,
            command: self.command(*shows, &[]),
        })
    }
}

/// Names that are looked at: there may be very many, and the caller waits.
const LOOKED_AT: usize = 20_000;

/// Similar names that are shown, at most; if more names are equally similar, none is shown.
const TOLD: usize = 3;

impl Namesakes {
    /// Finds the namesakes that the caller may know about.
    pub(super) fn of(question: &Question, tables: &Snapshot) -> Self {
        let (tenant, name) = (question.tenant.0, &*question.name);
        let mut found = Self::default();
        if question.sees_node {
            found.elsewhere = tables.devices_elsewhere(tenant, name).take(TOLD).collect();
        }
        // In the common tenant are names of other teams.
        if question.sees_node || tenant != 0 {
            found.near = nearest(name, tables.names(tenant));
        }
        found
    }

    /// All names that may be meant, in words.
    pub(super) fn suggestions(&self) -> impl Iterator<Item = &str> {
        let all = self.near.iter().chain(&self.near_of_kind);
        all.map(String::as_str)
    }

    /// Some name may be meant.
    pub(super) fn has_suggestions(&self) -> bool {
        self.suggestions().next().is_some()
    }
}

/// The nearest of these names, in order, if they are few and near enough.
pub(crate) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<String> {
    // In a short name one letter is much.
    let mut distance = match name.chars().count() {
        0..=2 => return Vec::new(),
        3..=5 => 1,
        _ => 2,
    };
    let mut found: Vec<String> = Vec::new();
    for other in all.take(LOOKED_AT) {
        if other.len().abs_diff(name.len()) > 2 * char::MAX.len_utf8() {
            continue;
        }
        let is_at = strsim::osa_distance(name, other);
        if is_at < distance {
            found.clear();
            distance = is_at;
        }
        if is_at == distance && found.len() <= TOLD {
            found.push(other.to_owned());
        }
    }
    if found.len() > TOLD {
        return Vec::new();
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_named_if_they_are_few() {
        let all = ["pump-7", "pump-71", "valve-1", "valve-2", "valve-3", "v"];
        let of = |name| nearest(name, all.into_iter());
        assert_eq!(of("pmup-7"), ["pump-7"]);
        assert_eq!(of("pump-72"), ["pump-7", "pump-71"]);
        assert_eq!(of("valve-9"), ["valve-1", "valve-2", "valve-3"]);
        assert!(of("x").is_empty() && of("boiler").is_empty());
        let fleet: Vec<String> = (0..9).map(|number| format!("sensor-{number}")).collect();
        assert!(nearest("sensor-x", fleet.iter().map(String::as_str)).is_empty());
    }
}
