//! The database of the MQTT microservice: its webhooks and its messages. Nothing in it is changed.

use std::fmt;

use sqlx::Row as _;

use crate::foreign::{OtherSystem, Tables, read_from};
use crate::sql::Fault;
use crate::{Location, RegistryError};

/// A webhook of the microservice.
#[derive(Clone, PartialEq, Eq)]
pub struct MicroserviceWebhook {
    /// Its id: decimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where its requests go.
    pub url: String,
    /// Method of the requests.
    pub method: String,
    /// Topic Filter of its messages.
    pub topic_filter: String,
    /// It is switched on.
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
    /// Its id: decimal digits.
    pub id: String,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: i64,
    /// It was to be retained.
    pub retained: bool,
    /// When it was published, as it is written there.
    pub time: String,
    /// It was confirmed.
    pub confirmed: bool,
}

/// What such a database has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroserviceContents {
    /// Its webhooks, the oldest first.
    pub webhooks: Vec<MicroserviceWebhook>,
    /// Its last messages, the oldest first.
    pub messages: Vec<MicroserviceMessage>,
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
        let sql = "SELECT CAST(id AS TEXT), COALESCE(name, ''), COALESCE(url, ''), \
                   COALESCE(method, ''), COALESCE(topic_filter, ''), CAST(enabled AS INTEGER), \
                   COALESCE(CAST(headers AS TEXT), ''), CAST(COALESCE(timeout, 0) AS INTEGER), \
                   CAST(COALESCE(retry_count, 0) AS INTEGER), \
                   CAST(COALESCE(retry_delay, 0) AS INTEGER) FROM webhooks ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&mut *on).await?;
        let webhooks = rows.iter().map(|row| {
            Ok(MicroserviceWebhook {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                url: row.try_get(2)?,
                method: row.try_get(3)?,
                topic_filter: row.try_get(4)?,
                enabled: row.try_get::<i64, _>(5)? != 0,
                headers: row.try_get(6)?,
                timeout: row.try_get(7)?,
                retry_count: row.try_get(8)?,
                retry_delay: row.try_get(9)?,
            })
        });
        let webhooks = webhooks.collect::<Result<_, Fault>>()?;
        let sql = "SELECT COUNT(*) FROM messages";
        let messages_there = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
        let sql = "SELECT CAST(id AS TEXT), COALESCE(topic, ''), \
                   COALESCE(CAST(payload AS BLOB), x''), CAST(COALESCE(qos, 0) AS INTEGER), \
                   CAST(COALESCE(retained, 0) AS INTEGER), \
                   COALESCE(CAST(timestamp AS TEXT), ''), \
                   CAST(COALESCE(confirmed, 0) AS INTEGER) FROM messages ORDER BY id DESC LIMIT $1";
        let query = sqlx::query(sql).bind(i64::from(messages_max));
        let rows = query.fetch_all(&mut *on).await?;
        let messages = rows.iter().rev().map(|row| {
            Ok(MicroserviceMessage {
                id: row.try_get(0)?,
                topic: row.try_get(1)?,
                payload: row.try_get(2)?,
                qos: row.try_get(3)?,
                retained: row.try_get::<i64, _>(4)? != 0,
                time: row.try_get(5)?,
                confirmed: row.try_get::<i64, _>(6)? != 0,
            })
        });
        Ok(MicroserviceContents {
            webhooks,
            messages: messages.collect::<Result<_, Fault>>()?,
            messages_there,
        })
    })
    .await
}
