//! Reading the tables as a whole, and rows of them.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_access::IotflowBase;
use martlet_access::hash::PasswordHash;
use martlet_access::scram::Verifier;
use martlet_permission::Rules;
use sqlx::{AnyConnection, Row as _};

use super::numbers::Numbers;
use super::sets::{By, SetNumber, Sets};
use super::team_tokens::TeamTokens;
use super::{Credential, DeviceEntry, Devices, Origin, Snapshot, Tenants, Used, UserEntry};
use martlet_access::commonest;

use crate::bans::Bans;
use crate::changes::seen;
use crate::credentials::{CredentialKind, CredentialRow};
use crate::database::is_in_use;
use crate::deleted::Deleted;
use crate::devices::status_of;
use crate::lines::{damaged, each_line};
use crate::secret::{DigestKey, read_digest};
use crate::shared_map::SharedMap;
use crate::sql::Fault;
use crate::sqlite_file::{file_of, is_there};
use crate::users::{UserRow, user_rows};
use crate::{Location, Registry, RegistryError, Status, now_ms};

impl Snapshot {
    /// Reads the tables at a place; none if it is a file that is not there.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn load(location: impl Into<Location>) -> Result<Option<Self>, RegistryError> {
        Self::load_with(location, IotflowBase::default()).await
    }

    /// As [`Self::load`], where the topics of IoTFlow begin with this.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn load_with(
        location: impl Into<Location>,
        iotflow_base: IotflowBase,
    ) -> Result<Option<Self>, RegistryError> {
        let location = location.into();
        if let Some(path) = location.file()
            && !is_there(path)?
        {
            return Ok(None);
        }
        let mut registry = match location.file() {
            Some(path) => Registry::open_to_read(path).await?,
            None => Registry::open(location).await?,
        };
        registry.settings.iotflow_base = iotflow_base;
        let snapshot = Self::read(&mut registry).await?;
        registry.close().await?;
        Ok(Some(snapshot))
    }

    /// Reads all tables as they are at one moment.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn read(registry: &mut Registry) -> Result<Self, RegistryError> {
        let key = registry.digest_key().await?;
        let base = registry.settings.iotflow_base.clone();
        let (location, place) = (registry.location().clone(), registry.place().to_owned());
        // Before it is read: one that takes its place meanwhile is another.
        let file = location.file().and_then(file_of);
        let mut reading = registry.consistent_reading().await?;
        let on = reading.connection();
        let read = Self::read_tables(on, location, &place, key, base, file).await;
        reading.end(read).await
    }

    async fn read_tables(
        on: &mut AnyConnection,
        location: Location,
        place: &str,
        key: DigestKey,
        iotflow_base: IotflowBase,
        file: Option<(u64, u64)>,
    ) -> Result<Self, Fault> {
        let mark = match location.file() {
            Some(_) => String::new(),
            None => mark_of(on).await?,
        };
        let seen = seen(on).await?;
        let mut sets = Arc::new(Sets::read(on, place, &iotflow_base).await?);
        let tokens = TeamTokens::read(on, place).await?;
        let mut users = SharedMap::default();
        for row in user_rows(on).await? {
            let name: Arc<str> = row.user.name.as_str().into();
            let rules = number_of(&mut sets, By::Role(row.user.role.clone()), &name, place)?;
            let entry = user_entry(row, rules, &tokens, place)?;
            users.insert(name, Arc::new(entry));
        }
        let read_ms = now_ms();
        let mut groups = read_places(on, &sets, place).await?;
        let mut numbered = HashMap::new();
        let take = |row: DeviceRow| {
            let groups = groups.remove(&row.number).unwrap_or_default();
            let by = sets.by_device(&row.device_type, &groups);
            let rules = number_of(&mut sets, by, &row.id, place)?;
            let entry = device_entry(&row, rules, &tokens);
            numbered.insert(row.number, (row.tenant, row.id, entry));
            Ok(())
        };
        each_device(on, place, take).await?;
        let mut changes_ms = i64::MAX;
        let take = |row: CredentialRow| {
            // Nearly all have one.
            if let Some((_, id, device)) = numbered.get_mut(&row.device) {
                let held = credential(&row, id, place)?;
                if held.expires_ms > read_ms {
                    changes_ms = changes_ms.min(held.expires_ms);
                }
                let mut all = std::mem::take(&mut device.credentials).into_vec();
                all.reserve_exact(1);
                all.push(held);
                device.credentials = all.into();
            }
            Ok(())
        };
        each_credential(on, place, take).await?;
        let mut by_tenant: HashMap<u32, SharedMap<Arc<str>, Arc<DeviceEntry>>> = HashMap::new();
        let mut numbers = Numbers::default();
        for (tenant, id, entry) in numbered.into_values() {
            let (of_tenant, id) = (by_tenant.entry(tenant).or_default(), Arc::<str>::from(id));
            numbers.insert(entry.number, tenant, Arc::clone(&id));
            of_tenant.insert(id, Arc::new(entry));
        }
        let mut devices = Devices::default();
        for (tenant, of_tenant) in by_tenant {
            devices.insert(tenant, of_tenant);
        }
        Ok(Self {
            in_use: is_in_use(on).await?,
            tenants: Arc::new(read_tenants(on).await?),
            tokens: Arc::new(tokens),
            bans: Bans::read(on).await?,
            origin: Origin { file, mark },
            location,
            seen,
            key,
            iotflow_base,
            read_ms,
            changes_ms,
            sets,
            devices,
            numbers,
            deleted: Deleted::read(on, place).await?,
            closed: Arc::new(Rules::closed()),
            stranger: commonest(users.values().map(|user| &user.hash)),
            users,
            uses: Arc::default(),
        })
    }
}

