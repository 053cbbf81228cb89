//! A rollout begins: its devices are those that the group or filter names at that moment, in waves.

use serde_json::json;
use sqlx::Row as _;

use super::row::{COLUMNS, ROWS, Rollout, plan_text, read_counts};
use crate::database::Work;
use crate::device_lists::named_by;
use crate::groups::find::find_group;
use crate::rollout::{DeviceState, Plan, Rollout as Machine};
use crate::sql::{Fault, clean, signed};
use crate::{
    Actor, Conflict, DeviceFilter, Firmware, Refused, Registry, RegistryError, Visibility,
    firmware, secret,
};

/// Devices of a rollout, at most.
pub const ROLLOUT_DEVICES_MAX: i64 = 100_000;
/// Rollouts that have not ended, at most.
pub const ROLLOUTS_OPEN_MAX: i64 = 100;
/// Rollouts that are kept after they have ended: the newest ones.
const KEPT: i64 = 500;

/// Which devices a rollout is for; none of the members is any device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutTarget {
    /// Devices of this group, by id or name.
    pub group: Option<String>,
    /// Devices with this tag.
    pub tag: Option<String>,
    /// Devices of this type; that of the firmware is needed in any case.
    pub device_type: Option<String>,
}

/// A rollout to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRollout {
    /// The firmware's name.
    pub name: String,
    /// The firmware's version.
    pub version: String,
    /// Which devices.
    pub target: RolloutTarget,
    /// Waves, gate and timeout.
    pub plan: Plan,
    /// Whether it starts at once; otherwise it is planned.
    pub starts: bool,
}

impl Registry {
    /// Adds a rollout.
    ///
    /// # Errors
    /// There is no such firmware or group, no device is named or too many are, there are too many
    /// rollouts, or something about the plan cannot be.
    pub async fn add_rollout(
        &mut self,
        actor: &Actor,
        new: NewRollout,
    ) -> Result<Rollout, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = add(&mut work, &new).await;
        work.end(done).await
    }
}

async fn add(work: &mut Work<'_>, new: &NewRollout) -> Result<Rollout, Fault> {
    let checked = new.plan.check();
    checked.map_err(Refused::Plan)?;
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let of = firmware::find(&mut work.all, engine, &visibility, &new.name, &new.version).await?;
    let sql = work.sql("SELECT COUNT(*) FROM rollouts WHERE finished_ms = 0");
    let all = sql.count(&mut work.all).await?;
    if all >= ROLLOUTS_OPEN_MAX {
        return Err(Conflict::Rollouts(ROLLOUTS_OPEN_MAX).into());
    }
    let team = visibility.team().unwrap_or_default();
    let mut sql = work.sql("SELECT COUNT(*) FROM rollouts WHERE finished_ms = 0 AND team = ");
    sql.bind(team.to_owned());
    let own = sql.count(&mut work.all).await?;
    if !work.is_in_share(team, own, all, ROLLOUTS_OPEN_MAX) {
        return Err(Conflict::RolloutsOfTeam(own).into());
    }
    let mut devices = devices(work, &of, &new.target).await?;
    let sql = "UPDATE counters SET last = last + 1 WHERE name = 'rollout' RETURNING last";
    let number: i64 = sqlx::query_scalar(sql).fetch_one(&mut *work.all).await?;
    // A wave is a sample of all devices, not the oldest ones.
    devices.sort_by_key(|(device, ..)| mixed(number, *device));
    let sizes = new.plan.sizes(devices.len() as u64);
    let now_ms = work.now_ms;
    let mut rollout = Rollout {
        number,
        id: secret::new_id()?,
        team: visibility.team().unwrap_or_default().to_owned(),
        firmware: of.number,
        name: of.name.clone(),
        version: of.version.clone(),
        target: target_text(&new.target),
        plan: new.plan.clone(),
        waves: sizes.len(),
        devices: devices.len() as u64,
        machine: Machine::new(now_ms),
        asked_by: clean(&work.actor.who),
        created_ms: now_ms,
        started_ms: 0,
        finished_ms: 0,
        counts: Vec::new(),
    };
    if new.starts {
        let counts = rollout.wave_counts();
        // A planned one can always be started.
        let _ = rollout.machine.resume(&new.plan, &counts, now_ms);
        rollout.started_ms = now_ms;
    }
    insert(work, &rollout).await?;
    insert_devices(work, number, &devices, &sizes).await?;
    if new.starts {
        check_alone(work, &rollout).await?;
    }
    drop_old(work).await?;
    let place = work.place().to_owned();
    rollout.counts = read_counts(&mut work.all, engine, &place, number).await?;
    let changed = json!({
        "firmware": rollout.name, "version": rollout.version, "devices": rollout.devices,
        "started": new.starts,
    });
    let team = rollout.team.clone();
    work.audit("rollout.add", ("rollout", &rollout.id), &team, changed)
        .await?;
    Ok(rollout)
}

/// The devices that the target names: number, id, tenant.
async fn devices(
    work: &mut Work<'_>,
    of: &Firmware,
    target: &RolloutTarget,
) -> Result<Vec<(i64, String, i64)>, Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let group = match &target.group {
        None => None,
        Some(text) => Some(find_group(&mut work.all, &visibility, text).await?.id),
    };
    if group.is_none() && target.tag.is_none() && target.device_type.is_none() {
        return Err(Refused::NoTarget.into());
    }
    let filter = DeviceFilter {
        group,
        tag: target.tag.clone(),
        device_type: target.device_type.clone(),
        ..DeviceFilter::default()
    };
    // Firmware of a team is for its devices alone.
    let visibility = match of.team.is_empty() {
        true => visibility,
        false => Visibility::Team(of.team.clone()),
    };
    let selection = (&visibility, &filter);
    let found = named_by(&mut work.all, engine, selection, ROLLOUT_DEVICES_MAX + 1).await?;
    if found.is_empty() {
        return Err(Refused::EmptyTarget.into());
    }
    if found.len() as i64 > ROLLOUT_DEVICES_MAX {
        return Err(Conflict::DevicesOfRollout(ROLLOUT_DEVICES_MAX).into());
    }
    Ok(found)
}

