//! The database of the MQTT microservice: its webhooks and its messages. Nothing in it is changed.

use std::fmt;

use crate::foreign::columns::{MESSAGES, WEBHOOKS};
use crate::foreign::rows::{ForeignRow, Unread, UnreadableRow, read_each};
use crate::foreign::system::OtherSystem;
use crate::foreign::{Tables, read_from};
use crate::sql::Engine;
use crate::{Location, Refused, RegistryError};

/// A webhook of the microservice.
#[derive(Clone, PartialEq, Eq)]
pub struct MicroserviceWebhook {
    /// Id of the webhook: decimal digits.
    pub id: String,
    /// Name of the webhook.
    pub name: String,
    /// Where its requests go.
    pub url: String,
    /// Method of the requests.
    pub method: String,
    /// Topic Filter of its messages.
    pub topic_filter: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// JSON object: headers of the requests, in clear.
    pub headers: String,
    /// Time limit of a request, seconds.
    pub timeout: i64,
    /// Attempts after the first one.
    pub retry_count: i64,
    /// Pause between attempts, seconds.
    pub retry_delay: i64,
}

impl fmt::Debug for MicroserviceWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MicroserviceWebhook")
            .field(&self.id)
            .finish()
    }
}

/// A message of the microservice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroserviceMessage {
    /// Id of the message: decimal digits.
    pub id: String,
    /// Topic Name.
    pub topic: String,
    /// Which row of the table it is.
    pub place: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: i64,
    /// Whether it was to be retained.
    pub retained: bool,
    /// When it was published, as it is written there.
    pub time: String,
    /// Whether it was confirmed.
    pub confirmed: bool,
}

/// Contents of a database of the microservice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroserviceContents {
    /// Webhooks, the oldest first.
    pub webhooks: Vec<MicroserviceWebhook>,
    /// Last messages, the oldest first.
    pub messages: Vec<MicroserviceMessage>,
    /// Rows that cannot be read.
    pub unreadable: Vec<UnreadableRow>,
    /// Number of all messages.
    pub messages_there: i64,
}

/// The webhooks of a database of the MQTT microservice, and its last messages: `messages_max` at
/// most.
///
/// # Errors
/// It cannot be read, or is no such database.
pub async fn microservice_contents(
    location: &Location,
    messages_max: u32,
) -> Result<MicroserviceContents, RegistryError> {
    read_from(location, async |on, engine| {
        let tables = Tables::read(on, engine).await?;
        tables.expect(OtherSystem::Microservice, location)?;
        if engine == Engine::Postgres {
            return Err(Refused::NotSqlite(location.to_string()).into());
        }
        let mut unreadable = Vec::new();
        let table = tables.open(&mut *on, engine, &WEBHOOKS).await?;
        let rows = sqlx::query(table.select("webhooks ORDER BY id"));
        let rows = rows.fetch_all(&mut *on).await?;
        let webhooks = read_each(
            &table,
            &rows,
            "webhook",
            |row| row.shown(0),
            &mut unreadable,
            webhook,
        )?;
        let sql = "SELECT COUNT(*) FROM messages";
        let messages_there = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
        let table = tables.open(&mut *on, engine, &MESSAGES).await?;
        let sql = table.select("messages ORDER BY id DESC LIMIT $1");
        let query = sqlx::query(sql).bind(i64::from(messages_max));
        let mut rows = query.fetch_all(&mut *on).await?;
        rows.reverse();
        let messages = read_each(
            &table,
            &rows,
            "message",
            |row| row.shown(0),
            &mut unreadable,
            message,
        )?;
        Ok(MicroserviceContents {
            webhooks,
            messages,
            unreadable,
            messages_there,
        })
    })
    .await
}

fn webhook(row: ForeignRow<'_>) -> Result<MicroserviceWebhook, Unread> {
    Ok(MicroserviceWebhook {
        id: row.text(0)?.ok_or_else(|| row.odd(0, "is NULL"))?,
        url: row.text_or_empty(1)?,
        topic_filter: row.text_or_empty(2)?,
        name: row.text_or_empty(3)?,
        method: row.text_or_empty(4)?,
        enabled: row.text(5)?.is_none() || row.flag(5)?,
        headers: row.text_or_empty(6)?,
        timeout: row.number(7)?.unwrap_or_default(),
        retry_count: row.number(8)?.unwrap_or_default(),
        retry_delay: row.number(9)?.unwrap_or_default(),
    })
}

fn message(row: ForeignRow<'_>) -> Result<MicroserviceMessage, Unread> {
    Ok(MicroserviceMessage {
        id: row.text(0)?.ok_or_else(|| row.odd(0, "is NULL"))?,
        place: row.place(),
        topic: row.text_or_empty(1)?,
        payload: row.bytes(2)?.unwrap_or_default(),
        confirmed: row.flag(3)?,
        qos: row.number(4)?.unwrap_or_default(),
        retained: row.flag(5)?,
        time: row.text_or_empty(6)?,
    })
}
