//! What the tables and their audit log have of a client, device or other name.

use crate::journal::Run;

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
pub(crate) struct Joined {
    /// Id of the group.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// When, milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
}
