//! Twins of devices: the values that a device is to have, and those that it has reported.
//!
//! * `groups`: values that the devices of a group are to have
//! * `merge`: changes of values, and the difference between them

mod groups;
mod merge;
mod twin;

pub use groups::GroupTwin;
pub use merge::Values;
use twin::{ROWS, read_values, written};
pub use twin::{TWIN_BYTES_MAX, TWIN_DEPTH_MAX, Twin, TwinChange, TwinValues, values_of_json};

use std::collections::HashMap;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::{find_device, note_version, reported_version};
use crate::sql::{Engine, Fault, Sql, clean};
use crate::table_change::TableChange;
use crate::{Actor, DeviceRef, Expected, NotFound, Refused, Registry, RegistryError, Visibility};

/// Report of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinReport {
    /// Tenant of the device.
    pub tenant: u32,
    /// Id of the device.
    pub device: String,
    /// A merge patch of what it has reported before.
    pub patch: Values,
    /// When it came, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Hops of what follows from the report.
    pub hops: u8,
}

impl Registry {
    /// The twin of a device; without values if there were never any.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn twin(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
    ) -> Result<Twin, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        // The version, and the values of the groups that it is of.
        let mut reading = self.consistent_reading().await?;
        let on = reading.connection();
        let read = async {
            let device = find_device(on, engine, visibility, device, false).await?;
            let mut sql = Sql::new(engine, SELECT);
            sql.push("d.number = ").bind(device.number);
            one_of(on, engine, &place, sql).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Changes the desired values of a device. `expected`: the version that they must have.
    ///
    /// # Errors
    /// There is no such device, they have another version, or there would be too much of them.
    pub async fn change_desired(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        change: &TwinChange,
        expected: Expected,
    ) -> Result<Twin, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_desired(&mut work, device, change, expected).await;
        work.end(done).await
    }

    /// Applies what devices report, in this order. Returns for each the version that the reported
    /// values have then, or why it was not applied. Nothing is applied to devices that are not
    /// there.
    ///
    /// # Errors
    /// The database cannot be changed; then nothing is.
    pub async fn note_reported(
        &mut self,
        reports: &[TwinReport],
    ) -> Result<Vec<Result<i64, String>>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut outcomes = Vec::with_capacity(reports.len());
            for some in reports.chunks(ROWS) {
                outcomes.extend(apply(&mut work, some).await?);
            }
            Ok(outcomes)
        };
        let done = done.await;
        work.end(done).await
    }

    /// The twins of these devices, by tenant and id, as far as they have any.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn twins_of(
        &mut self,
        devices: &[(u32, String)],
    ) -> Result<Vec<Twin>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        // The version, and the values of the groups that it is of.
        let mut reading = self.consistent_reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = Vec::new();
            for some in devices.chunks(ROWS) {
                let mut sql = Sql::new(engine, SELECT);
                sql.push("t.device IS NOT NULL AND ");
                push_names(&mut sql, some.iter().map(|(tenant, id)| (*tenant, &**id)));
                for row in sql.all(on).await? {
                    found.push(read_twin(&row, &place)?);
                }
            }
            groups::fill(on, engine, &place, &mut found).await?;
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Devices that have desired values, in the order of their numbers: those whose number is
    /// larger than `after`, and of these at most `limit`. For each its number, tenant and id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn devices_with_desired(
        &mut self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, u32, String)>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(
                engine,
                "SELECT d.number, d.tenant, d.id FROM twins t JOIN devices d ON \
                 d.number = t.device WHERE d.deleted_ms = 0 AND t.desired_version > 0 AND \
                 d.number > ",
            );
            sql.bind(after).push(" ORDER BY d.number LIMIT ");
            sql.bind(i64::from(limit));
            let rows = sql.all(on).await?;
            rows.iter()
                .map(|row| {
                    let tenant = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
                    Ok((row.try_get(0)?, tenant, row.try_get(2)?))
                })
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

const SELECT: &str = "SELECT d.number, d.id, d.tenant, d.type, t.desired, t.desired_version, \
    t.desired_ms, t.reported, t.reported_version, t.reported_ms FROM devices d LEFT JOIN twins t \
    ON t.device = d.number WHERE d.deleted_ms = 0 AND ";

fn push_names<'n>(sql: &mut Sql, names: impl Iterator<Item = (u32, &'n str)>) {
    sql.push("(d.tenant, d.id) IN (VALUES ");
    for (at, (tenant, id)) in names.enumerate() {
        sql.push(if at == 0 { "(" } else { ", (" });
        sql.bind(i64::from(tenant)).push(", ").bind(clean(id));
        sql.push(")");
    }
    sql.push(")");
}

async fn one_of(
    on: &mut AnyConnection,
    engine: Engine,
    place: &str,
    sql: Sql,
) -> Result<Twin, Fault> {
    let row = sql.first(on).await?.ok_or(NotFound::DeviceGone)?;
    let mut twin = [read_twin(&row, place)?];
    groups::fill(on, engine, place, &mut twin).await?;
    let [twin] = twin;
    Ok(twin)
}

