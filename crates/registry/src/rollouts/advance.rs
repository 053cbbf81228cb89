//! Next steps of rollouts: devices become silent, the next ones are offered the firmware, a rollout
//! pauses or ends.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::follow::{Changed, write_devices};
use super::row::{COLUMNS, Rollout, read_counts, read_progress, read_rollout, write_rollout};
use super::row::{KIND, ROWS};
use crate::commands::{COMMANDS_OPEN_MAX, CommandState, NewCommand, insert_commands};
use crate::database::Work;
use crate::rollout::{Device, DeviceEvent, DeviceReason, DeviceState, RolloutEffect, RolloutState};
use crate::sql::{Fault, clean};
use crate::{Actor, Firmware, Registry, RegistryError, Status, firmware};

/// Name of the commands.
const COMMAND: &str = "update";
/// Devices that are offered the firmware in one transaction, at most.
const OFFERED_AT_ONCE: i64 = 1_000;
/// Devices that become silent, or are looked at, in one transaction, at most.
const LOOKED_AT_ONCE: i64 = 5_000;
/// Steps of the rules in one transaction, at most.
const STEPS: usize = 8;
/// How long devices of a rollout that has ended are looked at: 30 days.
const AFTER_END_MS: i64 = 30 * 24 * 60 * 60 * 1000;
const OPEN: &str = " AND r.state IN ('offered', 'delivered', 'downloading', 'installing')";

/// Result of [`Registry::advance_rollout`].
#[derive(Clone, Debug, PartialEq)]
pub struct AdvancedRollout {
    /// As it is now.
    pub rollout: Rollout,
    /// Whether its state or wave is another one than before.
    pub is_changed: bool,
    /// Commands were added.
    pub has_commands: bool,
    /// There is more to do at once.
    pub has_more: bool,
    /// The last device that was looked at, where the next look goes on; none: that was the last
    /// one, or none was looked at.
    pub looked_until: Option<i64>,
}

impl Registry {
    /// The numbers of rollouts that are to be advanced. `looks`: also those that have ended and
    /// have devices that have not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollouts_to_advance(
        &mut self,
        looks: bool,
        now_ms: i64,
    ) -> Result<Vec<i64>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT number FROM rollouts WHERE finished_ms = 0 AND state <> 'planned' \
                       ORDER BY number";
            let mut all: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&mut *on).await?;
            if looks {
                let sql = "SELECT number FROM rollouts WHERE finished_ms > $1 AND EXISTS (SELECT \
                           1 FROM rollout_devices r WHERE r.rollout = rollouts.number AND r.state \
                           IN ('offered', 'delivered', 'downloading', 'installing'))";
                let query = sqlx::query_scalar::<_, i64>(sql);
                let query = query.bind(now_ms.saturating_sub(AFTER_END_MS));
                all.extend(query.fetch_all(on).await?);
            }
            Ok(all)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Does what is due for a rollout, up to a bound. `look_after`: also looks at devices after
    /// this one, up to a bound, for those that are silent, have reported the version, or whose
    /// commands have ended by themselves; 0 begins with the first one. None: there is no such
    /// rollout.
    ///
    /// # Errors
    /// The database cannot be changed; then nothing is.
    pub async fn advance_rollout(
        &mut self,
        number: i64,
        look_after: Option<i64>,
    ) -> Result<Option<AdvancedRollout>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = advance(&mut work, number, look_after).await;
        work.end(done).await
    }
}

async fn advance(
    work: &mut Work<'_>,
    number: i64,
    look_after: Option<i64>,
) -> Result<Option<AdvancedRollout>, Fault> {
    let place = work.place().to_owned();
    let mut sql = work.sql("SELECT ");
    sql.push(COLUMNS)
        .push(" FROM rollouts WHERE number = ")
        .bind(number);
    let Some(row) = sql.first(&mut work.all).await? else {
        return Ok(None);
    };
    let mut rollout = read_rollout(&row, &place)?;
    let looked_until = match look_after {
        Some(after) => look(work, &rollout, after).await?,
        None => None,
    };
    let before = rollout.machine;
    let (has_commands, has_more) = carry_out(work, &mut rollout).await?;
    let (engine, machine) = (work.engine, rollout.machine);
    rollout.counts = read_counts(&mut work.all, engine, &place, number).await?;
    Ok(Some(AdvancedRollout {
        is_changed: machine.state != before.state || machine.wave != before.wave,
        has_commands,
        has_more,
        looked_until,
        rollout,
    }))
}

