//! Commands that end by themselves, and how long those that have ended are kept.

use serde_json::json;

use crate::database::Work;
use crate::sql::{Fault, signed};
use crate::{Actor, Device, Registry, RegistryError};

/// How much is kept of commands that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandsKept {
    /// Commands, at most.
    pub commands: u64,
    /// Milliseconds after which a command that has ended is dropped.
    pub age_ms: u64,
}

impl Registry {
    /// Ends commands whose time is over before their device acknowledged them. Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn expire_commands(&mut self, now_ms: i64) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE commands SET state = 'expired', finished_ms = $1, due = 0 WHERE \
                       finished_ms = 0 AND state <> 'acknowledged' AND expires_ms <= $1";
            let query = sqlx::query(sql).bind(now_ms);
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done: Result<_, Fault> = done.await;
        work.end(done).await
    }

    /// Cancels commands whose devices were deleted or disabled with others, as those of a team.
    /// Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn cancel_commands_of_inactive(&mut self, now_ms: i64) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE commands SET state = 'cancelled', finished_ms = $1, due = 0, \
                       result = $2 WHERE finished_ms = 0 AND EXISTS (SELECT 1 FROM devices WHERE \
                       number = commands.device AND (deleted_ms > 0 OR status <> 'active'))";
            let query = sqlx::query(sql).bind(now_ms).bind(WHY_CANCELLED);
            Ok(query.execute(&mut *work.all).await?.rows_affected())
        };
        let done: Result<_, Fault> = done.await;
        work.end(done).await
    }

    /// Drops commands that have ended and are beyond what is kept, the oldest ones first. Returns
    /// how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn trim_commands(
        &mut self,
        kept: CommandsKept,
        now_ms: i64,
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let oldest_ms = now_ms.saturating_sub(signed(kept.age_ms));
            let sql = "DELETE FROM commands WHERE finished_ms > 0 AND finished_ms < $1";
            let query = sqlx::query(sql).bind(oldest_ms);
            let old = query.execute(&mut *work.all).await?.rows_affected();
            let sql = "DELETE FROM commands WHERE number IN (SELECT number FROM commands WHERE \
                       finished_ms > 0 ORDER BY finished_ms DESC, number DESC LIMIT 10000 \
                       OFFSET $1)";
            let query = sqlx::query(sql).bind(signed(kept.commands));
            let beyond = query.execute(&mut *work.all).await?.rows_affected();
            Ok(old + beyond)
        };
        let done: Result<_, Fault> = done.await;
        work.end(done).await
    }
}

const WHY_CANCELLED: &str = "the device was deleted or disabled";

/// Cancels the commands of a device that is deleted or disabled.
pub(crate) async fn cancel_of_device(work: &mut Work<'_>, device: &Device) -> Result<(), Fault> {
    let sql = "UPDATE commands SET state = 'cancelled', finished_ms = $1, due = 0, result = $2 \
               WHERE finished_ms = 0 AND device = $3";
    let query = sqlx::query(sql).bind(work.now_ms).bind(WHY_CANCELLED);
    let query = query.bind(device.number);
    let count = query.execute(&mut *work.all).await?.rows_affected();
    if count == 0 {
        return Ok(());
    }
    let changed = json!({ "commands": count });
    work.audit(
        "command.cancel",
        ("device", &device.id),
        &device.team,
        changed,
    )
    .await
}
