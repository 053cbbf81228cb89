//! The log of messages that other programs read and confirm. It is bounded by number, bytes and
//! age: what is too old goes, and the tenant that has most loses its oldest messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, Sql, clean, signed, unsigned};
use crate::{Actor, Registry, RegistryError};

/// Bytes that a message counts for beside its topic and payload.
const OVERHEAD: u64 = 256;
/// Messages that are dropped in one step, at most.
const DROPPED_AT_ONCE: i64 = 1_000;

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagesKept {
    /// Messages, at most.
    pub messages: u64,
    /// Bytes of them, at most.
    pub bytes: u64,
    /// Milliseconds after which a message is dropped; `u64::MAX` is never.
    pub age_ms: u64,
}

/// A message of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedMessage {
    /// Names it. A message whose id is there already is not stored again.
    pub id: String,
    /// Tenant of the message.
    pub tenant: u32,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS, 0 to 2.
    pub qos: u8,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// When it was received, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Whether it is confirmed.
    pub confirmed: bool,
}

impl LoggedMessage {
    fn bytes(&self) -> u64 {
        (self.topic.len() + self.payload.len()) as u64 + OVERHEAD
    }
}

/// Which messages of a tenant are listed.
#[derive(Clone, Copy, Debug)]
pub struct MessageLogQuery {
    /// Whether the messages that are confirmed are listed, or those that are not.
    pub confirmed: bool,
    /// Messages, at most.
    pub limit: u32,
    /// Bytes of topics and payloads, at most; the first message comes whatever it has.
    pub bytes: u64,
}

impl Registry {
    /// Stores messages in this order. Returns how many of them were not there yet.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn log_messages(&mut self, messages: &[LoggedMessage]) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE counters SET last = last + $1 WHERE name = 'logged_message' \
                       RETURNING last";
            let query = sqlx::query_scalar(sql).bind(signed(messages.len() as u64));
            let last: i64 = query.fetch_one(&mut *work.all).await?;
            let first = last - signed(messages.len() as u64) + 1;
            let mut stored = 0;
            for (number, message) in (first..).zip(messages) {
                stored += put(&mut work, number, message).await?;
            }
            Ok(stored)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Drops messages that are beyond what is kept at `now_ms`. Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn trim_message_log(
        &mut self,
        kept: MessagesKept,
        now_ms: u64,
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut dropped = 0;
            if let Some(oldest_ms) = now_ms.checked_sub(kept.age_ms) {
                let sql = "DELETE FROM message_log WHERE received_ms < $1";
                let query = sqlx::query(sql).bind(signed(oldest_ms));
                dropped += query.execute(&mut *work.all).await?.rows_affected();
            }
            while let Some(some) = drop_of_greatest(&mut work, kept).await? {
                dropped += some;
            }
            Ok(dropped)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Messages of a tenant, the newest one first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn logged_messages(
        &mut self,
        tenant: u32,
        selection: MessageLogQuery,
    ) -> Result<Vec<LoggedMessage>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            // Payloads are read only of what fits.
            let mut sql = Sql::new(
                engine,
                "SELECT number, bytes FROM message_log WHERE tenant = ",
            );
            sql.bind(i64::from(tenant)).push(" AND confirmed = ");
            sql.bind(i64::from(selection.confirmed));
            sql.push(" ORDER BY number DESC LIMIT ");
            sql.bind(i64::from(selection.limit));
            let (mut numbers, mut bytes) = (Vec::new(), 0);
            for row in sql.all(on).await? {
                bytes += unsigned(row.try_get(1)?);
                if bytes > selection.bytes && !numbers.is_empty() {
                    break;
                }
                numbers.push(row.try_get::<i64, _>(0)?);
            }
            let Some(oldest) = numbers.last() else {
                return Ok(Vec::new());
            };
            let sql = "SELECT * FROM message_log WHERE tenant = $1 AND confirmed = $2 AND \
                       number >= $3 ORDER BY number DESC LIMIT $4";
            let query = sqlx::query(sql).bind(i64::from(tenant));
            let query = query.bind(i64::from(selection.confirmed)).bind(*oldest);
            let query = query.bind(numbers.len() as i64);
            let rows = query.fetch_all(on).await?;
            rows.iter().map(|row| read_row(row, &place)).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A message of a tenant; none if there is none of this id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn logged_message(
        &mut self,
        tenant: u32,
        id: &str,
    ) -> Result<Option<LoggedMessage>, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT * FROM message_log WHERE id = $1 AND tenant = $2";
            let query = sqlx::query(sql).bind(clean(id)).bind(i64::from(tenant));
            let row = query.fetch_optional(on).await?;
            row.map(|row| read_row(&row, &place)).transpose()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Confirms a message of a tenant, or does so once more. Returns whether there is one of this
    /// id.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn confirm_message(&mut self, tenant: u32, id: &str) -> Result<bool, RegistryError> {
        let sql = "UPDATE message_log SET confirmed = 1 WHERE id = $1 AND tenant = $2";
        self.change_message(sql, tenant, id).await
    }

