//! Remedies of the registry's errors, as requests and as commands.

use martlet_control::tables::TablesError;
use martlet_registry::{ObjectKind, Remedies, Remedy};

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

/// The same of an error of the tables.
pub(crate) fn tables_in_requests(error: &TablesError) -> String {
    match error {
        TablesError::Registry(refused) if !error.is_fault() => in_requests(refused),
        error => error.told(),
    }
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
            Wording::of(&request, &command, "brings it back")
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
            Wording::of(&parameter, &option, "asks for it")
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
        Remedy::UsePasswordFile => Wording::of_both(
            "a shorter password belongs in a password file (martlet passwd -U), where guessing it \
             takes longer"
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
    }
}

#[cfg(test)]
mod tests {
    use martlet_registry::{Exists, NotFound, Refused};

    use super::*;

    #[test]
    fn a_remedy_is_a_request_or_a_command() {
        let errors: [(&dyn Remedies, &str, &str); 6] = [
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
                 a) asks for it",
                "there is no device d: there is one in the team a, and one in b: --team a asks for \
                 it",
            ),
            (
                &Exists::Deleted(ObjectKind::User, "ann".to_owned()),
                "ann was deleted: POST /api/v1/users/ann/restore (martlet user restore ann) brings \
                 it back, POST /api/v1/users/ann/purge (martlet user rm --purge ann) removes it \
                 permanently",
                "ann was deleted: martlet user restore ann brings it back, martlet user rm --purge \
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
}
