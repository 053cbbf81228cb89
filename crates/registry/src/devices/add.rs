//! Adding devices.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use sqlx::Row as _;

use super::checks::{
    check_groups, check_new_id, check_tags, expect_type, no_owner, owned_by, too_many,
};
use super::fields::{self, Device, NewDevice, user_name};
use super::secret::DeviceSecret;
use super::{AddedDevice, Import, RowOutcome};
use crate::audit::NewAuditEntry;
use crate::database::Work;
use crate::device_ids::{expect_free_number, expect_own_number, generated_id, is_digits};
use crate::groups::find::{for_team as group_for_team, none_for_team};
use crate::secret::{self, DigestKey, Secret};
use crate::sql::{Engine, Fault};
use crate::teams::{Home, expect_unqualified, home_if_any, name_of};
use crate::users::is_user;
use crate::{Actor, Conflict, Exists, NotFound, ObjectKind, Refused, Registry, RegistryError};

/// Number of devices added at once after which PostgreSQL updates its statistics.
const MANY: usize = 1_000;

/// Devices in one statement.
const CHUNK: usize = 200;

/// Devices in one transaction, of those that are added each by itself.
const CHUNKS_MAX: usize = 5;

/// Maximum number of devices that are added all or none, since there are no other writers in that
/// time.
const ALL_OR_NONE_MAX: usize = 10_000;

impl Registry {
    /// Adds a device.
    ///
    /// # Errors
    /// There is a device or a user of that name, or something about it cannot be.
    pub async fn create_device(
        &mut self,
        actor: &Actor,
        device: NewDevice,
    ) -> Result<AddedDevice, RegistryError> {
        let key = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = insert_one(&mut work, &key, device).await;
        work.end(done).await
    }

    /// Adds many devices. Returns the outcome of each, in order. All or none: up to 10,000.
    ///
    /// # Errors
    /// There are too many, or the database cannot be changed; of those that are added each by
    /// itself some may be there.
    pub async fn add_devices(
        &mut self,
        actor: &Actor,
        devices: Vec<NewDevice>,
        import: Import,
    ) -> Result<Vec<RowOutcome>, RegistryError> {
        if import == Import::AllOrNone && devices.len() > ALL_OR_NONE_MAX {
            return Err(Conflict::DevicesAtOnce(ALL_OR_NONE_MAX).into());
        }
        let key = self.digest_key().await?;
        let mut outcomes = Vec::with_capacity(devices.len());
        let mut left = devices.into_iter().peekable();
        while left.peek().is_some() {
            // There are no other writers meanwhile, so it has to be short.
            let many = match import {
                Import::AllOrNone => usize::MAX,
                Import::EachByItself => CHUNK * CHUNKS_MAX,
            };
            let some: Vec<_> = left.by_ref().take(many).collect();
            let mut work = self.begin(actor).await?;
            let done = insert_many(&mut work, &key, some).await;
            let is_added = |one: &RowOutcome| matches!(one, RowOutcome::Added(_));
            match (done, import) {
                (Ok(some), Import::AllOrNone) if !some.iter().all(is_added) => {
                    drop(work);
                    outcomes.extend(some.into_iter().map(|one| match one {
                        RowOutcome::Added(_) => RowOutcome::NotDone,
                        other => other,
                    }));
                }
                (done, _) => outcomes.extend(work.end(done).await?),
            }
        }
        if self.engine() == Engine::Postgres && outcomes.len() >= MANY {
            // Until it knows how many there are, lists are ten times as slow. They are there,
            // whatever comes of this.
            let analyze = sqlx::raw_sql("ANALYZE devices, device_credentials, device_tags");
            let mut reading = self.reading().await?;
            let done = analyze.execute(reading.connection()).await;
            let _ = reading.end(done).await;
        }
        Ok(outcomes)
    }

    /// Returns what would become of each if these were added each by itself; nothing is.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn try_devices(
        &mut self,
        actor: &Actor,
        devices: Vec<NewDevice>,
    ) -> Result<Vec<RowOutcome>, RegistryError> {
        let key = self.digest_key().await?;
        let place = self.place().to_owned();
        let mut work = self.begin(actor).await?;
        let done = insert_many(&mut work, &key, devices).await;
        // Rolled back before others wait for it.
        let undone = work.all.rollback().await.map_err(Fault::Sql);
        let done = done.and_then(|done| undone.map(|()| done));
        done.map_err(|fault| fault.at(&place))
    }
}

