//! Names of deleted users and devices that can be restored. No client is accepted under such a
//! name, by any source.

use std::sync::Arc;

use sqlx::AnyConnection;

use crate::lines::each_line;
use crate::names::AccountKind;
use crate::shared_map::SharedMap;
use crate::sql::{Fault, clean};

/// Names of users and devices that were deleted. Quick to copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deleted {
    /// Names of users, whichever tenant: no two users have the same name.
    users: SharedMap<Arc<str>, ()>,
    /// Names of devices by tenant.
    devices: SharedMap<u32, SharedMap<Arc<str>, ()>>,
}

impl Deleted {
    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        let devices: usize = self.devices.values().map(SharedMap::len).sum();
        self.users.len() + devices
    }

    pub(crate) async fn read(on: &mut AnyConnection, place: &str) -> Result<Self, Fault> {
        let mut all = Self::default();
        let sql = "SELECT string_agg(name || $1, $2) AS lines FROM users \
                   WHERE deleted_ms > 0 GROUP BY created_ms % 64";
        let take = |[name, _]: [&str; 2]| {
            all.users.insert(name.into(), ());
            Ok(())
        };
        each_line(&mut *on, place, sql, take).await?;
        let sql = "SELECT string_agg(CAST(tenant AS TEXT) || $1 || id, $2) AS lines FROM devices \
                   WHERE deleted_ms > 0 GROUP BY number % 64";
        let take = |[tenant, id]: [&str; 2]| {
            all.note_device(number_of(tenant), id.into(), true);
            Ok(())
        };
        each_line(on, place, sql, take).await?;
        Ok(all)
    }

    /// Reads what has become of a user.
    pub(crate) async fn read_user(
        &mut self,
        on: &mut AnyConnection,
        name: &Arc<str>,
    ) -> Result<(), Fault> {
        let sql = "SELECT tenant FROM users WHERE name = $1 AND deleted_ms > 0";
        let found = sqlx::query(sql).bind(clean(name));
        match found.fetch_optional(on).await? {
            Some(_) => self.users.insert(Arc::clone(name), ()),
            None => self.users.remove(name),
        };
        Ok(())
    }

    /// Reads what has become of a device.
    pub(crate) async fn read_device(
        &mut self,
        on: &mut AnyConnection,
        tenant: u32,
        id: &Arc<str>,
    ) -> Result<(), Fault> {
        let sql = "SELECT number FROM devices WHERE tenant = $1 AND id = $2 AND deleted_ms > 0";
        let found = sqlx::query(sql).bind(i64::from(tenant)).bind(clean(id));
        let found = found.fetch_optional(on).await?;
        self.note_device(tenant, Arc::clone(id), found.is_some());
        Ok(())
    }

    fn note_device(&mut self, tenant: u32, id: Arc<str>, is_deleted: bool) {
        let mut of_tenant = self.devices.remove(&tenant).unwrap_or_default();
        match is_deleted {
            true => of_tenant.insert(id, ()),
            false => of_tenant.remove(&id),
        };
        self.devices.insert(tenant, of_tenant);
    }

    /// The user or device that had this name in a tenant; none: none that can be restored.
    pub(crate) fn find(&self, tenant: u32, name: &str) -> Option<AccountKind> {
        if self
            .devices
            .get(&tenant)
            .is_some_and(|all| all.get(name).is_some())
        {
            return Some(AccountKind::Device);
        }
        self.users.get(name).map(|()| AccountKind::User)
    }
}

#[cfg(test)]
impl Deleted {
    /// All of them, by tenant and name.
    pub(crate) fn all(&self) -> Vec<(u32, Arc<str>, AccountKind)> {
        let users = self.users.iter();
        let mut all: Vec<_> = users
            .map(|(name, ())| (0, Arc::clone(name), AccountKind::User))
            .collect();
        for (tenant, ids) in self.devices.iter() {
            all.extend(
                ids.iter()
                    .map(|(id, ())| (*tenant, Arc::clone(id), AccountKind::Device)),
            );
        }
        all
    }
}

fn number_of(text: &str) -> u32 {
    text.parse().unwrap_or(u32::MAX)
}
