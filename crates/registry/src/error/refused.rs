//! Refusals of what cannot be done as it is asked for.

use std::path::PathBuf;

use martlet_rollout::PlanError;

use super::not_found::NotFound;
use super::remedy::{ObjectKind, Remedies, Remedy};
use crate::foreign::system::OtherSystem;

/// Refusal of what cannot be done as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    // Callers.
    /// Teams, for a caller that sees one of them.
    #[error("teams are added and removed only by callers that see all teams")]
    TeamsOfAll,
    /// Roles and types, for a caller that sees one team.
    #[error("roles and device types are changed only by callers that see all teams")]
    RuleSetsOfAll,
    /// Rules of a team without a tenant, for a caller that sees one team.
    #[error("rules of a team without a tenant are set only by callers that see all teams")]
    GroupRulesOfAll,
    /// A role or type whose rules have topics of others, such as this filter.
    #[error(
        "the {0} {1} permits {2}, topics that clients outside the team also use: because the team \
         has no tenant, only callers with access to all teams can assign it"
    )]
    RuleSetOfAll(ObjectKind, String, String),
    /// The user of this name, for a caller that sees one team.
    #[error("{0} is in the team, and changed only by callers that see all teams")]
    UserOfAll(String),
    /// The user of this name, as a member of a team that it does not belong to.
    #[error(
        "{0} does not belong to the team, or has a role in another one: only a caller that sees all \
         teams can add them"
    )]
    MemberOfAll(String),
    /// A user of a team that would belong elsewhere, or have a role elsewhere.
    #[error("users of a team belong to it, and have no role in others")]
    RoleElsewhere,

    // Objects that the request names.
    /// Something that the request names is not there.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The group is not for devices of that team.
    #[error("the group {0} belongs to another team than the device")]
    GroupOfOtherTeam(String),
    /// The owner is not in the team of the device.
    #[error("the user {0} is not in the team of the device")]
    OwnerOfOtherTeam(String),
    /// The team of this name has no tenant of its own.
    #[error("the team {0} has no tenant of its own")]
    NoTenant(String),
    /// A user of this name, who would be of the team of the second name.
    #[error(
        "there is no user or device {0}, and no team {1} with a tenant of its own, in which a ban \
         would be: correct the name of the team"
    )]
    NoTeamOfUser(String, String),
    /// Several teams have the firmware of this name and version.
    #[error("several teams have a firmware {0:?} of the version {1:?}: give the team")]
    FirmwareOfTeams(String, String),

    // What stays as it is.
    /// A role or type that comes with the program.
    #[error("the {0} {1} is built in and cannot be changed: add one with another name")]
    BuiltIn(ObjectKind, String),
    /// Rules of a group that would be added or removed like a role.
    #[error(
        "a group is added and removed by the requests and commands for groups, not by those for rules"
    )]
    GroupAsRules,
    /// The team of this name owns a tenant.
    #[error("the team {0} owns a tenant, and its devices come as ID@{0}: its name stays")]
    NameOfTenant(String),
    /// The provisioning key was revoked.
    #[error("the provisioning key was revoked")]
    KeyRevoked,
    /// The provisioning key has expired.
    #[error("the provisioning key has expired")]
    KeyExpired,
    /// The request of this Idempotency-Key has failed.
    #[error("a request with this Idempotency-Key was made before and added no device")]
    RequestWithoutDevice,
    /// The Idempotency-Key came with another request.
    #[error("this Idempotency-Key was used with another request before")]
    OtherRequest,
    /// Another node removed the secret that was just set.
    #[error("the secret was removed again at once: set it again")]
    SecretRemoved,
    /// The tables have secrets of another key.
    #[error(
        "the tables have secrets that are sealed with another key: copy the key file of the node \
         that wrote them (secrets.key_file) to this node"
    )]
    OtherSecretKey,
    /// The device was not added, as others could not be.
    #[error("it was not added")]
    NotAdded,

    // Names.
    /// A name of the kind in the first field.
    #[error(
        "{1:?} is not a valid name of a {0}: up to 256 bytes, no control characters, no space at \
         either end"
    )]
    Name(&'static str, String),
    /// A name that programs take out of a path.
    #[error(
        "{1:?} cannot be the name of a {0}: programs remove it from paths, and so from the URLs of \
         the API; choose another name"
    )]
    NameOfPath(&'static str, String),
    /// A name with a letter that changes the direction of text.
    #[error(
        "{1:?} cannot be the name of a {0}: U+{2:04X} changes the direction of text, so that a name \
         can look like another one; leave it out"
    )]
    NameDirection(&'static str, String, u32),
    /// A name that means another one in the tenant of a team.
    #[error("{0} means {1} in the tenant of the team {2}")]
    NameInTenant(String, String, String),
    /// A name with `@` of a team with a tenant.
    #[error(
        "the name of a team with a tenant of its own has no @, which stands before it in the user \
         names of its devices"
    )]
    TeamNameWithAt,
    /// The id of a device.
    #[error(
        "{0:?} is not a valid id of a device, which is one level of its topics: no +, # or /, and \
         no $ at its beginning"
    )]
    DeviceId(String),
    /// The id of a device, which is a word of the API.
    #[error(
        "{0} is reserved for paths of the API and cannot be the id of a device: choose another, \
         such as {0}-1"
    )]
    ReservedId(String),
    /// An id of digits that are not the device's number.
    #[error(
        "{0} cannot be the id of this device: an id of digits alone must be the device's number, \
         which is {1}; choose another id"
    )]
    IdOfDigits(String, i64),
    /// A number that is below the next one.
    #[error(
        "the number {0} is or was that of another device: numbers below {1} are not given again"
    )]
    NumberGiven(i64, i64),
    /// A number that is above the greatest.
    #[error("the number {0} is above {1}")]
    NumberTooLarge(i64, i64),
    /// An id that does not fit the pattern of the provisioning key.
    #[error("the id {0} does not match the pattern {1}")]
    IdPattern(String, String),
    /// No id, although the provisioning key has this pattern of ids.
    #[error("the key needs an id such as {0}")]
    IdNeeded(String),
    /// The name of a secret, with the greatest length.
    #[error(
        "{0:?} is not a valid name of a secret, expected letters, digits, -, _ and ., {1} at \
         most, not - first, and neither . nor .."
    )]
    SecretName(String, usize),

    // Values.
    /// Text of the kind in the first field.
    #[error("the {0} may have up to 4,096 bytes and no control characters")]
    Text(&'static str),
    /// The kind of a device.
    #[error("the kind may have up to {0} bytes and no control characters")]
    DeviceKind(usize),
    /// Tags of a device.
    #[error("a device has up to 64 tags")]
    Tags,
    /// The colour of a group.
    #[error("{0:?} is not a valid colour: expected a value such as #2f6fed")]
    Colour(String),
    /// The value of a key in the configuration of a device, which is not of this type.
    #[error("the value of {0} is not of type {1}")]
    Setting(String, &'static str),
    /// Desired or reported values of a device.
    #[error("{0}")]
    Twin(String),
    /// Seconds after which a device is silent, and the least and greatest of them.
    #[error("inactive_after_secs is {0}, expected 0 (never) or {1} to {2}")]
    InactiveAfter(u32, u32, u32),
    /// A cursor of a list.
    #[error("{0:?} is not a valid cursor of a list")]
    Cursor(String),
    /// A cursor of a list in another order.
    #[error("the cursor is of a list in another order")]
    CursorOfOrder,
    /// Scopes of an API key.
    #[error("scopes are up to 64 words of letters and signs without spaces")]
    Scopes,
    /// Pattern and number of devices of a provisioning key.
    #[error("a pattern may have one *, and the number of devices is not negative")]
    KeyPattern,
    /// A password that is empty.
    #[error("the password is empty")]
    EmptyPassword,
    /// A password that cannot be hashed.
    #[error("{0}")]
    Password(&'static str),
    /// A hash that is the password itself.
    #[error("the password is not hashed")]
    PlainPassword,
    /// A secret that is too short or too long.
    #[error("a secret from elsewhere must have 16 to 512 bytes and be random")]
    GivenSecret,
    /// The time for which old secrets remain valid.
    #[error("an old secret may remain valid for at most 365 days")]
    RotationGrace,
    /// The end of a ban.
    #[error("the end of a ban must be in the future")]
    BanOver,
    /// The address of a ban.
    #[error("{0:?} is not a valid address or network")]
    BanAddress(String),
    /// The kind of a ban.
    #[error("{0:?} is not a kind of ban: use client-id, user or address")]
    BanKind(String),

    // Rules.
    /// More rules than that.
    #[error("there may be up to {0} rules")]
    RuleCount(usize),
    /// The rule at this place has no action or no filter.
    #[error("rule {0} is of no action, or of no filter")]
    EmptyRule(usize),
    /// Rules that cannot be read.
    #[error("{0}")]
    Rules(String),

    // Commands.
    /// The id of a command.
    #[error("the id of a command has 1 to {0} bytes, no / and no control characters")]
    CommandId(usize),
    /// The id of a command to several devices.
    #[error("the id of a command to several devices is a level of a topic: it has no + and #")]
    FleetCommandId,
    /// The kind of a command.
    #[error(
        "the kind of a command is a level of its topic: 1 to 64 bytes without /, +, #, % and \
         control characters"
    )]
    CommandKind,
    /// The name of a command.
    #[error("the name of a command has 1 to {0} bytes and no control characters")]
    CommandName(usize),
    /// The parameters of a command: the greatest length, and theirs.
    #[error("the parameters of a command may have {0} bytes of JSON, and these have {1}")]
    CommandParameters(usize, usize),
    /// The time to acknowledge a command.
    #[error("a command has 1 second to 366 days to be acknowledged in")]
    CommandTime,
    /// The QoS of a command.
    #[error("QoS is 0, 1 or 2")]
    CommandQos,

    // Firmware and rollouts.
    /// The name or version of firmware.
    #[error(
        "the {0} {1:?} of the firmware must have 1 to {2} letters, digits and . _ - +, and \
         something besides dots"
    )]
    FirmwareName(&'static str, String, usize),
    /// The SHA-256 of firmware.
    #[error("sha256 must be 64 hexadecimal digits")]
    FirmwareHash,
    /// The signature of firmware.
    #[error("a signature has up to {0} bytes of Base64")]
    FirmwareSignature(usize),
    /// The file of firmware.
    #[error("the file of the firmware is empty")]
    EmptyFirmware,
    /// The size of firmware.
    #[error("a firmware has up to {0} bytes")]
    FirmwareSize(u64),
    /// The URL of firmware.
    #[error(
        "the URL of a firmware begins with https:// or http:// and has up to {0} bytes, without \
         spaces"
    )]
    FirmwareUrl(usize),
    /// The plan of a rollout.
    #[error("{0}")]
    Plan(PlanError),
    /// A rollout to no group, tag or type.
    #[error("give the devices: a group, a tag or a type")]
    NoTarget,
    /// A rollout to devices that there are not.
    #[error("no device is in that group, or has that tag and type")]
    EmptyTarget,

    // Files and databases.
    /// A path that is not UTF-8.
    #[error("{}: its path is not UTF-8", .0.display())]
    Path(PathBuf),
    /// The URL of the registry's database.
    #[error("the URL of the registry's database must begin with postgres://")]
    NotPostgres,
    /// A database that cannot be brought to this version there.
    #[error(
        "{0} is of an older version, and cannot be changed there: start this version once where it \
         can"
    )]
    OlderVersion(String),
    /// A database of another program.
    #[error(
        "{0} is a database of another program: give another file, which is created if it does not \
         exist (registry.url)"
    )]
    OtherProgram(String),
    /// The user may not make the schema in the database.
    #[error(
        "the tables are kept in the schema {schema}, and the user {user} may not make it in the \
         database {database}: have its owner run CREATE SCHEMA {schema} AUTHORIZATION {quoted}"
    )]
    Schema {
        /// Name of the schema.
        schema: &'static str,
        /// Name of the user.
        user: String,
        /// Name of the database.
        database: String,
        /// Name of the user as SQL writes it.
        quoted: String,
    },
    /// A database that is not one of the first system; it may be one of the second.
    #[error("{0} is not a database of {1}: {found}", found = found(*.2))]
    OtherSystem(String, OtherSystem, Option<OtherSystem>),
    /// A database of a system without these columns.
    #[error(
        "{0}: an import from {1} needs columns that the database lacks: {missing}",
        missing = .2.join(", ")
    )]
    MissingColumns(String, OtherSystem, Vec<String>),
    /// A database of the microservice that is no file.
    #[error("{0}: the database of the MQTT microservice is a file of SQLite")]
    NotSqlite(String),
    /// A file that does not exist.
    #[error("{}: there is no such file", .0.display())]
    NoFile(PathBuf),
    /// A file that is not a device's queue.
    #[error(
        "{}: no queue of a device: expected a table messages with the columns id, topic, payload \
         and timestamp", .0.display()
    )]
    NoQueue(PathBuf),
}

fn found(system: Option<OtherSystem>) -> String {
    match system {
        None => "it has no tables of that system".to_owned(),
        Some(found) => format!("its tables are those of {found}"),
    }
}

impl Remedies for Refused {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::NotFound(missing) => missing.remedies(),
            Self::NoTeamOfUser(..) => vec![Remedy::List(ObjectKind::Team)],
            Self::GivenSecret => vec![Remedy::UsePasswordFile],
            Self::OtherProgram(_) => vec![Remedy::Import(None)],
            Self::OtherSystem(.., found @ Some(_)) => vec![Remedy::Import(*found)],
            _ => Vec::new(),
        }
    }
}