pub(crate) async fn insert_one(
    work: &mut Work<'_>,
    key: &DigestKey,
    device: NewDevice,
) -> Result<AddedDevice, Fault> {
    let mut outcomes = insert_many(work, key, vec![device]).await?;
    let outcome = outcomes.pop().unwrap_or(RowOutcome::NotDone);
    Ok(outcome.added()?)
}

/// A device that can be added.
struct Row {
    /// Place of the device among those that were given.
    at: usize,
    device: Device,
    /// The number that it brings along, if any.
    given_number: Option<i64>,
    secret: DeviceSecret,
    /// Digest of a secret that no other device may have.
    own_digest: Option<String>,
    /// Id, secret that was made up, digest.
    credential: Option<(String, Option<Secret>, String)>,
}

/// Adds those that can be; nothing is undone.
pub(crate) async fn insert_many(
    work: &mut Work<'_>,
    key: &DigestKey,
    devices: Vec<NewDevice>,
) -> Result<Vec<RowOutcome>, Fault> {
    let mut outcomes = vec![RowOutcome::NotDone; devices.len()];
    let mut looked_up = LookedUp::default();
    let mut rows = Vec::new();
    for (at, device) in devices.into_iter().enumerate() {
        match check_new(work, &mut looked_up, device, at).await? {
            Ok(row) => rows.push(row),
            Err(outcome) => outcomes[at] = outcome,
        }
    }
    while !rows.is_empty() {
        // A number that is given is not the one after that of the row before.
        let given = rows.iter().position(|row| row.given_number.is_some());
        let many = given.map_or(CHUNK, |at| at.max(1));
        let rest = rows.split_off(rows.len().min(CHUNK).min(many));
        let chunk = std::mem::replace(&mut rows, rest);
        insert_chunk(work, key, chunk, &mut looked_up, &mut outcomes).await?;
    }
    if outcomes
        .iter()
        .any(|one| matches!(one, RowOutcome::Added(_)))
    {
        work.set_in_use().await?;
    }
    Ok(outcomes)
}

/// Values that were looked up for one of many devices and hold for the others.
#[derive(Default)]
struct LookedUp {
    /// Why a type cannot be given; none: it can.
    types: HashMap<String, Option<Refused>>,
    owners: HashMap<String, bool>,
    /// Teams by how they were named; none: there is no such team.
    teams: HashMap<String, Option<Home>>,
    /// Names of those that own one.
    owning: HashMap<String, String>,
    /// Ids of groups, by the team that they are for and how they were named; none: there is none.
    groups: HashMap<(String, String), Option<String>>,
    ids: HashSet<(i64, String)>,
    /// Digests of given secrets.
    digests: HashSet<String>,
    /// Devices of each owner.
    owned: HashMap<String, i64>,
}

