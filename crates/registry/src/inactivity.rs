//! Devices that have sent nothing for longer than their type permits are *inactive*, until they
//! send something again.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::rule_sets::owner::{Owner, expect_all, unknown};
use crate::sql::{Fault, clean};
use crate::table_change::{SilentDevice, TableChange};
use crate::{Actor, MessageTimes, Refused, Registry, RegistryError};

/// The shortest time after which devices may be inactive, seconds. Nodes know when a device sent
/// something to some ten seconds.
pub const INACTIVE_AFTER_MIN_SECS: u32 = 10;
/// The longest: a year.
pub const INACTIVE_AFTER_MAX_SECS: u32 = 366 * 24 * 60 * 60;

/// Which devices may have become inactive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InactivityCheck {
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How far the tables may be behind what the node knows, milliseconds.
    pub behind_ms: i64,
    /// Since when the node knows all messages: a device of which something may have been missed is
    /// left out.
    pub known_since_ms: i64,
    /// Devices at most.
    pub limit: u32,
}

impl Registry {
    /// Whether there is a type whose devices become inactive.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn has_inactivity(&mut self) -> Result<bool, RegistryError> {
        let mut reading = self.reading().await?;
        let read = async {
            let sql = "SELECT COUNT(*) AS found FROM device_types WHERE inactive_after_secs > 0";
            let row = sqlx::query(sql).fetch_one(reading.connection()).await?;
            Ok(row.try_get::<i64, _>("found")? > 0)
        };
        let read: Result<bool, Fault> = read.await;
        reading.end(read).await
    }

    /// Marks devices as inactive that have sent nothing for longer than their type permits, and
    /// returns them. Devices that never sent anything are left out.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn mark_inactive(
        &mut self,
        check: InactivityCheck,
    ) -> Result<Vec<SilentDevice>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = mark_inactive(&mut work, &check).await;
        work.end(done).await
    }
}

/// A device that counts as inactive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InactiveDevice {
    /// When it sent its last message, milliseconds since the Unix epoch.
    pub last_message_ms: i64,
    /// Since when it counts as inactive, likewise.
    pub since_ms: i64,
    /// Type of the device.
    pub device_type: String,
    /// After how many seconds without a message devices of its type are inactive.
    pub after_secs: u32,
}

impl Registry {
    /// A device of a tenant, if it counts as inactive.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn inactive_in(
        &mut self,
        tenant: u32,
        id: &str,
    ) -> Result<Option<InactiveDevice>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT last_message_ms, inactive_since_ms, type, inactive_after_secs \
                       FROM devices JOIN device_types ON device_types.name = devices.type \
                       WHERE tenant = $1 AND devices.id = $2 AND deleted_ms = 0 \
                       AND inactive_since_ms > 0 AND inactive_after_secs > 0";
            let query = sqlx::query(sql).bind(i64::from(tenant)).bind(clean(id));
            let row = query.fetch_optional(on).await?;
            row.as_ref().map(read_inactive).transpose()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

impl Registry {
    /// Inactive devices about which no alarm of this name was raised since, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn silent_without_alarm(
        &mut self,
        alarm: &str,
        limit: u32,
    ) -> Result<Vec<SilentDevice>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT devices.tenant, devices.id, last_message_ms, inactive_after_secs \
                       FROM devices JOIN device_types ON device_types.name = devices.type LEFT \
                       JOIN (SELECT tenant, subject, MAX(raised_ms) AS raised_ms FROM alarms \
                       WHERE name = $1 GROUP BY tenant, subject) AS raised ON raised.tenant = \
                       devices.tenant AND raised.subject = devices.id WHERE inactive_since_ms > 0 \
                       AND deleted_ms = 0 AND inactive_after_secs > 0 AND \
                       COALESCE(raised_ms, 0) < inactive_since_ms ORDER BY number LIMIT $2";
            let query = sqlx::query(sql).bind(clean(alarm)).bind(i64::from(limit));
            let rows = query.fetch_all(on).await?;
            let device_of = |row: &AnyRow| {
                let secs: i64 = row.try_get("inactive_after_secs")?;
                Ok(SilentDevice {
                    after_secs: u32::try_from(secs).unwrap_or(u32::MAX),
                    ..read(row)?
                })
            };
            rows.iter().map(device_of).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

fn read_inactive(row: &AnyRow) -> Result<InactiveDevice, Fault> {
    let after_secs: i64 = row.try_get("inactive_after_secs")?;
    Ok(InactiveDevice {
        last_message_ms: row.try_get("last_message_ms")?,
        since_ms: row.try_get("inactive_since_ms")?,
        device_type: row.try_get("type")?,
        after_secs: u32::try_from(after_secs).unwrap_or(u32::MAX),
    })
}

