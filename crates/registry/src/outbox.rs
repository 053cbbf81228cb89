//! Messages that follow from changes of the tables, until they are published. Each is written in
//! the transaction of its change, so that a crash loses none.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, Sql, clean};
use crate::table_change::{OutboxRow, TableChange};
use crate::{Actor, Registry, RegistryError};

impl Work<'_> {
    /// Writes the message that follows from a change, if there is one.
    pub(crate) async fn follow(&mut self, change: TableChange<'_>) -> Result<(), Fault> {
        let messages = self.messages_of_changes.as_ref();
        let message = messages.and_then(|messages| messages.message(change));
        match message {
            Some(message) => put(self, &[message]).await,
            None => Ok(()),
        }
    }
}

impl Registry {
    /// The oldest messages of a node, `limit` at most.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn outbox(
        &mut self,
        node: &str,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT node, number, tenant, subject, topic, payload, hops FROM outbox \
                       WHERE node = $1 ORDER BY number LIMIT $2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let query = sqlx::query(sql).bind(clean(node)).bind(limit);
            query.fetch_all(on).await?.iter().map(read_row).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The greatest number of a message of a node; 0 if there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn last_of_outbox(&mut self, node: &str) -> Result<i64, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT COALESCE(MAX(number), 0) FROM outbox WHERE node = $1";
            let query = sqlx::query_scalar(sql).bind(clean(node));
            Ok(query.fetch_one(on).await?)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Removes messages of a node that were published.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn remove_from_outbox(
        &mut self,
        node: &str,
        numbers: &[i64],
    ) -> Result<(), RegistryError> {
        let engine = self.engine();
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            for some in numbers.chunks(NUMBERS) {
                let mut sql = Sql::new(engine, "DELETE FROM outbox WHERE node = ");
                sql.bind(clean(node)).push(" AND number IN ");
                sql.list(some.iter().copied());
                sql.execute(&mut work.all).await?;
            }
            Ok(())
        };
        let done: Result<(), Fault> = done.await;
        work.end(done).await
    }

    /// Drops the oldest messages of a node beyond a number of them. Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn trim_outbox(&mut self, node: &str, most: i64) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM outbox WHERE node = $1 AND number <= (SELECT \
                       COALESCE(MAX(number), 0) FROM (SELECT number FROM outbox WHERE node = $1 \
                       ORDER BY number DESC LIMIT 1 OFFSET $2) AS oldest)";
            let query = sqlx::query(sql).bind(clean(node)).bind(most);
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done: Result<u64, Fault> = done.await;
        work.end(done).await
    }
}

/// Numbers of one statement.
const NUMBERS: usize = 500;

/// Adds messages, unless they are there.
pub(crate) async fn put(work: &mut Work<'_>, rows: &[OutboxRow]) -> Result<(), Fault> {
    for row in rows {
        let sql = "INSERT INTO outbox (node, number, tenant, subject, topic, payload, hops) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node, number) DO NOTHING";
        let query = sqlx::query(sql).bind(clean(&row.node)).bind(row.number);
        let query = query
            .bind(i64::from(row.tenant))
            .bind(clean(&row.subject))
            .bind(clean(&row.topic))
            .bind(clean(&row.payload))
            .bind(i64::from(row.hops));
        query.execute(&mut *work.all).await?;
    }
    Ok(())
}

fn read_row(row: &AnyRow) -> Result<OutboxRow, Fault> {
    let (tenant, hops): (i64, i64) = (row.try_get("tenant")?, row.try_get("hops")?);
    Ok(OutboxRow {
        node: row.try_get("node")?,
        number: row.try_get("number")?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        subject: row.try_get("subject")?,
        topic: row.try_get("topic")?,
        payload: row.try_get("payload")?,
        hops: u8::try_from(hops).unwrap_or(u8::MAX),
    })
}
