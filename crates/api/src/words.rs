//! Closed lists of words, as the OpenAPI document has them: generated clients know all possible
//! values.

use std::collections::BTreeSet;

use martlet_control::principal::{Role, Scope};
use martlet_control::shares::Pool;

use martlet_registry::{ApiRole, one_of};
use utoipa::openapi::schema::{Array, ArrayBuilder, Object};

/// The kinds of credentials by which a device authenticates.
pub(crate) fn credential_kinds() -> Object {
    use martlet_registry::CredentialKind::{Certificate, Secret};
    one_of(
        "Kind of the credential of the device.",
        [Secret, Certificate].map(|kind| kind.word()),
    )
}

/// Roles in a team: each member has one.
pub(crate) fn member_roles() -> Object {
    let all = ApiRole::ALL
        .into_iter()
        .filter(|role| *role != ApiRole::None);
    one_of(
        "What they may do with what is the team's.",
        all.map(ApiRole::word),
    )
}

/// Pools that all teams share.
pub(crate) fn pools() -> Object {
    let all = Pool::ALL.iter().map(|pool| pool.name());
    one_of("Something that all teams share.", all)
}

/// Units of these pools.
pub(crate) fn pool_units() -> Object {
    let units: BTreeSet<_> = Pool::ALL.iter().map(|pool| pool.unit()).collect();
    one_of("Bytes, or a number of things.", units)
}

/// Rights of the holder of a key: scopes, and roles that stand for some.
pub(crate) fn scopes() -> Array {
    let scopes = Scope::ALL.iter().map(|scope| scope.name());
    let roles = Role::ALL.iter().map(|role| role.name());
    let what = "A scope, or a role that includes several.";
    ArrayBuilder::new()
        .description(Some("What the holder of the key may do."))
        .items(one_of(what, scopes.chain(roles)))
        .build()
}

/// How a list of devices is sorted.
pub(crate) fn device_orders() -> Object {
    one_of(
        "`id`, `created` (newest first) or `last_seen` (latest contact first).",
        ["id", "created", "last_seen"],
    )
}

/// How an export of devices is written.
pub(crate) fn export_formats() -> Object {
    one_of("`csv` (default) or `json`.", ["csv", "json"])
}