async fn check_new(
    work: &mut Work<'_>,
    looked_up: &mut LookedUp,
    mut new: NewDevice,
    at: usize,
) -> Result<Result<Row, RowOutcome>, Fault> {
    let id = match new.id.take() {
        Some(id) => id,
        None => generated_id()?,
    };
    let visibility = work.actor.visibility.clone();
    let team = match (new.team.take(), visibility.team()) {
        (Some(team), _) => team,
        (None, own) => own.unwrap_or_default().to_owned(),
    };
    let (given_number, secret) = (new.number, new.own_secret());
    let mut device = new.device(id, work.now_ms);
    let checked = check_new_id(&device.id).and_then(|()| device.check_values());
    let checked = checked.and_then(|()| check_tags(&device.tags));
    let checked = checked.and_then(|()| match &secret {
        DeviceSecret::Given(secret) => secret.check(),
        _ => Ok(()),
    });
    if let Some(why) = refusal(checked.and_then(|()| check_groups(&device.groups)))? {
        return Ok(Err(RowOutcome::Refused(why)));
    }
    if !looked_up.teams.contains_key(&team) {
        let found = home_if_any(&mut work.all, &visibility, &team).await?;
        looked_up.teams.insert(team.clone(), found);
    }
    let Some(Some(Home { team, tenant })) = looked_up.teams.get(&team).cloned() else {
        let missing = NotFound::Object(ObjectKind::Team, team);
        return Ok(Err(RowOutcome::Refused(missing.into())));
    };
    if tenant > 0 && !looked_up.owning.contains_key(&team) {
        let name = name_of(&mut work.all, &team).await?;
        looked_up.owning.insert(team.clone(), name);
    }
    let checked = expect_unqualified(&mut work.all, tenant, &device.id).await;
    if let Some(why) = refusal(checked)? {
        return Ok(Err(RowOutcome::Refused(why)));
    }
    let of_type = &device.device_type;
    if !looked_up.types.contains_key(of_type) {
        let why = refusal(expect_type(work, tenant, of_type).await)?;
        looked_up.types.insert(of_type.clone(), why);
    }
    if let Some(Some(why)) = looked_up.types.get(of_type) {
        return Ok(Err(RowOutcome::Refused(why.clone())));
    }
    if !device.owner.is_empty() && !looked_up.owners.contains_key(&device.owner) {
        let found = is_user(&mut work.all, &visibility, &device.owner).await?;
        looked_up.owners.insert(device.owner.clone(), found);
    }
    if looked_up.owners.get(&device.owner) == Some(&false) {
        return Ok(Err(RowOutcome::Refused(no_owner(&device.owner))));
    }
    for group in &mut device.groups {
        let place = (team.clone(), group.clone());
        if !looked_up.groups.contains_key(&place) {
            let found = group_for_team(&mut work.all, &team, group).await?;
            let found = found
                .filter(|(_, of)| visibility.sees(of))
                .map(|(id, _)| id);
            looked_up.groups.insert(place.clone(), found);
        }
        match looked_up.groups.get(&place) {
            Some(Some(id)) => group.clone_from(id),
            _ => {
                let why = none_for_team(&mut work.all, &visibility, &team, group).await?;
                return Ok(Err(RowOutcome::Refused(why)));
            }
        }
    }
    device.tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
    device.user_name = user_name(&device.id, looked_up.owning.get(&team).map(String::as_str));
    device.team = team;
    Ok(Ok(Row {
        at,
        device,
        given_number,
        secret,
        own_digest: None,
        credential: None,
    }))
}

/// The refusal that a check ended with, if any.
fn refusal(checked: Result<(), impl Into<Fault>>) -> Result<Option<Refused>, Fault> {
    match checked.map_err(Into::into) {
        Ok(()) => Ok(None),
        Err(Fault::Told(RegistryError::Refused(why))) => Ok(Some(why)),
        Err(fault) => Err(fault),
    }
}

/// Which ids are taken already, and why.
async fn taken(work: &mut Work<'_>, rows: &[Row]) -> Result<HashMap<(i64, String), Exists>, Fault> {
    let mut taken = HashMap::new();
    let ids = || rows.iter().map(|row| row.device.id.clone());
    let tenants: HashSet<i64> = rows
        .iter()
        .map(|row| i64::from(row.device.tenant))
        .collect();
    let mut sql = work.sql("SELECT tenant, id, deleted_ms FROM devices WHERE tenant IN ");
    sql.list(tenants).push(" AND id IN ").list(ids());
    let named: HashMap<(i64, &str), &Device> = rows
        .iter()
        .map(|row| ((i64::from(row.device.tenant), &*row.device.id), &row.device))
        .collect();
    for row in sql.all(&mut work.all).await? {
        let (tenant, id): (i64, String) = (row.try_get("tenant")?, row.try_get("id")?);
        // The statement also finds the id of one device in the tenant of another.
        let Some(device) = named.get(&(tenant, &*id)) else {
            continue;
        };
        let why = match row.try_get::<i64, _>("deleted_ms")? {
            0 => Exists::Device(device.object_name()),
            _ => Exists::Deleted(ObjectKind::Device, device.object_name()),
        };
        taken.insert((tenant, id), why);
    }
    let mut sql = work.sql("SELECT tenant, name FROM users WHERE name IN ");
    sql.list(ids());
    for row in sql.all(&mut work.all).await? {
        let name: String = row.try_get("name")?;
        let why = Exists::UserOfDeviceId(name.clone());
        // Names of users are unique in the common tenant too, for users of all tenants.
        taken.insert((0, name.clone()), why.clone());
        taken.insert((row.try_get("tenant")?, name), why);
    }
    Ok(taken)
}

