//! Steps of many commands in one transaction, and which commands are to be published.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row as _;

use super::row::FROM;
use super::row::{COLUMNS, Command, CommandStep, read_command};
use crate::database::Work;
use crate::sql::{Fault, Sql, clean};
use crate::{Actor, Registry, RegistryError};

/// Rows of one statement.
const ROWS: usize = 500;

/// Key that names a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommandKey {
    /// Number of the command.
    Number(i64),
    /// The message that it was last published with, and the Client Identifier of a receiver: only
    /// what its own device does is a step of it.
    Message(u64, String),
    /// The tenant and id of its device, and its own id.
    Id(u32, String, String),
}

/// Something happened to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandUpdate {
    /// Which command.
    pub command: CommandKey,
    /// The step that happened.
    pub step: CommandStep,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl Registry {
    /// Applies steps in this order. Steps of commands that are not there, and steps that come too
    /// late, change nothing. Returns the commands that were changed.
    ///
    /// # Errors
    /// The database cannot be changed; then nothing is.
    pub async fn update_commands(
        &mut self,
        updates: &[CommandUpdate],
    ) -> Result<Vec<Command>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut changed = Vec::new();
            for some in updates.chunks(ROWS) {
                changed.extend(apply(&mut work, some).await?);
            }
            Ok(changed)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Commands that are to be published, the oldest ones first: those whose number is larger than
    /// `after`, and of these at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn due_commands(
        &mut self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Command>, RegistryError> {
        let mut sql = Sql::new(self.engine(), "SELECT ");
        sql.push(COLUMNS).push(FROM);
        sql.push("c.due = 1 AND d.deleted_ms = 0 AND c.number > ");
        sql.bind(after).push(" ORDER BY c.number LIMIT ");
        sql.bind(i64::from(limit));
        self.read_commands(sql).await
    }

    /// These devices, by tenant and id, have subscribed: their pending commands are to be
    /// published. With a time: those too that were published before it, unless the device has
    /// acknowledged them, or was sent them with QoS 0.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn devices_subscribed(
        &mut self,
        devices: &[(u32, String)],
        sent_before_ms: Option<i64>,
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut count = 0;
            for some in devices.chunks(ROWS) {
                let mut sql = work.sql("UPDATE commands SET due = 1, state = 'pending' WHERE ");
                match sent_before_ms {
                    None => sql.push("state = 'pending'"),
                    Some(before_ms) => sql
                        .push("state IN ('pending', 'sent') AND reached = 0 AND sent_ms < ")
                        .bind(before_ms),
                };
                sql.push(" AND finished_ms = 0 AND device IN (SELECT number FROM devices WHERE ");
                sql.push("deleted_ms = 0 AND (tenant, id) IN (VALUES ");
                for (at, (tenant, id)) in some.iter().enumerate() {
                    sql.push(if at == 0 { "(" } else { ", (" });
                    sql.bind(i64::from(*tenant)).push(", ").bind(clean(id));
                    sql.push(")");
                }
                sql.push("))");
                count += sql.execute(&mut work.all).await?;
            }
            Ok(count)
        };
        let done = done.await;
        work.end(done).await
    }

    /// All pending commands are to be published, as after a start; or only those whose last message
    /// was dropped. Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn make_commands_due(&mut self, only_dropped: bool) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut sql = work.sql(
                "UPDATE commands SET due = 1 WHERE finished_ms = 0 AND state = 'pending' AND \
                 due = 0",
            );
            if only_dropped {
                sql.push(" AND sent_ms > 0");
            }
            Ok(sql.execute(&mut work.all).await?)
        };
        let done: Result<_, Fault> = done.await;
        work.end(done).await
    }

    /// Devices ask for their commands: those that they have not acknowledged are to be published,
    /// with at least these hops.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn commands_in_doubt(
        &mut self,
        devices: &[(u32, String, u8)],
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut count = 0;
            for (tenant, id, hops) in devices {
                let sql = "UPDATE commands SET due = 1, state = 'pending', reached = 0, \
                           hops = CASE WHEN hops < $3 THEN $3 ELSE hops END \
                           WHERE finished_ms = 0 AND state <> 'acknowledged' AND device IN (SELECT \
                           number FROM devices WHERE tenant = $1 AND id = $2 AND deleted_ms = 0)";
                let query = sqlx::query(sql).bind(i64::from(*tenant)).bind(clean(id));
                let query = query.bind(i64::from(*hops));
                count += query.execute(&mut *work.all).await?.rows_affected();
            }
            Ok(count)
        };
        let done: Result<_, Fault> = done.await;
        work.end(done).await
    }

    /// Groups (group, empty) and commands to filters (empty, id) with commands that have not ended,
    /// or that ended within `ms` before the last one that did.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn recent_fleets(&mut self, ms: i64) -> Result<Vec<(String, String)>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT DISTINCT fleet_group, CASE WHEN fleet_group = '' THEN fleet ELSE '' \
                       END FROM commands WHERE fleet <> '' AND (finished_ms = 0 OR finished_ms > \
                       (SELECT COALESCE(MAX(finished_ms), 0) FROM commands) - $1)";
            let rows = sqlx::query(sql).bind(ms).fetch_all(on).await?;
            let rows = rows.iter();
            let rows = rows.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
            rows.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The tenants whose devices have commands that have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn tenants_with_commands(&mut self) -> Result<Vec<u32>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT DISTINCT d.tenant FROM commands c JOIN devices d ON \
                       d.number = c.device WHERE c.finished_ms = 0";
            let rows: Vec<i64> = sqlx::query_scalar(sql).fetch_all(on).await?;
            let rows = rows.into_iter();
            Ok(rows.filter_map(|row| u32::try_from(row).ok()).collect())
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

