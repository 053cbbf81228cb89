//! Changing a device.

use serde_json::{Map, Value, json};
use sqlx::AnyConnection;

use super::DeviceRef;
use super::add::{write_places, write_tags};
use super::checks::{check_tags, expect_room, expect_type};
use super::fields::{self, Device, DeviceChange, user_name};
use super::find::find_device;
use crate::commands::cancel_of_device;
use crate::database::Work;
use crate::groups::find::{for_team as group_for_team, none_for_team};
use crate::sql::Fault;
use crate::teams::{Home, expect_unqualified, home, name_of};
use crate::{Actor, Exists, Expected, Refused, Registry, RegistryError, Status};

impl Registry {
    /// Changes a device; the answer is what it is then.
    ///
    /// # Errors
    /// There is no such device, it has another revision than expected, or something about the
    /// change cannot be.
    pub async fn change_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        change: DeviceChange,
        expected_revision: Expected,
    ) -> Result<Device, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, device, change, expected_revision).await;
        work.end(done).await
    }
}

pub(super) async fn change_one(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    mut change: DeviceChange,
    expected_revision: Expected,
) -> Result<Device, Fault> {
    let visibility = work.actor.visibility.clone();
    let old = find_device(&mut work.all, work.engine, &visibility, device, false).await?;
    expected_revision.check(&old.id, old.revision)?;
    let mut new = old.clone();
    let (owner, team) = (change.owner.take(), change.team.take());
    let (tags, groups) = (change.tags.take(), change.groups.take());
    new.set_values(change)?;
    if new.device_type != old.device_type {
        expect_type(work, i64::from(old.tenant), &new.device_type).await?;
    }
    let is_owner_given = owner.is_some();
    if let Some(owner) = owner.filter(|owner| *owner != old.owner) {
        expect_room(work, &owner).await?;
        new.owner = owner;
    }
    if let Some(team) = team.filter(|team| *team != old.team) {
        move_to_team(work, &mut new, team).await?;
    }
    if new.tenant != old.tenant || new.tenant != crate::COMMON_TENANT && new.owner != old.owner {
        settle_owner(work, &mut new, is_owner_given).await?;
    }
    if let Some(mut tags) = tags {
        check_tags(&tags)?;
        tags.sort_unstable();
        tags.dedup();
        new.tags = tags;
    }
    if let Some(groups) = groups {
        set_groups(work, &mut new, &groups).await?;
    }
    if new.status != old.status && new.status != Status::Active {
        cancel_of_device(work, &new).await?;
    }
    if new != old {
        new.revision += 1;
        new.updated_ms = work.now_ms;
        write_change(work, &old, &new).await?;
    }
    Ok(new)
}

async fn move_to_team(work: &mut Work<'_>, device: &mut Device, team: String) -> Result<(), Fault> {
    let Home { team, tenant } = home(&mut work.all, &work.actor.visibility, &team).await?;
    if team == device.team {
        return Ok(());
    }
    let number = device.number;
    if i64::from(device.tenant) != tenant {
        let sql = "SELECT id FROM devices WHERE tenant = $1 AND id = $2 UNION ALL \
                   SELECT name FROM users WHERE tenant = $1 AND name = $2";
        let query = sqlx::query(sql).bind(tenant).bind(device.id.clone());
        if query.fetch_optional(&mut *work.all).await?.is_some() {
            return Err(Exists::DeviceInTenant(device.id.clone()).into());
        }
        expect_unqualified(&mut work.all, tenant, &device.id).await?;
        device.tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        let owning = match tenant {
            0 => None,
            _ => Some(name_of(&mut work.all, &team).await?),
        };
        device.user_name = user_name(&device.id, owning.as_deref());
    }
    let sql = "DELETE FROM group_devices WHERE device = $1 AND group_id IN \
               (SELECT id FROM device_groups WHERE team <> '' AND team <> $2)";
    let query = sqlx::query(sql).bind(number).bind(team.clone());
    query.execute(&mut *work.all).await?;
    device.groups = groups_of(&mut work.all, number).await?;
    device.team = team;
    Ok(())
}

/// The groups of a device, in the order of their names.
async fn groups_of(on: &mut AnyConnection, device: i64) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT id FROM group_devices JOIN device_groups ON id = group_id \
               WHERE device = $1 ORDER BY name, id";
    let query = sqlx::query_scalar(sql).bind(device);
    query.fetch_all(on).await
}

/// Has a device be in these groups and no others; groups that the caller does not see stay, and may
/// be named.
async fn set_groups(
    work: &mut Work<'_>,
    device: &mut Device,
    named: &[String],
) -> Result<(), Fault> {
    let visibility = work.actor.visibility.clone();
    let mut places = Vec::new();
    for group in named {
        if device.groups.contains(group) {
            places.push((group.clone(), device.number));
            continue;
        }
        match group_for_team(&mut work.all, &device.team, group).await? {
            Some((id, of)) if visibility.sees(&of) => places.push((id, device.number)),
            _ => {
                let why = none_for_team(&mut work.all, &visibility, &device.team, group).await?;
                return Err(why.into());
            }
        }
    }
    let mut sql = work.sql("DELETE FROM group_devices WHERE device = ");
    sql.bind(device.number);
    if let Some(team) = visibility.team() {
        sql.push(" AND group_id IN (SELECT id FROM device_groups WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
    sql.execute(&mut work.all).await?;
    write_places(work, &places).await?;
    device.groups = groups_of(&mut work.all, device.number).await?;
    Ok(())
}

/// A user of another tenant owns nothing here: without a new owner in the change there is none any
/// more.
async fn settle_owner(
    work: &mut Work<'_>,
    device: &mut Device,
    is_given: bool,
) -> Result<(), Fault> {
    if device.owner.is_empty() {
        return Ok(());
    }
    let sql = "SELECT 1 FROM users WHERE name = $1 AND tenant = $2 AND deleted_ms = 0";
    let query = sqlx::query(sql).bind(device.owner.clone());
    let query = query.bind(i64::from(device.tenant));
    if query.fetch_optional(&mut *work.all).await?.is_some() {
        return Ok(());
    }
    if is_given {
        return Err(Refused::OwnerOfOtherTeam(device.owner.clone()).into());
    }
    device.owner.clear();
    Ok(())
}

async fn write_change(work: &mut Work<'_>, old: &Device, new: &Device) -> Result<(), Fault> {
    let mut sql = work.sql("");
    fields::update(&mut sql, new);
    sql.execute(&mut work.all).await?;
    if old.tags != new.tags {
        let removed = sqlx::query("DELETE FROM device_tags WHERE device = $1").bind(new.number);
        removed.execute(&mut *work.all).await?;
        let tags: Vec<_> = new
            .tags
            .iter()
            .map(|tag| (new.number, tag.clone()))
            .collect();
        write_tags(work, &tags).await?;
    }
    let changed = fields::details_of_change(old, new);
    // The old team sees that it has left, and the new team that it has come. Of two tenants neither
    // sees its values in the other.
    let (mut removed, mut added) = (changed.clone(), changed);
    if old.tenant != new.tenant {
        removed = Map::from_iter([("team".to_owned(), json!([old.team, null]))]);
        for (_, pair) in added.iter_mut() {
            pair[0] = Value::Null;
        }
    }
    let (device, removed) = (("device", &*new.id), Value::Object(removed));
    if old.team != new.team {
        work.audit("device.change", device, &old.team, removed)
            .await?;
    }
    let added = Value::Object(added);
    work.audit("device.change", device, &new.team, added).await
}
