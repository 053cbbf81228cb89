//! Remedies of errors: as requests, as commands, and as members of an answer.

use martlet_control::text::{in_path, typed, typed_names};
use martlet_registry::{ObjectKind, ObjectName, OtherSystem, Remedies, Remedy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Action of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RemedyAction {
    /// List the objects of the kind.
    List,
    /// Show the object.
    Show,
    /// Add the object.
    Add,
    /// Change the rules of the object.
    ChangeRules,
    /// Restore the deleted object.
    Restore,
    /// Remove the object permanently.
    Purge,
    /// Give the device another credential.
    RotateSecret,
    /// Set another password of the user.
    SetPassword,
    /// Name the team in the request: this team, or that of the group.
    NameTeam,
    /// Move users out of their team, such as this one.
    MoveUsers,
    /// Remove the team with its members.
    RemoveWithMembers,
    /// Pause the integration.
    Pause,
    /// Keep the password in a password file.
    UsePasswordFile,
    /// Import a database of the system of this name; without a name, of a known system.
    Import,
}

/// Remedy for a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Remedy)]
pub struct RemedyView {
    /// Action to take.
    #[serde(rename = "do")]
    action: RemedyAction,
    /// Kind of the objects: `device`, `user`, `team`, `group`, `role`, `device_type`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "device_type")]
    kind: Option<String>,
    /// Name or id of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pump")]
    name: Option<String>,
    /// Name of the team in whose tenant the object is: the parameter `team` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "north")]
    team: Option<String>,
}

impl From<&Remedy> for RemedyView {
    fn from(remedy: &Remedy) -> Self {
        let name = |name: &str| Some(name.to_owned());
        let team = remedy.object().and_then(|object| object.team.clone());
        let (action, kind, name) = match remedy {
            Remedy::List(kind) => (RemedyAction::List, Some(*kind), None),
            Remedy::ShowDevice(of) => {
                (RemedyAction::Show, Some(ObjectKind::Device), name(&of.name))
            }
            Remedy::Add(kind, of) => (RemedyAction::Add, Some(*kind), name(&of.name)),
            Remedy::ChangeRules(kind, of) => (RemedyAction::ChangeRules, Some(*kind), name(of)),
            Remedy::Restore(kind, of) => (RemedyAction::Restore, Some(*kind), name(&of.name)),
            Remedy::Purge(kind, of) => (RemedyAction::Purge, Some(*kind), name(&of.name)),
            Remedy::RotateSecret(of) => (
                RemedyAction::RotateSecret,
                Some(ObjectKind::Device),
                name(&of.name),
            ),
            Remedy::SetPassword(of) => {
                (RemedyAction::SetPassword, Some(ObjectKind::User), name(of))
            }
            Remedy::InTeam(team) => (RemedyAction::NameTeam, Some(ObjectKind::Team), name(team)),
            Remedy::NameTeamOfGroup => (RemedyAction::NameTeam, Some(ObjectKind::Group), None),
            Remedy::MoveUsers(user) => {
                (RemedyAction::MoveUsers, Some(ObjectKind::User), name(user))
            }
            Remedy::RemoveWithMembers => (
                RemedyAction::RemoveWithMembers,
                Some(ObjectKind::Team),
                None,
            ),
            Remedy::PauseIntegration(kind, of) => {
                let name = name(&format!("{kind}/{of}"));
                (RemedyAction::Pause, Some(ObjectKind::Integration), name)
            }
            Remedy::UsePasswordFile => (RemedyAction::UsePasswordFile, None, None),
            Remedy::Import(system) => {
                let name = system.and_then(|system| name(system.word()));
                (RemedyAction::Import, None, name)
            }
        };
        Self {
            action,
            kind: kind.map(|kind| kind.name().to_owned()),
            name,
            team,
        }
    }
}

impl RemedyView {
    /// The remedy as a command with these options, which select the node, each with a blank behind
    /// it. None: this version does not know it.
    pub fn command(self, node: &str) -> Option<String> {
        Some(wording(&self.remedy()?, node).command)
    }

    fn remedy(self) -> Option<Remedy> {
        let kind = |name: String| ObjectKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = self.kind.and_then(kind);
        let team = self.team;
        let of = |name: String| ObjectName { name, team };
        Some(match (self.action, kind, self.name) {
            (RemedyAction::List, Some(kind), _) => Remedy::List(kind),
            (RemedyAction::Show, Some(ObjectKind::Device), Some(id)) => Remedy::ShowDevice(of(id)),
            (RemedyAction::Add, Some(kind), Some(name)) => Remedy::Add(kind, of(name)),
            (RemedyAction::ChangeRules, Some(kind), Some(name)) => Remedy::ChangeRules(kind, name),
            (RemedyAction::Restore, Some(kind), Some(name)) => Remedy::Restore(kind, of(name)),
            (RemedyAction::Purge, Some(kind), Some(name)) => Remedy::Purge(kind, of(name)),
            (RemedyAction::RotateSecret, _, Some(id)) => Remedy::RotateSecret(of(id)),
            (RemedyAction::SetPassword, _, Some(name)) => Remedy::SetPassword(name),
            (RemedyAction::NameTeam, Some(ObjectKind::Group), _) => Remedy::NameTeamOfGroup,
            (RemedyAction::NameTeam, _, Some(team)) => Remedy::InTeam(team),
            (RemedyAction::MoveUsers, _, Some(user)) => Remedy::MoveUsers(user),
            (RemedyAction::RemoveWithMembers, ..) => Remedy::RemoveWithMembers,
            (RemedyAction::Pause, _, Some(name)) => {
                let (kind, name) = name.split_once('/')?;
                Remedy::PauseIntegration(kind.to_owned(), name.to_owned())
            }
            (RemedyAction::UsePasswordFile, ..) => Remedy::UsePasswordFile,
            (RemedyAction::Import, _, name) => {
                let mut all = OtherSystem::ALL.into_iter();
                Remedy::Import(match name {
                    None => None,
                    Some(name) => Some(all.find(|system| system.word() == name)?),
                })
            }
            _ => return None,
        })
    }
}

/// A remedy in words.
struct Wording {
    /// As a request, with the command in brackets.
    request: String,
    /// As a command.
    command: String,
}

impl Wording {
    /// Text about what a request, or a command, does.
    fn of(request: &str, command: &str, effect: &str) -> Self {
        Self {
            request: format!("{request} ({command}) {effect}"),
            command: format!("{command} {effect}"),
        }
    }

    /// Text for both, the same one.
    fn of_both(text: String) -> Self {
        Self {
            request: text.clone(),
            command: text,
        }
    }
}

/// Text of an error with its remedies, as requests with the command in brackets.
pub(crate) fn in_requests(error: &dyn Remedies) -> String {
    error.worded(&|remedy| wording(remedy, "").request)
}

/// Text of an error with its remedies, as commands with these options, which select the node, each
/// with a blank behind it.
pub fn in_commands(error: &dyn Remedies, node: &str) -> String {
    error.worded(&|remedy| wording(remedy, node).command)
}

fn wording(remedy: &Remedy, node: &str) -> Wording {
    let command_on = |action: &str, kind, of: &ObjectName| command_on(node, action, kind, of);
    match remedy {
        Remedy::List(kind) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let request = format!("GET {route}");
            let command = format!("martlet {noun} ls {node}");
            Wording::of(&request, command.trim_end(), "lists them")
        }
        Remedy::ShowDevice(of) => {
            let kind = ObjectKind::Device;
            Wording::of(
                &on("GET", kind, of, ""),
                &command_on("show", kind, of),
                "shows it",
            )
        }
        Remedy::Add(kind, of) => {
            let request = format!("POST {}{}", route(*kind), parameter(of));
            Wording::of(&request, &command_on("add", *kind, of), "adds it")
        }
        Remedy::ChangeRules(kind, name) => {
            let of = name.as_str().into();
            let (request, command) = (on("PUT", *kind, &of, ""), command_on("rules", *kind, &of));
            Wording::of(&request, &command, "changes it")
        }
        Remedy::Restore(kind, of) => {
            let request = on("POST", *kind, of, "/restore");
            Wording::of(&request, &command_on("restore", *kind, of), "restores it")
        }
        Remedy::Purge(kind, of) => {
            let (request, command) = (
                on("POST", *kind, of, "/purge"),
                command_on("rm --purge", *kind, of),
            );
            Wording::of(&request, &command, "removes it permanently")
        }
        Remedy::RotateSecret(of) => {
            let kind = ObjectKind::Device;
            let (request, command) = (
                on("POST", kind, of, "/rotate"),
                command_on("rotate", kind, of),
            );
            Wording::of(&request, &command, "gives it another credential")
        }
        Remedy::SetPassword(name) => {
            let (kind, of) = (ObjectKind::User, name.as_str().into());
            let (request, command) = (
                on("PUT", kind, &of, "/password"),
                command_on("passwd", kind, &of),
            );
            Wording::of(&request, &command, "sets another password")
        }
        Remedy::InTeam(team) => {
            let parameter = format!("?team={}", in_path(team));
            let option = format!("--team={}", typed(team));
            Wording::of(&parameter, &option, "selects it")
        }
        Remedy::NameTeamOfGroup => Wording {
            request: "name the team (?team=TEAM, --team TEAM), or the group by its id".to_owned(),
            command: "name the team (--team TEAM), or the group by its id".to_owned(),
        },
        Remedy::MoveUsers(user) => {
            let request = format!("PATCH /api/v1/users/{}", in_path(user));
            let command = format!("martlet user set {node}--team='' {}", typed_names(&[user]));
            Wording {
                request: format!("move its users first, such as by {request} ({command})"),
                command: format!("move its users first, such as by `{command}`"),
            }
        }
        Remedy::RemoveWithMembers => {
            let advice = "delete or move them first, or remove them with the team";
            Wording {
                request: format!("{advice} (with_members=true, --with-members)"),
                command: format!("{advice} (--with-members)"),
            }
        }
        Remedy::PauseIntegration(kind, name) => {
            // The name of an integration of a team is TEAM/NAME.
            let (in_kind, in_name) = (in_path(kind), in_path(name));
            let request = format!("POST /api/v1/integrations/{in_kind}/{in_name}/pause");
            let name = format!("{kind}/{name}");
            let command = format!("martlet integration pause {node}{}", typed(&name));
            Wording::of(&request, &command, "stops its delivery")
        }
        Remedy::UsePasswordFile => Wording::of_both(
            "put a shorter password into a password file (martlet passwd -U), where it is harder \
             to guess"
                .to_owned(),
        ),
        Remedy::Import(None) => Wording::of_both(
            "martlet import reads devices from databases of known systems".to_owned(),
        ),
        Remedy::Import(Some(system)) => {
            Wording::of_both(format!("martlet import {} imports them", system.word()))
        }
    }
}

