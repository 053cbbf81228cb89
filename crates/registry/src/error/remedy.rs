//! Remedies for errors, without the words of HTTP or of the command line.

use std::fmt::{self, Display};

use crate::foreign::system::OtherSystem;

/// A kind of objects in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A device.
    Device,
    /// A user.
    User,
    /// A team.
    Team,
    /// A group of devices.
    Group,
    /// A role of users.
    Role,
    /// A type of devices.
    DeviceType,
    /// An API key.
    ApiKey,
    /// A provisioning key.
    ProvisioningKey,
    /// A secret of another system.
    Secret,
    /// A version of firmware.
    Firmware,
    /// A rollout of firmware.
    Rollout,
    /// A ban.
    Ban,
    /// A rule about messages.
    Rule,
    /// An alarm.
    Alarm,
    /// An integration.
    Integration,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Device,
        Self::User,
        Self::Team,
        Self::Group,
        Self::Role,
        Self::DeviceType,
        Self::ApiKey,
        Self::ProvisioningKey,
        Self::Secret,
        Self::Firmware,
        Self::Rollout,
        Self::Ban,
        Self::Rule,
        Self::Alarm,
        Self::Integration,
    ];

    /// Identifier of the kind in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceType => "device_type",
            Self::ApiKey => "api_key",
            Self::ProvisioningKey => "provisioning_key",
            kind => kind.word(),
        }
    }

    /// Noun of the kind in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
            Self::Team => "team",
            Self::Group => "group",
            Self::Role => "role",
            Self::DeviceType => "device type",
            Self::ApiKey => "API key",
            Self::ProvisioningKey => "provisioning key",
            Self::Secret => "secret",
            Self::Firmware => "firmware",
            Self::Rollout => "rollout",
            Self::Ban => "ban",
            Self::Rule => "rule",
            Self::Alarm => "alarm",
            Self::Integration => "integration",
        }
    }
}

impl Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Name of an object, with the team in whose tenant it is a name.
///
/// A remedy names an object in this way: several tenants may have a device of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Name or id of the object.
    pub name: String,
    /// Name of the team; none: the name is enough.
    pub team: Option<String>,
}

impl From<&str> for ObjectName {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            team: None,
        }
    }
}

impl Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Remedy for an error. The API words it as a request, a command as a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// List the objects of this kind.
    List(ObjectKind),
    /// Show the device of this id.
    ShowDevice(ObjectName),
    /// Add an object of this kind and name.
    Add(ObjectKind, ObjectName),
    /// Change the rules of the role, type or group of this name.
    ChangeRules(ObjectKind, String),
    /// Restore the deleted object of this kind and name.
    Restore(ObjectKind, ObjectName),
    /// Remove the deleted object of this kind and name permanently.
    Purge(ObjectKind, ObjectName),
    /// Give the device of this id another secret.
    RotateSecret(ObjectName),
    /// Set another password of the user of this name.
    SetPassword(String),
    /// Ask for the object in the team of this name.
    InTeam(String),
    /// Name the team of a group, or name the group by its id.
    NameTeamOfGroup,
    /// Move users out of their team, such as the user of this name.
    MoveUsers(String),
    /// Remove a team with its devices and users, or delete or move these first.
    RemoveWithMembers,
    /// Pause the integration of this kind and name.
    PauseIntegration(String, String),
    /// Keep the password in a password file.
    UsePasswordFile,
    /// Import a database of this system; none: of one that is known.
    Import(Option<OtherSystem>),
}

impl Remedy {
    /// The object that is addressed within its team.
    pub fn object(&self) -> Option<&ObjectName> {
        match self {
            Self::ShowDevice(of)
            | Self::Add(_, of)
            | Self::Restore(_, of)
            | Self::Purge(_, of)
            | Self::RotateSecret(of) => Some(of),
            // Names of users, roles, types and teams are unique, and those of integrations contain
            // the team.
            Self::List(_)
            | Self::ChangeRules(..)
            | Self::SetPassword(_)
            | Self::InTeam(_)
            | Self::NameTeamOfGroup
            | Self::MoveUsers(_)
            | Self::RemoveWithMembers
            | Self::PauseIntegration(..)
            | Self::UsePasswordFile
            | Self::Import(_) => None,
        }
    }
}

/// An error that may know what helps.
pub trait Remedies: Display {
    /// Returns what helps, the best first.
    fn remedies(&self) -> Vec<Remedy>;

    /// Text of the error, with its remedies in these words.
    fn worded(&self, words: &dyn Fn(&Remedy) -> String) -> String {
        let remedies: Vec<String> = self.remedies().iter().map(words).collect();
        match remedies.is_empty() {
            true => self.to_string(),
            false => format!("{self}: {}", remedies.join(", ")),
        }
    }
}
