//! A command to several devices: one command for each of them, with the same id, and their states
//! in sum.

use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use super::new::{COMMANDS_OPEN_MAX, NewCommand, check};
use super::row::{COLUMNS, Command, FROM, read_command};
use super::state::{CommandFilter, CommandState};
use crate::database::Work;
use crate::device_lists::push_filter;
use crate::groups::find::{candidates, find_group};
use crate::page::{Cursor, page_of};
use crate::sql::{Fault, Sql, clean, unsigned};
use crate::{
    Actor, Conflict, DeviceFilter, Exists, Group, IOTFLOW, NotFound, Page, PageRequest, Refused,
    Registry, RegistryError, Status, Visibility, secret,
};

/// Rows of one statement.
const ROWS: usize = 500;
/// Devices of one command, at most.
const DEVICES_MAX: i64 = 100_000;

/// The devices that a command is sent to. Of these it is for those that are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetTarget {
    /// Devices of a group, by its id or name.
    Group(String),
    /// Devices that have all of this when the command is sent.
    Filter(DeviceFilter),
}

/// A command to several devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetCommand {
    /// Id of the command, which the commands of its devices have too.
    pub id: String,
    /// The group that it was sent to; none: it was sent to a filter.
    pub group: Option<Group>,
    /// Devices that it is for.
    pub devices: u64,
    /// Other devices of the group or filter: they are not active, have too many commands, or have
    /// one of this id.
    pub left_out: u64,
}

/// How far several devices are with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetReport {
    /// The command's id.
    pub id: String,
    /// Name of what is to be done.
    pub name: String,
    /// When it was sent, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Number of devices by state; states without any are left out.
    pub states: Vec<(CommandState, u64)>,
}

