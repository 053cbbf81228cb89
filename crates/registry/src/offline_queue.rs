//! Queues that devices keep in SQLite while they have no broker: the messages in them. Nothing in
//! them is changed.

use std::path::Path;

use sqlx::Row as _;

use crate::foreign::read_from;
use crate::foreign::rows::{ForeignRow, ForeignTable, Unread};
use crate::sql::Fault;
use crate::sqlite_file::is_there;
use crate::{Location, Refused, RegistryError};

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
        return Err(Refused::NoFile(path.to_owned()).into());
    }
    let location = Location::File(path.to_owned());
    read_from(&location, async |on, engine| {
        let sql = "SELECT COUNT(*) FROM pragma_table_info('messages') \
                   WHERE name IN ('id', 'topic', 'payload', 'timestamp')";
        let columns: i64 = sqlx::query(sql).fetch_one(&mut *on).await?.try_get(0)?;
        if columns != 4 {
            return Err(Refused::NoQueue(path.to_owned()).into());
        }
        let columns = ["id", "topic", "payload", "timestamp"];
        let table = ForeignTable::read(&mut *on, engine, "messages", &columns).await?;
        let rows = sqlx::query(table.select("messages ORDER BY id"));
        let rows = rows.fetch_all(on).await?;
        let messages = rows.iter().map(|row| message(table.row(row)));
        messages.collect()
    })
    .await
}

/// A message. One whose topic is no text has none, which no broker accepts.
fn message(row: ForeignRow<'_>) -> Result<OfflineMessage, Fault> {
    let number = match row.number(0) {
        Ok(Some(number)) => number,
        // Its id is none: it is known by its place in the table.
        _ => row.number_in_table().parse().unwrap_or_default(),
    };
    Ok(OfflineMessage {
        number,
        topic: or_empty(row.text(1))?,
        payload: or_empty(row.bytes(2))?,
        time: or_empty(row.text(3))?,
    })
}

/// A value that is there and can be read, or else an empty one.
fn or_empty<T: Default>(read: Result<Option<T>, Unread>) -> Result<T, Fault> {
    match read {
        Ok(value) => Ok(value.unwrap_or_default()),
        Err(Unread::Row(_)) => Ok(T::default()),
        Err(Unread::Fault(fault)) => Err(fault),
    }
}