/// Reads the mark that was made up with the tables of PostgreSQL.
pub(super) async fn mark_of(on: &mut AnyConnection) -> Result<String, Fault> {
    let sql = "SELECT value FROM settings WHERE name = 'database'";
    let found = sqlx::query_scalar::<_, String>(sql).fetch_optional(on);
    Ok(found.await?.unwrap_or_default())
}

pub(super) async fn read_tenants(on: &mut AnyConnection) -> Result<Tenants, Fault> {
    let sql = "SELECT id, name, tenant, deleted_ms FROM teams WHERE tenant > 0";
    let mut tenants = Tenants::default();
    for row in sqlx::query(sql).fetch_all(on).await? {
        if row.try_get::<i64, _>("deleted_ms")? > 0 {
            tenants.deleted.insert(row.try_get("name")?);
            continue;
        }
        let tenant: i64 = row.try_get("tenant")?;
        let tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        let name: String = row.try_get("name")?;
        tenants.names.insert(tenant, name.clone());
        tenants.by_name.insert(name, tenant);
        tenants.by_id.insert(row.try_get("id")?, tenant);
    }
    Ok(tenants)
}

/// A device, as the gate knows it.
pub(super) struct DeviceRow {
    pub(super) number: i64,
    pub(super) tenant: u32,
    pub(super) id: String,
    pub(super) device_type: String,
    /// The id of its team; empty is none.
    pub(super) team: String,
    pub(super) status: Status,
    pub(super) created_ms: i64,
}

/// A device with the ids of its groups; none: there is no such device.
pub(super) async fn device_row(
    on: &mut AnyConnection,
    tenant: u32,
    id: &str,
) -> Result<Option<(DeviceRow, Vec<String>)>, Fault> {
    let sql = "SELECT number, type, team, status, created_ms FROM devices WHERE tenant = $1 AND id = $2 AND \
               deleted_ms = 0";
    let query = sqlx::query(sql).bind(i64::from(tenant)).bind(id.to_owned());
    let Some(row) = query.fetch_optional(&mut *on).await? else {
        return Ok(None);
    };
    let status: String = row.try_get("status")?;
    let device = DeviceRow {
        number: row.try_get("number")?,
        tenant,
        id: id.to_owned(),
        device_type: row.try_get("type")?,
        team: row.try_get("team")?,
        status: status_of(id, &status)?,
        created_ms: row.try_get("created_ms")?,
    };
    let sql = "SELECT group_id FROM group_devices WHERE device = $1";
    let groups = sqlx::query_scalar(sql).bind(device.number).fetch_all(on);
    Ok(Some((device, groups.await?)))
}

/// All devices as the gate knows them, by and by: there may be many.
pub(super) async fn each_device(
    on: &mut AnyConnection,
    place: &str,
    mut take: impl FnMut(DeviceRow) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = "SELECT string_agg(CAST(number AS TEXT) || $1 || CAST(tenant AS TEXT) || $1 || id \
               || $1 || type || $1 || team || $1 || status || $1 || CAST(created_ms AS TEXT), $2) \
               AS lines FROM devices WHERE deleted_ms = 0 \
               GROUP BY number % 64";
    let take = |[number, tenant, id, device_type, team, status, created_ms]: [&str; 7]| {
        let of = || damaged(place, format!("device {id} has no number"));
        take(DeviceRow {
            number: number.parse().map_err(|_| of())?,
            tenant: tenant.parse().map_err(|_| of())?,
            id: id.to_owned(),
            device_type: device_type.to_owned(),
            team: team.to_owned(),
            status: status_of(id, status)?,
            created_ms: created_ms.parse().map_err(|_| of())?,
        })
    };
    each_line(on, place, sql, take).await
}

