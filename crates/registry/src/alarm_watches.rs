//! The states of alarms that are not raised, kept over a restart.

use sqlx::Row as _;

use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// State of an alarm that is not raised, or its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmWatchRow {
    /// Number of the tenant.
    pub tenant: u32,
    /// Name of the alarm.
    pub name: String,
    /// Subject of the alarm.
    pub subject: String,
    /// JSON; empty: the row is removed.
    pub state: String,
}

impl Registry {
    /// Writes or removes rows of a node.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn save_alarm_watches(
        &mut self,
        node: &str,
        rows: &[AlarmWatchRow],
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            for row in rows {
                let sql = match row.state.is_empty() {
                    true => {
                        "DELETE FROM alarm_watches WHERE node = $1 AND tenant = $2 AND name = $3 \
                         AND subject = $4"
                    }
                    false => {
                        "INSERT INTO alarm_watches (node, tenant, name, subject, state) VALUES \
                         ($1, $2, $3, $4, $5) ON CONFLICT (node, tenant, name, subject) DO UPDATE \
                         SET state = excluded.state"
                    }
                };
                let query = sqlx::query(sql)
                    .bind(clean(node))
                    .bind(i64::from(row.tenant))
                    .bind(clean(&row.name))
                    .bind(clean(&row.subject));
                let query = match row.state.is_empty() {
                    true => query,
                    false => query.bind(clean(&row.state)),
                };
                query.execute(&mut *work.all).await?;
            }
            Ok(())
        };
        let done: Result<(), Fault> = done.await;
        work.end(done).await
    }

    /// The rows of a node, `limit` at most.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn alarm_watches(
        &mut self,
        node: &str,
        limit: u32,
    ) -> Result<Vec<AlarmWatchRow>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT tenant, name, subject, state FROM alarm_watches WHERE node = $1 \
                       ORDER BY tenant, name, subject LIMIT $2";
            let query = sqlx::query(sql).bind(clean(node)).bind(i64::from(limit));
            let rows = query.fetch_all(on).await?;
            let rows = rows.iter().map(|row| {
                let tenant: i64 = row.try_get("tenant")?;
                Ok(AlarmWatchRow {
                    tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
                    name: row.try_get("name")?,
                    subject: row.try_get("subject")?,
                    state: row.try_get("state")?,
                })
            });
            rows.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}
