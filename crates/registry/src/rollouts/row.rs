//! A rollout and a device in it, as the tables have them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::commands::CommandState;
use crate::database::Work;
use crate::rollout::{
    Device, DeviceReason, DeviceState, Plan, Rollout as Machine, RolloutState, Wave, WaveCounts,
    WaveGate,
};
use crate::sql::{Engine, Fault, Sql, signed, unsigned};
use crate::{RegistryError, Status};

/// Kind of the commands of rollouts.
pub(super) const KIND: &str = "firmware";
/// Rows of one statement.
pub(super) const ROWS: usize = 500;

/// The columns of [`read_rollout`].
pub(super) const COLUMNS: &str = "number, id, team, firmware, name, version, target, plan, waves, \
    devices, state, reason, wave, wave_since_ms, deadline_ms, accepted_failed, accepted_silent, \
    asked_by, created_ms, started_ms, finished_ms";

/// The columns of [`read_device`], with [`DEVICE_FROM`].
pub(super) const DEVICE_COLUMNS: &str = "r.device, r.device_id, r.tenant, r.wave, r.state, \
    r.reason, r.detail, r.progress, r.attempts, r.since_ms, r.heard_ms, \
    COALESCE(c.state, '') AS command_state, COALESCE(c.due, 0) AS command_due, \
    COALESCE(c.reached, 0) AS command_reached, COALESCE(c.sent_ms, 0) AS command_sent_ms, \
    COALESCE(c.id, '') AS command_id, COALESCE(d.status, '') AS device_status, \
    COALESCE(d.type, '') AS device_type, COALESCE(d.firmware_version, '') AS has_version, \
    COALESCE(d.deleted_ms, 1) AS deleted_ms";

/// A device of a rollout as `r`, its command as `c`, itself as `d`.
pub(super) const DEVICE_FROM: &str = " FROM rollout_devices r LEFT JOIN commands c ON \
    c.number = r.command AND r.command <> 0 LEFT JOIN devices d ON d.number = r.device";

/// A rollout. Times are milliseconds since the Unix epoch; 0: never.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Names it in the tables.
    pub number: i64,
    /// Id of the rollout.
    pub id: String,
    /// The id of its team; empty: none.
    pub team: String,
    /// The number of the firmware.
    pub firmware: i64,
    /// The firmware's name.
    pub name: String,
    /// The firmware's version.
    pub version: String,
    /// Which devices, as it was asked for: JSON.
    pub target: String,
    /// Waves, gate and timeout.
    pub plan: Plan,
    /// Number of waves that have devices.
    pub waves: usize,
    /// Number of devices.
    pub devices: u64,
    /// State, current wave, and what was accepted.
    pub machine: Machine,
    /// The caller that began it, as in the audit log.
    pub asked_by: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it was started.
    pub started_ms: i64,
    /// When it succeeded, failed or was aborted.
    pub finished_ms: i64,
    /// Number of devices of each wave by state.
    pub counts: Vec<BTreeMap<DeviceState, u64>>,
}

/// A device in a rollout, with what is known of its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutDevice {
    /// Number of the device.
    pub number: i64,
    /// Id of the device.
    pub id: String,
    /// Tenant of the device.
    pub tenant: u32,
    /// Type of the device; empty: it is not there any more.
    pub device_type: String,
    /// Wave of the device, from 0.
    pub wave: usize,
    /// How far it is.
    pub device: Device,
    /// How often it was offered the firmware.
    pub attempts: i64,
    /// The state of the command that offers it the firmware; none: there is none, or it is not kept
    /// any more.
    pub command_state: Option<CommandState>,
    /// The id of that command; empty: none.
    pub command_id: String,
    /// The command is being published, or will be at once.
    pub is_command_due: bool,
    /// The device was sent the command with QoS 0.
    pub is_reached_at_qos0: bool,
    /// When the command was last published with a receiver.
    pub command_sent_ms: i64,
    /// The status of the device; none: it was deleted.
    pub status: Option<Status>,
    /// The version that it has reported; empty: none.
    pub has_version: String,
}