fn read_twin(row: &AnyRow, place: &str) -> Result<Twin, Fault> {
    Ok(Twin {
        number: row.try_get(0)?,
        device: row.try_get(1)?,
        tenant: u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(u32::MAX),
        device_type: row.try_get(3)?,
        desired: read_values(row, 4, place)?,
        reported: read_values(row, 7, place)?,
        of_groups: Values::default(),
    })
}

async fn set_desired(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    change: &TwinChange,
    expected: Expected,
) -> Result<Twin, Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let device = find_device(&mut work.all, engine, &visibility, device, false).await?;
    let place = work.place().to_owned();
    let mut sql = work.sql(SELECT);
    sql.push("d.number = ").bind(device.number);
    let mut twin = one_of(&mut work.all, engine, &place, sql).await?;
    let what = format!("the desired values of {}", device.id);
    expected.check(&what, twin.desired.version)?;
    change.apply(&mut twin.desired.values);
    let text = written("desired", &twin.desired.values).map_err(Refused::Twin)?;
    twin.desired.version += 1;
    twin.desired.updated_ms = work.now_ms;
    let sql = "INSERT INTO twins (device, desired, desired_version, desired_ms, reported, \
               reported_version, reported_ms) VALUES ($1, $2, $3, $4, '{}', 0, 0) ON CONFLICT \
               (device) DO UPDATE SET desired = excluded.desired, \
               desired_version = excluded.desired_version, desired_ms = excluded.desired_ms";
    let query = sqlx::query(sql).bind(device.number).bind(clean(&text));
    let query = query
        .bind(twin.desired.version)
        .bind(twin.desired.updated_ms);
    query.execute(&mut *work.all).await?;
    // Values may be secrets of the device.
    let changed = json!({ "version": twin.desired.version, "members": change.members() });
    work.audit("twin.set", ("device", &device.id), &device.team, changed)
        .await?;
    let changed = TableChange::Twin {
        tenant: twin.tenant,
        device: &twin.device,
        side: "desired",
        version: twin.desired.version,
        hops: 0,
    };
    work.follow(changed).await?;
    Ok(twin)
}

async fn apply(
    work: &mut Work<'_>,
    reports: &[TwinReport],
) -> Result<Vec<Result<i64, String>>, Fault> {
    let place = work.place().to_owned();
    let mut sql = work.sql(SELECT);
    let names = reports
        .iter()
        .map(|report| (report.tenant, &*report.device));
    push_names(&mut sql, names);
    let mut twins: HashMap<(u32, String), (Twin, Option<String>)> = HashMap::new();
    for row in sql.all(&mut work.all).await? {
        let twin = read_twin(&row, &place)?;
        twins.insert((twin.tenant, twin.device.clone()), (twin, None));
    }
    let mut outcomes = Vec::with_capacity(reports.len());
    let mut versions = Vec::new();
    for report in reports {
        let name = (report.tenant, clean(&report.device));
        let Some((twin, changed)) = twins.get_mut(&name) else {
            outcomes.push(Err("there is no such device".to_owned()));
            continue;
        };
        let mut values = twin.reported.values.clone();
        merge::merge(&mut values, &report.patch);
        outcomes.push(written("reported", &values).map(|text| {
            twin.reported.values = values;
            twin.reported.version += 1;
            twin.reported.updated_ms = report.at_ms;
            *changed = Some(text);
            let version = reported_version(&report.patch);
            versions.extend(version.map(|version| (twin.number, version)));
            twin.reported.version
        }));
    }
    let changed = twins.into_values();
    let changed: Vec<(Twin, String)> = changed
        .filter_map(|(twin, text)| Some((twin, text?)))
        .collect();
    if changed.is_empty() {
        return Ok(outcomes);
    }
    let mut sql = work.sql(
        "INSERT INTO twins (device, reported, reported_version, reported_ms, desired, \
         desired_version, desired_ms) VALUES ",
    );
    for (at, (twin, text)) in changed.iter().enumerate() {
        sql.push(if at == 0 { "(" } else { ", (" });
        sql.bind(twin.number).push(", ").bind(clean(text));
        sql.push(", ").bind(twin.reported.version);
        sql.push(", ").bind(twin.reported.updated_ms);
        sql.push(", '{}', 0, 0)");
    }
    sql.push(
        " ON CONFLICT (device) DO UPDATE SET reported = excluded.reported, \
         reported_version = excluded.reported_version, reported_ms = excluded.reported_ms",
    );
    sql.execute(&mut work.all).await?;
    for (number, version) in versions {
        note_version(work, number, version).await?;
    }
    for (report, outcome) in reports.iter().zip(&outcomes) {
        let Ok(version) = outcome else { continue };
        let changed = TableChange::Twin {
            tenant: report.tenant,
            device: &report.device,
            side: "reported",
            version: *version,
            hops: report.hops,
        };
        work.follow(changed).await?;
    }
    Ok(outcomes)
}
