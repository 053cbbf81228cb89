//! Owners of rules: a role, a type or a group of devices. Whether it is there, and may be changed.

use martlet_access::{IOTFLOW, is_built_in_device_type};
use sqlx::AnyConnection;

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::{NotFound, ObjectKind, Refused, RegistryError, Visibility};

/// The default role: all topics but those that begin with `$`, and reading `$SYS/#`.
pub const USER_ROLE: &str = "user";

/// The role of users that are no clients: no topics.
pub const NO_ROLE: &str = "none";

/// Role with all rights of a client.
pub const ADMINISTRATOR_ROLE: &str = "administrator";

/// The type of devices that are given none.
pub const DEVICE_TYPE: &str = "device";

/// Owner of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A role, of users.
    Role,
    /// A type of devices.
    DeviceType,
    /// A group of devices, by its id.
    Group,
}

impl Owner {
    /// Returns the owner's text in the table.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::DeviceType => "device_type",
            Self::Group => "group",
        }
    }

    /// Noun of the kind in messages.
    pub fn word(self) -> &'static str {
        ObjectKind::from(self).word()
    }
}

impl From<Owner> for ObjectKind {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Role => Self::Role,
            Owner::DeviceType => Self::DeviceType,
            Owner::Group => Self::Group,
        }
    }
}

/// Where the rules of a user or device stand: its role, or its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesPlace {
    /// Owner of the rules; a device of a group has those of the group too.
    pub owner: Owner,
    /// Name of the owner.
    pub name: String,
}

impl RulesPlace {
    /// Whether it comes with the program and stays as it is.
    pub fn is_builtin(&self) -> bool {
        match self.owner {
            Owner::Role => [ADMINISTRATOR_ROLE, USER_ROLE, NO_ROLE, IOTFLOW].contains(&&*self.name),
            Owner::DeviceType => is_built_in_device_type(&self.name),
            Owner::Group => false,
        }
    }
}

/// Only callers that see all teams change roles and types.
pub(crate) fn expect_all(work: &Work<'_>) -> Result<(), RegistryError> {
    match work.actor.visibility {
        Visibility::All => Ok(()),
        Visibility::Team(_) => Err(Refused::RuleSetsOfAll.into()),
    }
}

/// Checks that the owner of rules is there, and may be changed.
pub(crate) async fn expect_own(
    on: &mut AnyConnection,
    owner: Owner,
    name: &str,
) -> Result<(), Fault> {
    match is_builtin(on, owner, name).await? {
        Some(false) => Ok(()),
        Some(true) => Err(Refused::BuiltIn(owner.into(), name.to_owned()).into()),
        None => Err(unknown(owner, name).into()),
    }
}

/// Whether there is one of that name, and whether it comes with the program.
pub(crate) async fn is_builtin(
    on: &mut AnyConnection,
    owner: Owner,
    name: &str,
) -> Result<Option<bool>, sqlx::Error> {
    let sql = match owner {
        Owner::Role => "SELECT is_builtin FROM roles WHERE name = $1",
        Owner::DeviceType => "SELECT is_builtin FROM device_types WHERE name = $1",
        Owner::Group => "SELECT 0 * revision FROM device_groups WHERE id = $1",
    };
    let found = sqlx::query_scalar::<_, i64>(sql).bind(clean(name));
    Ok(found.fetch_optional(on).await?.map(|found| found != 0))
}

/// Error for one that is not there.
pub(crate) fn unknown(owner: Owner, name: &str) -> NotFound {
    NotFound::Object(owner.into(), name.to_owned())
}
