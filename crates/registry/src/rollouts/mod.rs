//! Rollouts: firmware for the devices of a group or filter, in waves.
//!
//! The rules are those of `martlet-rollout`. Here is what they need: rows, and commands of the kind
//! `firmware`, each added in the transaction in which its device is offered the firmware. So a
//! crash at any point neither loses a device nor offers it anything twice.
//!
//! * `row`: a rollout and a device in it, as the tables have them
//! * `create`: a rollout begins with all of its devices, in waves
//! * `advance`: what is to be done next
//! * `follow`: states of commands
//! * `order`: what operators do

mod advance;
mod create;
mod follow;
mod order;
mod row;

pub use advance::AdvancedRollout;
pub use create::{NewRollout, ROLLOUT_DEVICES_MAX, ROLLOUTS_OPEN_MAX, RolloutTarget};
pub(crate) use follow::follow;
pub use order::RolloutOrder;
pub use row::{Rollout, RolloutDevice};

use sqlx::{AnyConnection, Row as _};

use crate::page::{Cursor, page_of};
use crate::rollout::DeviceState;
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{NotFound, ObjectKind, Page, PageRequest, Registry, RegistryError, Visibility};
use row::{COLUMNS, DEVICE_COLUMNS, DEVICE_FROM, read_counts, read_device, read_rollout};

impl Registry {
    /// Rollouts, the newest one first. `open`: only those that have not ended.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is invalid.
    pub async fn rollouts(
        &mut self,
        visibility: &Visibility,
        open: bool,
        page: &PageRequest,
    ) -> Result<Page<Rollout>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(" FROM rollouts WHERE 1 = 1");
            if let Some(team) = visibility.team() {
                sql.push(" AND team = ").bind(clean(team));
            }
            if open {
                sql.push(" AND finished_ms = 0");
            }
            if let Some(cursor) = Cursor::of(page)? {
                sql.push(" AND number < ").bind(cursor.number);
            }
            sql.push(" ORDER BY number DESC LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(on).await?;
            let items: Result<Vec<Rollout>, Fault> =
                rows.iter().map(|row| read_rollout(row, &place)).collect();
            let mut page = page_of(page, items?, None, |rollout| Cursor {
                text: String::new(),
                number: rollout.number,
            });
            for rollout in &mut page.items {
                rollout.counts = read_counts(on, engine, &place, rollout.number).await?;
            }
            Ok(page)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A rollout.
    ///
    /// # Errors
    /// There is none.
    pub async fn rollout(
        &mut self,
        visibility: &Visibility,
        id: &str,
    ) -> Result<Rollout, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = find(on, engine, &place, visibility, id).await?;
            found.counts = read_counts(on, engine, &place, found.number).await?;
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Rollouts that have not ended, or have ended since a time, with how far a device of a tenant
    /// is in each, the newest one first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn recent_rollouts_of(
        &mut self,
        tenant: u32,
        device: &str,
        since_ms: i64,
        limit: u32,
    ) -> Result<Vec<(Rollout, RolloutDevice)>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS)
                .push(" FROM rollouts WHERE (finished_ms = 0 OR finished_ms >= ");
            sql.bind(since_ms).push(
                ") AND number IN (SELECT rollout FROM rollout_devices JOIN devices ON \
                 devices.number = rollout_devices.device WHERE deleted_ms = 0 AND devices.tenant = ",
            );
            sql.bind(i64::from(tenant)).push(" AND id = ");
            sql.bind(clean(device))
                .push(") ORDER BY number DESC LIMIT ");
            sql.bind(i64::from(limit));
            let mut found = Vec::new();
            for row in sql.all(&mut *on).await? {
                let mut rollout = read_rollout(&row, &place)?;
                rollout.counts = read_counts(&mut *on, engine, &place, rollout.number).await?;
                let mut sql = Sql::new(engine, "SELECT ");
                sql.push(DEVICE_COLUMNS).push(DEVICE_FROM);
                sql.push(" WHERE r.rollout = ").bind(rollout.number);
                sql.push(" AND d.tenant = ").bind(i64::from(tenant));
                sql.push(" AND d.deleted_ms = 0 AND d.id = ")
                    .bind(clean(device));
                if let Some(row) = sql.first(&mut *on).await? {
                    found.push((rollout, read_device(&row, &place)?));
                }
            }
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Devices of a rollout, by wave, with the rollout. `state`: only those in this state.
    ///
    /// # Errors
    /// There is no such rollout, or the cursor is none.
    pub async fn rollout_devices(
        &mut self,
        visibility: &Visibility,
        id: &str,
        state: Option<DeviceState>,
        page: &PageRequest,
    ) -> Result<(Rollout, Page<RolloutDevice>), RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut rollout = find(on, engine, &place, visibility, id).await?;
            rollout.counts = read_counts(on, engine, &place, rollout.number).await?;
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(DEVICE_COLUMNS).push(DEVICE_FROM);
            sql.push(" WHERE r.rollout = ").bind(rollout.number);
            if let Some(state) = state {
                sql.push(" AND r.state = ").bind(state.word());
            }
            if let Some(cursor) = Cursor::of(page)? {
                let wave: i64 = cursor.text.parse().unwrap_or(0);
                sql.push(" AND (r.wave, r.device) > (").bind(wave);
                sql.push(", ").bind(cursor.number).push(")");
            }
            sql.push(" ORDER BY r.wave, r.device LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(on).await?;
            let items: Result<Vec<RolloutDevice>, Fault> =
                rows.iter().map(|row| read_device(row, &place)).collect();
            let page = page_of(page, items?, None, |device| Cursor {
                text: device.wave.to_string(),
                number: device.number,
            });
            Ok((rollout, page))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// A rollout that the caller sees, without its counts.
async fn find(
    on: &mut AnyConnection,
    engine: Engine,
    place: &str,
    visibility: &Visibility,
    id: &str,
) -> Result<Rollout, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(" FROM rollouts WHERE id = ");
    sql.bind(clean(id));
    if let Some(team) = visibility.team() {
        sql.push(" AND team = ").bind(clean(team));
    }
    match sql.first(on).await? {
        Some(row) => read_rollout(&row, place),
        None => Err(NotFound::Object(ObjectKind::Rollout, id.to_owned()).into()),
    }
}

/// How many rows have this state of a rollout, in all waves.
async fn count_of(
    on: &mut AnyConnection,
    engine: Engine,
    rollout: i64,
    states: &[DeviceState],
) -> Result<i64, Fault> {
    let mut sql = Sql::new(
        engine,
        "SELECT COUNT(*) FROM rollout_devices WHERE rollout = ",
    );
    sql.bind(rollout).push(" AND state IN ");
    sql.list(states.iter().map(|state| state.word()));
    Ok(sql.first(on).await?.map_or(Ok(0), |row| row.try_get(0))?)
}
