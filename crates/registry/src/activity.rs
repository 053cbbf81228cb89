//! When devices last asked for or sent something. That is written often, and no change that nodes
//! read.

use crate::sql::Fault;
use crate::{Actor, Registry, RegistryError};

/// What a device did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It asked for something.
    Request,
    /// It sent a message, such as a heartbeat.
    Message,
    /// It sent telemetry, which is a message too.
    Telemetry,
}

impl Registry {
    /// Notes that a device did something at this time, in milliseconds since the Unix epoch.
    /// Earlier times than the noted ones change nothing.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn note_activity(
        &mut self,
        device: i64,
        activity: Activity,
        at_ms: i64,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let columns: &[&'static str] = match activity {
                Activity::Request => &["last_seen_ms"],
                Activity::Message => &["last_seen_ms", "last_message_ms"],
                Activity::Telemetry => &["last_seen_ms", "last_message_ms", "last_telemetry_ms"],
            };
            let mut sql = work.sql("UPDATE devices SET ");
            for (at, column) in columns.iter().enumerate() {
                sql.push(if at == 0 { "" } else { ", " }).push(column);
                sql.push(" = CASE WHEN ").push(column).push(" < ");
                sql.bind(at_ms).push(" THEN ").bind(at_ms);
                sql.push(" ELSE ").push(column).push(" END");
            }
            sql.push(" WHERE number = ").bind(device);
            sql.execute(&mut work.all).await?;
            Ok(())
        };
        let done: Result<(), Fault> = done.await;
        work.end(done).await
    }
}
