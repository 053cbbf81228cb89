//! Remedies of errors: as requests, as commands, and as members of an answer.

use martlet_registry::{ObjectKind, OtherSystem, Remedies, Remedy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to do.
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

/// What helps against a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Remedy)]
pub struct RemedyView {
    /// What to do.
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
}

impl From<&Remedy> for RemedyView {
    fn from(remedy: &Remedy) -> Self {
        let name = |name: &str| Some(name.to_owned());
        let (action, kind, name) = match remedy {
            Remedy::List(kind) => (RemedyAction::List, Some(*kind), None),
            Remedy::ShowDevice(id) => (RemedyAction::Show, Some(ObjectKind::Device), name(id)),
            Remedy::Add(kind, of) => (RemedyAction::Add, Some(*kind), name(of)),
            Remedy::ChangeRules(kind, of) => (RemedyAction::ChangeRules, Some(*kind), name(of)),
            Remedy::Restore(kind, of) => (RemedyAction::Restore, Some(*kind), name(of)),
            Remedy::Purge(kind, of) => (RemedyAction::Purge, Some(*kind), name(of)),
            Remedy::RotateSecret(id) => (
                RemedyAction::RotateSecret,
                Some(ObjectKind::Device),
                name(id),
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
        }
    }
}

impl RemedyView {
    /// The remedy as a command; none: this version does not know it.
    pub fn command(self) -> Option<String> {
        Some(command(&self.remedy()?))
    }

    fn remedy(self) -> Option<Remedy> {
        let kind = |name: String| ObjectKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = self.kind.and_then(kind);
        Some(match (self.action, kind, self.name) {
            (RemedyAction::List, Some(kind), _) => Remedy::List(kind),
            (RemedyAction::Show, Some(ObjectKind::Device), Some(id)) => Remedy::ShowDevice(id),
            (RemedyAction::Add, Some(kind), Some(name)) => Remedy::Add(kind, name),
            (RemedyAction::ChangeRules, Some(kind), Some(name)) => Remedy::ChangeRules(kind, name),
            (RemedyAction::Restore, Some(kind), Some(name)) => Remedy::Restore(kind, name),
            (RemedyAction::Purge, Some(kind), Some(name)) => Remedy::Purge(kind, name),
            (RemedyAction::RotateSecret, _, Some(id)) => Remedy::RotateSecret(id),
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
    /// What a request, or a command, does.
    fn of(request: &str, command: &str, effect: &str) -> Self {
        Self {
            request: format!("{request} ({command}) {effect}"),
            command: format!("{command} {effect}"),
        }
    }

    /// The same text for both.
    fn of_both(text: String) -> Self {
        Self {
            request: text.clone(),
            command: text,
        }
    }
}

/// Text of an error with its remedies, as requests with the command in brackets.
pub(crate) fn in_requests(error: &dyn Remedies) -> String {
    error.worded(request)
}

/// Text of an error with its remedies, as commands.
pub fn in_commands(error: &dyn Remedies) -> String {
    error.worded(command)
}

fn request(remedy: &Remedy) -> String {
    wording(remedy).request
}

fn command(remedy: &Remedy) -> String {
    wording(remedy).command
}

fn wording(remedy: &Remedy) -> Wording {
    match remedy {
        Remedy::List(kind) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let request = format!("GET {route}");
            Wording::of(&request, &format!("martlet {noun} ls"), "lists them")
        }
        Remedy::ShowDevice(id) => {
            let request = format!("GET /api/v1/devices/{id}");
            Wording::of(&request, &format!("martlet device show {id}"), "shows it")
        }
        Remedy::Add(kind, name) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let request = format!("POST {route}");
            Wording::of(&request, &format!("martlet {noun} add {name}"), "adds it")
        }
        Remedy::ChangeRules(kind, name) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let command = format!("martlet {noun} rules {name}");
            Wording::of(&format!("PUT {route}/{name}"), &command, "changes it")
        }
        Remedy::Restore(kind, name) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let request = format!("POST {route}/{name}/restore");
            let command = format!("martlet {noun} restore {name}");
            Wording::of(&request, &command, "restores it")
        }
        Remedy::Purge(kind, name) => {
            let (route, noun) = (route(*kind), noun(*kind));
            let request = format!("POST {route}/{name}/purge");
            let command = format!("martlet {noun} rm --purge {name}");
            Wording::of(&request, &command, "removes it permanently")
        }
        Remedy::RotateSecret(id) => {
            let request = format!("POST /api/v1/devices/{id}/rotate");
            let command = format!("martlet device rotate {id}");
            Wording::of(&request, &command, "gives it another credential")
        }
        Remedy::SetPassword(name) => {
            let request = format!("PUT /api/v1/users/{name}/password");
            let command = format!("martlet user passwd {name}");
            Wording::of(&request, &command, "sets another password")
        }
        Remedy::InTeam(team) => {
            let (parameter, option) = (format!("?team={team}"), format!("--team {team}"));
            Wording::of(&parameter, &option, "selects it")
        }
        Remedy::NameTeamOfGroup => Wording {
            request: "name the team (?team=TEAM, --team TEAM), or the group by its id".to_owned(),
            command: "name the team (--team TEAM), or the group by its id".to_owned(),
        },
        Remedy::MoveUsers(user) => {
            let request = format!("PATCH /api/v1/users/{user}");
            let command = format!("martlet user set {user} --team ''");
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
            let request = format!("POST /api/v1/integrations/{kind}/{name}/pause");
            let command = format!("martlet integration pause {kind}/{name}");
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
        let errors: [(&dyn Remedies, &str, &str); 7] = [
            (
                &Refused::NotFound(NotFound::Object(ObjectKind::Group, "pumps".to_owned())),
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
                "there is no device d: there is one in the team a, and one in b: ?team=a (--team \
                 a) selects it",
                "there is no device d: there is one in the team a, and one in b: --team a selects \
                 it",
            ),
            (
                &Exists::Deleted(ObjectKind::User, "ann".to_owned()),
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
            assert_eq!(in_commands(error), by_command);
        }
    }

    #[test]
    fn a_remedy_is_read_back_from_an_answer() {
        let name = || "x".to_owned();
        let mut all = vec![
            Remedy::ShowDevice(name()),
            Remedy::RotateSecret(name()),
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
            for of in [
                Remedy::Add,
                Remedy::ChangeRules,
                Remedy::Restore,
                Remedy::Purge,
            ] {
                all.push(of(kind, name()));
            }
        }
        for remedy in all {
            let text = serde_json::to_string(&RemedyView::from(&remedy)).unwrap();
            let view: RemedyView = serde_json::from_str(&text).unwrap();
            assert_eq!(view.remedy(), Some(remedy), "{text}");
        }
    }
}
