//! Reading what has changed since the tables were read.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::{AnyConnection, Row as _};

use super::Snapshot;
use super::read::{
    credential, device_entry, device_row, mark_of, number_of, read_tenants, user_entry,
};
use super::sets::By;
use super::team_tokens::TeamTokens;
use crate::changes::{CHANGES_MAX, Changes, changes_since};
use crate::credentials::rows_of;
use crate::database::{digest_key_text, is_in_use};
use crate::secret::DigestKey;
use crate::shared_map::SharedMap;
use crate::sql::Fault;
use crate::sqlite_file::file_of;
use crate::users::user_row;
use crate::{Ban, Registry, RegistryError, now_ms};

/// Result of a renewal: what has become of the tables since they were read.
#[derive(Debug)]
pub enum Renewed {
    /// They are as they were.
    Same,
    /// Something is different.
    Changed(Changed),
    /// They have to be read as a whole.
    Everything,
}

/// Changes in tables that were renewed.
#[derive(Debug)]
pub struct Changed {
    /// As they are now.
    pub tables: Arc<Snapshot>,
    /// These users and devices are other ones, and nobody else.
    pub names: Vec<Arc<str>>,
    /// Rules may be others, of whomever.
    pub rules: bool,
    /// Bans that were not there before.
    pub bans: Vec<Ban>,
}

impl Snapshot {
    /// Reads what has changed, which takes as long as that is much.
    ///
    /// # Errors
    /// The tables cannot be read, or mean nothing in part.
    pub async fn renew(&self) -> Result<Renewed, RegistryError> {
        if self.is_replaced() {
            return Ok(Renewed::Everything);
        }
        let mut registry = Registry::open(&self.location).await?;
        let renewed = self.renew_from(&mut registry).await;
        registry.close().await?;
        renewed
    }

    /// Another file has come to the place of the one that was read.
    fn is_replaced(&self) -> bool {
        let path = self.location.file();
        path.is_some_and(|path| self.origin.file.is_none() || self.origin.file != file_of(path))
    }

    /// As [`Snapshot::renew`], by a registry that is open already at the same place.
    ///
    /// # Errors
    /// The tables cannot be read, or mean nothing in part.
    pub async fn renew_from(&self, registry: &mut Registry) -> Result<Renewed, RegistryError> {
        if self.is_replaced() {
            return Ok(Renewed::Everything);
        }
        let place = registry.place().to_owned();
        let mut reading = registry.consistent_reading().await?;
        let renewed = self.read_changes(reading.connection(), &place).await;
        reading.end(renewed).await
    }

    /// Returns the same tables without what has ended by itself since they were read, for when they
    /// cannot be; none: nothing has.
    pub fn without_ended(&self) -> Option<Changed> {
        let read_ms = now_ms();
        if self.changes_ms > read_ms {
            return None;
        }
        let (names, changes_ms) = self.ended_until(read_ms);
        Some(Changed {
            tables: Arc::new(Self {
                read_ms,
                changes_ms,
                ..self.clone()
            }),
            names,
            rules: false,
            bans: Vec::new(),
        })
    }

    /// Devices of which a credential has ended since these tables were read, and when the next
    /// one does.
    fn ended_until(&self, now_ms: i64) -> (Vec<Arc<str>>, i64) {
        if self.changes_ms > now_ms {
            return (Vec::new(), self.changes_ms);
        }
        let (mut names, mut next_ms) = (Vec::new(), i64::MAX);
        for (id, device) in self.devices.values().flat_map(SharedMap::iter) {
            let mut has_ended = false;
            for credential in &device.credentials {
                if credential.expires_ms > now_ms {
                    next_ms = next_ms.min(credential.expires_ms);
                }
                has_ended |= credential.is_good(self.read_ms) && !credential.is_good(now_ms);
            }
            if has_ended {
                names.push(Arc::clone(id));
            }
        }
        (names, next_ms)
    }

    async fn read_changes(&self, on: &mut AnyConnection, place: &str) -> Result<Renewed, Fault> {
        if self.location.file().is_none() && mark_of(on).await? != self.origin.mark {
            return Ok(Renewed::Everything);
        }
        let Changes::Of {
            users: changed_users,
            devices: mut changed_devices,
            bans: changed_bans,
            of_many,
            seen,
        } = changes_since(on, &self.seen).await?
        else {
            return Ok(Renewed::Everything);
        };
        let is_nobody = changed_users.is_empty() && changed_devices.is_empty();
        let read_ms = now_ms();
        let is_same = is_nobody && changed_bans.is_empty() && !of_many;
        if is_same && self.changes_ms > read_ms {
            return Ok(Renewed::Same);
        }
        let (mut names, changes_ms) = self.ended_until(read_ms);
        let mut next = Self {
            iotflow_base: self.iotflow_base.clone(),
            location: self.location.clone(),
            origin: self.origin.clone(),
            seen,
            read_ms,
            changes_ms,
            in_use: self.in_use || !is_nobody,
            key: self.key.clone(),
            sets: Arc::clone(&self.sets),
            users: self.users.clone(),
            devices: self.devices.clone(),
            numbers: self.numbers.clone(),
            deleted: self.deleted.clone(),
            tenants: Arc::clone(&self.tenants),
            tokens: Arc::clone(&self.tokens),
            bans: self.bans.clone(),
            closed: Arc::clone(&self.closed),
            stranger: self.stranger.clone(),
            uses: Arc::clone(&self.uses),
        };
        if of_many && !next.read_many(on, place, &mut changed_devices).await? {
            return Ok(Renewed::Everything);
        }
        for name in changed_users {
            let name: Arc<str> = name.into();
            next.read_user(on, place, &name).await?;
            names.push(name);
        }
        for (tenant, id) in changed_devices {
            let id: Arc<str> = id.into();
            next.read_device(on, place, tenant, &id).await?;
            names.push(id);
        }
        let mut new_bans = Vec::new();
        for id in changed_bans {
            new_bans.extend(next.bans.read_one(on, &id).await?);
        }
        let newest = next.users.values().next().map(|user| &user.hash);
        let stranger = newest.map(|newest| self.stranger.as_ref().unwrap_or(newest).clone());
        next.stranger = stranger;
        Ok(Renewed::Changed(Changed {
            tables: Arc::new(next),
            names,
            rules: of_many,
            bans: new_bans,
        }))
    }

