//! When devices last asked for or sent something. That is written often, and no change that nodes
//! read.

use sqlx::Row as _;

use crate::inactivity::{mark_active, mark_one_active};
use crate::sql::{Fault, Sql, clean};
use crate::{Actor, MessageTimes, Registry, RegistryError, SilentDevice};

/// Activity of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The device asked for something.
    Request,
    /// The device sent a heartbeat, which is a message too.
    Heartbeat,
    /// The device sent telemetry, which is a message too.
    Telemetry,
}

impl Registry {
    /// Notes that a device did something at this time, in milliseconds since the Unix epoch.
    /// Earlier times than the noted ones change nothing. A device that was inactive is active again
    /// by a message, and is returned then.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn note_activity(
        &mut self,
        device: i64,
        activity: Activity,
        at_ms: i64,
    ) -> Result<Option<SilentDevice>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let active = match activity {
                Activity::Request => None,
                Activity::Heartbeat | Activity::Telemetry => {
                    mark_one_active(&mut work, device).await?
                }
            };
            let columns: &[&'static str] = match activity {
                Activity::Request => &["last_seen_ms"],
                Activity::Heartbeat => &["last_seen_ms", "last_message_ms", "last_heartbeat_ms"],
                Activity::Telemetry => &["last_seen_ms", "last_message_ms", "last_telemetry_ms"],
            };
            let mut sql = work.sql("UPDATE devices SET ");
            for (at, column) in columns.iter().enumerate() {
                sql.push(if at == 0 { "" } else { ", " });
                later(&mut sql, column, at_ms);
            }
            sql.push(" WHERE number = ").bind(device);
            sql.execute(&mut work.all).await?;
            Ok(active)
        };
        let done: Result<Option<_>, Fault> = done.await;
        work.end(done).await
    }

    /// Notes when devices sent messages, all at once. Ids that no device has are left out, and
    /// earlier times than the noted ones change nothing. Returns the devices among them that were
    /// inactive; they are active again.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn note_message_times(
        &mut self,
        times: &[MessageTimes],
    ) -> Result<Vec<SilentDevice>, RegistryError> {
        if times.is_empty() {
            return Ok(Vec::new());
        }
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let active = mark_active(&mut work, times).await?;
            for one in times {
                let mut sql = work.sql("UPDATE devices SET ");
                later(&mut sql, "last_seen_ms", one.message_ms);
                sql.push(", ");
                later(&mut sql, "last_message_ms", one.message_ms);
                sql.push(", ");
                later(&mut sql, "last_heartbeat_ms", one.heartbeat_ms);
                sql.push(", ");
                later(&mut sql, "last_telemetry_ms", one.telemetry_ms);
                sql.push(", ");
                later(&mut sql, "said_offline_ms", one.offline_ms);
                sql.push(" WHERE tenant = ").bind(i64::from(one.tenant));
                sql.push(" AND id = ").bind(one.id.as_str());
                sql.push(" AND deleted_ms = 0");
                sql.execute(&mut work.all).await?;
            }
            Ok(active)
        };
        let done: Result<Vec<_>, Fault> = done.await;
        work.end(done).await
    }
}

/// When a device was last active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastActivity {
    /// When it sent its last message, milliseconds since the Unix epoch; 0: none is known.
    pub message_ms: i64,
    /// When it last did anything, likewise.
    pub seen_ms: i64,
}

impl Registry {
    /// When a device of a tenant was last active; none: there is no such device.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn last_activity(
        &mut self,
        tenant: u32,
        id: &str,
    ) -> Result<Option<LastActivity>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT last_message_ms, last_seen_ms FROM devices \
                       WHERE tenant = $1 AND id = $2 AND deleted_ms = 0";
            let query = sqlx::query(sql).bind(i64::from(tenant)).bind(clean(id));
            let row = query.fetch_optional(on).await?;
            row.map(|row| {
                Ok(LastActivity {
                    message_ms: row.try_get("last_message_ms")?,
                    seen_ms: row.try_get("last_seen_ms")?,
                })
            })
            .transpose()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// Sets a column to a time, unless it has a later one.
fn later(sql: &mut Sql, column: &'static str, at_ms: i64) {
    sql.push(column).push(" = CASE WHEN ").push(column);
    sql.push(" < ").bind(at_ms).push(" THEN ").bind(at_ms);
    sql.push(" ELSE ").push(column).push(" END");
}
