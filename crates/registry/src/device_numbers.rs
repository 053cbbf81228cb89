//! Devices by tenant and id, many at once, for names in topics.

use std::collections::{BTreeMap, HashSet};

use sqlx::Row as _;

use crate::sql::{Fault, Sql};
use crate::{Registry, RegistryError};

/// Ids of one statement.
pub(crate) const CHUNK: usize = 200;

/// A device, as what is kept under its number needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedDevice {
    /// Number of its tenant.
    pub tenant: u32,
    /// Id of the device, unique in the tenant.
    pub id: String,
    /// Number of the device, which no other device ever has.
    pub number: i64,
    /// Type of the device.
    pub device_type: String,
}

/// Ids of devices by their tenants.
pub(crate) fn by_tenant(names: &[(u32, String)]) -> BTreeMap<u32, Vec<&str>> {
    let mut by_tenant = BTreeMap::<u32, Vec<&str>>::new();
    for (tenant, id) in names {
        by_tenant.entry(*tenant).or_default().push(id);
    }
    by_tenant
}

impl Registry {
    /// The devices of these tenants and ids that are there, in any order. Ids that no device has
    /// are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn numbered_devices(
        &mut self,
        names: &[(u32, String)],
    ) -> Result<Vec<NumberedDevice>, RegistryError> {
        let named = by_tenant(names);
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = Vec::new();
            for (tenant, ids) in named {
                for ids in ids.chunks(CHUNK) {
                    let mut sql = Sql::new(
                        engine,
                        "SELECT id, number, type FROM devices WHERE deleted_ms = 0 AND \
                         tenant = ",
                    );
                    sql.bind(i64::from(tenant)).push(" AND id IN ");
                    sql.list(ids.iter().map(|id| crate::sql::clean(id)));
                    for row in sql.all(on).await? {
                        found.push(NumberedDevice {
                            tenant,
                            id: row.try_get("id")?,
                            number: row.try_get("number")?,
                            device_type: row.try_get("type")?,
                        });
                    }
                }
            }
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Numbers of all devices of some types, deleted ones among them, with their types.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn numbers_of_types(
        &mut self,
        types: &[String],
    ) -> Result<Vec<(i64, String)>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = Vec::new();
            for types in types.chunks(CHUNK) {
                let mut sql = Sql::new(engine, "SELECT number, type FROM devices WHERE type IN ");
                sql.list(types.iter().map(String::as_str))
                    .push(" ORDER BY number");
                for row in sql.all(on).await? {
                    found.push((row.try_get("number")?, row.try_get("type")?));
                }
            }
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Returns those of these numbers that devices have, deleted ones among them, or removed ones
    /// whose telemetry is kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn existing_numbers(
        &mut self,
        numbers: &[i64],
    ) -> Result<HashSet<i64>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = HashSet::new();
            for numbers in numbers.chunks(CHUNK) {
                let mut sql = Sql::new(engine, "SELECT number FROM devices WHERE number IN ");
                sql.list(numbers.iter().copied());
                sql.push(" UNION SELECT device FROM kept_telemetry WHERE device IN ");
                sql.list(numbers.iter().copied());
                for row in sql.all(on).await? {
                    found.insert(row.try_get("number")?);
                }
            }
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}