fn target_text(target: &RolloutTarget) -> String {
    json!({ "group": target.group, "tag": target.tag, "type": target.device_type }).to_string()
}

/// Draws an order of devices that is another one for each rollout: SplitMix64, by Sebastiano Vigna.
fn mixed(rollout: i64, device: i64) -> u64 {
    let mut mixed = device.cast_unsigned() ^ rollout.cast_unsigned().rotate_left(40);
    mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

async fn insert(work: &mut Work<'_>, rollout: &Rollout) -> Result<(), Fault> {
    let machine = &rollout.machine;
    let mut sql = work.sql("INSERT INTO rollouts (");
    sql.push(COLUMNS).push(") VALUES (").bind(rollout.number);
    sql.push(", ").bind(rollout.id.clone());
    sql.push(", ").bind(rollout.team.clone());
    sql.push(", ").bind(rollout.firmware);
    let plan = plan_text(&rollout.plan);
    for text in [&rollout.name, &rollout.version, &rollout.target, &plan] {
        sql.push(", ").bind(clean(text));
    }
    sql.push(", ").bind(rollout.waves as i64);
    sql.push(", ").bind(signed(rollout.devices));
    sql.push(", ").bind(machine.state.word());
    sql.push(", ").bind(machine.state.reason());
    for number in [
        machine.wave as i64,
        machine.wave_since_ms,
        machine.deadline_ms,
        signed(machine.accepted_failed),
        signed(machine.accepted_silent),
    ] {
        sql.push(", ").bind(number);
    }
    sql.push(", ").bind(rollout.asked_by.clone());
    for ms in [rollout.created_ms, rollout.started_ms, rollout.finished_ms] {
        sql.push(", ").bind(ms);
    }
    sql.push(")");
    sql.execute(&mut work.all).await?;
    Ok(())
}

async fn insert_devices(
    work: &mut Work<'_>,
    rollout: i64,
    devices: &[(i64, String, i64)],
    sizes: &[u64],
) -> Result<(), Fault> {
    let waves = sizes.iter().enumerate();
    let waves = waves.flat_map(|(wave, size)| (0..*size).map(move |_| wave as i64));
    let all: Vec<_> = devices.iter().zip(waves).collect();
    let now_ms = work.now_ms;
    for some in all.chunks(ROWS) {
        let mut sql = work.sql(
            "INSERT INTO rollout_devices (rollout, device, device_id, tenant, wave, state, \
             reason, detail, progress, command, attempts, since_ms, heard_ms) VALUES ",
        );
        for (at, ((device, id, tenant), wave)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(rollout).push(", ").bind(*device);
            sql.push(", ").bind(id.clone());
            sql.push(", ").bind(*tenant);
            sql.push(", ").bind(*wave);
            sql.push(", 'waiting', '', '', -1, 0, 0, ").bind(now_ms);
            sql.push(", 0)");
        }
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

/// No other rollout offers its devices another version of the firmware: the last command would win,
/// and which one that is would be random.
pub(super) async fn check_alone(work: &mut Work<'_>, rollout: &Rollout) -> Result<(), Fault> {
    let is_in_progress = |state: &DeviceState| state.is_open() || *state == DeviceState::Waiting;
    let in_progress = DeviceState::ALL.into_iter().filter(is_in_progress);
    let mut sql = work.sql(
        "SELECT r.id, r.version, COUNT(*) AS devices, MIN(o.device_id) AS device FROM rollouts r \
         JOIN rollout_devices o ON o.rollout = r.number JOIN rollout_devices d ON \
         d.device = o.device WHERE r.finished_ms = 0 AND r.state <> 'planned' AND d.rollout = ",
    );
    sql.bind(rollout.number).push(" AND r.number <> ");
    sql.bind(rollout.number).push(" AND r.name = ");
    sql.bind(clean(&rollout.name)).push(" AND o.state IN ");
    sql.list(in_progress.map(DeviceState::word));
    sql.push(" GROUP BY r.id, r.version LIMIT 1");
    let Some(row) = sql.first(&mut work.all).await? else {
        return Ok(());
    };
    let (id, version): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (devices, device): (i64, String) = (row.try_get(2)?, row.try_get(3)?);
    let other = Conflict::InRollout {
        rollout: id,
        version,
        devices,
        device,
    };
    Err(other.into())
}

/// Drops the oldest rollouts that have ended and are not kept any more.
async fn drop_old(work: &mut Work<'_>) -> Result<(), Fault> {
    let mut sql = work.sql(
        "SELECT number FROM rollouts WHERE finished_ms > 0 ORDER BY number DESC LIMIT 10 OFFSET ",
    );
    sql.bind(KEPT);
    for row in sql.all(&mut work.all).await? {
        let number: i64 = sqlx::Row::try_get(&row, 0)?;
        for text in [
            "DELETE FROM rollout_devices WHERE rollout = ",
            "DELETE FROM rollouts WHERE number = ",
        ] {
            let mut sql = work.sql(text);
            sql.bind(number);
            sql.execute(&mut work.all).await?;
        }
    }
    Ok(())
}