/// Steps the rules and carries their effects out. Returns whether commands were added, and whether
/// there is more to do.
pub(super) async fn carry_out(
    work: &mut Work<'_>,
    rollout: &mut Rollout,
) -> Result<(bool, bool), Fault> {
    let (engine, now_ms, place) = (work.engine, work.now_ms, work.place().to_owned());
    let (before, mut has_commands, mut has_more) = (rollout.machine, false, true);
    for _ in 0..STEPS {
        rollout.counts = read_counts(&mut work.all, engine, &place, rollout.number).await?;
        let (counts, plan) = (rollout.wave_counts(), rollout.plan.clone());
        let effects = rollout.machine.step(&plan, &counts, now_ms);
        has_more = !effects.is_empty();
        if !has_more {
            break;
        }
        let mut offered = 0;
        for effect in effects {
            match effect {
                RolloutEffect::Offer { wave } => {
                    let (some, commands) = offer(work, rollout, wave).await?;
                    offered += some;
                    has_commands |= commands;
                }
                RolloutEffect::Close => close(work, rollout).await?,
                RolloutEffect::Changed => {}
            }
        }
        // Others write to the tables too.
        if offered >= OFFERED_AT_ONCE {
            break;
        }
    }
    if rollout.machine.state.is_final() && rollout.finished_ms == 0 {
        rollout.finished_ms = now_ms;
    }
    if rollout.machine != before {
        write_rollout(work, rollout).await?;
    }
    Ok((has_commands, has_more))
}

/// Offers the firmware to waiting devices of the waves up to this one. Returns how many devices
/// were looked at, and whether commands were added.
async fn offer(work: &mut Work<'_>, rollout: &Rollout, wave: usize) -> Result<(i64, bool), Fault> {
    let (engine, now_ms) = (work.engine, work.now_ms);
    let firmware = firmware::by_number(&mut work.all, engine, rollout.firmware).await?;
    let firmware = firmware.ok_or_else(|| RegistryError::Damaged {
        place: work.place().to_owned(),
        what: format!("the firmware of the rollout {} does not exist", rollout.id),
    })?;
    let mut sql = work.sql(
        "SELECT r.device, r.state, r.reason, r.detail, r.progress, r.since_ms, r.heard_ms, \
         r.attempts, COALESCE(d.type, '') AS type, COALESCE(d.status, '') AS status, \
         COALESCE(d.deleted_ms, 1) AS deleted_ms, COALESCE(d.firmware_version, '') AS has, \
         (SELECT COUNT(*) FROM commands c WHERE c.device = r.device AND c.finished_ms = 0) AS open \
         FROM rollout_devices r LEFT JOIN devices d ON d.number = r.device WHERE r.rollout = ",
    );
    sql.bind(rollout.number)
        .push(" AND r.state = 'waiting' AND r.wave <= ");
    sql.bind(wave as i64)
        .push(" ORDER BY r.wave, r.device LIMIT ");
    sql.bind(OFFERED_AT_ONCE);
    let (rows, place) = (sql.all(&mut work.all).await?, work.place().to_owned());
    let (mut changed, mut to) = (Vec::new(), Vec::new());
    for row in &rows {
        let mut device = read_progress(row, &place)?;
        let number: i64 = row.try_get("device")?;
        let event = match left_out(row, &firmware)? {
            Some(event) => event,
            None => {
                to.push((
                    row.try_get::<i64, _>("attempts")?,
                    number,
                    row.try_get("type")?,
                ));
                DeviceEvent::Offered
            }
        };
        device.apply(&event, now_ms);
        changed.push(Changed {
            rollout: rollout.number,
            number,
            device,
        });
    }
    write_devices(work, &changed).await?;
    to.sort_unstable();
    let mut rest = to.as_slice();
    while let Some((attempts, ..)) = rest.first() {
        let same = rest.partition_point(|(other, ..)| other <= attempts);
        let (some, others) = rest.split_at(same);
        add_commands(work, rollout, &firmware, *attempts, some).await?;
        rest = others;
    }
    Ok((rows.len() as i64, !to.is_empty()))
}

/// Why a waiting device is not offered the firmware; none: it is.
fn left_out(row: &AnyRow, firmware: &Firmware) -> Result<Option<DeviceEvent>, Fault> {
    let (device_type, status): (String, String) = (row.try_get("type")?, row.try_get("status")?);
    let has: String = row.try_get("has")?;
    let skipped = |reason| Ok(Some(DeviceEvent::Skipped(reason)));
    if row.try_get::<i64, _>("deleted_ms")? != 0 {
        return skipped(DeviceReason::Deleted);
    }
    if Status::from_word(&status) != Some(Status::Active) {
        return skipped(DeviceReason::Disabled);
    }
    if device_type != firmware.device_type {
        return skipped(DeviceReason::WrongType);
    }
    if has == firmware.version {
        return skipped(DeviceReason::HasVersion);
    }
    let open: i64 = row.try_get("open")?;
    Ok((open >= COMMANDS_OPEN_MAX)
        .then(|| DeviceEvent::Failed(DeviceReason::TooManyCommands, String::new())))
}

