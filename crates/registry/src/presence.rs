//! Presence: which clients are connected, and when they last sent something. The nodes write it in
//! batches. It is no change after which nodes read tables again.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{Actor, Registry, RegistryError};

/// Whether a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// In this tenant.
    pub tenant: u32,
    /// Client Identifier.
    pub client_id: String,
    /// Whether it is connected.
    pub online: bool,
    /// Since when it is, or is not: milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// When it was last active.
    pub last_seen_ms: i64,
    /// Why it is not connected.
    pub why_offline: String,
    /// Whether it went with a DISCONNECT of its own.
    pub sent_disconnect: bool,
    /// From where it is, or was.
    pub address: String,
    /// The URL of the listener that it came by.
    pub listener: String,
    /// Whether its status topics have the same state, or are not configured.
    pub is_reported: bool,
}

impl Registry {
    /// Writes the presence of clients, as this node knows it. The end of a client that has
    /// connected to another node since is left out.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn write_presence(
        &mut self,
        node: &str,
        clients: &[Presence],
    ) -> Result<(), RegistryError> {
        if clients.is_empty() {
            return Ok(());
        }
        let mut work = self.begin(&Actor::local()).await?;
        let done = write(&mut work, node, clients).await;
        work.end(done).await
    }

    /// Whether a client is connected; none: nothing is known of it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn presence(
        &mut self,
        tenant: u32,
        client_id: &str,
    ) -> Result<Option<Presence>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT * FROM presence WHERE tenant = $1 AND client_id = $2";
            let query = sqlx::query(sql).bind(i64::from(tenant));
            let query = query.bind(clean(client_id));
            let row = query.fetch_optional(on).await?;
            row.as_ref().map(read_presence).transpose()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Marks all clients of this node as disconnected at the time when it was last alive, as when
    /// it starts after it was killed; clients that were seen later, at that time. Returns these
    /// clients, whose status topics may have another state.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn all_offline(
        &mut self,
        node: &str,
        alive_ms: i64,
        why: &str,
    ) -> Result<Vec<Presence>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE presence SET since_ms = CASE WHEN last_seen_ms > $1 THEN \
                       last_seen_ms ELSE $1 END, online = 0, why_offline = $2, said_goodbye = 0, \
                       is_told = 0 WHERE node = $3 AND online = 1";
            let query = sqlx::query(sql).bind(alive_ms).bind(clean(why));
            let query = query.bind(clean(node));
            query.execute(&mut *work.all).await?;
            let sql = "UPDATE presence SET last_seen_ms = since_ms WHERE node = $1 AND \
                       is_told = 0 AND last_seen_ms < since_ms";
            let query = sqlx::query(sql).bind(clean(node));
            query.execute(&mut *work.all).await?;
            let sql = "SELECT * FROM presence WHERE node = $1 AND is_told = 0";
            let query = sqlx::query(sql).bind(clean(node));
            let rows = query.fetch_all(&mut *work.all).await?;
            rows.iter().map(read_presence).collect()
        };
        let done: Result<Vec<_>, Fault> = done.await;
        work.end(done).await
    }

    /// Deletes clients that are neither devices nor connected, except for the `kept` latest ones.
    /// Returns the number of clients that were deleted.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn forget_passing(&mut self, kept: u32) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM presence WHERE online = 0 AND is_device = 0 AND is_told = 1 \
                       AND since_ms < (SELECT since_ms FROM presence WHERE online = 0 AND \
                       is_device = 0 ORDER BY since_ms DESC LIMIT 1 OFFSET $1)";
            let query = sqlx::query(sql).bind(i64::from(kept));
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done = done.await;
        work.end(done).await
    }
}

/// Removes the presence of a client without a user or device, or leaves it to
/// [`Registry::forget_passing`] while its end is not reported.
pub(crate) async fn forget(
    work: &mut Work<'_>,
    tenant: u32,
    client_id: &str,
) -> Result<(), sqlx::Error> {
    for sql in [
        "DELETE FROM presence WHERE tenant = $1 AND client_id = $2 AND online = 0 AND is_told = 1",
        "UPDATE presence SET is_device = 0 WHERE tenant = $1 AND client_id = $2",
    ] {
        let query = sqlx::query(sql).bind(i64::from(tenant));
        let query = query.bind(client_id.to_owned());
        query.execute(&mut *work.all).await?;
    }
    Ok(())
}