impl Rollout {
    /// The devices of each wave, as the rules need them.
    pub(super) fn wave_counts(&self) -> Vec<WaveCounts> {
        let mut all = vec![WaveCounts::default(); self.waves];
        for (wave, states) in all.iter_mut().zip(&self.counts) {
            for (state, count) in states {
                match state {
                    DeviceState::Waiting => wave.waiting += count,
                    DeviceState::Succeeded => wave.succeeded += count,
                    DeviceState::Failed => wave.failed += count,
                    DeviceState::Silent => wave.silent += count,
                    DeviceState::Skipped => wave.skipped += count,
                    DeviceState::Offered
                    | DeviceState::Delivered
                    | DeviceState::Downloading
                    | DeviceState::Installing => wave.open += count,
                }
            }
        }
        all
    }

    /// Number of devices by state, of all waves.
    pub fn states(&self) -> BTreeMap<DeviceState, u64> {
        let mut states = BTreeMap::new();
        for (state, count) in self.counts.iter().flatten() {
            *states.entry(*state).or_default() += count;
        }
        states
    }
}

fn damaged(place: &str, what: String) -> Fault {
    let place = place.to_owned();
    RegistryError::Damaged { place, what }.into()
}

pub(super) fn read_rollout(row: &AnyRow, place: &str) -> Result<Rollout, Fault> {
    let number = |column: &str| -> Result<i64, sqlx::Error> { row.try_get(column) };
    let (word, reason): (String, String) = (row.try_get("state")?, row.try_get("reason")?);
    let state = RolloutState::from_words(&word, &reason).ok_or_else(|| {
        damaged(
            place,
            format!("a rollout has the unknown state {word:?} {reason:?}"),
        )
    })?;
    let plan: String = row.try_get("plan")?;
    let waves = usize::try_from(number("waves")?).unwrap_or(0);
    Ok(Rollout {
        number: number("number")?,
        id: row.try_get("id")?,
        team: row.try_get("team")?,
        firmware: number("firmware")?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        target: row.try_get("target")?,
        plan: plan_of(&plan)
            .ok_or_else(|| damaged(place, "a rollout has an invalid plan".to_owned()))?,
        waves,
        devices: unsigned(number("devices")?),
        machine: Machine {
            state,
            wave: usize::try_from(number("wave")?).unwrap_or(0),
            wave_since_ms: number("wave_since_ms")?,
            deadline_ms: number("deadline_ms")?,
            accepted_failed: unsigned(number("accepted_failed")?),
            accepted_silent: unsigned(number("accepted_silent")?),
        },
        asked_by: row.try_get("asked_by")?,
        created_ms: number("created_ms")?,
        started_ms: number("started_ms")?,
        finished_ms: number("finished_ms")?,
        counts: vec![BTreeMap::new(); waves],
    })
}

/// Number of devices of each wave of a rollout by state.
pub(super) async fn read_counts(
    on: &mut AnyConnection,
    engine: Engine,
    place: &str,
    rollout: i64,
) -> Result<Vec<BTreeMap<DeviceState, u64>>, Fault> {
    let mut sql = Sql::new(
        engine,
        "SELECT wave, state, COUNT(*) FROM rollout_devices WHERE rollout = ",
    );
    sql.bind(rollout).push(" GROUP BY wave, state");
    let mut all: Vec<BTreeMap<DeviceState, u64>> = Vec::new();
    for row in sql.all(on).await? {
        let wave = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
        let word: String = row.try_get(1)?;
        let state = device_state(&word, place)?;
        if all.len() <= wave {
            all.resize(wave + 1, BTreeMap::new());
        }
        all[wave].insert(state, unsigned(row.try_get(2)?));
    }
    Ok(all)
}

fn device_state(word: &str, place: &str) -> Result<DeviceState, Fault> {
    DeviceState::from_word(word).ok_or_else(|| {
        damaged(
            place,
            format!("a device of a rollout has the unknown state {word:?}"),
        )
    })
}