async fn apply(work: &mut Work<'_>, updates: &[CommandUpdate]) -> Result<Vec<Command>, Fault> {
    let by_message = numbers_by_message(work, updates).await?;
    let by_id = numbers_by_id(work, updates).await?;
    let number_of = |update: &CommandUpdate| match &update.command {
        CommandKey::Number(number) => Some(*number),
        CommandKey::Message(message, receiver) => by_message
            .get(&(message.cast_signed(), receiver.clone()))
            .copied(),
        CommandKey::Id(tenant, device, id) => {
            let key = (*tenant, device.clone(), id.clone());
            by_id.get(&key).copied()
        }
    };
    let numbered: Vec<(i64, &CommandUpdate)> = updates
        .iter()
        .filter_map(|update| Some((number_of(update)?, update)))
        .collect();
    if numbered.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = work.sql("SELECT ");
    sql.push(COLUMNS).push(FROM).push("c.number IN ");
    sql.list(numbered.iter().map(|(number, _)| *number));
    let (rows, place) = (sql.all(&mut work.all).await?, work.place().to_owned());
    let mut commands = BTreeMap::new();
    for row in &rows {
        let command = read_command(row, &place)?;
        commands.insert(command.number, (command, false));
    }
    for (number, update) in numbered {
        if let Some((command, is_changed)) = commands.get_mut(&number) {
            *is_changed |= command.apply(&update.step, update.at_ms);
        }
    }
    let commands = commands.into_values();
    let changed: Vec<Command> = commands
        .filter_map(|(command, is_changed)| is_changed.then_some(command))
        .collect();
    write(work, &changed).await?;
    crate::rollouts::follow(work, &changed).await?;
    Ok(changed)
}

async fn numbers_by_message(
    work: &mut Work<'_>,
    updates: &[CommandUpdate],
) -> Result<HashMap<(i64, String), i64>, Fault> {
    let messages = updates.iter().filter_map(|update| match &update.command {
        CommandKey::Message(message, _) => Some(message.cast_signed()),
        _ => None,
    });
    let messages: Vec<i64> = messages.collect();
    let mut found = HashMap::new();
    if messages.is_empty() {
        return Ok(found);
    }
    let mut sql = work.sql("SELECT c.message, d.id, c.number");
    // In the words of the index of them.
    sql.push(FROM).push("c.message <> 0 AND c.message IN ");
    sql.list(messages);
    for row in sql.all(&mut work.all).await? {
        found.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    Ok(found)
}

async fn numbers_by_id(
    work: &mut Work<'_>,
    updates: &[CommandUpdate],
) -> Result<HashMap<(u32, String, String), i64>, Fault> {
    let ids = updates.iter().filter_map(|update| match &update.command {
        CommandKey::Id(tenant, device, id) => Some((*tenant, device, id)),
        _ => None,
    });
    let ids: Vec<(u32, &String, &String)> = ids.collect();
    let mut found = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let mut sql = work.sql("WITH v (tenant, device, id) AS (VALUES ");
    for (at, (tenant, device, id)) in ids.into_iter().enumerate() {
        sql.push(if at == 0 { "(" } else { ", (" });
        sql.bind(i64::from(tenant)).push(", ").bind(clean(device));
        sql.push(", ").bind(clean(id)).push(")");
    }
    // In this order SQLite looks up each of them, and does not read all commands.
    sql.push(
        ") SELECT d.tenant, d.id, c.id, c.number FROM v CROSS JOIN devices d CROSS JOIN commands c \
         WHERE d.tenant = v.tenant AND d.id = v.device AND d.deleted_ms = 0 AND \
         c.device = d.number AND c.id = v.id",
    );
    for row in sql.all(&mut work.all).await? {
        let tenant = u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX);
        found.insert((tenant, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?);
    }
    Ok(found)
}

/// Writes what a step may have changed.
pub(super) async fn write(work: &mut Work<'_>, commands: &[Command]) -> Result<(), Fault> {
    for some in commands.chunks(ROWS) {
        let mut sql = work.sql(
            "WITH v (number, state, due, message, reached, attempts, progress, result, \
             expires_ms, sent_ms, delivered_ms, acknowledged_ms, finished_ms) AS (VALUES ",
        );
        for (at, command) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(command.number)
                .push(", ")
                .bind(command.state.word());
            sql.push(", ").bind(i64::from(command.is_due));
            sql.push(", ").bind(command.message);
            sql.push(", ").bind(i64::from(command.is_reached));
            sql.push(", ").bind(command.attempts);
            sql.push(", ").bind(command.progress.map_or(-1, i64::from));
            sql.push(", ").bind(command.result.clone());
            for ms in [
                command.expires_ms,
                command.sent_ms,
                command.delivered_ms,
                command.acknowledged_ms,
                command.finished_ms,
            ] {
                sql.push(", ").bind(ms);
            }
            sql.push(")");
        }
        sql.push(
            ") UPDATE commands SET state = v.state, due = v.due, message = v.message, \
             reached = v.reached, attempts = v.attempts, progress = v.progress, \
             result = v.result, expires_ms = v.expires_ms, sent_ms = v.sent_ms, \
             delivered_ms = v.delivered_ms, acknowledged_ms = v.acknowledged_ms, \
             finished_ms = v.finished_ms FROM v WHERE commands.number = v.number",
        );
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}
