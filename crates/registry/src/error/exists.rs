//! Objects that are there already, or have the name.

use super::remedy::{ObjectKind, ObjectName, Remedies, Remedy};

/// Object that is there already, or has the name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exists {
    /// A device of this id.
    #[error("{0} already exists")]
    Device(ObjectName),
    /// A user of this name.
    #[error("{0} already exists")]
    User(String),
    /// A deleted device or user of this name.
    #[error("{1} was deleted")]
    Deleted(ObjectKind, ObjectName),
    /// A deleted team of this name.
    #[error("a team {0} was deleted")]
    DeletedTeam(String),
    /// A role or type of this name.
    #[error("the {0} {1} already exists")]
    RuleSet(ObjectKind, String),
    /// A team or group of this name.
    #[error("the {0} {1} already exists")]
    Named(ObjectKind, String),
    /// A rule about messages of this name.
    #[error("the rule {0:?} already exists")]
    Rule(String),
    /// A user whose name is the id of the device.
    #[error("a user {0} exists, and a device's id is its user name: choose another id")]
    UserOfDeviceId(String),
    /// A device whose user name is the name of the user.
    #[error("the name is in use: it is the user name of the device {0}")]
    DeviceOfUserName(String),
    /// A name that would belong to the tenant of the team of this name.
    #[error("{0} would be a name in the tenant of the team {1}: give the team another name")]
    NameInTenant(String, String),
    /// A device of this id in the tenant of the other team.
    #[error(
        "there is a {0} in the other team's tenant already, or one that was deleted and can be \
         restored: remove it permanently first, or export this device and add it there with \
         another id"
    )]
    DeviceInTenant(String),
    /// A device that another row names too.
    #[error("{0} is named twice")]
    Twice(String),
    /// The device of this id, which an earlier request added and which has changed since.
    #[error(
        "{0} was added by this request and has been in use or changed since, so its secret is not \
         shown again"
    )]
    InUse(ObjectName),
    /// A device with this credential.
    #[error("a device has this credential already")]
    Credential,
    /// Another device with the secret of a new one.
    #[error(
        "another device has this secret already, and by HTTP a device is found by its secret: give \
         each device its own"
    )]
    Secret,
    /// The firmware of this name and version.
    #[error(
        "there is a firmware {0:?} of the version {1:?} already: delete it, or give this one \
         another version"
    )]
    Firmware(String, String),
    /// A command of this device with this id.
    #[error("the device {0} has a command {1} already")]
    Command(String, String),
    /// A group of this id, whose commands have the topic.
    #[error("there is a group {0}, whose commands have this topic: choose another id")]
    TopicOfGroup(String),
    /// A command to several devices of this id.
    #[error("there is a command {0} to several devices: choose another id")]
    FleetCommand(String),
}

impl Remedies for Exists {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::Device(id) | Self::InUse(id) => vec![Remedy::RotateSecret(id.clone())],
            Self::User(name) => vec![Remedy::SetPassword(name.clone())],
            Self::Deleted(kind, name) => vec![
                Remedy::Restore(*kind, name.clone()),
                Remedy::Purge(*kind, name.clone()),
            ],
            Self::DeletedTeam(name) => vec![
                Remedy::Restore(ObjectKind::Team, name.as_str().into()),
                Remedy::Purge(ObjectKind::Team, name.as_str().into()),
            ],
            Self::RuleSet(kind, name) => vec![Remedy::ChangeRules(*kind, name.clone())],
            Self::Named(..)
            | Self::Rule(_)
            | Self::UserOfDeviceId(_)
            | Self::DeviceOfUserName(_)
            | Self::NameInTenant(..)
            | Self::DeviceInTenant(_)
            | Self::Twice(_)
            | Self::Credential
            | Self::Secret
            | Self::Firmware(..)
            | Self::Command(..)
            | Self::TopicOfGroup(_)
            | Self::FleetCommand(_) => Vec::new(),
        }
    }
}
