//! Deleting, restoring and removing teams, with all that is theirs.

use serde_json::json;
use sqlx::Row as _;

use super::{Team, expect_all, find_named, named};
use crate::audit::DAY_MS;
use crate::database::Work;
use crate::sql::Fault;
use crate::{Actor, Conflict, Expected, Registry, RegistryError, Visibility};

/// Team that is removed for good, and what is removed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedTeam {
    /// Id of the team.
    pub id: String,
    /// Name of the team, which another may have now.
    pub name: String,
    /// How many devices, deleted ones among them.
    pub devices: i64,
    /// How many users, deleted ones among them.
    pub users: i64,
    /// How many groups.
    pub groups: i64,
    /// How many API keys, provisioning keys and team tokens.
    pub keys: i64,
}

impl Registry {
    /// Deletes a team, and with it its devices and what its keys open; all of it can be restored.
    ///
    /// # Errors
    /// There is no such team, or users belong to it.
    pub async fn delete_team(
        &mut self,
        actor: &Actor,
        id: &str,
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = delete_one(&mut work, id, expected_revision).await;
        work.end(done).await
    }

    /// Brings a deleted team back, with the devices that were deleted with it.
    ///
    /// # Errors
    /// There is no such team that is deleted.
    pub async fn restore_team(&mut self, actor: &Actor, id: &str) -> Result<Team, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = restore_one(&mut work, id).await;
        work.end(done).await
    }

    /// Removes a team for good, whether it was deleted before or not: with its devices, groups and
    /// keys, its bans, and deleted users that belonged to it. Its present users and devices are
    /// removed only `with_members`.
    ///
    /// # Errors
    /// There is none, or it has members.
    pub async fn purge_team(
        &mut self,
        actor: &Actor,
        id: &str,
        with_members: bool,
    ) -> Result<PurgedTeam, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = purge_one(&mut work, id, with_members).await;
        work.end(done).await
    }

    /// Removes for good what was deleted more than `kept_days` ago: devices, users and teams.
    /// Returns their number.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn purge_deleted(&mut self, kept_days: u32) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let kept_ms = i64::from(kept_days).saturating_mul(DAY_MS);
        let before_ms = work.now_ms.saturating_sub(kept_ms);
        let done = purge(&mut work, before_ms).await;
        work.end(done).await
    }
}

async fn delete_one(
    work: &mut Work<'_>,
    id: &str,
    expected_revision: Expected,
) -> Result<(), Fault> {
    expect_all(&work.actor)?;
    let team = find_named(&mut work.all, &Visibility::All, id, false).await?;
    let id = &*team.id;
    expected_revision.check("the team", team.revision)?;
    let sql = "SELECT name FROM users WHERE team = $1 AND deleted_ms = 0 LIMIT 1";
    let at_home = sqlx::query_scalar::<_, String>(sql).bind(id.to_owned());
    if let Some(user) = at_home.fetch_optional(&mut *work.all).await? {
        return Err(Conflict::TeamHasUser(user, team.name).into());
    }
    // By this those are known that go with it, and come back.
    let sql = "SELECT COALESCE(MAX(deleted_ms), 0) FROM devices WHERE team = $1";
    let last = sqlx::query_scalar::<_, i64>(sql).bind(id.to_owned());
    let last = last.fetch_one(&mut *work.all).await?;
    let deleted_ms = work.now_ms.max(last + 1);
    let sql = "UPDATE teams SET deleted_ms = $1, updated_ms = $2, revision = revision + 1 \
               WHERE id = $3";
    let query = sqlx::query(sql).bind(deleted_ms).bind(work.now_ms);
    query.bind(id.to_owned()).execute(&mut *work.all).await?;
    let sql = "UPDATE devices SET deleted_ms = $1, updated_ms = $2, revision = revision + 1 \
               WHERE team = $3 AND deleted_ms = 0";
    let query = sqlx::query(sql).bind(deleted_ms).bind(work.now_ms);
    let query = query.bind(id.to_owned());
    let deleted = query.execute(&mut *work.all).await?.rows_affected();
    let changed = json!({ "name": team.name, "devices": deleted });
    work.audit("team.delete", ("team", id), id, changed).await
}

