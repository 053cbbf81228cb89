//! Queues that devices keep in SQLite while they have no broker: the messages in them. Nothing in
//! them is changed.

use std::path::Path;

use sqlx::Row as _;

use crate::database::is_there;
use crate::foreign::read_from;
use crate::{Location, RegistryError};

/// A message of such a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineMessage {
    /// Number of its row.
    pub number: i64,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// When it was queued, as it is written there.
    pub time: String,
}

/// The messages of a queue with the table `messages` (`id`, `topic`, `payload`, `timestamp`), the
/// oldest first.
///
/// # Errors
/// There is no such file, it is no database, it cannot be read, or it has no such table.
pub async fn offline_messages(path: &Path) -> Result<Vec<OfflineMessage>, RegistryError> {
    if !is_there(path)? {
        return Err(RegistryError::Refused(format!(
            "{}: there is no such file",
            path.display()
        )));
    }
    let location = Location::File(path.to_owned());
    read_from(&location, async |on, _| {
        let sql = "SELECT COUNT(*) FROM pragma_table_info('messages') \
                   WHERE name IN ('id', 'topic', 'payload', 'timestamp')";
        let columns: i64 = sqlx::query(sql).fetch_one(&mut *on).await?.try_get(0)?;
        if columns != 4 {
            return Err(RegistryError::Refused(format!(
                "{}: no queue of a device: expected a table messages with the columns id, topic, \
                 payload and timestamp",
                path.display()
            ))
            .into());
        }
        let sql = "SELECT id, COALESCE(CAST(topic AS TEXT), ''), \
                   COALESCE(CAST(payload AS BLOB), x''), COALESCE(CAST(timestamp AS TEXT), '') \
                   FROM messages ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(on).await?;
        let messages = rows.iter().map(|row| {
            Ok(OfflineMessage {
                number: row.try_get(0)?,
                topic: row.try_get(1)?,
                payload: row.try_get(2)?,
                time: row.try_get(3)?,
            })
        });
        messages.collect()
    })
    .await
}
