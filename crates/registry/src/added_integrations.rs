//! Integrations of nodes that were added by the API.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::teams::{home, name_of, team_seen_of_several};
use crate::{Actor, Conflict, Registry, RegistryError, Visibility};

/// Integrations of one kind of one node that are added by the API, at most: each has a thread of
/// its own.
pub const ADDED_MAX: i64 = 100;

/// An integration that was added by the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedIntegration {
    /// Kind, such as `bridge`.
    pub kind: String,
    /// Name, which no other integration of this kind, node and team has.
    pub name: String,
    /// Id of the team whose messages it takes; empty: the common tenant.
    pub team: String,
    /// Name of that team; empty: the common tenant.
    pub team_name: String,
    /// Settings of the integration: a JSON object.
    pub settings: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// The caller that changed it last, as in the audit log.
    pub changed_by: String,
}

/// Kind of the integrations that may have subscriptions of their own.
pub(crate) const BRIDGE: &str = "bridge";
/// Kind of those that send to a URL.
pub(crate) const WEBHOOK: &str = "webhook";

impl Registry {
    /// Integrations of a node that the caller sees, by kind and name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn added_integrations(
        &mut self,
        visibility: &Visibility,
        node: &str,
    ) -> Result<Vec<AddedIntegration>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT kind, one.name AS name, team, COALESCE(teams.name, '') AS \
                       team_name, settings, one.created_ms AS created_ms, changed_ms, changed_by \
                       FROM added_integrations one LEFT JOIN teams ON teams.id = team \
                       WHERE node = $1 ORDER BY kind, one.name, team";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let all: Result<Vec<_>, Fault> = rows.iter().map(read_one).collect();
            let mut all = all?;
            all.retain(|one| visibility.sees(&one.team));
            Ok(all)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes an integration of a node, of this kind and name, and of the team of this id; empty:
    /// the common tenant. Returns whether it is new.
    ///
    /// # Errors
    /// The caller does not see the team, or the node has [`ADDED_MAX`] of this kind.
    pub async fn set_added_integration(
        &mut self,
        actor: &Actor,
        node: &str,
        kind: &str,
        name: &str,
        team: &str,
        settings: &str,
    ) -> Result<bool, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_one(&mut work, node, kind, name, team, settings).await;
        work.end(done).await
    }

    /// Removes an integration of a node, of this kind and name, with the subscriptions of a bridge.
    /// Returns the id and the name of its team.
    ///
    /// # Errors
    /// There is none that the caller sees, or several teams have one.
    pub async fn remove_added_integration(
        &mut self,
        actor: &Actor,
        node: &str,
        kind: &str,
        name: &str,
    ) -> Result<(String, String), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let team = seen_team_of(&mut work, node, kind, name).await?;
            let team_name = match team.as_str() {
                "" => String::new(),
                team => name_of(&mut work.all, team).await?,
            };
            let sql = "DELETE FROM added_integrations WHERE node = $1 AND kind = $2 AND \
                       team = $3 AND name = $4";
            let query = sqlx::query(sql).bind(clean(node)).bind(clean(kind));
            let query = query.bind(team.clone()).bind(clean(name));
            query.execute(&mut *work.all).await?;
            if kind == BRIDGE {
                let bridge = match team_name.as_str() {
                    "" => name.to_owned(),
                    team => format!("{team}/{name}"),
                };
                let sql = "DELETE FROM bridge_subscriptions WHERE node = $1 AND bridge = $2";
                let query = sqlx::query(sql).bind(clean(node)).bind(clean(&bridge));
                query.execute(&mut *work.all).await?;
            }
            work.audit(&format!("{kind}.remove"), (kind, name), &team, json!({}))
                .await?;
            Ok((team, team_name))
        };
        let done = done.await;
        work.end(done).await
    }
}

fn read_one(row: &AnyRow) -> Result<AddedIntegration, Fault> {
    Ok(AddedIntegration {
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        team: row.try_get("team")?,
        team_name: row.try_get("team_name")?,
        settings: row.try_get("settings")?,
        created_ms: row.try_get("created_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        changed_by: row.try_get("changed_by")?,
    })
}

/// The team of the integration of this name that the caller sees; that of none comes first.
async fn seen_team_of(
    work: &mut Work<'_>,
    node: &str,
    kind: &str,
    name: &str,
) -> Result<String, Fault> {
    let sql = "SELECT team FROM added_integrations WHERE node = $1 AND kind = $2 AND name = $3";
    let query = sqlx::query_scalar(sql).bind(clean(node)).bind(clean(kind));
    let teams: Vec<String> = query.bind(clean(name)).fetch_all(&mut *work.all).await?;
    Ok(team_seen_of_several(
        &work.actor.visibility,
        teams,
        kind,
        name,
    )?)
}

async fn set_one(
    work: &mut Work<'_>,
    node: &str,
    kind: &str,
    name: &str,
    team: &str,
    settings: &str,
) -> Result<bool, Fault> {
    // A team that was removed meanwhile gets none.
    let team = home(&mut work.all, &work.actor.visibility, team)
        .await?
        .team;
    let sql = "SELECT COUNT(*) FROM added_integrations WHERE node = $1 AND kind = $2 AND \
               team = $3 AND name = $4";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(node));
    let query = query.bind(clean(kind)).bind(team.clone()).bind(clean(name));
    let is_new = query.fetch_one(&mut *work.all).await? == 0;
    if is_new {
        let sql = "SELECT COUNT(*) FROM added_integrations WHERE node = $1 AND kind = $2";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(node));
        let all = query.bind(clean(kind)).fetch_one(&mut *work.all).await?;
        if all >= ADDED_MAX {
            return Err(Conflict::AddedIntegrations(kind.to_owned(), ADDED_MAX).into());
        }
        let sql =
            "SELECT COUNT(*) FROM added_integrations WHERE node = $1 AND kind = $2 AND team = $3";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(node));
        let query = query.bind(clean(kind)).bind(team.clone());
        let own = query.fetch_one(&mut *work.all).await?;
        if !work.is_in_share(&team, own, all, ADDED_MAX) {
            return Err(Conflict::IntegrationsOfTeam(kind.to_owned(), own).into());
        }
    }
    let sql = "INSERT INTO added_integrations (node, kind, name, team, settings, created_ms, \
               changed_ms, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT \
               (node, kind, team, name) DO UPDATE SET settings = excluded.settings, changed_ms = \
               excluded.changed_ms, changed_by = excluded.changed_by";
    let query = sqlx::query(sql).bind(clean(node)).bind(clean(kind));
    let query = query
        .bind(clean(name))
        .bind(team.clone())
        .bind(clean(settings))
        .bind(work.now_ms)
        .bind(work.now_ms)
        .bind(clean(&work.actor.who));
    query.execute(&mut *work.all).await?;
    let what = if is_new { "add" } else { "change" };
    work.audit(&format!("{kind}.{what}"), (kind, name), &team, json!({}))
        .await?;
    Ok(is_new)
}