/// Computes the digests of given secrets. Returns those that another device has.
async fn taken_digests(
    work: &mut Work<'_>,
    key: &DigestKey,
    rows: &mut [Row],
) -> Result<HashSet<String>, Fault> {
    for row in &mut *rows {
        if let DeviceSecret::Given(secret) = &row.secret {
            let digest = key.digest(secret.text().as_bytes());
            row.own_digest = Some(secret::digest_text(&digest));
        }
    }
    let mut digests = rows.iter().filter_map(|row| row.own_digest.clone());
    let Some(first) = digests.next() else {
        return Ok(HashSet::new());
    };
    let mut sql = work.sql("SELECT digest FROM device_credentials WHERE revoked_ms = 0");
    sql.push(" AND digest IN ")
        .list([first].into_iter().chain(digests));
    let found = sql.all(&mut work.all).await?;
    let found = found.iter().map(|row| row.try_get("digest"));
    Ok(found.collect::<Result<_, _>>()?)
}

async fn insert_chunk(
    work: &mut Work<'_>,
    key: &DigestKey,
    mut rows: Vec<Row>,
    looked_up: &mut LookedUp,
    outcomes: &mut [RowOutcome],
) -> Result<(), Fault> {
    let taken = taken(work, &rows).await?;
    let taken_digests = taken_digests(work, key, &mut rows).await?;
    let has_secret = |looked_up: &LookedUp, digest: &String| {
        taken_digests.contains(digest) || looked_up.digests.contains(digest)
    };
    if work.devices_per_user_max.is_some() {
        for row in &rows {
            let owner = &row.device.owner;
            if !owner.is_empty() && !looked_up.owned.contains_key(owner) {
                let owned = owned_by(&mut work.all, owner).await?;
                looked_up.owned.insert(owner.clone(), owned);
            }
        }
    }
    let most = work.devices_per_user_max;
    let given = rows.first().and_then(|row| row.given_number);
    let mut next_number = match rows.iter().any(|row| is_digits(&row.device.id)) || given.is_some()
    {
        true => work.next_number().await?,
        false => 0,
    };
    let free_number = given.map_or(Ok(()), |given| expect_free_number(given, next_number));
    next_number = given.unwrap_or(next_number);
    rows.retain(|row| {
        let place = (i64::from(row.device.tenant), row.device.id.clone());
        let number = expect_own_number(&row.device.id, next_number);
        let number = number.and(free_number.clone());
        let outcome = match (taken.get(&place), number) {
            (Some(why), _) => RowOutcome::Exists(why.clone()),
            (None, Err(why)) => RowOutcome::Refused(why),
            (None, Ok(())) if looked_up.ids.contains(&place) => {
                RowOutcome::Exists(Exists::Twice(row.device.id.clone()))
            }
            (None, Ok(())) if row.own_digest.iter().any(|one| has_secret(looked_up, one)) => {
                RowOutcome::Exists(Exists::Secret)
            }
            (None, Ok(())) => match (looked_up.owned.get_mut(&row.device.owner), most) {
                (Some(owned), Some(most)) if u64::try_from(*owned).unwrap_or(0) >= most => {
                    RowOutcome::Conflict(too_many(&row.device.owner, most))
                }
                (owned, _) => {
                    owned.into_iter().for_each(|owned| *owned += 1);
                    looked_up.ids.insert(place);
                    looked_up.digests.extend(row.own_digest.clone());
                    next_number += 1;
                    return true;
                }
            },
        };
        outcomes[row.at] = outcome;
        false
    });
    if rows.is_empty() {
        return Ok(());
    }
    for row in &mut rows {
        let (made_up, secret) = match &row.secret {
            DeviceSecret::None => continue,
            DeviceSecret::MadeUp => (true, Secret::new()?),
            DeviceSecret::OfLength(length) => (true, Secret::of_length(*length)?),
            DeviceSecret::Given(secret) | DeviceSecret::Shared(secret) => (false, secret.clone()),
        };
        let digest = secret::digest_text(&key.digest(secret.text().as_bytes()));
        row.credential = Some((secret::new_id()?, made_up.then_some(secret), digest));
    }
    if let Some(given) = given {
        work.skip_numbers_to(given).await?;
    }
    let first = work.take_numbers(rows.len() as i64).await?;
    for (number, row) in (first..).zip(&mut rows) {
        row.device.number = number;
    }
    write_devices(work, &rows).await?;
    write_what_belongs(work, &rows).await?;
    let entries: Vec<_> = rows.iter().map(added_entry).collect();
    work.write_audit(&entries).await?;
    for row in rows {
        outcomes[row.at] = RowOutcome::Added(AddedDevice {
            number: row.device.number,
            tenant: row.device.tenant,
            user_name: row.device.user_name,
            id: row.device.id,
            secret: row.credential.and_then(|(_, secret, _)| secret),
        });
    }
    Ok(())
}

