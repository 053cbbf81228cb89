//! Facts from the tables about a name that is no client's. Times are milliseconds since the Unix
//! epoch.

use crate::cause::Cause;
use crate::journal::Entry;
use crate::remedy::Command;
use crate::shared_registry::recall_log::Removed;

/// Facts from the tables about the name.
#[derive(Debug, Default)]
pub(crate) struct NamedInTables {
    /// Something of that name was removed.
    pub(super) removed: Option<Removed>,
    pub(super) api_key: Option<NamedApiKey>,
    pub(super) provisioning_key: Option<NamedProvisioningKey>,
    /// Keys whose names are nearly that in the question, by their kind.
    pub(super) near: Vec<(&'static str, Vec<String>)>,
}

/// A key of the API that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedApiKey {
    pub(super) name: String,
    /// Scopes of the key.
    pub(super) scopes: Vec<String>,
    /// When it ends or has ended; none: never.
    pub(super) expires_ms: Option<u64>,
    /// When it was revoked; none: it was not.
    pub(super) revoked_ms: Option<u64>,
    /// When it was last used; none: never.
    pub(super) last_used_ms: Option<u64>,
    pub(super) uses: u64,
    /// The command that adds another one like it.
    pub(super) renew: Option<Command>,
    /// The last request with it that was refused.
    pub(super) refused: Option<RefusedToKey>,
    /// Why it is not accepted although it is neither revoked nor expired.
    pub(super) barred: Option<BarredApiKey>,
}

/// Why an API key is not accepted although it is neither revoked nor expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BarredApiKey {
    /// State of its team or its owner, as a cause.
    pub(super) cause: Cause,
    /// Cause in words, such as `its team north was deleted`.
    pub(super) why: String,
    /// Remedy in words.
    pub(super) remedy: &'static str,
    pub(super) command: Option<Command>,
}

/// A request with an API key that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedToKey {
    pub(super) entry: Entry,
    /// The scope that the key lacks, and the command that adds a key that has it too; none: it was
    /// refused for something else.
    pub(super) wider: Option<(&'static str, Option<Command>)>,
    /// Devices of the id that the path names in other tenants, as the User Names that they come
    /// with.
    pub(super) elsewhere: Vec<String>,
}

/// A provisioning key that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedProvisioningKey {
    pub(super) name: String,
    /// The type of the devices that it adds.
    pub(super) device_type: String,
    /// Pattern that their ids match, with one `*` for anything; empty: any id.
    pub(super) id_pattern: String,
    /// Devices that it may add, at most; 0: as many as come.
    pub(super) devices_max: u64,
    /// Devices that it has added.
    pub(super) devices_made: u64,
    /// When it ends or has ended; none: never.
    pub(super) expires_ms: Option<u64>,
    /// When it was revoked; none: it was not.
    pub(super) revoked_ms: Option<u64>,
    /// The last device that was not added by it.
    pub(super) refused: Option<Entry>,
    /// The command that lists the keys.
    pub(super) list: Option<Command>,
}
