//! States of integrations, which survive a restart of their node.

use sqlx::{AnyConnection, Row as _};

use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// State of an integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrationState {
    /// `running`, `paused` or `stopped`.
    pub state: String,
    /// Why it has stopped; else empty.
    pub reason: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Registry {
    /// State of an integration of a node; none if none was written.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn integration_state(
        &mut self,
        node: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<IntegrationState>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT state, reason, changed_ms FROM integration_states WHERE node = $1 AND kind = $2 \
                       AND name = $3";
            let query = sqlx::query(sql).bind(clean(node));
            let query = query.bind(clean(kind)).bind(clean(name));
            let Some(row) = query.fetch_optional(on).await? else {
                return Ok(None);
            };
            Ok(Some(IntegrationState {
                state: row.try_get("state")?,
                reason: row.try_get("reason")?,
                since_ms: u64::try_from(row.try_get::<i64, _>("changed_ms")?).unwrap_or_default(),
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes the state of an integration of a node.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn write_integration_state(
        &mut self,
        node: &str,
        kind: &str,
        name: &str,
        state: &IntegrationState,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "INSERT INTO integration_states (node, kind, name, state, reason, \
                       changed_ms) VALUES ($1, $2, $3, $4, $5, $6) \
                       ON CONFLICT (node, kind, name) DO UPDATE SET state = excluded.state, \
                       reason = excluded.reason, changed_ms = excluded.changed_ms";
            let query = sqlx::query(sql).bind(clean(node));
            let query = query.bind(clean(kind)).bind(clean(name));
            let query = query.bind(clean(&state.state)).bind(clean(&state.reason));
            let since_ms = i64::try_from(state.since_ms).unwrap_or(i64::MAX);
            query.bind(since_ms).execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }

    /// Forgets the state of an integration of a node.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn forget_integration_state(
        &mut self,
        node: &str,
        kind: &str,
        name: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = delete_state(&mut work.all, node, kind, name).await;
        work.end(done).await
    }

    /// Forgets the states of all integrations of a node but these (kind and name).
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn forget_integration_states(
        &mut self,
        node: &str,
        kept: &[(String, String)],
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "SELECT kind, name FROM integration_states WHERE node = $1";
            let query = sqlx::query(sql).bind(clean(node));
            for row in query.fetch_all(&mut *work.all).await? {
                let one: (String, String) = (row.try_get("kind")?, row.try_get("name")?);
                if kept.contains(&one) {
                    continue;
                }
                delete_state(&mut work.all, node, &one.0, &one.1).await?;
            }
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }
}

async fn delete_state(
    on: &mut AnyConnection,
    node: &str,
    kind: &str,
    name: &str,
) -> Result<(), Fault> {
    let sql = "DELETE FROM integration_states WHERE node = $1 AND kind = $2 AND name = $3";
    let query = sqlx::query(sql).bind(clean(node));
    let query = query.bind(clean(kind)).bind(clean(name));
    query.execute(on).await?;
    Ok(())
}
