//! Which values a device may have.

use sqlx::AnyConnection;

use crate::database::Work;
use crate::device_ids::expect_not_reserved;
use crate::names::check_new_name;
use crate::rule_sets::expect_own_topics;
use crate::rule_sets::owner::{is_builtin, unknown};
use crate::sql::Fault;
use crate::users::is_user;
use crate::{Conflict, NotFound, ObjectKind, Owner, Refused, RegistryError, check_text};

/// The id of a new device.
pub(super) fn check_new_id(id: &str) -> Result<(), RegistryError> {
    check_id(id)?;
    expect_not_reserved(id)
}

pub(super) fn check_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("device", name)
}

pub(super) fn check_description(text: &str) -> Result<(), RegistryError> {
    check_text("description", text)
}

pub(super) fn check_location(text: &str) -> Result<(), RegistryError> {
    check_text("location", text)
}

/// A version of firmware or hardware.
pub(super) fn check_version(text: &str) -> Result<(), RegistryError> {
    check_text("version", text)
}

/// The form of an owner's name. Whether there is such a user is checked with the tables.
pub(super) fn check_owner(owner: &str) -> Result<(), RegistryError> {
    check_text("owner", owner)
}

/// Bytes of a kind: there is an index of them.
const KIND_BYTES_MAX: usize = 256;

pub(super) fn check_kind(kind: &str) -> Result<(), RegistryError> {
    match kind.len() > KIND_BYTES_MAX || kind.chars().any(char::is_control) {
        true => Err(Refused::DeviceKind(KIND_BYTES_MAX).into()),
        false => Ok(()),
    }
}

pub(super) fn check_tags(tags: &[String]) -> Result<(), RegistryError> {
    if tags.len() > 64 {
        return Err(Refused::Tags.into());
    }
    tags.iter().try_for_each(|tag| check_new_name("tag", tag))
}

pub(super) fn check_groups(groups: &[String]) -> Result<(), RegistryError> {
    let mut groups = groups.iter();
    groups.try_for_each(|group| check_new_name("group", group))
}

/// There is such a type, and these may give it to a device in this tenant.
pub(crate) async fn expect_type(
    work: &mut Work<'_>,
    tenant: i64,
    of_type: &str,
) -> Result<(), Fault> {
    let found = is_builtin(&mut work.all, Owner::DeviceType, of_type).await?;
    match (found, tenant, work.actor.visibility.team()) {
        (None, ..) => Err(Refused::from(unknown(Owner::DeviceType, of_type)).into()),
        (Some(_), 0, Some(_)) => expect_own_topics(work, Owner::DeviceType, of_type).await,
        (Some(_), ..) => Ok(()),
    }
}

/// Checks that a user may own one more device.
pub(super) async fn expect_room(work: &mut Work<'_>, owner: &str) -> Result<(), Fault> {
    if owner.is_empty() {
        return Ok(());
    }
    let visibility = work.actor.visibility.clone();
    check_owner(owner)?;
    if !is_user(&mut work.all, &visibility, owner).await? {
        return Err(no_owner(owner).into());
    }
    let Some(most) = work.devices_per_user_max else {
        return Ok(());
    };
    let owned = owned_by(&mut work.all, owner).await?;
    match u64::try_from(owned).unwrap_or(0) >= most {
        true => Err(too_many(owner, most).into()),
        false => Ok(()),
    }
}

pub(super) async fn owned_by(on: &mut AnyConnection, owner: &str) -> Result<i64, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM devices WHERE owner = $1 AND deleted_ms = 0";
    let query = sqlx::query_scalar(sql).bind(owner.to_owned());
    query.fetch_one(on).await
}

pub(super) fn too_many(owner: &str, most: u64) -> Conflict {
    Conflict::DevicesOfUser(owner.to_owned(), most)
}

/// Error for an owner that does not exist or is not visible.
pub(super) fn no_owner(owner: &str) -> Refused {
    NotFound::Object(ObjectKind::User, owner.to_owned()).into()
}

/// A device may have that id.
pub fn is_device_id(id: &str) -> bool {
    check_id(id).is_ok()
}

/// Checks that an id is one level in topics, and no wildcard.
fn check_id(id: &str) -> Result<(), RegistryError> {
    check_new_name("device", id)?;
    match id.contains(['+', '#', '/']) || id.starts_with('$') {
        true => Err(Refused::DeviceId(id.to_owned()).into()),
        false => Ok(()),
    }
}