/// Credentials that are not revoked, by and by.
pub(super) async fn each_credential(
    on: &mut AnyConnection,
    place: &str,
    mut take: impl FnMut(CredentialRow) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = "SELECT string_agg(CAST(device AS TEXT) || $1 || kind || $1 || digest || $1 || \
               CAST(CASE WHEN revoked_ms > 0 THEN 1 ELSE expires_ms END AS TEXT) || $1 || \
               CASE WHEN uses > 0 THEN 'used' ELSE '' END, $2) AS lines \
               FROM device_credentials WHERE revoked_ms = 0 OR kind = 'certificate' \
               GROUP BY device % 64";
    let take = |[device, kind, digest, expires_ms, used]: [&str; 5]| {
        let of = || {
            damaged(
                place,
                format!("a credential of device {device} ends at no time"),
            )
        };
        take(CredentialRow {
            device: device.parse().map_err(|_| of())?,
            kind: match kind {
                "certificate" => CredentialKind::Certificate,
                _ => CredentialKind::Secret,
            },
            digest: digest.to_owned(),
            expires_ms: expires_ms.parse().map_err(|_| of())?,
            is_used: !used.is_empty(),
        })
    };
    each_line(on, place, sql, take).await
}

/// The ids of the groups of each device that may have rules for it: see [`Sets::by_device`].
pub(super) async fn read_places(
    on: &mut AnyConnection,
    sets: &Sets,
    place: &str,
) -> Result<HashMap<i64, Vec<String>>, Fault> {
    let mut groups: HashMap<i64, Vec<String>> = HashMap::new();
    if !sets.has_groups() {
        return Ok(groups);
    }
    let sql = "SELECT string_agg(CAST(device AS TEXT) || $1 || group_id, $2) AS lines FROM \
               group_devices WHERE group_id IN \
               (SELECT owner FROM rules WHERE owner_kind = 'group') OR device IN \
               (SELECT number FROM devices WHERE type = 'iotflow') GROUP BY device % 64";
    let take = |[device, group]: [&str; 2]| {
        let of = || {
            damaged(
                place,
                format!("group {group} has a device without a number"),
            )
        };
        let device = device.parse().map_err(|_| of())?;
        groups.entry(device).or_default().push(group.to_owned());
        Ok(())
    };
    each_line(on, place, sql, take).await?;
    Ok(groups)
}

pub(super) fn user_entry(
    row: UserRow,
    rules: SetNumber,
    tokens: &TeamTokens,
    place: &str,
) -> Result<UserEntry, RegistryError> {
    let name = row.user.name;
    let hash = PasswordHash::parse(&row.password_hash)
        .map_err(|expected| damaged(place, format!("user {name}: expected {expected}")))?;
    let scram = match row.scram_verifier.as_str() {
        "" => None,
        text => Some(Box::new(Verifier::parse(text).map_err(|expected| {
            damaged(place, format!("user {name}: expected {expected}"))
        })?)),
    };
    Ok(UserEntry {
        scram,
        hash,
        created_ms: row.user.created_ms,
        password_set_ms: row.user.password_set_ms,
        enabled: row.user.enabled,
        tenant: row.user.tenant,
        team: tokens.number_of(&row.user.team),
        rules,
    })
}

/// Without its credentials.
pub(super) fn device_entry(row: &DeviceRow, rules: SetNumber, tokens: &TeamTokens) -> DeviceEntry {
    DeviceEntry {
        number: row.number,
        created_ms: row.created_ms,
        rules,
        credentials: Box::default(),
        team: tokens.number_of(&row.team),
        status: row.status,
    }
}

/// The number of the rules of a role or type, which are in use from then on.
pub(super) fn number_of(
    sets: &mut Arc<Sets>,
    by: By,
    whose: &str,
    place: &str,
) -> Result<SetNumber, RegistryError> {
    if let Some(known) = sets.find(&by) {
        return Ok(known);
    }
    let what = match by {
        By::Role(_) => format!("user {whose} has no role"),
        By::Device(..) => format!("device {whose} has no type"),
    };
    let found = Arc::make_mut(sets).number(by, place)?;
    found.ok_or_else(|| damaged(place, what))
}

pub(super) fn credential(
    row: &CredentialRow,
    id: &str,
    place: &str,
) -> Result<Credential, RegistryError> {
    let digest = read_digest(&row.digest)
        .ok_or_else(|| damaged(place, format!("a credential of {id} has an invalid digest")))?;
    Ok(Credential {
        kind: row.kind,
        digest,
        used: Used::new(row.is_used),
        expires_ms: row.expires_ms,
    })
}