/// Sets after how many seconds without a message the devices of a type are inactive; 0: never.
/// Types that come with the program have it too.
pub(crate) async fn set_inactive_after(
    work: &mut Work<'_>,
    device_type: &str,
    secs: u32,
) -> Result<(), Fault> {
    expect_all(work)?;
    if secs > 0 && !(INACTIVE_AFTER_MIN_SECS..=INACTIVE_AFTER_MAX_SECS).contains(&secs) {
        let (min, max) = (INACTIVE_AFTER_MIN_SECS, INACTIVE_AFTER_MAX_SECS);
        return Err(Refused::InactiveAfter(secs, min, max).into());
    }
    let sql = "UPDATE device_types SET inactive_after_secs = $1, revision = revision + 1 \
               WHERE name = $2";
    let query = sqlx::query(sql).bind(i64::from(secs));
    let query = query.bind(device_type.to_owned());
    if query.execute(&mut *work.all).await?.rows_affected() == 0 {
        return Err(unknown(Owner::DeviceType, device_type).into());
    }
    let of = (Owner::DeviceType.kind(), device_type);
    let changed = json!({ "inactive_after_secs": secs });
    work.audit("device_type.inactive_after", of, "", changed)
        .await
}

async fn mark_inactive(
    work: &mut Work<'_>,
    check: &InactivityCheck,
) -> Result<Vec<SilentDevice>, Fault> {
    let sql = "SELECT name, inactive_after_secs FROM device_types WHERE inactive_after_secs > 0";
    let types = sqlx::query(sql).fetch_all(&mut *work.all).await?;
    let mut found = Vec::new();
    for one in types {
        let (name, secs): (String, i64) =
            (one.try_get("name")?, one.try_get("inactive_after_secs")?);
        if check.now_ms - secs * 1_000 <= check.known_since_ms {
            continue;
        }
        let limit = i64::from(check.limit) - found.len() as i64;
        let since_ms = check.now_ms - check.behind_ms - secs * 1_000;
        let sql = "UPDATE devices SET inactive_since_ms = $1 WHERE number IN (SELECT number \
                   FROM devices WHERE type = $2 AND last_message_ms < $3 AND last_message_ms > 0 \
                   AND inactive_since_ms = 0 AND deleted_ms = 0 ORDER BY last_message_ms \
                   LIMIT $4) RETURNING tenant, id, last_message_ms";
        let query = sqlx::query(sql).bind(check.now_ms).bind(name);
        let query = query.bind(since_ms).bind(limit.max(0));
        for row in query.fetch_all(&mut *work.all).await? {
            let device = SilentDevice {
                after_secs: u32::try_from(secs).unwrap_or(u32::MAX),
                ..read(&row)?
            };
            work.follow(TableChange::Inactive(&device)).await?;
            found.push(device);
        }
    }
    Ok(found)
}

/// Which of these devices were inactive; they are active from now on.
pub(crate) async fn mark_active(
    work: &mut Work<'_>,
    times: &[MessageTimes],
) -> Result<Vec<SilentDevice>, Fault> {
    // A Will does not count as a message of the device.
    let Some(first) = times.iter().position(|one| one.message_ms > 0) else {
        return Ok(Vec::new());
    };
    let mut sql = work.sql(
        "UPDATE devices SET inactive_since_ms = 0 WHERE inactive_since_ms > 0 AND \
         deleted_ms = 0 AND (tenant, id) IN (VALUES ",
    );
    for (at, one) in times.iter().enumerate() {
        if one.message_ms == 0 {
            continue;
        }
        sql.push(if at == first { "(" } else { ", (" });
        sql.bind(i64::from(one.tenant));
        sql.push(", ").bind(clean(&one.id)).push(")");
    }
    sql.push(") RETURNING tenant, id, last_message_ms");
    let rows = sql.all(&mut work.all).await?;
    let active: Vec<SilentDevice> = rows.iter().map(read).collect::<Result<_, _>>()?;
    for device in &active {
        work.follow(TableChange::Active(device)).await?;
    }
    Ok(active)
}

/// Marks the device with this number as active, and returns it if it was inactive.
pub(crate) async fn mark_one_active(
    work: &mut Work<'_>,
    device: i64,
) -> Result<Option<SilentDevice>, Fault> {
    let mut sql = work.sql("UPDATE devices SET inactive_since_ms = 0 WHERE number = ");
    sql.bind(device);
    sql.push(" AND inactive_since_ms > 0 AND deleted_ms = 0 RETURNING tenant, id, last_message_ms");
    let row = sql.first(&mut work.all).await?;
    let active = row.as_ref().map(read).transpose()?;
    if let Some(device) = &active {
        work.follow(TableChange::Active(device)).await?;
    }
    Ok(active)
}

fn read(row: &AnyRow) -> Result<SilentDevice, Fault> {
    let tenant: i64 = row.try_get("tenant")?;
    Ok(SilentDevice {
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        id: row.try_get("id")?,
        last_message_ms: row.try_get("last_message_ms")?,
        after_secs: 0,
    })
}
