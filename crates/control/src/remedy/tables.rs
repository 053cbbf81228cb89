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
    // Table: of remedies.
    pub fn of_tables(remedy: &TableRemedy, node: &str) -> Self {
        use TableRemedy as Is;
        let (device, user) = (ObjectKind::Device, ObjectKind::User);
        let named = |name: &str| ObjectName::from(name);
        // The object, the action of the command, its effect, and the request: its method, and what
        // follows the path of the object.
        let (kind, of, action, effect, method, rest) = match remedy {
            Is::ShowDevice(of) => (device, of.clone(), "show", "shows it", "GET", ""),
            Is::ChangeRules(kind, name) => (*kind, named(name), "rules", "changes it", "PUT", ""),
            Is::Restore(kind, of) => {
                let effect = "restores it";
                (*kind, of.clone(), "restore", effect, "POST", "/restore")
            }
            Is::Purge(kind, of) => {
                let effect = "removes it permanently";
                (*kind, of.clone(), "rm --purge", effect, "POST", "/purge")
            }
            Is::RotateSecret(of) => {
                let effect = "gives it another credential";
                (device, of.clone(), "rotate", effect, "POST", "/rotate")
            }
            Is::SetPassword(name) => {
                let effect = "sets another password";
                (user, named(name), "passwd", effect, "PUT", "/password")
            }
            Is::MoveUsers(name) => {
                let effect = "moves a user out of it: move all of them first";
                (user, named(name), "set --team=''", effect, "PATCH", "")
            }
            Is::PauseIntegration(kind, name) => {
                // The name of an integration of a team is TEAM/NAME.
                let route = route(ObjectKind::Integration);
                let path = format!("{route}/{}/{}/pause", in_path(kind), in_path(name));
                let of = named(&format!("{kind}/{name}"));
                let command = command(node, "pause", ObjectKind::Integration, &of);
                return Self {
                    command: Some(command),
                    ..Self::new(RemedyKind::Request, "stops its delivery")
                }
                .by("POST", path);
            }
            Is::Add(kind, of) => {
                let add = Self {
                    command: Some(command(node, "add", *kind, of)),
                    ..Self::new(RemedyKind::Command, "adds it")
                };
                let add = add.by("POST", format!("{}{}", route(*kind), parameter(of)));
                return match kind {
                    // Others need more.
                    ObjectKind::Group | ObjectKind::Team => Self {
                        kind: RemedyKind::Request,
                        body: Some(json!({ "name": of.name })),
                        ..add
                    },
                    _ => add,
                };
            }
            Is::List(kind) => {
                let command = ["martlet", noun(*kind), "ls", node].join(" ");
                let list = Self {
                    command: Some(command.trim_end().to_owned()),
                    ..Self::new(RemedyKind::View, "lists them")
                };
                return list.by("GET", route(*kind).to_owned());
            }
            Is::Import(Some(system)) => {
                return Self {
                    command: Some(format!("martlet import {}", system.word())),
                    ..Self::new(RemedyKind::Command, "imports them")
                };
            }
            Is::InTeam(team) => {
                let (parameter, option) = (in_path(team), typed(team));
                let words = format!("?team={parameter} (--team={option}) selects it");
                return Self::new(RemedyKind::Elsewhere, &words);
            }
            Is::NameTeamOfGroup => {
                let words = "name the team (?team=TEAM, --team TEAM), or the group by its id";
                return Self::new(RemedyKind::Elsewhere, words);
            }
            Is::RemoveWithMembers => {
                let words = "delete or move them first, or remove them with the team \
                             (with_members=true, --with-members)";
                return Self::new(RemedyKind::Elsewhere, words);
            }
            Is::UsePasswordFile => {
                let words = "put a shorter password into a password file (martlet passwd -U), \
                             where it is harder to guess";
                return Self::new(RemedyKind::Elsewhere, words);
            }
            Is::Import(None) => {
                let words = "martlet import reads devices from databases of known systems";
                return Self::new(RemedyKind::Elsewhere, words);
            }
        };
        let of_remedy = match (method, rest) {
            ("GET", _) => RemedyKind::View,
            ("POST", _) => RemedyKind::Request,
            // The caller has to make the body.
            _ => RemedyKind::Command,
        };
        Self {
            command: Some(command(node, action, kind, &of)),
            ..Self::new(of_remedy, effect)
        }
        .by(method, path(kind, &of, rest))
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

/// Noun of the commands for a kind of objects, and the path of its requests.
fn words_of(kind: ObjectKind) -> (&'static str, &'static str) {
    match kind {
        ObjectKind::Device => ("device", "/api/v1/devices"),
        ObjectKind::User => ("user", "/api/v1/users"),
        ObjectKind::Team => ("team", "/api/v1/teams"),
        ObjectKind::Group => ("group", "/api/v1/groups"),
        ObjectKind::Role => ("role", "/api/v1/roles"),
        ObjectKind::DeviceType => ("device type", "/api/v1/device-types"),
        ObjectKind::ApiKey => ("key", "/api/v1/keys"),
        ObjectKind::ProvisioningKey => ("provision", "/api/v1/provisioning-keys"),
        ObjectKind::Secret => ("secret", "/api/v1/secrets"),
        ObjectKind::Firmware => ("firmware", "/api/v1/firmware"),
        ObjectKind::Rollout => ("rollout", "/api/v1/rollouts"),
        ObjectKind::Ban => ("ban", "/api/v1/bans"),
        ObjectKind::Rule => ("rule", "/api/v1/rules"),
        ObjectKind::Alarm => ("alarm", "/api/v1/alarms"),
        ObjectKind::Integration => ("integration", "/api/v1/integrations"),
    }
}

fn noun(kind: ObjectKind) -> &'static str {
    words_of(kind).0
}

fn route(kind: ObjectKind) -> &'static str {
    words_of(kind).1
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