/// State, reason, detail, progress and times of a device of a rollout.
pub(super) fn read_progress(row: &AnyRow, place: &str) -> Result<Device, Fault> {
    let (word, reason): (String, String) = (row.try_get("state")?, row.try_get("reason")?);
    let reason = DeviceReason::from_word(&reason).ok_or_else(|| {
        damaged(
            place,
            format!("a device of a rollout has the unknown reason {reason:?}"),
        )
    })?;
    Ok(Device {
        state: device_state(&word, place)?,
        reason,
        detail: row.try_get("detail")?,
        progress: u8::try_from(row.try_get::<i64, _>("progress")?).ok(),
        since_ms: row.try_get("since_ms")?,
        heard_ms: row.try_get("heard_ms")?,
    })
}

pub(super) fn read_device(row: &AnyRow, place: &str) -> Result<RolloutDevice, Fault> {
    let number = |column: &str| -> Result<i64, sqlx::Error> { row.try_get(column) };
    let (command, status): (String, String) =
        (row.try_get("command_state")?, row.try_get("device_status")?);
    let is_deleted = number("deleted_ms")? != 0;
    Ok(RolloutDevice {
        number: number("device")?,
        id: row.try_get("device_id")?,
        tenant: u32::try_from(number("tenant")?).unwrap_or(u32::MAX),
        device_type: row.try_get("device_type")?,
        wave: usize::try_from(number("wave")?).unwrap_or(0),
        device: read_progress(row, place)?,
        attempts: number("attempts")?,
        command_state: CommandState::from_word(&command),
        command_id: row.try_get("command_id")?,
        is_command_due: number("command_due")? != 0,
        is_reached_at_qos0: number("command_reached")? != 0,
        command_sent_ms: number("command_sent_ms")?,
        status: Status::from_word(&status).filter(|_| !is_deleted),
        has_version: row.try_get("has_version")?,
    })
}

/// Writes what the rules may have changed of a rollout.
pub(super) async fn write_rollout(work: &mut Work<'_>, rollout: &Rollout) -> Result<(), Fault> {
    let machine = &rollout.machine;
    let mut sql = work.sql("UPDATE rollouts SET state = ");
    sql.bind(machine.state.word()).push(", reason = ");
    sql.bind(machine.state.reason()).push(", wave = ");
    sql.bind(machine.wave as i64).push(", wave_since_ms = ");
    sql.bind(machine.wave_since_ms).push(", deadline_ms = ");
    sql.bind(machine.deadline_ms).push(", accepted_failed = ");
    sql.bind(signed(machine.accepted_failed));
    sql.push(", accepted_silent = ")
        .bind(signed(machine.accepted_silent));
    sql.push(", started_ms = ").bind(rollout.started_ms);
    sql.push(", finished_ms = ").bind(rollout.finished_ms);
    sql.push(" WHERE number = ").bind(rollout.number);
    sql.execute(&mut work.all).await?;
    Ok(())
}

/// A plan as the tables have it.
pub(super) fn plan_text(plan: &Plan) -> String {
    let waves: Vec<String> = plan.waves.iter().map(Wave::to_string).collect();
    json!({
        "waves": waves,
        "max_failed_percent": plan.gate.max_failed_percent,
        "max_silent_percent": plan.gate.max_silent_percent,
        "silent_after_ms": plan.gate.silent_after_ms,
        "min_wait_ms": plan.gate.min_wait_ms,
        "timeout_ms": plan.timeout_ms,
    })
    .to_string()
}

fn plan_of(text: &str) -> Option<Plan> {
    let plan: Value = serde_json::from_str(text).ok()?;
    let waves = plan["waves"].as_array()?.iter();
    let waves = waves.map(|wave| Wave::parse(wave.as_str()?).ok());
    Some(Plan {
        waves: waves.collect::<Option<_>>()?,
        gate: WaveGate {
            max_failed_percent: plan["max_failed_percent"].as_f64()?,
            max_silent_percent: plan["max_silent_percent"].as_f64()?,
            silent_after_ms: plan["silent_after_ms"].as_i64()?,
            min_wait_ms: plan["min_wait_ms"].as_i64()?,
        },
        timeout_ms: plan["timeout_ms"].as_i64()?,
    })
}
