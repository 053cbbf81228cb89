//! Objects that are not there, or not seen by the caller.

use super::remedy::{ObjectKind, ObjectName, Remedies, Remedy};

/// Object that is not there, or not seen by the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// An object of this kind and name.
    #[error("{}", no_object(*.0, .1))]
    Object(ObjectKind, String),
    /// The object of this kind and name, which was deleted.
    #[error("there is no {0} {1}: it was deleted")]
    Deleted(ObjectKind, ObjectName),
    /// A deleted object of this kind and name: it was not deleted.
    #[error("the {0} {1} is not deleted")]
    NotDeleted(ObjectKind, String),
    /// The device of this id, which only these teams have. At least one is named.
    #[error("there is no device {0}: there is one in the team {teams}", teams = .1.join(", and one in "))]
    DeviceOfTeams(String, Vec<String>),
    /// The device of this name, in the team of a group.
    #[error("there is no device {0} in the team that the group is of")]
    DeviceOfGroup(String),
    /// A device of this id that is active.
    #[error("there is no active device {0}")]
    ActiveDevice(String),
    /// A device that was there before.
    #[error("the device no longer exists")]
    DeviceGone,
    /// A group of this device, which is not in the group of this name.
    #[error("{0} is in no group {1}")]
    GroupOfDevice(ObjectName, String),
    /// The group of this name for a device of this team.
    #[error("{}", no_object(ObjectKind::Group, &.0.name))]
    GroupForDevice(ObjectName),
    /// The group of this name: there are several.
    #[error("several groups have the name {0}")]
    SeveralGroups(String),
    /// A key in the configuration of this device.
    #[error("{0} has no key {1} in its configuration")]
    Setting(String, String),
    /// A credential of this device.
    #[error("{0} has no such credential")]
    Credential(String),
    /// The command of this id or number to this device.
    #[error("the device {0} has no command {1}")]
    Command(String, String),
    /// The command of this id to several devices.
    #[error("no command {0} was sent there")]
    FleetCommand(String),
    /// The provisioning key that was shown.
    #[error("there is no such provisioning key")]
    ShownProvisioningKey,
    /// A revoked token of this team, by its id.
    #[error("the team {0} has no team token {1} that is revoked")]
    RevokedTeamToken(String, String),
    /// A valid token of this team, by its id.
    #[error("the team {0} has no team token {1} that is valid")]
    ValidTeamToken(String, String),
    /// The firmware of this name and version.
    #[error("there is no firmware {0:?} of the version {1:?} here")]
    Firmware(String, String),
    /// The firmware of this name and version, for the type of the device.
    #[error("there is no firmware {0:?} of the version {1:?} for devices of this type")]
    FirmwareForType(String, String),
    /// A rule or an integration, of this kind and name, that was added through the API.
    #[error("there is no {0} {1:?} that was added through the API")]
    Added(String, String),
    /// One rule or integration, of this kind and name: several teams have one.
    #[error("several teams have a {0} {1:?}: name the team")]
    OfSeveralTeams(String, String),
    /// A ban of this name or address.
    #[error("there is no such ban of {0}")]
    BanOf(String),
    /// A ban of this name, which only these teams have. At least one is named.
    #[error("there is no such ban of {0}: there is one in the team {teams}", teams = .1.join(", and one in "))]
    BanOfTeams(String, Vec<String>),
    /// A role or type of this name that the caller may give.
    #[error("there is no {0} {1} that the caller may assign")]
    Grantable(ObjectKind, String),
}

/// Text for an object that is not there.
fn no_object(kind: ObjectKind, name: &str) -> String {
    match kind {
        ObjectKind::Secret => format!("there is no {kind} {name:?}"),
        ObjectKind::User => format!("there is no {kind} {name} in the tables"),
        _ => format!("there is no {kind} {name}"),
    }
}

impl Remedies for NotFound {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::Object(kind @ (ObjectKind::Role | ObjectKind::DeviceType), name) => {
                vec![
                    Remedy::List(*kind),
                    Remedy::Add(*kind, name.as_str().into()),
                ]
            }
            Self::Object(kind, _) => vec![Remedy::List(*kind)],
            Self::Deleted(kind, name) => vec![Remedy::Restore(*kind, name.clone())],
            Self::DeviceOfTeams(_, teams) | Self::BanOfTeams(_, teams) => {
                let first = teams.first().cloned();
                first.map(Remedy::InTeam).into_iter().collect()
            }
            Self::GroupOfDevice(device, _) => vec![Remedy::ShowDevice(device.clone())],
            Self::GroupForDevice(group) => vec![
                Remedy::List(ObjectKind::Group),
                Remedy::Add(ObjectKind::Group, group.clone()),
            ],
            Self::SeveralGroups(_) => vec![Remedy::NameTeamOfGroup],
            Self::Firmware(..) | Self::FirmwareForType(..) => {
                vec![Remedy::List(ObjectKind::Firmware)]
            }
            Self::BanOf(_) => vec![Remedy::List(ObjectKind::Ban)],
            Self::NotDeleted(..)
            | Self::DeviceOfGroup(_)
            | Self::ActiveDevice(_)
            | Self::DeviceGone
            | Self::Setting(..)
            | Self::Credential(_)
            | Self::Command(..)
            | Self::FleetCommand(_)
            | Self::ShownProvisioningKey
            | Self::RevokedTeamToken(..)
            | Self::ValidTeamToken(..)
            | Self::Added(..)
            | Self::OfSeveralTeams(..)
            | Self::Grantable(..) => Vec::new(),
        }
    }
}