/// Reads the presence of these clients of a tenant.
pub(crate) async fn of_clients(
    on: &mut AnyConnection,
    engine: Engine,
    tenant: u32,
    client_ids: &[&str],
) -> Result<Vec<Presence>, Fault> {
    let mut sql = Sql::new(engine, "SELECT * FROM presence WHERE tenant = ");
    sql.bind(i64::from(tenant)).push(" AND client_id IN ");
    sql.list(client_ids.iter().map(|id| clean(id)));
    let rows = sql.all(on).await?;
    rows.iter().map(read_presence).collect()
}

fn read_presence(row: &AnyRow) -> Result<Presence, Fault> {
    let tenant: i64 = row.try_get("tenant")?;
    Ok(Presence {
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        client_id: row.try_get("client_id")?,
        online: row.try_get::<i64, _>("online")? != 0,
        since_ms: row.try_get("since_ms")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
        why_offline: row.try_get("why_offline")?,
        sent_disconnect: row.try_get::<i64, _>("said_goodbye")? != 0,
        address: row.try_get("address")?,
        listener: row.try_get("listener")?,
        is_reported: row.try_get::<i64, _>("is_told")? != 0,
    })
}

async fn write(work: &mut Work<'_>, node: &str, clients: &[Presence]) -> Result<(), Fault> {
    // The last state of a client counts, since a statement may have only one row for each.
    let mut last = BTreeMap::new();
    for client in clients {
        last.insert((client.tenant, &*client.client_id), client);
    }
    let clients: Vec<_> = last.into_values().collect();
    for some in clients.chunks(200) {
        let mut sql = work.sql(
            "INSERT INTO presence (tenant, client_id, online, since_ms, last_seen_ms, \
             why_offline, said_goodbye, address, listener, is_told, node, is_device) VALUES ",
        );
        for (at, client) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(i64::from(client.tenant));
            sql.push(", ").bind(clean(&client.client_id));
            sql.push(", ").bind(i64::from(client.online));
            sql.push(", ").bind(client.since_ms);
            sql.push(", ").bind(client.last_seen_ms);
            sql.push(", ").bind(clean(&client.why_offline));
            sql.push(", ").bind(i64::from(client.sent_disconnect));
            sql.push(", ").bind(clean(&client.address));
            sql.push(", ").bind(clean(&client.listener));
            sql.push(", ").bind(i64::from(client.is_reported));
            sql.push(", ").bind(clean(node));
            sql.push(", (SELECT COUNT(*) FROM devices WHERE tenant = ");
            sql.bind(i64::from(client.tenant)).push(" AND id = ");
            sql.bind(clean(&client.client_id)).push("))");
        }
        sql.push(
            " ON CONFLICT (tenant, client_id) DO UPDATE SET online = excluded.online, \
             since_ms = excluded.since_ms, last_seen_ms = excluded.last_seen_ms, \
             why_offline = excluded.why_offline, said_goodbye = excluded.said_goodbye, \
             address = excluded.address, \
             listener = excluded.listener, is_told = excluded.is_told, node = excluded.node, \
             is_device = excluded.is_device WHERE presence.node = excluded.node OR \
             presence.online = 0 OR excluded.online = 1",
        );
        sql.execute(&mut work.all).await?;
        let mut sql = work.sql(
            "UPDATE devices SET last_seen_ms = seen.last_seen_ms FROM presence AS seen WHERE \
             seen.tenant = devices.tenant AND seen.client_id = devices.id AND \
             seen.last_seen_ms > devices.last_seen_ms AND \
             seen.last_seen_ms >= devices.created_ms AND devices.tenant IN ",
        );
        let tenants: BTreeSet<_> = some.iter().map(|client| client.tenant).collect();
        sql.list(tenants.into_iter().map(i64::from));
        sql.push(" AND devices.id IN ");
        sql.list(some.iter().map(|client| clean(&client.client_id)));
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}
