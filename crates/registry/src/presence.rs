//! Who is connected, and when they were last heard of: written in batches by the nodes, and never a
//! change that has them read anything again.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// Whether a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// In this tenant.
    pub tenant: u32,
    /// Its Client Identifier.
    pub client_id: String,
    /// It is connected.
    pub online: bool,
    /// Since when it is, or is not: milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// When it was last heard of.
    pub last_seen_ms: i64,
    /// Why it is not connected.
    pub why_offline: String,
    /// From where it is, or was.
    pub address: String,
}

impl Registry {
    /// Writes what has become of clients.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn write_presence(&mut self, clients: &[Presence]) -> Result<(), RegistryError> {
        if clients.is_empty() {
            return Ok(());
        }
        let mut work = self.begin(&Actor::local()).await?;
        let done = write(&mut work, clients).await;
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
        let on = self.connected().await?;
        let read = async {
            let sql = "SELECT * FROM presence WHERE tenant = $1 AND client_id = $2";
            let query = sqlx::query(sql).bind(i64::from(tenant));
            let query = query.bind(clean(client_id));
            let row = query.fetch_optional(on).await?;
            row.as_ref().map(read_presence).transpose()
        };
        let read: Result<_, Fault> = read.await;
        read.map_err(|fault| fault.at(self.place()))
    }

    /// Nobody is connected any more, as when a node starts after it was killed.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn all_offline(&mut self, why: &str) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE presence SET online = 0, since_ms = $1, why_offline = $2 \
                       WHERE online = 1";
            let query = sqlx::query(sql).bind(work.now_ms).bind(why.to_owned());
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done = done.await;
        work.end(done).await
    }
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
        address: row.try_get("address")?,
    })
}

async fn write(work: &mut Work<'_>, clients: &[Presence]) -> Result<(), Fault> {
    // The last that is said of a client holds; no statement may say two things of one.
    let mut last = BTreeMap::new();
    for client in clients {
        last.insert((client.tenant, &*client.client_id), client);
    }
    let clients: Vec<_> = last.into_values().collect();
    for some in clients.chunks(200) {
        let mut sql = work.sql(
            "INSERT INTO presence (tenant, client_id, online, since_ms, last_seen_ms, \
             why_offline, address) VALUES ",
        );
        for (at, client) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(i64::from(client.tenant));
            sql.push(", ").bind(clean(&client.client_id));
            sql.push(", ").bind(i64::from(client.online));
            sql.push(", ").bind(client.since_ms);
            sql.push(", ").bind(client.last_seen_ms);
            sql.push(", ").bind(clean(&client.why_offline));
            sql.push(", ").bind(clean(&client.address)).push(")");
        }
        sql.push(
            " ON CONFLICT (tenant, client_id) DO UPDATE SET online = excluded.online, \
             since_ms = excluded.since_ms, last_seen_ms = excluded.last_seen_ms, \
             why_offline = excluded.why_offline, address = excluded.address",
        );
        sql.execute(&mut work.all).await?;
        let mut sql = work.sql(
            "UPDATE devices SET last_seen_ms = seen.last_seen_ms FROM presence AS seen WHERE \
             seen.tenant = devices.tenant AND seen.client_id = devices.id AND devices.tenant IN ",
        );
        let tenants: BTreeSet<_> = some.iter().map(|client| client.tenant).collect();
        sql.list(tenants.into_iter().map(i64::from));
        sql.push(" AND devices.id IN ");
        sql.list(some.iter().map(|client| clean(&client.client_id)));
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}