    /// Reads again what many depend on: sets of rules, tenants, tokens of teams. Adds the devices
    /// that have come into groups. False: too much has changed, and everything is to be read.
    async fn read_many(
        &mut self,
        on: &mut AnyConnection,
        place: &str,
        devices: &mut BTreeSet<(u32, String)>,
    ) -> Result<bool, Fault> {
        let key = DigestKey::read(&digest_key_text(on).await?);
        if key.is_none_or(|key| key.identity() != self.identity()) {
            return Ok(false);
        }
        let (newer, gained) = self.sets.read_again(on, place, &self.iotflow_base).await?;
        for group in gained {
            devices_of(on, &group, devices).await?;
        }
        if devices.len() > CHANGES_MAX {
            return Ok(false);
        }
        self.sets = Arc::new(newer);
        self.tenants = Arc::new(read_tenants(on).await?);
        self.tokens = Arc::new(TeamTokens::read(on, place).await?);
        self.in_use |= is_in_use(on).await?;
        Ok(true)
    }

    async fn read_user(
        &mut self,
        on: &mut AnyConnection,
        place: &str,
        name: &Arc<str>,
    ) -> Result<(), Fault> {
        match user_row(on, name).await? {
            Some(row) => {
                let by = By::Role(row.user.role.clone());
                let rules = number_of(&mut self.sets, by, name, place)?;
                let entry = user_entry(row, rules, &self.tokens, place)?;
                self.users.insert(Arc::clone(name), Arc::new(entry))
            }
            None => self.users.remove(name),
        };
        self.deleted.read_user(on, name).await
    }

    async fn read_device(
        &mut self,
        on: &mut AnyConnection,
        place: &str,
        tenant: u32,
        id: &Arc<str>,
    ) -> Result<(), Fault> {
        let mut of_tenant = self.devices.remove(&tenant).unwrap_or_default();
        if let Some(old) = of_tenant.get(id) {
            self.numbers.remove(old.number, tenant, id);
        }
        match device_row(on, tenant, id).await? {
            None => of_tenant.remove(id),
            Some((row, groups)) => {
                if !self.sets.has_all(&groups) {
                    // A group that was added does not change rules, but its topic does.
                    let base = &self.iotflow_base;
                    self.sets = Arc::new(self.sets.read_again(on, place, base).await?.0);
                }
                let by = self.sets.by_device(&row.device_type, &groups);
                let rules = number_of(&mut self.sets, by, id, place)?;
                let mut entry = device_entry(&row, rules, &self.tokens);
                let credentials = rows_of(on, row.number).await?;
                let credentials = credentials.iter();
                let credentials = credentials.map(|held| credential(held, id, place));
                entry.credentials = credentials.collect::<Result<_, _>>()?;
                let ends = entry.credentials.iter().map(|held| held.expires_ms);
                self.changes_ms = ends
                    .filter(|ends| *ends > self.read_ms)
                    .fold(self.changes_ms, i64::min);
                self.numbers.insert(row.number, tenant, Arc::clone(id));
                of_tenant.insert(Arc::clone(id), Arc::new(entry))
            }
        };
        self.devices.insert(tenant, of_tenant);
        self.deleted.read_device(on, tenant, id).await
    }
}

/// Adds the devices of a group.
async fn devices_of(
    on: &mut AnyConnection,
    group: &str,
    devices: &mut BTreeSet<(u32, String)>,
) -> Result<(), Fault> {
    let sql = "SELECT tenant, id FROM devices WHERE deleted_ms = 0 AND number IN \
               (SELECT device FROM group_devices WHERE group_id = $1) LIMIT $2";
    let query = sqlx::query(sql).bind(group.to_owned());
    for row in query.bind(CHANGES_MAX as i64 + 1).fetch_all(on).await? {
        let tenant: i64 = row.try_get("tenant")?;
        let tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        devices.insert((tenant, row.try_get("id")?));
    }
    Ok(())
}
