//! Reading devices.

use std::collections::{BTreeSet, HashMap};

use sqlx::{AnyConnection, Row as _};

use super::DeviceRef;
use super::fields::Device;
use crate::object::{read_all, read_first, select};
use crate::presence;
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{NotFound, ObjectKind, Registry, RegistryError, Visibility, now_ms};

/// Devices whose tags, groups and credentials one statement reads.
const CHUNK: usize = 200;

impl Registry {
    /// A device.
    ///
    /// # Errors
    /// There is none.
    pub async fn device(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
    ) -> Result<Device, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find_device(on, engine, visibility, device, false).await;
        reading.end(found).await
    }

    /// All devices of the common tenant, by id.
    ///
    /// # Errors
    /// The database cannot be read, or a status means nothing.
    pub async fn devices(&mut self) -> Result<Vec<Device>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = all_of_common_tenant(on, engine).await;
        reading.end(found).await
    }
}

async fn all_of_common_tenant(
    on: &mut AnyConnection,
    engine: Engine,
) -> Result<Vec<Device>, Fault> {
    let mut sql = select::<Device>(engine);
    sql.push(" WHERE tenant = 0 AND deleted_ms = 0 ORDER BY id");
    let mut devices = read_all::<Device>(sql, on).await?;
    for some in devices.chunks_mut(CHUNK) {
        fill(on, engine, some).await?;
    }
    Ok(devices)
}

/// Adds the data of other tables to a page of devices.
pub(crate) async fn fill(
    on: &mut AnyConnection,
    engine: Engine,
    devices: &mut [Device],
) -> Result<(), Fault> {
    if devices.is_empty() {
        return Ok(());
    }
    let places = devices.iter().enumerate();
    let places: HashMap<i64, usize> = places.map(|(at, device)| (device.number, at)).collect();
    let numbers: Vec<i64> = devices.iter().map(|device| device.number).collect();
    let mut sql = Sql::new(
        engine,
        "SELECT device, tag FROM device_tags WHERE device IN ",
    );
    sql.list(numbers.iter().copied())
        .push(" ORDER BY device, tag");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].tags.push(row.try_get("tag")?);
        }
    }
    let mut sql = Sql::new(
        engine,
        "SELECT device, id FROM group_devices JOIN device_groups ON id = group_id WHERE device IN ",
    );
    sql.list(numbers.iter().copied())
        .push(" ORDER BY device, name, id");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].groups.push(row.try_get("id")?);
        }
    }
    let mut sql = Sql::new(
        engine,
        "SELECT device, COUNT(*) AS good FROM device_credentials WHERE revoked_ms = 0 AND \
         (expires_ms = 0 OR expires_ms > ",
    );
    sql.bind(now_ms()).push(") AND device IN ");
    sql.list(numbers.iter().copied()).push(" GROUP BY device");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].credentials = usize::try_from(row.try_get::<i64, _>("good")?).unwrap_or(0);
        }
    }
    let by_name = devices.iter().enumerate();
    let by_name = by_name.map(|(at, device)| ((device.tenant, device.id.clone()), at));
    let by_name: HashMap<(u32, String), usize> = by_name.collect();
    let tenants: BTreeSet<u32> = devices.iter().map(|device| device.tenant).collect();
    for tenant in tenants {
        let ids = devices.iter().filter(|device| device.tenant == tenant);
        let ids: Vec<&str> = ids.map(|device| &*device.id).collect();
        for found in presence::of_clients(on, engine, tenant, &ids).await? {
            if let Some(at) = by_name.get(&(tenant, found.client_id.clone())) {
                let device = &mut devices[*at];
                device.presence = Some(found).filter(|found| device.is_own(found));
            }
        }
    }
    Ok(())
}

/// A device that is there, or one that is deleted, if the caller sees it.
pub(crate) async fn find_device(
    on: &mut AnyConnection,
    engine: Engine,
    visibility: &Visibility,
    device: DeviceRef<'_>,
    deleted: bool,
) -> Result<Device, Fault> {
    let mut sql = select::<Device>(engine);
    sql.push(" WHERE ");
    match device {
        DeviceRef::Number(number) => {
            sql.push("number = ").bind(number);
        }
        DeviceRef::Id(id) => {
            sql.push("id = ").bind(clean(id));
        }
    }
    match (visibility.team(), device) {
        (Some(team), _) => {
            sql.push(" AND team = ").bind(team.to_owned());
        }
        (None, DeviceRef::Id(_)) => {
            sql.push(" AND tenant = 0");
        }
        (None, DeviceRef::Number(_)) => {}
    }
    sql.push(if deleted {
        " AND deleted_ms > 0"
    } else {
        " AND deleted_ms = 0"
    });
    let Some(found) = read_first(sql, on).await? else {
        return Err(not_found(on, engine, visibility, device, deleted)
            .await?
            .into());
    };
    let mut found = [found];
    fill(on, engine, &mut found).await?;
    let [found] = found;
    Ok(found)
}

/// Error for a device that does not exist, with the device of that id that the caller sees.
async fn not_found(
    on: &mut AnyConnection,
    engine: Engine,
    visibility: &Visibility,
    device: DeviceRef<'_>,
    deleted: bool,
) -> Result<NotFound, Fault> {
    let mut others: Vec<Device> = Vec::new();
    if let DeviceRef::Id(id) = device {
        let mut sql = select::<Device>(engine);
        sql.push(" WHERE id = ");
        sql.bind(clean(id));
        if let Some(team) = visibility.team() {
            sql.push(" AND team = ").bind(team.to_owned());
        }
        sql.push(" ORDER BY tenant");
        others = read_all(sql, on).await?;
    }
    let is_looked_for = |other: &Device| visibility.team().is_some() || other.tenant == 0;
    let own = others.iter().find(|other| is_looked_for(other));
    let device = device.to_string();
    Ok(match (own, deleted) {
        (Some(own), false) => NotFound::Deleted(ObjectKind::Device, own.object_name()),
        (Some(_), true) => NotFound::NotDeleted(ObjectKind::Device, device),
        (None, _) => {
            let teams = others.iter().filter_map(|other| other.object_name().team);
            let mut teams: Vec<String> = teams.collect();
            teams.sort_unstable();
            match teams.is_empty() {
                true => NotFound::Object(ObjectKind::Device, device),
                false => NotFound::DeviceOfTeams(device, teams),
            }
        }
    })
}
