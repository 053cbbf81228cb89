//! What the tables and their audit log have of a client, device or other name. Times are
//! milliseconds since the Unix epoch.

use crate::journal::Run;
use crate::remedy::Command;

/// A user or device that was removed from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// The user of the client, if it has another name than was asked about.
    pub user: Option<String>,
    /// Since when.
    pub(crate) at_ms: u64,
    /// The command that brings it back, or its team; none: it cannot be restored.
    pub(crate) command: Option<Command>,
    /// Its team was deleted too, and is restored first.
    pub(crate) team: Option<TeamDeletion>,
}

/// A deleted team of a name that is not in the tables any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TeamDeletion {
    pub(crate) name: String,
    /// Its members were deleted with it, and come back with it.
    pub(crate) brings_back: bool,
}

/// What keeps a client out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Banned {
    /// What is banned, why, and until when.
    pub(crate) why: String,
    /// The command that lifts it.
    pub(crate) command: Option<Command>,
}

/// A device's credentials, all of which are revoked or have expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) count: usize,
    /// All were revoked.
    pub(crate) all_revoked: bool,
    /// None was.
    pub(crate) all_expired: bool,
    /// When the last of them ended.
    pub(crate) last_ms: u64,
    /// One is, or was, a certificate: then no other certificate will do.
    pub(crate) has_certificate: bool,
    /// The command that gives it another.
    pub(crate) command: Option<Command>,
}

/// A group that a device is not in, and whose rules permit what the device lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupMissing {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The command that adds the device to it, for the finding about it.
    pub(crate) command: Option<Command>,
    /// When the device left the group; none: that is not known.
    pub(crate) left_ms: Option<u64>,
}

/// A device that has no credential, and never had one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoCredential {
    /// The command that gives it one.
    pub(crate) command: Option<Command>,
}

/// A user without rights in the API and the panel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoApiRole {
    /// When the API last refused it for that.
    pub(crate) refused_ms: u64,
    /// The command that gives it some.
    pub(crate) command: Option<Command>,
}

/// The last change of the type of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TypeChange {
    pub(crate) from: String,
    pub(crate) to: String,
    /// When.
    pub(crate) at_ms: u64,
    /// The caller that changed it, as the audit log has it.
    pub(crate) by: String,
    /// The command that gives it the former type.
    pub(crate) command: Option<Command>,
}

/// A name of the tables against which no login is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdleInTables {
    /// `device` or `user`.
    pub(crate) what: &'static str,
    /// Why the tables are not asked.
    pub(crate) why: String,
}

/// A client that was refused in another tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedElsewhere {
    pub(crate) run: Run,
    pub(crate) tenant: String,
    /// Names of that tenant that are spelt nearly so.
    pub(crate) near: Vec<String>,
}

/// A part of the program that was asked about, which no client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedPart {
    /// The command that it has of its own, if it is not the one that shows it.
    pub(crate) own_command: Option<&'static str>,
    /// It is shown with what the node warns about.
    pub(crate) is_health: bool,
    pub(crate) command: Option<Command>,
}

/// A group that a device joined recently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) id: String,
    pub(crate) name: String,
    /// When.
    pub(crate) at_ms: u64,
}
