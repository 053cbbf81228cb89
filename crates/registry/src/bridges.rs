//! Bridges of nodes that were added by the API, and the subscriptions of named connections.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::teams::home;
use crate::{Actor, Registry, RegistryError, Scope};

/// Bridges of one node that are added by the API, at most: each has threads of its own.
pub const BRIDGES_MAX: i64 = 100;

/// A bridge that was added by the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Name, which no other bridge of the node has.
    pub name: String,
    /// Id of the team whose messages it carries; empty: the common tenant.
    pub team: String,
    /// Its settings: a JSON object.
    pub settings: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// Who changed it last, as in the audit log.
    pub changed_by: String,
}

/// A subscription of a named connection at another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSubscription {
    /// Name of the bridge.
    pub bridge: String,
    /// Topic Filter.
    pub filter: String,
    /// Highest QoS, 0 to 2.
    pub qos: u8,
}

impl Registry {
    /// Bridges of a node that the caller sees, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn bridges(
        &mut self,
        scope: &Scope,
        node: &str,
    ) -> Result<Vec<Bridge>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT name, team, settings, created_ms, changed_ms, changed_by \
                       FROM bridges WHERE node = $1 ORDER BY name";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let all: Result<Vec<_>, Fault> = rows.iter().map(read_bridge).collect();
            let mut all = all?;
            all.retain(|one| scope.sees(&one.team));
            Ok(all)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes a bridge of a node, of the team of this id; empty: the common tenant. Returns whether
    /// it is new. The team of a bridge that is there stays.
    ///
    /// # Errors
    /// The caller does not see the team, the name is that of another team's bridge, or the node has
    /// [`BRIDGES_MAX`] of them.
    pub async fn set_bridge(
        &mut self,
        actor: &Actor,
        (node, name): (&str, &str),
        team: &str,
        settings: &str,
    ) -> Result<bool, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_one(&mut work, (node, name), team, settings).await;
        work.end(done).await
    }

    /// Removes a bridge of a node, with its subscriptions.
    ///
    /// # Errors
    /// There is none, or the caller does not see it.
    pub async fn remove_bridge(
        &mut self,
        actor: &Actor,
        node: &str,
        name: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let team = team_of(&mut work.all, node, name).await?;
            let team = team.filter(|team| work.actor.scope.sees(team));
            let team = team.ok_or_else(|| not_found(name))?;
            for sql in [
                "DELETE FROM bridges WHERE node = $1 AND name = $2",
                "DELETE FROM bridge_subscriptions WHERE node = $1 AND bridge = $2",
            ] {
                let query = sqlx::query(sql).bind(clean(node)).bind(clean(name));
                query.execute(&mut *work.all).await?;
            }
            work.audit("bridge.remove", ("bridge", name), &team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Subscriptions of the named connections of a node.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn bridge_subscriptions(
        &mut self,
        node: &str,
    ) -> Result<Vec<BridgeSubscription>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT bridge, filter, qos FROM bridge_subscriptions WHERE node = $1 \
                       ORDER BY bridge, filter";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let all = rows.iter().map(|row| {
                let qos: i64 = row.try_get("qos")?;
                Ok(BridgeSubscription {
                    bridge: row.try_get("bridge")?,
                    filter: row.try_get("filter")?,
                    qos: u8::try_from(qos).unwrap_or_default(),
                })
            });
            all.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Saves a subscription of a named connection of a node.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn add_bridge_subscription(
        &mut self,
        node: &str,
        one: &BridgeSubscription,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "INSERT INTO bridge_subscriptions (node, bridge, filter, qos) \
                       VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (node, bridge, filter) DO UPDATE SET qos = excluded.qos";
            let query = sqlx::query(sql).bind(clean(node)).bind(clean(&one.bridge));
            let query = query.bind(clean(&one.filter)).bind(i64::from(one.qos));
            query.execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }

    /// Removes a subscription of a named connection of a node, if it is there.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn remove_bridge_subscription(
        &mut self,
        node: &str,
        bridge: &str,
        filter: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM bridge_subscriptions WHERE node = $1 AND bridge = $2 AND \
                       filter = $3";
            let query = sqlx::query(sql).bind(clean(node)).bind(clean(bridge));
            query.bind(clean(filter)).execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }
}

fn read_bridge(row: &AnyRow) -> Result<Bridge, Fault> {
    Ok(Bridge {
        name: row.try_get("name")?,
        team: row.try_get("team")?,
        settings: row.try_get("settings")?,
        created_ms: row.try_get("created_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        changed_by: row.try_get("changed_by")?,
    })
}

fn not_found(name: &str) -> RegistryError {
    RegistryError::NotFound(format!(
        "there is no bridge {name:?} that was added by the API: GET /api/v1/bridges lists those \
         there are"
    ))
}

/// Team of a bridge; none: there is no such bridge.
async fn team_of(on: &mut AnyConnection, node: &str, name: &str) -> Result<Option<String>, Fault> {
    let sql = "SELECT team FROM bridges WHERE node = $1 AND name = $2";
    let query = sqlx::query_scalar(sql).bind(clean(node)).bind(clean(name));
    Ok(query.fetch_optional(on).await?)
}

async fn set_one(
    work: &mut Work<'_>,
    (node, name): (&str, &str),
    team: &str,
    settings: &str,
) -> Result<bool, Fault> {
    // A team that was removed meanwhile gets none.
    let team = home(&mut work.all, &work.actor.scope, team).await?.team;
    let before = team_of(&mut work.all, node, name).await?;
    let is_new = before.is_none();
    if before.is_some_and(|before| before != team) {
        let why = format!("the name {name:?} is that of a bridge of another team: choose another");
        return Err(RegistryError::Exists(why).into());
    }
    if is_new {
        let sql = "SELECT COUNT(*) FROM bridges WHERE node = $1";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(node));
        if query.fetch_one(&mut *work.all).await? >= BRIDGES_MAX {
            let why = format!(
                "the node has {BRIDGES_MAX} bridges that were added by the API, which is the most: \
                 remove one, or put it into the configuration file"
            );
            return Err(RegistryError::LimitReached(why).into());
        }
    }
    let sql = "INSERT INTO bridges (node, name, team, settings, created_ms, changed_ms, \
               changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node, name) DO \
               UPDATE SET settings = excluded.settings, changed_ms = excluded.changed_ms, \
               changed_by = excluded.changed_by";
    let query = sqlx::query(sql).bind(clean(node)).bind(clean(name));
    let query = query
        .bind(team.clone())
        .bind(clean(settings))
        .bind(work.now_ms)
        .bind(work.now_ms)
        .bind(clean(&work.actor.who));
    query.execute(&mut *work.all).await?;
    let action = if is_new {
        "bridge.add"
    } else {
        "bridge.change"
    };
    work.audit(action, ("bridge", name), &team, json!({}))
        .await?;
    Ok(is_new)
}