async fn restore_one(work: &mut Work<'_>, id: &str) -> Result<Team, Fault> {
    expect_all(&work.actor)?;
    let mut team = find_named(&mut work.all, &Visibility::All, id, true).await?;
    let id = &*team.id.clone();
    let sql = "UPDATE devices SET deleted_ms = 0, updated_ms = $1, revision = revision + 1 \
               WHERE team = $2 AND deleted_ms = $3";
    let query = sqlx::query(sql).bind(work.now_ms).bind(id.to_owned());
    let back = query.bind(team.deleted_ms).execute(&mut *work.all).await?;
    expect_room_for_all(work, id).await?;
    team.deleted_ms = 0;
    team.revision += 1;
    team.updated_ms = work.now_ms;
    let sql = "UPDATE teams SET deleted_ms = 0, updated_ms = $1, revision = $2 WHERE id = $3";
    let query = sqlx::query(sql).bind(work.now_ms).bind(team.revision);
    query.bind(id.to_owned()).execute(&mut *work.all).await?;
    let changed = json!({ "name": team.name, "devices": back.rows_affected() });
    work.audit("team.restore", ("team", id), id, changed)
        .await?;
    Ok(team)
}

/// Checks that no owner has more devices than permitted, now that those of the team are restored.
async fn expect_room_for_all(work: &mut Work<'_>, team: &str) -> Result<(), Fault> {
    let Some(most) = work.devices_per_user_max else {
        return Ok(());
    };
    let sql = "SELECT owner FROM devices WHERE deleted_ms = 0 AND owner <> '' AND owner IN \
               (SELECT owner FROM devices WHERE team = $1 AND deleted_ms = 0) \
               GROUP BY owner HAVING COUNT(*) > $2 ORDER BY owner LIMIT 1";
    let query = sqlx::query_scalar::<_, String>(sql).bind(team.to_owned());
    let query = query.bind(i64::try_from(most).unwrap_or(i64::MAX));
    match query.fetch_optional(&mut *work.all).await? {
        None => Ok(()),
        Some(owner) => Err(Conflict::DevicesOfUserAgain(owner, most).into()),
    }
}

async fn purge_one(work: &mut Work<'_>, id: &str, with_members: bool) -> Result<PurgedTeam, Fault> {
    expect_all(&work.actor)?;
    let team = match named(&mut work.all, &Visibility::All, id, false).await? {
        Some(team) => team,
        None => find_named(&mut work.all, &Visibility::All, id, true).await?,
    };
    let id = &*team.id;
    let (devices, users) = (
        count(
            work,
            "SELECT COUNT(*) FROM devices WHERE team = $1 AND deleted_ms = 0",
            id,
        )
        .await?,
        count(
            work,
            "SELECT COUNT(*) FROM users WHERE team = $1 AND deleted_ms = 0",
            id,
        )
        .await?,
    );
    if !with_members && devices + users > 0 {
        return Err(Conflict::TeamHasMembers(team.name, devices, users).into());
    }
    let of_team = "SELECT COUNT(*) FROM device_groups WHERE team = $1";
    let groups = count(work, of_team, id).await?;
    let of_team = "SELECT (SELECT COUNT(*) FROM api_keys WHERE team = $1) + \
                   (SELECT COUNT(*) FROM provisioning_keys WHERE team = $1) + \
                   (SELECT COUNT(*) FROM team_tokens WHERE team = $1)";
    let keys = count(work, of_team, id).await?;
    let devices = count(work, "SELECT COUNT(*) FROM devices WHERE team = $1", id).await?;
    let sql = "SELECT name FROM users WHERE team = $1 ORDER BY name";
    let users = sqlx::query_scalar::<_, String>(sql).bind(id.to_owned());
    let users = users.fetch_all(&mut *work.all).await?;
    for user in &users {
        forget_owner(work, user).await?;
        let deleted = sqlx::query("DELETE FROM users WHERE name = $1").bind(user.clone());
        deleted.execute(&mut *work.all).await?;
        work.audit("user.remove", ("user", user), id, json!({}))
            .await?;
    }
    remove_rest_of(work, id).await?;
    let deleted = sqlx::query("DELETE FROM teams WHERE id = $1").bind(id.to_owned());
    deleted.execute(&mut *work.all).await?;
    let purged = PurgedTeam {
        id: team.id.clone(),
        name: team.name.clone(),
        devices,
        users: i64::try_from(users.len()).unwrap_or(i64::MAX),
        groups,
        keys,
    };
    let changed = json!({
        "name": team.name, "tenant": team.tenant, "devices": devices, "users": purged.users,
        "groups": groups, "keys": keys,
    });
    work.audit("team.remove", ("team", id), id, changed).await?;
    Ok(purged)
}