    /// Deletes a message of a tenant. Returns whether there was one of this id.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn delete_message(&mut self, tenant: u32, id: &str) -> Result<bool, RegistryError> {
        let sql = "DELETE FROM message_log WHERE id = $1 AND tenant = $2";
        self.change_message(sql, tenant, id).await
    }

    /// Deletes the confirmed messages of a tenant. Returns how many there were.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn delete_confirmed_messages(&mut self, tenant: u32) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM message_log WHERE tenant = $1 AND confirmed = 1";
            let query = sqlx::query(sql).bind(i64::from(tenant));
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done = done.await;
        work.end(done).await
    }

    async fn change_message(
        &mut self,
        sql: &'static str,
        tenant: u32,
        id: &str,
    ) -> Result<bool, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let query = sqlx::query(sql).bind(clean(id)).bind(i64::from(tenant));
            Ok(query.execute(&mut *work.all).await?.rows_affected() > 0)
        };
        let done = done.await;
        work.end(done).await
    }
}

async fn put(work: &mut Work<'_>, number: i64, message: &LoggedMessage) -> Result<u64, Fault> {
    let sql = "INSERT INTO message_log (number, id, tenant, topic, payload, bytes, qos, retain, \
               received_ms, confirmed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
               ON CONFLICT (id) DO NOTHING";
    let query = sqlx::query(sql).bind(number).bind(clean(&message.id));
    let query = query.bind(i64::from(message.tenant));
    let query = query.bind(clean(&message.topic));
    let query = query.bind(STANDARD.encode(&message.payload));
    let query = query.bind(signed(message.bytes()));
    let query = query.bind(i64::from(message.qos));
    let query = query.bind(i64::from(message.retain));
    let query = query.bind(signed(message.received_ms));
    let query = query.bind(i64::from(message.confirmed));
    Ok(query.execute(&mut *work.all).await?.rows_affected())
}

/// Drops some of the oldest messages of the tenant that has most; none if all is within the bounds.
/// Whether that is most messages or most bytes depends on which bound is exceeded.
async fn drop_of_greatest(work: &mut Work<'_>, kept: MessagesKept) -> Result<Option<u64>, Fault> {
    let sql = "SELECT tenant, COUNT(*), CAST(SUM(bytes) AS BIGINT) FROM message_log \
               GROUP BY tenant";
    let mut held: Vec<(i64, i64, i64)> = Vec::new();
    for row in &sqlx::query(sql).fetch_all(&mut *work.all).await? {
        held.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let messages: i64 = held.iter().map(|(_, messages, _)| messages).sum();
    let bytes: i64 = held.iter().map(|(_, _, bytes)| bytes).sum();
    let too_many = messages - signed(kept.messages);
    let too_large = bytes - signed(kept.bytes);
    if too_many <= 0 && too_large <= 0 {
        return Ok(None);
    }
    let most = held
        .iter()
        .max_by_key(|(_, messages, bytes)| match too_many > 0 {
            true => *messages,
            false => *bytes,
        });
    let Some((tenant, ..)) = most else {
        return Ok(None);
    };
    let sql = "SELECT number, bytes FROM message_log WHERE tenant = $1 ORDER BY number LIMIT $2";
    let query = sqlx::query(sql).bind(*tenant).bind(DROPPED_AT_ONCE);
    let (mut last, mut taken, mut freed) = (0, 0, 0);
    for row in &query.fetch_all(&mut *work.all).await? {
        if taken >= too_many && freed >= too_large {
            break;
        }
        last = row.try_get(0)?;
        freed += row.try_get::<i64, _>(1)?;
        taken += 1;
    }
    let sql = "DELETE FROM message_log WHERE tenant = $1 AND number <= $2";
    let query = sqlx::query(sql).bind(*tenant).bind(last);
    Ok(Some(query.execute(&mut *work.all).await?.rows_affected()))
}

fn read_row(row: &AnyRow, place: &str) -> Result<LoggedMessage, Fault> {
    let number =
        |column: &str| -> Result<u64, Fault> { Ok(unsigned(row.try_get::<i64, _>(column)?)) };
    let payload: String = row.try_get("payload")?;
    let damaged = |_| RegistryError::Damaged {
        place: place.to_owned(),
        what: "the payload of a logged message is not base64".to_owned(),
    };
    Ok(LoggedMessage {
        id: row.try_get("id")?,
        tenant: u32::try_from(number("tenant")?).unwrap_or(u32::MAX),
        topic: row.try_get("topic")?,
        payload: STANDARD.decode(payload).map_err(damaged)?,
        qos: u8::try_from(number("qos")?).unwrap_or(0),
        retain: number("retain")? != 0,
        received_ms: number("received_ms")?,
        confirmed: number("confirmed")? != 0,
    })
}