/// A request about an object, in the tenant of its team.
fn on(method: &str, kind: ObjectKind, of: &ObjectName, rest: &str) -> String {
    let (route, name) = (route(kind), in_path(&of.name));
    format!("{method} {route}/{name}{rest}{}", parameter(of))
}

/// A command about an object, in the tenant of its team, on the node of these options.
fn command_on(node: &str, action: &str, kind: ObjectKind, of: &ObjectName) -> String {
    let team = of.team.as_deref();
    let team = team.map_or_else(String::new, |team| format!("--team={} ", typed(team)));
    let (noun, name) = (noun(kind), typed_names(&[&of.name]));
    format!("martlet {noun} {action} {node}{team}{name}")
}

/// The parameter that selects the team of an object; empty: none is needed.
fn parameter(of: &ObjectName) -> String {
    let team = of.team.as_deref();
    team.map_or_else(String::new, |team| format!("?team={}", in_path(team)))
}

/// Path of a kind of objects.
fn route(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Device => "/api/v1/devices",
        ObjectKind::User => "/api/v1/users",
        ObjectKind::Team => "/api/v1/teams",
        ObjectKind::Group => "/api/v1/groups",
        ObjectKind::Role => "/api/v1/roles",
        ObjectKind::DeviceType => "/api/v1/device-types",
        ObjectKind::ApiKey => "/api/v1/keys",
        ObjectKind::ProvisioningKey => "/api/v1/provisioning-keys",
        ObjectKind::Secret => "/api/v1/secrets",
        ObjectKind::Firmware => "/api/v1/firmware",
        ObjectKind::Rollout => "/api/v1/rollouts",
        ObjectKind::Ban => "/api/v1/bans",
        ObjectKind::Rule => "/api/v1/rules",
        ObjectKind::Alarm => "/api/v1/alarms",
        ObjectKind::Integration => "/api/v1/integrations",
    }
}

