//! Conflicts: what there may be no more of, and what the state or the use of something rules out.

use martlet_rollout::RolloutState;

use super::remedy::{ObjectKind, Remedies, Remedy};

/// Conflict: what there may be no more of, or what the state or the use of something rules out now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Devices of this user, which has that many.
    #[error("{0} owns {1} devices, which is the maximum: registry.max_devices_per_user")]
    DevicesOfUser(String, u64),
    /// Devices of this user, which would have more than that many again.
    #[error(
        "{0} would own more than the limit of {1} devices (registry.max_devices_per_user) again: give \
         some devices another owner first"
    )]
    DevicesOfUserAgain(String, u64),
    /// Devices that are added together: that many at most.
    #[error("at most {0} devices can be added all or none; add more one by one")]
    DevicesAtOnce(usize),
    /// Devices of the provisioning key: that many.
    #[error("the provisioning key has added as many devices as it may: {0}")]
    DevicesOfKey(i64),
    /// Credentials of this device, which has that many.
    #[error("{0} has {1} credentials: revoke one first")]
    Credentials(String, i64),
    /// Tokens of a team: that many at most.
    #[error("a team has {0} team tokens at most, revoked ones among them")]
    TeamTokens(i64),
    /// Integrations of this kind that were added through the API: that many at most.
    #[error(
        "the node has {1} integrations of the kind {0} that were added through the API, which is \
         the most: remove one, or put it into the configuration file"
    )]
    AddedIntegrations(String, i64),
    /// Rules that were added through the API: that many at most.
    #[error(
        "{0} rules were added through the API, which is the maximum: remove one, or put this one \
         into the configuration file"
    )]
    AddedRules(i64),
    /// A team has its share of integrations of this kind: that many.
    #[error(
        "the team has {1} integrations of the kind {0} and may not add one: its share is limits.team_percent of what others leave: remove one"
    )]
    IntegrationsOfTeam(String, i64),
    /// A team has its share of rules: that many.
    #[error(
        "the team has {0} rules and may not add one: its share is limits.team_percent of what others leave: remove one"
    )]
    RulesOfTeam(i64),
    /// A team has its share of rollouts that have not ended: that many.
    #[error(
        "{0} rollouts of the team have not ended, and its share is limits.team_percent of what others leave: abort some, or wait"
    )]
    RolloutsOfTeam(i64),
    /// Versions of firmware: that many at most.
    #[error("there are {0} versions of firmware: delete some first")]
    Firmware(i64),
    /// The firmware of this name and version stays, as the rollout of this id needs it.
    #[error("the rollout {0} needs the firmware {1} {2}: abort it, or wait for its end")]
    FirmwareOfRollout(String, String, String),
    /// Rollouts that have not ended: that many at most.
    #[error("{0} rollouts have not ended: abort some, or wait")]
    Rollouts(i64),
    /// Devices of a rollout: that many at most.
    #[error(
        "more than {0} devices are named, which one rollout cannot have: make several rollouts of \
         them"
    )]
    DevicesOfRollout(i64),
    /// Devices are in another rollout.
    #[error(
        "the rollout {rollout} of version {version} has not ended for {devices} of these devices, \
         such as {device}: abort it, or wait until it has ended"
    )]
    InRollout {
        /// Id of that rollout.
        rollout: String,
        /// The rollout's version of the firmware.
        version: String,
        /// How many of the devices are in it.
        devices: i64,
        /// One of them.
        device: String,
    },
    /// The order does not fit the state of the rollout.
    #[error("the rollout {rollout} is {} and cannot {order}: {hint}", state.word())]
    OrderOfRollout {
        /// Id of the rollout.
        rollout: String,
        /// State of the rollout.
        state: RolloutState,
        /// Word of the order.
        order: &'static str,
        /// Which rollouts it is for.
        hint: &'static str,
    },

    // What is in use.
    /// The role or type of this name is in use.
    #[error("{user} has the {kind} {name}, so it stays; {}", free(user, *.is_deleted))]
    RuleSetInUse {
        /// A role or a type.
        kind: ObjectKind,
        /// Name of the role or type.
        name: String,
        /// User or device that has it.
        user: String,
        /// That one was deleted.
        is_deleted: bool,
    },
    /// The user of this name belongs to the team of this name.
    #[error("{0} belongs to the team {1}")]
    TeamHasUser(String, String),
    /// The team of this name has that many devices and users.
    #[error("the team {name} has {members}", name = .0, members = members(*.1, *.2))]
    TeamHasMembers(String, i64, i64),

    // States.
    /// The device of this id has this status.
    #[error("the device {0} is {1}: activate it first")]
    DeviceInactive(String, &'static str),
    /// The command of this id has this state.
    #[error("the command {0} has ended: it is {1}")]
    CommandEnded(String, &'static str),
    /// The command of this id has this state.
    #[error("the command {0} is {1}, so that it is not retried")]
    CommandNotRetried(String, &'static str),
    /// The rollout of this id has no device to offer firmware to again.
    #[error("no device of the rollout {0} has failed or is silent")]
    NothingToRetry(String),

    // Commands.
    /// Commands to this device that have not ended: that many at most.
    #[error("the device {0} has {1} commands that have not ended: cancel some first")]
    OpenCommands(String, i64),
    /// Devices of one command: that many at most.
    #[error(
        "a command can be sent to {0} devices, and these are more: send several commands, each to a \
         part of them"
    )]
    DevicesOfCommand(i64),
}

impl Remedies for Conflict {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::TeamHasUser(user, _) => vec![Remedy::MoveUsers(user.clone())],
            Self::TeamHasMembers(..) => vec![Remedy::RemoveWithMembers],
            _ => Vec::new(),
        }
    }
}

/// How a role or type that this user has becomes free.
fn free(user: &str, is_deleted: bool) -> String {
    match is_deleted {
        false => format!("give {user} another one first"),
        true => format!("{user} was deleted: restore it, or remove it permanently first"),
    }
}

/// Members of a team, in words.
fn members(devices: i64, users: i64) -> String {
    let counts = [(devices, "device"), (users, "user")];
    let words = counts.into_iter().filter_map(|(count, what)| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    });
    words.collect::<Vec<_>>().join(" and ")
}
