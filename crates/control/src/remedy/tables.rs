//! Remedies that the tables name for their errors: as requests, as commands, and for programs.

use martlet_registry::{ObjectKind, ObjectName, Remedies, Remedy as TableRemedy};
use serde_json::json;

use super::{Remedy, RemedyKind};
use crate::text::{in_path, typed, typed_names};

/// Text of an error with its remedies, as requests with the command in brackets.
pub fn in_requests(error: &dyn Remedies) -> String {
    error.worded(&|remedy| Remedy::of_tables(remedy, "").as_request())
}

/// Text of an error with its remedies, as commands with these options, which select the node.
pub fn in_commands(error: &dyn Remedies, node: &str) -> String {
    error.worded(&|remedy| Remedy::of_tables(remedy, node).as_command())
}

impl Remedy {
    /// A remedy of the tables, whose command has these options, which select the node.
    pub fn of_tables(remedy: &TableRemedy, node: &str) -> Self {
        let device = ObjectKind::Device;
        let of_object = |kind, name, action, effect| Self {
            command: Some(command(node, action, kind, name)),
            ..Self::new(RemedyKind::Command, effect)
        };
        match remedy {
            TableRemedy::List(kind) => {
                let command = ["martlet", noun(*kind), "ls", node].join(" ");
                Self {
                    command: Some(command.trim_end().to_owned()),
                    ..Self::new(RemedyKind::View, "lists them")
                }
                .by("GET", route(*kind).to_owned())
            }
            TableRemedy::ShowDevice(of) => Self {
                kind: RemedyKind::View,
                ..of_object(device, of, "show", "shows it").by("GET", path(device, of, ""))
            },
            TableRemedy::Add(kind, of) => {
                let path = format!("{}{}", route(*kind), parameter(of));
                let add = of_object(*kind, of, "add", "adds it").by("POST", path);
                match kind {
                    // Others need more.
                    ObjectKind::Group | ObjectKind::Team => Self {
                        kind: RemedyKind::Request,
                        body: Some(json!({ "name": of.name })),
                        ..add
                    },
                    _ => add,
                }
            }
            TableRemedy::ChangeRules(kind, name) => {
                let of = name.as_str().into();
                of_object(*kind, &of, "rules", "changes it").by("PUT", path(*kind, &of, ""))
            }
            TableRemedy::Restore(kind, of) => Self {
                kind: RemedyKind::Request,
                ..of_object(*kind, of, "restore", "restores it")
                    .by("POST", path(*kind, of, "/restore"))
            },
            TableRemedy::Purge(kind, of) => Self {
                kind: RemedyKind::Request,
                ..of_object(*kind, of, "rm --purge", "removes it permanently")
                    .by("POST", path(*kind, of, "/purge"))
            },
            TableRemedy::RotateSecret(of) => Self {
                kind: RemedyKind::Request,
                ..of_object(device, of, "rotate", "gives it another credential")
                    .by("POST", path(device, of, "/rotate"))
            },
            TableRemedy::SetPassword(name) => {
                let (kind, of) = (ObjectKind::User, name.as_str().into());
                of_object(kind, &of, "passwd", "sets another password")
                    .by("PUT", path(kind, &of, "/password"))
            }
            TableRemedy::PauseIntegration(kind, name) => {
                // The name of an integration of a team is TEAM/NAME.
                let path = [&*in_path(kind), &*in_path(name)].join("/");
                let of = format!("{kind}/{name}").as_str().into();
                Self {
                    kind: RemedyKind::Request,
                    ..of_object(ObjectKind::Integration, &of, "pause", "stops its delivery")
                        .by("POST", format!("/api/v1/integrations/{path}/pause"))
                }
            }
            TableRemedy::InTeam(team) => Self::elsewhere(format!(
                "?team={} (--team={}) selects it",
                in_path(team),
                typed(team)
            )),
            TableRemedy::NameTeamOfGroup => Self::elsewhere(
                "name the team (?team=TEAM, --team TEAM), or the group by its id".to_owned(),
            ),
            TableRemedy::MoveUsers(user) => {
                let (kind, of) = (ObjectKind::User, user.as_str().into());
                let effect = "moves a user out of it: move all of them first";
                of_object(kind, &of, "set --team=''", effect).by("PATCH", path(kind, &of, ""))
            }
            TableRemedy::RemoveWithMembers => Self::elsewhere(
                "delete or move them first, or remove them with the team (with_members=true, \
                 --with-members)"
                    .to_owned(),
            ),
            TableRemedy::UsePasswordFile => Self::elsewhere(
                "put a shorter password into a password file (martlet passwd -U), where it is \
                 harder to guess"
                    .to_owned(),
            ),
            TableRemedy::Import(None) => Self::elsewhere(
                "martlet import reads devices from databases of known systems".to_owned(),
            ),
            TableRemedy::Import(Some(system)) => Self {
                command: Some(format!("martlet import {}", system.word())),
                ..Self::new(RemedyKind::Command, "imports them")
            },
        }
    }

    fn elsewhere(sentence: String) -> Self {
        Self::new(RemedyKind::Elsewhere, &sentence)
    }

    fn by(self, method: &str, path: String) -> Self {
        Self {
            method: Some(method.to_owned()),
            path: Some(path),
            ..self
        }
    }

    /// The request, with the command in brackets, and its effect.
    fn as_request(&self) -> String {
        match (&self.method, &self.path, &self.command) {
            (Some(method), Some(path), Some(command)) => {
                format!("{method} {path} ({command}) {}", self.sentence)
            }
            _ => self.as_command(),
        }
    }

    /// The command and its effect.
    pub fn as_command(&self) -> String {
        match &self.command {
            Some(command) => format!("{command} {}", self.sentence),
            None => self.sentence.clone(),
        }
    }
}

/// The path of a request about an object, in the tenant of its team.
fn path(kind: ObjectKind, of: &ObjectName, rest: &str) -> String {
    let (route, name) = (route(kind), in_path(&of.name));
    format!("{route}/{name}{rest}{}", parameter(of))
}

/// A command about an object, in the tenant of its team, on the node of these options.
fn command(node: &str, action: &str, kind: ObjectKind, of: &ObjectName) -> String {
    let team = of.team.as_deref();
    let team = team.map_or_else(String::new, |team| format!("--team={}", typed(team)));
    let (noun, name) = (noun(kind), typed_names(&[&of.name]));
    let words = ["martlet", noun, action, node, &*team, &*name];
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
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
                "there is no device d: there is one in the team a, and one in b: ?team=a \
                 (--team=a) selects it",
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
                "several groups have the name hall: name the team (?team=TEAM, --team TEAM), or \
                 the group by its id",
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
}