/// Noun of the commands for a kind of objects.
fn noun(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Device => "device",
        ObjectKind::User => "user",
        ObjectKind::Team => "team",
        ObjectKind::Group => "group",
        ObjectKind::Role => "role",
        ObjectKind::DeviceType => "device type",
        ObjectKind::ApiKey => "key",
        ObjectKind::ProvisioningKey => "provision",
        ObjectKind::Secret => "secret",
        ObjectKind::Firmware => "firmware",
        ObjectKind::Rollout => "rollout",
        ObjectKind::Ban => "ban",
        ObjectKind::Rule => "rule",
        ObjectKind::Alarm => "alarm",
        ObjectKind::Integration => "integration",
    }
}

#[cfg(test)]
mod tests {
    use martlet_registry::{Exists, NotFound, Refused};

    use super::*;

    #[test]
    fn a_remedy_is_a_request_or_a_command() {
        let of_north = ObjectName {
            name: "pump 1".to_owned(),
            team: Some("north".to_owned()),
        };
        let errors: [(&dyn Remedies, &str, &str); 8] = [
            (
                &Refused::NotFound(NotFound::GroupForDevice("pumps".into())),
                "there is no group pumps: GET /api/v1/groups (martlet group ls) lists them, POST \
                 /api/v1/groups (martlet group add pumps) adds it",
                "there is no group pumps: martlet group ls lists them, martlet group add pumps \
                 adds it",
            ),
            (
                &NotFound::Object(ObjectKind::DeviceType, "pump".to_owned()),
                "there is no device type pump: GET /api/v1/device-types (martlet device type ls) \
                 lists them, POST /api/v1/device-types (martlet device type add pump) adds it",
                "there is no device type pump: martlet device type ls lists them, martlet device \
                 type add pump adds it",
            ),
            (
                &NotFound::DeviceOfTeams("d".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
                "there is no device d: there is one in the team a, and one in b: ?team=a \
                 (--team=a) selects it",
                "there is no device d: there is one in the team a, and one in b: --team=a selects \
                 it",
            ),
            (
                &Exists::Deleted(ObjectKind::Device, of_north),
                "pump 1 was deleted: POST /api/v1/devices/pump%201/restore?team=north (martlet \
                 device restore --team=north 'pump 1') restores it, POST \
                 /api/v1/devices/pump%201/purge?team=north (martlet device rm --purge --team=north \
                 'pump 1') removes it permanently",
                "pump 1 was deleted: martlet device restore --team=north 'pump 1' restores it, \
                 martlet device rm --purge --team=north 'pump 1' removes it permanently",
            ),
            (
                &Exists::Deleted(ObjectKind::User, "ann".into()),
                "ann was deleted: POST /api/v1/users/ann/restore (martlet user restore ann) \
                 restores it, POST /api/v1/users/ann/purge (martlet user rm --purge ann) removes \
                 it permanently",
                "ann was deleted: martlet user restore ann restores it, martlet user rm --purge \
                 ann removes it permanently",
            ),
            (
                &NotFound::SeveralGroups("hall".to_owned()),
                "several groups have the name hall: name the team (?team=TEAM, --team TEAM), or \
                 the group by its id",
                "several groups have the name hall: name the team (--team TEAM), or the group by \
                 its id",
            ),
            (
                &Refused::NotFound(NotFound::Object(ObjectKind::Team, "x".to_owned())),
                "there is no team x: GET /api/v1/teams (martlet team ls) lists them",
                "there is no team x: martlet team ls lists them",
            ),
            (
                &Refused::KeyExpired,
                "the provisioning key has expired",
                "the provisioning key has expired",
            ),
        ];
        for (error, by_request, by_command) in errors {
            assert_eq!(in_requests(error), by_request);
            assert_eq!(in_commands(error, ""), by_command);
        }
    }

    #[test]
    fn a_remedy_is_read_back_from_an_answer() {
        let name = || "x".to_owned();
        let names = [None, Some("north".to_owned())].map(|team| ObjectName { name: name(), team });
        let mut all = vec![
            Remedy::SetPassword(name()),
            Remedy::InTeam(name()),
            Remedy::NameTeamOfGroup,
            Remedy::MoveUsers(name()),
            Remedy::RemoveWithMembers,
            Remedy::PauseIntegration("file".to_owned(), name()),
            Remedy::UsePasswordFile,
            Remedy::Import(None),
        ];
        all.extend(OtherSystem::ALL.map(|system| Remedy::Import(Some(system))));
        for kind in ObjectKind::ALL {
            all.push(Remedy::List(kind));
            all.push(Remedy::ChangeRules(kind, name()));
            for of in [Remedy::Add, Remedy::Restore, Remedy::Purge] {
                all.extend(names.iter().map(|name| of(kind, name.clone())));
            }
        }
        all.extend(names.iter().cloned().map(Remedy::ShowDevice));
        all.extend(names.into_iter().map(Remedy::RotateSecret));
        for remedy in all {
            let text = serde_json::to_string(&RemedyView::from(&remedy)).unwrap();
            let view: RemedyView = serde_json::from_str(&text).unwrap();
            assert_eq!(view.remedy(), Some(remedy), "{text}");
        }
    }
}
