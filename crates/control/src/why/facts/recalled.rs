//! What the tables and their audit log have of a client, device or other name.

use crate::cause::Cause;
use crate::journal::{Entry, Run, WordedRemedy};

/// A user or device that was removed from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The user of the client, if it has another name than was asked about.
    pub user: Option<String>,
    /// Since when, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The command that brings it back, or its team; none: it cannot be restored.
    pub command: Option<String>,
    /// Its team was deleted too, and is restored first.
    pub team: Option<TeamDeletion>,
}

/// A deleted team of a name that is not in the tables any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeamDeletion {
    /// Its name.
    pub name: String,
    /// Its members were deleted with it, and come back with it.
    pub brings_back: bool,
}

/// What keeps a client out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banned {
    /// What is banned, why, and until when.
    pub why: String,
    /// The command that lifts it.
    pub command: Option<String>,
}

/// A device's credentials, all of which are revoked or have expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Number of them.
    pub count: usize,
    /// All were revoked.
    pub all_revoked: bool,
    /// None was.
    pub all_expired: bool,
    /// When the last of them ended, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// One is, or was, a certificate: then no other certificate will do.
    pub has_certificate: bool,
    /// The command that gives it another.
    pub command: Option<String>,
}

/// A device that counts as inactive, because it has published nothing for longer than its type
/// permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inactive {
    /// When it published last, milliseconds since the Unix epoch.
    pub last_message_ms: u64,
    /// Since when it counts as inactive, likewise.
    pub since_ms: u64,
    /// Its type.
    pub device_type: String,
    /// After how many seconds without a message devices of that type are inactive.
    pub after_secs: u32,
}

/// A group that a device is not in, and whose rules permit what the device lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMissing {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The command that adds the device to it, for the finding about it.
    pub command: Option<String>,
    /// When the device left the group, milliseconds since the Unix epoch; none: that is not known.
    pub left_ms: Option<u64>,
}

/// A device that has no credential, and never had one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoCredential {
    /// The command that gives it one.
    pub command: Option<String>,
}

/// A user without rights in the API and the panel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoApiRole {
    /// When the API last refused it for that, milliseconds since the Unix epoch.
    pub refused_ms: u64,
    /// The command that gives it some.
    pub command: String,
}

/// Something of the name that was asked about, and that was removed from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What it was, in words: `rule`.
    pub what: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The caller that removed it, as the audit log has it.
    pub by: String,
    /// The command that lists those that there are.
    pub list: Option<String>,
}

/// The last change of the type of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeChange {
    /// The type that it had.
    pub from: String,
    /// The type that it has.
    pub to: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The caller that changed it, as the audit log has it.
    pub by: String,
    /// The command that gives it the former type.
    pub command: Option<String>,
}

/// A desired value that is reported as a value of another type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistyped {
    /// Name of the value; of one in an object, with the names of the objects before it.
    pub name: String,
    /// Its type: `number`.
    pub expected: &'static str,
    /// The type that was reported.
    pub reported: &'static str,
}

/// A desired value of a group of a device that another one hides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HiddenValue {
    /// Name of the value; of one in an object, with the names of the objects before it.
    pub name: String,
    /// Name of the group.
    pub group: String,
    /// When the values of the group were last changed, milliseconds since the Unix epoch.
    pub group_ms: u64,
    /// Name of the other group whose value hides it; none: the device's own value does.
    pub by_group: Option<String>,
    /// The command that removes the device's own value, or shows those of the other group.
    pub command: String,
}

/// The last values of a device are stored at times that it has given and that are years off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockOff {
    /// The time that it has given last, in words.
    pub time: String,
    /// By how many days that is before the time of receipt; negative: after it.
    pub days_behind: i64,
    /// When the first such payload was received, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When the last one was, likewise.
    pub last_ms: u64,
    /// How many there were.
    pub count: u64,
    /// The command that shows the last values.
    pub command: String,
}

/// A key of the API that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedApiKey {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// When it ends or has ended, milliseconds since the Unix epoch; none: never.
    pub expires_ms: Option<u64>,
    /// When it was revoked, likewise; none: it was not.
    pub revoked_ms: Option<u64>,
    /// When it was last used, likewise; none: never.
    pub last_used_ms: Option<u64>,
    /// How often.
    pub uses: u64,
    /// The command that adds another one like it.
    pub renew: String,
    /// The last request with it that was refused.
    pub refused: Option<RefusedToKey>,
    /// Why it is not accepted although it is neither revoked nor expired.
    pub barred: Option<BarredApiKey>,
}

/// Why an API key is not accepted although it is neither revoked nor expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarredApiKey {
    /// What its team or its owner is.
    pub cause: Cause,
    /// The same in words, such as `its team north was deleted`.
    pub why: String,
    /// What to do.
    pub remedy: &'static str,
    /// The command for it.
    pub command: String,
}

/// A name of the tables against which no login is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleInTables {
    /// `device` or `user`.
    pub what: &'static str,
    /// Why the tables are not asked.
    pub why: String,
}

/// A client that was refused in another tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedElsewhere {
    /// Its last refusal.
    pub run: Run,
    /// The tenant, in words.
    pub tenant: String,
    /// Names of that tenant that are spelt nearly so.
    pub near: Vec<String>,
}

/// A request with an API key that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedToKey {
    /// What was refused.
    pub entry: Entry,
    /// The scope that the key lacks, and the command that adds a key that has it too; none: it was
    /// refused for something else.
    pub wider: Option<(&'static str, String)>,
    /// Devices of the id that the path names in other tenants, as the User Names that they come
    /// with.
    pub elsewhere: Vec<String>,
}

/// A provisioning key that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedProvisioningKey {
    /// Its name.
    pub name: String,
    /// The type of the devices that it adds.
    pub device_type: String,
    /// What their ids look like, with one `*` for anything; empty: any id.
    pub id_pattern: String,
    /// Devices that it may add, at most; 0: as many as come.
    pub devices_max: u64,
    /// Devices that it has added.
    pub devices_made: u64,
    /// When it ends or has ended, milliseconds since the Unix epoch; none: never.
    pub expires_ms: Option<u64>,
    /// When it was revoked, likewise; none: it was not.
    pub revoked_ms: Option<u64>,
    /// The last device that was not added by it.
    pub refused: Option<Entry>,
    /// The command that lists the keys.
    pub list: String,
}

/// A part of the program that was asked about, which no client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPart {
    /// The command that it has of its own, if it is not the one that shows it.
    pub own_command: Option<&'static str>,
    /// It is shown with what the node warns about.
    pub is_health: bool,
    /// The command that shows it.
    pub command: String,
}

/// A group that a device joined recently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Id of the group.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A command or rollout for the devices of a group that is not for one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotForDevice {
    /// What it is, in words.
    pub what: String,
    /// It is a rollout, else a command.
    pub is_rollout: bool,
    /// Name of the group.
    pub group: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When the device joined the group, likewise, which was later; none: it was a member, and not
    /// active or full of commands.
    pub joined_ms: Option<u64>,
    /// What to do about it.
    pub worded: WordedRemedy,
}
