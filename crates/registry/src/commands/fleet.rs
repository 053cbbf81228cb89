//! A command to several devices: one command for each of them, with the same id, and their states
//! in sum.

use serde_json::json;
use sqlx::Row as _;

use super::{COMMANDS_OPEN_MAX, CommandState, NewCommand, check};
use crate::database::Work;
use crate::sql::{Fault, Sql, clean, unsigned};
use crate::{Actor, Group, IOTFLOW, Registry, RegistryError, Scope, groups, secret};

/// Rows of one statement.
const ROWS: usize = 500;
/// Devices of one command, at most.
const DEVICES_MAX: i64 = 100_000;

/// A command to the devices of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetCommand {
    /// Its id, which the commands of its devices have too.
    pub id: String,
    /// The group.
    pub group: Group,
    /// Devices that it is for.
    pub devices: u64,
    /// Devices of the group that it is not for: they are not active, have too many commands, or
    /// have one of this id.
    pub left_out: u64,
}

/// How far the devices of a group are with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetReport {
    /// The command's id.
    pub id: String,
    /// What is to be done.
    pub name: String,
    /// When it was sent, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Number of devices by state; states without any are left out.
    pub states: Vec<(CommandState, u64)>,
}

impl Registry {
    /// Adds a command for each active device of a group, by its id or name.
    ///
    /// # Errors
    /// There is no such group, it has too many devices, or something about the command cannot be.
    pub async fn add_fleet_command(
        &mut self,
        actor: &Actor,
        group: &str,
        new: NewCommand,
    ) -> Result<FleetCommand, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = add(&mut work, group, new).await;
        work.end(done).await
    }

    /// Commands that were sent to a group, by its id or name, the newest one first. `id`: only this
    /// one.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn fleet_reports(
        &mut self,
        scope: &Scope,
        group: &str,
        id: Option<&str>,
        limit: u32,
    ) -> Result<(Group, Vec<FleetReport>), RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let group = groups::find(on, scope, group).await?;
            let mut sql = Sql::new(
                engine,
                "WITH last AS (SELECT fleet, MIN(number) AS first, MIN(created_ms) AS made, \
                 MIN(name) AS name FROM commands WHERE fleet <> '' AND fleet_group = ",
            );
            sql.bind(group.id.clone());
            if let Some(id) = id {
                sql.push(" AND fleet = ").bind(clean(id));
            }
            sql.push(" GROUP BY fleet ORDER BY MIN(number) DESC LIMIT ");
            sql.bind(i64::from(limit)).push(
                ") SELECT l.fleet, l.name, l.made, c.state, COUNT(*), l.first FROM last l JOIN \
                 commands c ON c.fleet = l.fleet AND c.fleet_group = ",
            );
            sql.bind(group.id.clone()).push(
                " GROUP BY l.fleet, l.name, l.made, l.first, c.state ORDER BY l.first DESC, c.state",
            );
            let mut reports: Vec<FleetReport> = Vec::new();
            for row in sql.all(on).await? {
                let (id, word): (String, String) = (row.try_get(0)?, row.try_get(3)?);
                let state =
                    CommandState::from_word(&word).ok_or_else(|| RegistryError::Damaged {
                        place: place.clone(),
                        what: format!("a command has the unknown state {word:?}"),
                    })?;
                let count = unsigned(row.try_get(4)?);
                match reports.last_mut().filter(|last| last.id == id) {
                    Some(last) => last.states.push((state, count)),
                    None => reports.push(FleetReport {
                        id,
                        name: row.try_get(1)?,
                        created_ms: row.try_get(2)?,
                        states: vec![(state, count)],
                    }),
                }
            }
            for report in &mut reports {
                report.states.sort_unstable();
            }
            Ok((group, reports))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

async fn add(work: &mut Work<'_>, group: &str, new: NewCommand) -> Result<FleetCommand, Fault> {
    check(&new)?;
    let scope = work.actor.scope.clone();
    let group = groups::find(&mut work.all, &scope, group).await?;
    let id = match &new.id {
        Some(id) => id.clone(),
        None => secret::new_id()?,
    };
    let mut sql = work.sql(
        "SELECT d.number, d.type FROM group_devices g JOIN devices d ON d.number = g.device \
         WHERE d.deleted_ms = 0 AND d.status = 'active' AND (SELECT COUNT(*) FROM commands c \
         WHERE c.device = d.number AND c.finished_ms = 0) < ",
    );
    sql.bind(COMMANDS_OPEN_MAX);
    sql.push(" AND NOT EXISTS (SELECT 1 FROM commands o WHERE o.device = d.number AND o.id = ");
    sql.bind(clean(&id))
        .push(") AND g.group_id = ")
        .bind(group.id.clone());
    if let Some(team) = scope.team() {
        sql.push(" AND d.team = ").bind(team.to_owned());
    }
    sql.push(" ORDER BY d.number LIMIT ").bind(DEVICES_MAX + 1);
    let mut to = Vec::new();
    for row in sql.all(&mut work.all).await? {
        to.push((row.try_get::<i64, _>(0)?, row.try_get::<String, _>(1)?));
    }
    if to.len() as i64 > DEVICES_MAX {
        let why = format!(
            "the group has more than {DEVICES_MAX} devices, to which one command can be sent: make \
             several groups of them"
        );
        return Err(RegistryError::LimitReached(why).into());
    }
    insert(work, &to, &new, &id, (&id, &group.id)).await?;
    let changed = json!({ "command": id, "name": new.name, "devices": to.len() });
    work.audit("command.add", ("group", &group.id), &group.team, changed)
        .await?;
    let devices = to.len() as u64;
    Ok(FleetCommand {
        left_out: group.devices.saturating_sub(devices),
        id,
        group,
        devices,
    })
}

/// Adds a command of this id for each of these devices, by number and type. Returns the number of
/// the first one; the others follow in this order.
pub(crate) async fn insert(
    work: &mut Work<'_>,
    to: &[(i64, String)],
    new: &NewCommand,
    id: &str,
    (fleet, group): (&str, &str),
) -> Result<i64, Fault> {
    let sql = "UPDATE counters SET last = last + $1 WHERE name = 'command' RETURNING last";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(to.len() as i64);
    let first = query.fetch_one(&mut *work.all).await? - to.len() as i64 + 1;
    let (who, now_ms) = (clean(&work.actor.who), work.now_ms);
    let mut number = first;
    for some in to.chunks(ROWS) {
        let mut sql = work.sql(
            "INSERT INTO commands (number, device, qos, id, fleet, fleet_group, kind, name, \
             parameters, asked_by, created_ms, expires_ms, state, due, message, reached, \
             attempts, progress, result, sent_ms, delivered_ms, acknowledged_ms, finished_ms) \
             VALUES ",
        );
        for (at, (device, device_type)) in some.iter().enumerate() {
            let usual = if device_type == IOTFLOW { 2 } else { 1 };
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(number).push(", ").bind(*device);
            sql.push(", ").bind(i64::from(new.qos.unwrap_or(usual)));
            for text in [
                id,
                fleet,
                group,
                &new.kind,
                &new.name,
                &new.parameters,
                &who,
            ] {
                sql.push(", ").bind(clean(text));
            }
            sql.push(", ").bind(now_ms);
            sql.push(", ").bind(now_ms.saturating_add(new.time_ms));
            sql.push(", 'pending', 1, 0, 0, 0, -1, '', 0, 0, 0, 0)");
            number += 1;
        }
        sql.execute(&mut work.all).await?;
    }
    Ok(first)
}