/// Adds the commands for devices that were offered the firmware equally often before.
async fn add_commands(
    work: &mut Work<'_>,
    rollout: &Rollout,
    firmware: &Firmware,
    attempts: i64,
    devices: &[(i64, i64, String)],
) -> Result<(), Fault> {
    let id = match attempts {
        0 => rollout.id.clone(),
        attempts => format!("{}.{attempts}", rollout.id),
    };
    let mut parameters = json!({
        "name": firmware.name,
        "version": firmware.version,
        "size": firmware.size,
        "sha256": firmware.sha256,
        "rollout": rollout.id,
    });
    match firmware.url.is_empty() {
        true => {
            let path = format!(
                "/api/v1/firmware/{}/{}/file",
                firmware.name, firmware.version
            );
            parameters["path"] = path.into();
        }
        false => parameters["url"] = firmware.url.clone().into(),
    }
    if !firmware.signature.is_empty() {
        parameters["signature"] = firmware.signature.clone().into();
    }
    let command = NewCommand {
        id: Some(id.clone()),
        kind: KIND.to_owned(),
        name: COMMAND.to_owned(),
        parameters: parameters.to_string(),
        qos: None,
        time_ms: (rollout.machine.deadline_ms - work.now_ms).max(1_000),
        hops: 0,
    };
    let to: Vec<(i64, String)> = devices
        .iter()
        .map(|(_, number, device_type)| (*number, device_type.clone()))
        .collect();
    // The audit log of commands has the caller that began the rollout.
    let who = std::mem::replace(&mut work.actor.who, rollout.asked_by.clone());
    let inserted = insert_commands(work, &to, &command, &id, "", "").await;
    work.actor.who = who;
    let first = inserted?;
    let numbered: Vec<(i64, i64)> = (first..).zip(&to).map(|(at, (to, _))| (at, *to)).collect();
    for some in numbered.chunks(ROWS) {
        let mut sql = work.sql("WITH v (device, command) AS (VALUES ");
        for (at, (command, device)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(*device).push(", ").bind(*command).push(")");
        }
        sql.push(
            ") UPDATE rollout_devices SET command = v.command, attempts = attempts + 1 FROM v \
             WHERE rollout_devices.device = v.device AND rollout = ",
        );
        sql.bind(rollout.number);
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

/// Looks for devices that have changed without an answer, among those after one. Returns the last
/// one that was looked at; none: there are no more. So a rollout of many devices costs no more in
/// one transaction than others.
async fn look(work: &mut Work<'_>, rollout: &Rollout, after: i64) -> Result<Option<i64>, Fault> {
    let (now_ms, place) = (work.now_ms, work.place().to_owned());
    let silent_before = now_ms.saturating_sub(rollout.plan.gate.silent_after_ms);
    let is_live = matches!(
        rollout.machine.state,
        RolloutState::Running | RolloutState::Paused(_)
    );
    let mut sql = work.sql(
        "SELECT r.device, r.state, r.reason, r.detail, r.progress, r.since_ms, r.heard_ms, \
         COALESCE(c.state, '') AS command_state, COALESCE(c.result, '') AS result, \
         COALESCE(d.firmware_version, '') AS has, COALESCE(d.status, '') AS status, \
         COALESCE(d.deleted_ms, 1) AS deleted_ms FROM (SELECT r.* FROM rollout_devices r WHERE \
         r.rollout = ",
    );
    sql.bind(rollout.number).push(OPEN).push(" AND r.device > ");
    sql.bind(after).push(" ORDER BY r.device LIMIT ");
    sql.bind(LOOKED_AT_ONCE).push(
        ") r LEFT JOIN commands c ON c.number = r.command LEFT JOIN devices d ON d.number = \
         r.device ORDER BY r.device",
    );
    let (mut changed, rows) = (Vec::new(), sql.all(&mut work.all).await?);
    for row in &rows {
        let mut device = read_progress(row, &place)?;
        let event = seen(row, rollout, &device, silent_before, is_live)?;
        if event.is_some_and(|event| device.apply(&event, now_ms)) {
            changed.push(Changed {
                rollout: rollout.number,
                number: row.try_get("device")?,
                device,
            });
        }
    }
    write_devices(work, &changed).await?;
    reported_later(work, rollout).await?;
    match rows.last() {
        Some(last) if rows.len() as i64 >= LOOKED_AT_ONCE => Ok(Some(last.try_get("device")?)),
        _ => Ok(None),
    }
}

/// Returns what has become of an open device without an answer; none: nothing.
fn seen(
    row: &AnyRow,
    rollout: &Rollout,
    device: &Device,
    silent_before: i64,
    is_live: bool,
) -> Result<Option<DeviceEvent>, Fault> {
    let (word, result): (String, String) = (row.try_get("command_state")?, row.try_get("result")?);
    let (has, status): (String, String) = (row.try_get("has")?, row.try_get("status")?);
    if has == rollout.version {
        return Ok(Some(DeviceEvent::Reported));
    }
    let command = CommandState::from_word(&word);
    let is_deleted = row.try_get::<i64, _>("deleted_ms")? != 0;
    let is_active = Status::from_word(&status) == Some(Status::Active);
    Ok(match command {
        Some(CommandState::Cancelled) | None if is_deleted => {
            Some(DeviceEvent::Skipped(DeviceReason::Deleted))
        }
        Some(CommandState::Cancelled) if !is_active => {
            Some(DeviceEvent::Skipped(DeviceReason::Disabled))
        }
        Some(state) if state.is_final() => event_of_end(state, result),
        _ if is_live && device.heard_ms <= silent_before => Some(DeviceEvent::Silence),
        _ => None,
    })
}

fn event_of_end(state: CommandState, result: String) -> Option<DeviceEvent> {
    Some(match state {
        CommandState::Succeeded => DeviceEvent::Succeeded,
        CommandState::Failed => DeviceEvent::Failed(DeviceReason::DeviceSaid, result),
        CommandState::Expired => DeviceEvent::Silence,
        CommandState::Cancelled => DeviceEvent::Skipped(DeviceReason::Cancelled),
        _ => return None,
    })
}

/// Silent and failed devices that report the version after all.
async fn reported_later(work: &mut Work<'_>, rollout: &Rollout) -> Result<(), Fault> {
    let (now_ms, place) = (work.now_ms, work.place().to_owned());
    let mut sql = work.sql(
        "SELECT r.device, r.state, r.reason, r.detail, r.progress, r.since_ms, r.heard_ms FROM \
         rollout_devices r JOIN devices d ON d.number = r.device WHERE r.rollout = ",
    );
    sql.bind(rollout.number);
    sql.push(" AND r.state IN ('failed', 'silent') AND d.firmware_version = ");
    sql.bind(clean(&rollout.version))
        .push(" LIMIT ")
        .bind(LOOKED_AT_ONCE);
    let mut changed = Vec::new();
    for row in &sql.all(&mut work.all).await? {
        let mut device = read_progress(row, &place)?;
        if device.apply(&DeviceEvent::Reported, now_ms) {
            changed.push(Changed {
                rollout: rollout.number,
                number: row.try_get("device")?,
                device,
            });
        }
    }
    write_devices(work, &changed).await
}

/// Leaves waiting devices out and cancels commands that no device has begun: the rollout was
/// aborted, or its time is over.
pub(super) async fn close(work: &mut Work<'_>, rollout: &Rollout) -> Result<(), Fault> {
    let now_ms = work.now_ms;
    let is_abort = rollout.machine.state == RolloutState::Aborted;
    let why = match is_abort {
        true => "the rollout was aborted",
        false => "the time of the rollout is over",
    };
    let mut sql = work.sql("UPDATE commands SET state = 'cancelled', due = 0, finished_ms = ");
    sql.bind(now_ms).push(", result = ").bind(why);
    sql.push(" WHERE finished_ms = 0 AND state <> 'acknowledged' AND number IN (SELECT command ");
    sql.push("FROM rollout_devices WHERE command <> 0 AND rollout = ");
    sql.bind(rollout.number).push(")");
    sql.execute(&mut work.all).await?;
    let (state, reason) = match is_abort {
        true => (DeviceState::Skipped, DeviceReason::Cancelled),
        false => (DeviceState::Failed, DeviceReason::TimedOut),
    };
    let mut sql = work.sql("UPDATE rollout_devices SET state = ");
    sql.bind(state.word()).push(", reason = ");
    sql.bind(reason.word()).push(", since_ms = ");
    sql.bind(now_ms).push(" WHERE rollout = ");
    sql.bind(rollout.number);
    sql.push(
        " AND (state = 'waiting' OR state IN ('offered', 'delivered', 'downloading', \
         'installing') AND command IN (SELECT number FROM commands WHERE state = 'cancelled'))",
    );
    sql.execute(&mut work.all).await?;
    Ok(())
}