async fn count(work: &mut Work<'_>, sql: &'static str, team: &str) -> Result<i64, sqlx::Error> {
    let query = sqlx::query_scalar(sql).bind(team.to_owned());
    query.fetch_one(&mut *work.all).await
}

async fn purge(work: &mut Work<'_>, before_ms: i64) -> Result<u64, Fault> {
    expect_all(&work.actor)?;
    let mut deleted = 0;
    for (kind, select, delete) in [
        (
            "device",
            "SELECT id AS name, team FROM devices WHERE deleted_ms > 0 AND deleted_ms < $1",
            "DELETE FROM devices WHERE deleted_ms > 0 AND deleted_ms < $1",
        ),
        (
            "user",
            "SELECT name, team FROM users WHERE deleted_ms > 0 AND deleted_ms < $1",
            "DELETE FROM users WHERE deleted_ms > 0 AND deleted_ms < $1",
        ),
        (
            "team",
            "SELECT id AS name, id AS team FROM teams WHERE deleted_ms > 0 AND deleted_ms < $1",
            "DELETE FROM teams WHERE deleted_ms > 0 AND deleted_ms < $1",
        ),
    ] {
        let found = sqlx::query(select).bind(before_ms);
        for row in found.fetch_all(&mut *work.all).await? {
            let (name, team): (String, String) = (row.try_get("name")?, row.try_get("team")?);
            if kind == "team" {
                remove_rest_of(work, &name).await?;
            }
            if kind == "user" {
                forget_owner(work, &name).await?;
            }
            let action = format!("{kind}.remove");
            work.audit(&action, (kind, &name), &team, json!({})).await?;
        }
        let done = sqlx::query(delete).bind(before_ms);
        deleted += done.execute(&mut *work.all).await?.rows_affected();
    }
    Ok(deleted)
}

/// A name that is used again belongs to a new user, which must not own anything yet.
pub(crate) async fn forget_owner(work: &mut Work<'_>, user: &str) -> Result<(), sqlx::Error> {
    for sql in [
        "UPDATE devices SET owner = '', revision = revision + 1 WHERE owner = $1",
        "DELETE FROM api_keys WHERE owner = $1",
    ] {
        let query = sqlx::query(sql).bind(user.to_owned());
        query.execute(&mut *work.all).await?;
    }
    Ok(())
}

/// Removes what belongs to a team that is removed for good, and to its tenant.
async fn remove_rest_of(work: &mut Work<'_>, team: &str) -> Result<(), sqlx::Error> {
    for sql in [
        "DELETE FROM rules WHERE owner_kind = 'group' AND owner IN \
         (SELECT id FROM device_groups WHERE team = $1)",
        "DELETE FROM device_groups WHERE team = $1",
        "DELETE FROM api_keys WHERE team = $1",
        "DELETE FROM provisioning_keys WHERE team = $1",
        "DELETE FROM team_tokens WHERE team = $1",
        "DELETE FROM secrets WHERE team = $1",
        "DELETE FROM bridge_subscriptions WHERE EXISTS (SELECT 1 FROM added_integrations one \
         JOIN teams ON teams.id = one.team WHERE one.team = $1 AND one.kind = 'bridge' AND \
         one.node = bridge_subscriptions.node AND \
         teams.name || '/' || one.name = bridge_subscriptions.bridge)",
        "DELETE FROM added_integrations WHERE team = $1",
        "DELETE FROM message_rules WHERE team = $1",
        "DELETE FROM devices WHERE team = $1",
        "DELETE FROM bans WHERE tenant > 0 AND tenant = (SELECT tenant FROM teams WHERE id = $1)",
        "DELETE FROM presence WHERE tenant > 0 AND tenant = (SELECT tenant FROM teams WHERE id = $1)",
        "DELETE FROM dead_letters WHERE tenant > 0 AND tenant = \
         (SELECT tenant FROM teams WHERE id = $1)",
        "DELETE FROM message_log WHERE tenant > 0 AND tenant = \
         (SELECT tenant FROM teams WHERE id = $1)",
    ] {
        let query = sqlx::query(sql).bind(team.to_owned());
        query.execute(&mut *work.all).await?;
    }
    Ok(())
}