impl Registry {
    /// Adds a command for each active device of a group or filter.
    ///
    /// # Errors
    /// There is no such group, there are too many devices, there is a command of this id to a
    /// filter, or something about the command cannot be.
    pub async fn add_fleet_command(
        &mut self,
        actor: &Actor,
        target: FleetTarget,
        new: NewCommand,
    ) -> Result<FleetCommand, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = add(&mut work, target, new).await;
        work.end(done).await
    }

    /// Commands that were sent to a group, by its id or name, the newest one first. `id`: only this
    /// one.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn fleet_reports(
        &mut self,
        visibility: &Visibility,
        group: &str,
        id: Option<&str>,
        limit: u32,
    ) -> Result<(Group, Vec<FleetReport>), RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let group = find_group(on, visibility, group).await?;
            let mut last = Sql::new(engine, LAST);
            last.bind(group.id.clone());
            let reports = reports(on, &place, last, &group.id, id, &Visibility::All, limit).await?;
            Ok((group, reports))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Commands that were sent to filters, the newest one first, with the devices that are in
    /// visibility. `id`: only this one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn filter_reports(
        &mut self,
        visibility: &Visibility,
        id: Option<&str>,
        limit: u32,
    ) -> Result<Vec<FleetReport>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let mut last = Sql::new(engine, LAST);
        last.bind(String::new());
        push_scope(&mut last, visibility);
        let read = reports(on, &place, last, "", id, visibility, limit).await;
        reading.end(read).await
    }

    /// A command that was sent to a filter, once for each tenant of its devices, with the states of
    /// these devices in sum.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn filter_report_by_tenant(
        &mut self,
        id: &str,
    ) -> Result<Vec<(u32, FleetReport)>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let mut sql = Sql::new(
            engine,
            "SELECT d.tenant, MIN(c.name), MIN(c.created_ms), c.state, COUNT(*) FROM commands c \
             JOIN devices d ON d.number = c.device WHERE c.fleet <> '' AND c.fleet_group = '' AND \
             c.fleet = ",
        );
        sql.bind(clean(id));
        sql.push(" GROUP BY d.tenant, c.state ORDER BY d.tenant");
        let read = async {
            let mut reports: Vec<(u32, FleetReport)> = Vec::new();
            for row in sql.all(on).await? {
                let tenant: i64 = row.try_get(0)?;
                let tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
                let state = state_of(&row.try_get::<String, _>(3)?, &place)?;
                let count = unsigned(row.try_get(4)?);
                match reports.last_mut().filter(|(last, _)| *last == tenant) {
                    Some((_, last)) => last.states.push((state, count)),
                    None => {
                        let report = FleetReport {
                            id: id.to_owned(),
                            name: row.try_get(1)?,
                            created_ms: row.try_get(2)?,
                            states: vec![(state, count)],
                        };
                        reports.push((tenant, report));
                    }
                }
            }
            for (_, report) in &mut reports {
                report.states.sort_unstable();
            }
            Ok(reports)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The commands of the devices that a command to several devices is for, in the order of the
    /// devices' numbers. `group`: the id or name of the group that it was sent to; none: it was
    /// sent to a filter.
    ///
    /// # Errors
    /// There is no such group or command, or the cursor is none.
    pub async fn fleet_commands(
        &mut self,
        visibility: &Visibility,
        group: Option<&str>,
        id: &str,
        filter: &CommandFilter,
        page: &PageRequest,
    ) -> Result<Page<Command>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let group = match group {
                None => String::new(),
                Some(group) => find_group(on, visibility, group).await?.id,
            };
            let of_fleet = |sql: &mut Sql| {
                sql.push("c.fleet <> '' AND c.fleet = ").bind(clean(id));
                sql.push(" AND c.fleet_group = ").bind(group.clone());
                if let Some(team) = visibility.team() {
                    sql.push(" AND d.team = ").bind(team.to_owned());
                }
            };
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(FROM);
            of_fleet(&mut sql);
            if let Some(state) = filter.state {
                sql.push(" AND c.state = ").bind(state.word());
            }
            if filter.is_open {
                sql.push(" AND c.finished_ms = 0");
            }
            if let Some(cursor) = Cursor::of(page)? {
                sql.push(" AND c.number > ").bind(cursor.number);
            }
            sql.push(" ORDER BY c.number LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(&mut *on).await?;
            if rows.is_empty() {
                let mut sql = Sql::new(engine, "SELECT 1");
                sql.push(FROM);
                of_fleet(&mut sql);
                sql.push(" LIMIT 1");
                if sql.first(on).await?.is_none() {
                    return Err(NotFound::FleetCommand(id.to_owned()).into());
                }
            }
            let items: Result<Vec<Command>, Fault> =
                rows.iter().map(|row| read_command(row, &place)).collect();
            Ok(page_of(page, items?, None, |command| Cursor {
                text: String::new(),
                number: command.number,
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// The newest commands to several devices, up to the id of their group.
const LAST: &str = "WITH last AS (SELECT fleet, MIN(number) AS first, MIN(created_ms) AS made, \
    MIN(name) AS name FROM commands WHERE fleet <> '' AND fleet_group = ";

/// Only commands of devices that are in visibility.
fn push_scope(sql: &mut Sql, visibility: &Visibility) {
    if let Some(team) = visibility.team() {
        sql.push(" AND device IN (SELECT number FROM devices WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
}

/// The states in sum of the commands that a statement begins to read, which is [`LAST`] with what
/// follows it.
async fn reports(
    on: &mut AnyConnection,
    place: &str,
    mut sql: Sql,
    group: &str,
    id: Option<&str>,
    visibility: &Visibility,
    limit: u32,
) -> Result<Vec<FleetReport>, Fault> {
    if let Some(id) = id {
        sql.push(" AND fleet = ").bind(clean(id));
    }
    // Teams may have chosen the same id for their commands to filters.
    let is_one = match group.is_empty() {
        true => ", name, created_ms",
        false => "",
    };
    sql.push(" GROUP BY fleet").push(is_one);
    sql.push(" ORDER BY MIN(number) DESC LIMIT ");
    sql.bind(i64::from(limit)).push(
        ") SELECT l.fleet, l.name, l.made, c.state, COUNT(*), l.first FROM last l CROSS JOIN \
         commands c WHERE c.fleet <> '' AND c.fleet = l.fleet AND c.fleet_group = ",
    );
    sql.bind(group.to_owned());
    if group.is_empty() {
        sql.push(" AND c.name = l.name AND c.created_ms = l.made");
    }
    push_scope(&mut sql, visibility);
    sql.push(" GROUP BY l.fleet, l.name, l.made, l.first, c.state ORDER BY l.first DESC, c.state");
    // With the number of its first command, which no other has.
    let mut reports: Vec<(i64, FleetReport)> = Vec::new();
    for row in sql.all(on).await? {
        let state = state_of(&row.try_get::<String, _>(3)?, place)?;
        let count = unsigned(row.try_get(4)?);
        let first: i64 = row.try_get(5)?;
        match reports.last_mut().filter(|(last, _)| *last == first) {
            Some((_, last)) => last.states.push((state, count)),
            None => {
                let report = FleetReport {
                    id: row.try_get(0)?,
                    name: row.try_get(1)?,
                    created_ms: row.try_get(2)?,
                    states: vec![(state, count)],
                };
                reports.push((first, report));
            }
        }
    }
    let reports = reports.into_iter().map(|(_, mut report)| {
        report.states.sort_unstable();
        report
    });
    Ok(reports.collect())
}

fn state_of(word: &str, place: &str) -> Result<CommandState, RegistryError> {
    CommandState::from_word(word).ok_or_else(|| RegistryError::Damaged {
        place: place.to_owned(),
        what: format!("a command has the unknown state {word:?}"),
    })
}

async fn add(
    work: &mut Work<'_>,
    target: FleetTarget,
    new: NewCommand,
) -> Result<FleetCommand, Fault> {
    check(&new)?;
    let visibility = work.actor.visibility.clone();
    let (group, filter) = match target {
        FleetTarget::Filter(filter) => (None, filter),
        FleetTarget::Group(group) => {
            let group = find_group(&mut work.all, &visibility, &group).await?;
            let filter = DeviceFilter {
                group: Some(group.id.clone()),
                ..DeviceFilter::default()
            };
            (Some(group), filter)
        }
    };
    let id = match &new.id {
        Some(id) => id.clone(),
        None => secret::new_id()?,
    };
    if group.is_none() && new.id.is_some() {
        expect_own_topic(work, &id).await?;
    }
    let to = receivers(work, &filter, &id).await?;
    let all = match &group {
        Some(group) => group.devices,
        None => {
            let mut sql = work.sql("SELECT COUNT(*) FROM devices WHERE ");
            push_filter(&mut sql, work.engine, &visibility, &filter);
            unsigned(sql.count(&mut work.all).await?)
        }
    };
    let group_id = group.as_ref().map_or("", |group| &group.id);
    insert(work, &to, &new, &id, &id, group_id).await?;
    let changed = json!({
        "command": id,
        "name": new.name,
        "devices": to.len(),
        "type": filter.device_type,
        "kind": filter.kind,
        "tag": filter.tag,
    });
    let (about, team) = match &group {
        Some(group) => (("group", &*group.id), &*group.team),
        None => (("command", &*id), visibility.team().unwrap_or_default()),
    };
    work.audit("command.add", about, team, changed).await?;
    let devices = to.len() as u64;
    Ok(FleetCommand {
        left_out: all.saturating_sub(devices),
        id,
        group,
        devices,
    })
}

/// Refuses the id of a command to a filter if the sum of its states would have no topic of its own:
/// the id is no level of a topic, a group has this name, or another command to devices of the same
/// tenant has this id.
async fn expect_own_topic(work: &mut Work<'_>, id: &str) -> Result<(), Fault> {
    if id.contains(['+', '#']) {
        return Err(Refused::FleetCommandId.into());
    }
    let visibility = work.actor.visibility.clone();
    if !candidates(&mut work.all, &visibility, id).await?.is_empty() {
        return Err(Exists::TopicOfGroup(id.to_owned()).into());
    }
    let mut sql = work.sql(
        "SELECT 1 FROM commands c JOIN devices d ON d.number = c.device WHERE c.fleet_group = '' \
         AND c.fleet <> '' AND c.fleet = ",
    );
    sql.bind(clean(id));
    if let Some(team) = visibility.team() {
        sql.push(" AND d.tenant IN (SELECT tenant FROM devices WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
    sql.push(" LIMIT 1");
    match sql.first(&mut work.all).await? {
        None => Ok(()),
        Some(_) => Err(Exists::FleetCommand(id.to_owned()).into()),
    }
}

/// The devices that a command of this id can be added to, by number and type.
async fn receivers(
    work: &mut Work<'_>,
    filter: &DeviceFilter,
    id: &str,
) -> Result<Vec<(i64, String)>, Fault> {
    let visibility = work.actor.visibility.clone();
    let mut sql = work.sql(
        "SELECT number, type FROM devices WHERE (SELECT COUNT(*) FROM commands c WHERE \
         c.device = devices.number AND c.finished_ms = 0) < ",
    );
    sql.bind(COMMANDS_OPEN_MAX);
    sql.push(
        " AND NOT EXISTS (SELECT 1 FROM commands o WHERE o.device = devices.number AND o.id = ",
    );
    sql.bind(clean(id)).push(") AND ");
    let filter = DeviceFilter {
        status: Some(Status::Active),
        ..filter.clone()
    };
    push_filter(&mut sql, work.engine, &visibility, &filter);
    sql.push(" ORDER BY number LIMIT ").bind(DEVICES_MAX + 1);
    let mut to = Vec::new();
    for row in sql.all(&mut work.all).await? {
        to.push((row.try_get::<i64, _>(0)?, row.try_get::<String, _>(1)?));
    }
    match to.len() as i64 > DEVICES_MAX {
        false => Ok(to),
        true => Err(Conflict::DevicesOfCommand(DEVICES_MAX).into()),
    }
}

/// Adds a command of this id for each of these devices, by number and type. Returns the number of
/// the first one; the others follow in this order.
pub(crate) async fn insert(
    work: &mut Work<'_>,
    to: &[(i64, String)],
    new: &NewCommand,
    id: &str,
    fleet: &str,
    group: &str,
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
             attempts, progress, result, sent_ms, delivered_ms, acknowledged_ms, finished_ms, \
             hops) VALUES ",
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
            sql.push(", 'pending', 1, 0, 0, 0, -1, '', 0, 0, 0, 0, ");
            sql.bind(i64::from(new.hops)).push(")");
            number += 1;
        }
        sql.execute(&mut work.all).await?;
    }
    Ok(first)
}
