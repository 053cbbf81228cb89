//! Deleted users and devices: since when they are deleted, and how they are restored.

use sqlx::{AnyConnection, Row as _};

use crate::sql::{Fault, clean};
use crate::{AccountKind, COMMON_TENANT, Registry, RegistryError};

/// A deleted user or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedAccount {
    /// When it was deleted, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The kind of account that can be restored; none: it cannot be restored.
    pub kind: Option<AccountKind>,
    /// Deletion of its team, if that is deleted too.
    pub team: Option<TeamDeletion>,
}

/// A team that is deleted, and can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamDeletion {
    /// Id of the team.
    pub id: String,
    /// Name of the team.
    pub name: String,
    /// Restoring it brings the device back: the two were deleted together.
    pub brings_back: bool,
}

impl Registry {
    /// The deleted device or user of this name of a tenant; none: nothing is known of one. In the
    /// common tenant `ID@TEAM` is also a device of a team that was deleted with its tenant, by the
    /// team's name or id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn deletion(
        &mut self,
        tenant: u32,
        name: &str,
    ) -> Result<Option<DeletedAccount>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let name = clean(name);
        let read = async {
            match deletion_in(&mut *on, i64::from(tenant), &name).await? {
                None if tenant == COMMON_TENANT => deletion_with_tenant(on, &name).await,
                found => Ok(found),
            }
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Devices of this id of deleted teams that own tenants, three at most, each as `ID@TEAM`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn deleted_with_teams(&mut self, id: &str) -> Result<Vec<String>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let id = clean(id);
        let sql = "SELECT t.name FROM devices d JOIN teams t ON t.tenant = d.tenant WHERE d.id = \
                   $1 AND t.tenant > 0 AND t.deleted_ms > 0 ORDER BY t.name LIMIT $2";
        let query = sqlx::query_scalar::<_, String>(sql).bind(id.to_owned());
        let read = query.bind(NAMESAKES).fetch_all(on).await;
        let teams = reading.end(read).await?;
        Ok(teams.iter().map(|team| format!("{id}@{team}")).collect())
    }
}

/// Maximum number of devices in a result.
const NAMESAKES: i64 = 3;

async fn deletion_in(
    on: &mut AnyConnection,
    tenant: i64,
    name: &str,
) -> Result<Option<DeletedAccount>, Fault> {
    // Numbers as both engines have those of a column.
    let sql = "SELECT deleted_ms, 0 * deleted_ms + 1 AS is_device, team FROM devices WHERE \
               tenant = $1 AND id = $2 UNION ALL SELECT deleted_ms, 0 * deleted_ms AS is_device, \
               team FROM users WHERE tenant = $1 AND name = $2 ORDER BY deleted_ms LIMIT 1";
    let query = sqlx::query_as::<_, (i64, i64, String)>(sql).bind(tenant);
    let found = query.bind(name.to_owned()).fetch_optional(&mut *on).await?;
    if let Some((at_ms, is_device, team)) = found {
        if at_ms == 0 {
            return Ok(None);
        }
        let kind = match is_device {
            0 => AccountKind::User,
            _ => AccountKind::Device,
        };
        return Ok(Some(DeletedAccount {
            at_ms,
            kind: Some(kind),
            team: deletion_of_team(on, &team, at_ms).await?,
        }));
    }
    // The audit log has its team. If the team is removed, it is not known whether it had its own
    // tenant, so nothing is returned.
    let sql = "SELECT at_ms FROM audit WHERE object_kind IN ('device', 'user') AND object_id = $1 \
               AND action IN ('device.remove', 'user.remove') AND (team IN (SELECT id FROM teams \
               WHERE tenant = $2) OR (team = '' AND $2 = 0)) ORDER BY number DESC LIMIT 1";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(name.to_owned());
    let at_ms = query.bind(tenant).fetch_optional(on).await?;
    Ok(at_ms.map(|at_ms| DeletedAccount {
        at_ms,
        kind: None,
        team: None,
    }))
}

/// Reads the deletion of `ID@TEAM`, where that team owns a tenant and is deleted.
async fn deletion_with_tenant(
    on: &mut AnyConnection,
    name: &str,
) -> Result<Option<DeletedAccount>, Fault> {
    let Some((id, team)) = name.rsplit_once('@') else {
        return Ok(None);
    };
    let sql =
        "SELECT tenant FROM teams WHERE (name = $1 OR id = $1) AND tenant > 0 AND deleted_ms > 0";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(team.to_owned());
    match query.fetch_optional(&mut *on).await? {
        Some(tenant) => deletion_in(on, tenant, id).await,
        None => Ok(None),
    }
}

/// The team of this id, if it is deleted; `at_ms` is when a member of it was.
async fn deletion_of_team(
    on: &mut AnyConnection,
    id: &str,
    at_ms: i64,
) -> Result<Option<TeamDeletion>, Fault> {
    let sql = "SELECT id, name, deleted_ms FROM teams WHERE id = $1 AND deleted_ms > 0";
    let query = sqlx::query(sql).bind(id.to_owned());
    let Some(row) = query.fetch_optional(on).await? else {
        return Ok(None);
    };
    Ok(Some(TeamDeletion {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        brings_back: row.try_get::<i64, _>("deleted_ms")? == at_ms,
    }))
}
