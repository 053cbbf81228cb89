//! What helps against an error, without the words of HTTP or of the command line.

use std::fmt::{self, Display};

use crate::other_system::OtherSystem;

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

/// What helps against an error. The API words it as a request, a command as a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// List the objects of this kind.
    List(ObjectKind),
    /// Show the device of this id.
    ShowDevice(String),
    /// Add an object of this kind and name.
    Add(ObjectKind, String),
    /// Change the rules of the role, type or group of this name.
    ChangeRules(ObjectKind, String),
    /// Restore the deleted object of this kind and name.
    Restore(ObjectKind, String),
    /// Remove the deleted object of this kind and name permanently.
    Purge(ObjectKind, String),
    /// Give the device of this id another secret.
    RotateSecret(String),
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

/// An error that may know what helps.
pub trait Remedies: Display {
    /// What helps, the best first.
    fn remedies(&self) -> Vec<Remedy>;

    /// Text of the error, with its remedies in these words.
    fn worded(&self, words: fn(&Remedy) -> String) -> String {
        let remedies: Vec<String> = self.remedies().iter().map(words).collect();
        match remedies.is_empty() {
            true => self.to_string(),
            false => format!("{self}: {}", remedies.join(", ")),
        }
    }
}