fn added_entry(row: &Row) -> NewAuditEntry {
    let device = &row.device;
    let mut details: Map<String, Value> = fields::details_of_new(device);
    if device.tenant != 0 {
        details.insert("tenant".to_owned(), device.tenant.into());
    }
    if let Some((credential, ..)) = &row.credential {
        details.insert("credential".to_owned(), credential.clone().into());
    }
    NewAuditEntry {
        team: device.team.clone(),
        action: "device.add".to_owned(),
        object_kind: "device".to_owned(),
        object_id: device.id.clone(),
        changed: Value::Object(details).to_string(),
        outcome: "done".to_owned(),
    }
}

async fn write_devices(work: &mut Work<'_>, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut sql = work.sql("");
    fields::insert(&mut sql);
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            sql.push(", ");
        }
        fields::push_row(&mut sql, &row.device);
    }
    sql.execute(&mut work.all).await.map(drop)
}

/// Writes the credentials of new devices, their tags and their places in groups.
async fn write_what_belongs(work: &mut Work<'_>, rows: &[Row]) -> Result<(), sqlx::Error> {
    let now_ms = work.now_ms;
    let mut sql = work.sql(
        "INSERT INTO device_credentials (id, device, name, kind, digest, created_ms, expires_ms, \
         revoked_ms, last_used_ms, uses) VALUES ",
    );
    let held = rows.iter();
    let held = held.filter_map(|row| Some((row.device.number, row.credential.as_ref()?)));
    let mut some = false;
    for (number, (id, _, digest)) in held {
        sql.push(if some { ", (" } else { "(" }).bind(id.clone());
        sql.push(", ").bind(number);
        sql.push(", '', 'secret', ").bind(digest.clone());
        sql.push(", ").bind(now_ms).push(", 0, 0, 0, 0)");
        some = true;
    }
    if some {
        sql.execute(&mut work.all).await?;
    }
    let devices = || rows.iter().map(|row| &row.device);
    let tags = devices().flat_map(|device| {
        let tags = device.tags.iter();
        tags.map(|tag| (device.number, tag.clone()))
    });
    write_tags(work, &tags.collect::<Vec<_>>()).await?;
    let places = devices().flat_map(|device| {
        let groups = device.groups.iter();
        groups.map(|group| (group.clone(), device.number))
    });
    write_places(work, &places.collect::<Vec<_>>()).await
}

pub(super) async fn write_tags(
    work: &mut Work<'_>,
    tags: &[(i64, String)],
) -> Result<(), sqlx::Error> {
    for some in tags.chunks(500) {
        let mut sql = work.sql("INSERT INTO device_tags (device, tag) VALUES ");
        for (at, (number, tag)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" }).bind(*number);
            sql.push(", ").bind(tag.clone()).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

/// Puts devices into groups, by the groups' ids.
pub(crate) async fn write_places(
    work: &mut Work<'_>,
    places: &[(String, i64)],
) -> Result<(), sqlx::Error> {
    for some in places.chunks(500) {
        let mut sql = work.sql("INSERT INTO group_devices (group_id, device) VALUES ");
        for (at, (group, number)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" })
                .bind(group.clone());
            sql.push(", ").bind(*number).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}
