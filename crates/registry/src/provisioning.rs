//! Keys by which devices add themselves: of one type, for one team, with a maximum number and an
//! expiry.

use std::fmt;
use std::time::Duration;

use serde_json::json;
use sqlx::AnyConnection;

use crate::credentials::rotate_one;
use crate::database::Work;
use crate::devices::{expect_type, find_device, insert_one};
use crate::groups::find::{for_team as group_for_team, none_for_team};
use crate::idempotency::{Claim, claim};
use crate::names::{check_name, check_new_name};
use crate::object::{details_of_new, object, read_all, read_first, select_short, unchecked};
use crate::secret::{self, DigestKey, Secret};
use crate::sql::{Fault, clean};
use crate::teams::{Home, home};
use crate::{
    Actor, AddedDevice, Conflict, DEVICE_TYPE, Exists, NewDevice, NotFound, ObjectKind, Refused,
    Registry, RegistryError, Visibility,
};

/// Prefix of keys, so that a key that is found can be recognised.
const PREFIX: &str = "mp_";

/// Whether this could be a provisioning key.
pub fn may_be_provisioning_key(text: &[u8]) -> bool {
    text.starts_with(PREFIX.as_bytes())
}

/// The name of a provisioning key.
#[derive(Clone, PartialEq, Eq)]
pub enum ProvisioningKeyRef {
    /// Text of the key, which is a secret.
    Secret(String),
    /// Id of the key. The key was checked before.
    Id(String),
}

impl From<&str> for ProvisioningKeyRef {
    fn from(secret: &str) -> Self {
        Self::Secret(secret.to_owned())
    }
}

impl fmt::Debug for ProvisioningKeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(***)"),
            Self::Id(id) => f.debug_tuple("Id").field(id).finish(),
        }
    }
}

object! {
    /// A provisioning key, without the key.
    ProvisioningKey in "provisioning_keys";
    /// A provisioning key to be added.
    new NewProvisioningKey
    kept {
        /// Id of the key.
        id ("id"): String, [];
        /// Devices that it has added.
        devices_made ("devices_made"): i64, [];
        /// Raised with every change.
        revision ("revision"): i64, [];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
        /// When it was revoked; null: it is not revoked.
        revoked_ms as "revoked_at", [];
    }
    given {
        /// Name of the key, for people.
        name ("name"): String, new String,
            check check_key_name, [Audited];
        /// Type of devices that are added with it. Default: `device`.
        device_type ("device_type"): String, new #[serde(default = "device_type")] String,
            check unchecked, [Audited];
        /// Id of their team; empty: no team. A request may name the team by its id or name.
        team ("team"): String, new Option<String>,
            check unchecked, [];
        /// Ids of their groups. A request may name a group by its id or name.
        groups ("groups_joined"): Vec<String>, new #[serde(default)] Vec<String>,
            check unchecked, [];
        /// Pattern that their ids match, with one `*` for anything; empty matches any id.
        @[schema(example = "pump-*")]
        id_pattern ("id_pattern"): String, new #[serde(default)] String,
            check check_pattern, [Audited];
        /// Devices that it may add, at most; 0: no limit.
        @[schema(minimum = 0)]
        devices_max ("devices_max"): i64, new #[serde(default)] i64,
            check check_devices_max, [Audited];
        /// When it ends; null: never.
        @[serde(rename = "expires_at", with = "crate::object::time")]
        @[schema(value_type = Option<String>, format = DateTime)]
        expires_ms ("expires_ms"): i64, new #[serde(default)] i64,
            check unchecked, [Audited];
    }
}

fn device_type() -> String {
    DEVICE_TYPE.to_owned()
}

fn check_key_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("key", name)
}

fn check_pattern(pattern: &str) -> Result<(), RegistryError> {
    if !pattern.is_empty() {
        check_name("pattern", pattern)?;
    }
    match pattern.matches('*').count() > 1 {
        true => Err(Refused::KeyPattern.into()),
        false => Ok(()),
    }
}

fn check_devices_max(devices: &i64) -> Result<(), RegistryError> {
    match *devices < 0 {
        true => Err(Refused::KeyPattern.into()),
        false => Ok(()),
    }
}

impl NewProvisioningKey {
    /// One of this name, for any number of devices of the common type.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device_type: DEVICE_TYPE.to_owned(),
            team: None,
            groups: Vec::new(),
            id_pattern: String::new(),
            devices_max: 0,
            expires_ms: 0,
        }
    }
}

impl Registry {
    /// Adds a key, which is shown this once.
    ///
    /// # Errors
    /// There is no such type, team or group, or the pattern is none.
    pub async fn add_provisioning_key(
        &mut self,
        actor: &Actor,
        key: NewProvisioningKey,
    ) -> Result<(ProvisioningKey, Secret), RegistryError> {
        let digests = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, &digests, key).await;
        work.end(done).await
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn provisioning_keys(
        &mut self,
        visibility: &Visibility,
    ) -> Result<Vec<ProvisioningKey>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = select_short::<ProvisioningKey>();
            sql.push(" ORDER BY created_ms DESC, id");
            let mut keys: Vec<ProvisioningKey> = read_all(sql, on).await?;
            keys.retain(|key| visibility.sees(&key.team));
            Ok(keys)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Ends a key.
    ///
    /// # Errors
    /// There is no such key that is good.
    pub async fn revoke_provisioning_key(
        &mut self,
        actor: &Actor,
        id: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = revoke(&mut work, id).await;
        work.end(done).await
    }

    /// The key with this text.
    ///
    /// # Errors
    /// There is none, or it has expired or was revoked.
    pub async fn provisioning_key_of(
        &mut self,
        secret: &str,
    ) -> Result<ProvisioningKey, RegistryError> {
        let key = ProvisioningKeyRef::Secret(secret.to_owned());
        let digests = self.digest_key().await?;
        let now_ms = crate::now_ms();
        let mut reading = self.reading().await?;
        let found = find_good(reading.connection(), &digests, &key, now_ms).await;
        reading.end(found).await
    }

    /// The key with this text, whether it is good or not; none: there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn shown_provisioning_key(
        &mut self,
        secret: &str,
    ) -> Result<Option<ProvisioningKey>, RegistryError> {
        let digests = self.digest_key().await?;
        let digest = secret::digest_text(&digests.digest(secret.as_bytes()));
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = select_short::<ProvisioningKey>();
            sql.push(" WHERE digest = ").bind(digest);
            read_first(sql, on).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Adds a device by a key. It gets the key's type, team and groups, even if others are
    /// requested. `actor` has the address; the audit log names the key. A device that asks again,
    /// because no answer came, gets another secret as long as the first was not used.
    ///
    /// # Errors
    /// It is no key that is good, its devices are all made, or something about the device cannot
    /// be.
    pub async fn provision(
        &mut self,
        actor: &Actor,
        key: impl Into<ProvisioningKeyRef>,
        device: NewDevice,
        request: Option<&RepeatableRequest>,
    ) -> Result<Provisioned, RegistryError> {
        let key = key.into();
        let digests = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = provision_one(&mut work, &digests, &key, device, request).await;
        work.end(done).await
    }
}

/// Identification of a request that may come twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatableRequest {
    /// Key that its sender made up, or a digest of that.
    pub key: String,
    /// Digest of the whole request.
    pub digest: String,
}

/// A device that was added by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// Which.
    pub device: AddedDevice,
    /// Whether it was there already, by the same request.
    pub is_again: bool,
}

fn fits(pattern: &str, id: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.is_empty() || pattern == id,
        Some((start, end)) => {
            id.len() >= start.len() + end.len() && id.starts_with(start) && id.ends_with(end)
        }
    }
}

async fn insert(
    work: &mut Work<'_>,
    digests: &DigestKey,
    mut new: NewProvisioningKey,
) -> Result<(ProvisioningKey, Secret), Fault> {
    let visibility = work.actor.visibility.clone();
    let own = visibility.team().unwrap_or_default().to_owned();
    let team = new.team.take().unwrap_or(own);
    let Home { team, tenant } = home(&mut work.all, &visibility, &team).await?;
    expect_type(work, tenant, &new.device_type).await?;
    let mut groups = Vec::new();
    for named in &new.groups {
        match group_for_team(&mut work.all, &team, named).await? {
            Some((id, of)) if visibility.sees(&of) => groups.push(id),
            _ => {
                let why = none_for_team(&mut work.all, &visibility, &team, named).await?;
                return Err(why.into());
            }
        }
    }
    let secret = Secret::with_prefix(PREFIX)?;
    let key = ProvisioningKey {
        id: secret::new_id()?,
        team,
        groups,
        revision: 1,
        created_ms: work.now_ms,
        ..ProvisioningKey::begun(new)
    };
    key.check_values()?;
    let digest = secret::digest_text(&digests.digest(secret.text().as_bytes()));
    work.insert(&key, &[("digest", &digest)]).await?;
    let details = details_of_new(&key).into();
    work.audit(
        "provisioning_key.add",
        ("provisioning_key", &key.id),
        &key.team,
        details,
    )
    .await?;
    Ok((key, secret))
}

async fn revoke(work: &mut Work<'_>, id: &str) -> Result<(), Fault> {
    let missing = || NotFound::Object(ObjectKind::ProvisioningKey, id.to_owned());
    let mut sql = select_short::<ProvisioningKey>();
    sql.push(" WHERE revoked_ms = 0 AND id = ").bind(clean(id));
    let found = read_first(sql, &mut work.all).await?;
    let key: ProvisioningKey = found.ok_or_else(missing)?;
    if !work.actor.visibility.sees(&key.team) {
        return Err(missing().into());
    }
    let sql = "UPDATE provisioning_keys SET revoked_ms = $1, revision = revision + 1 WHERE id = $2";
    let query = sqlx::query(sql).bind(work.now_ms).bind(id.to_owned());
    query.execute(&mut *work.all).await?;
    let changed = json!({ "name": key.name, "devices_made": key.devices_made });
    work.audit(
        "provisioning_key.revoke",
        ("provisioning_key", id),
        &key.team,
        changed,
    )
    .await
}

async fn find_good(
    on: &mut AnyConnection,
    digests: &DigestKey,
    key: &ProvisioningKeyRef,
    now_ms: i64,
) -> Result<ProvisioningKey, Fault> {
    let missing = || NotFound::ShownProvisioningKey;
    let mut sql = select_short::<ProvisioningKey>();
    match key {
        ProvisioningKeyRef::Secret(secret) => {
            let digest = secret::digest_text(&digests.digest(secret.as_bytes()));
            sql.push(" WHERE digest = ").bind(digest);
        }
        ProvisioningKeyRef::Id(id) => {
            sql.push(" WHERE id = ").bind(clean(id));
        }
    }
    let key: ProvisioningKey = read_first(sql, on).await?.ok_or_else(missing)?;
    if key.revoked_ms > 0 {
        return Err(Refused::KeyRevoked.into());
    }
    if key.expires_ms > 0 && key.expires_ms <= now_ms {
        return Err(Refused::KeyExpired.into());
    }
    Ok(key)
}

async fn provision_one(
    work: &mut Work<'_>,
    digests: &DigestKey,
    key: &ProvisioningKeyRef,
    device: NewDevice,
    request: Option<&RepeatableRequest>,
) -> Result<Provisioned, Fault> {
    let key = find_good(&mut work.all, digests, key, work.now_ms).await?;
    // What the key gives was looked at when it was made.
    work.actor.visibility = Visibility::All;
    work.actor.by = format!("provisioning key {}", key.id);
    let principal = format!("provisioning key:{}", key.id);
    if let Some(request) = request {
        match claim(work, &principal, &request.key, &request.digest).await? {
            Claim::New => {}
            // It stands there with the device, or not at all.
            Claim::Pending => {
                return Err(Refused::RequestWithoutDevice.into());
            }
            Claim::Answered { answer, .. } => {
                // What has gone meanwhile is added anew.
                if let Some(device) = provision_again(work, digests, &answer).await? {
                    note_answer(work, &principal, &request.key, &device).await?;
                    return Ok(Provisioned {
                        device,
                        is_again: true,
                    });
                }
            }
            Claim::Different => {
                return Err(Refused::OtherRequest.into());
            }
        }
    }
    if key.devices_max > 0 && key.devices_made >= key.devices_max {
        return Err(Conflict::DevicesOfKey(key.devices_max).into());
    }
    match &device.id {
        Some(id) if !fits(&key.id_pattern, id) => {
            return Err(Refused::IdPattern(id.clone(), key.id_pattern).into());
        }
        None if !key.id_pattern.is_empty() => {
            return Err(Refused::IdNeeded(key.id_pattern).into());
        }
        _ => {}
    }
    let mut groups = Vec::new();
    for group in key.groups {
        // Those that were removed meanwhile are left out.
        let found = group_for_team(&mut work.all, &key.team, &group).await?;
        groups.extend(found.map(|(id, _)| id).filter(|id| *id == group));
    }
    let device = NewDevice {
        device_type: key.device_type,
        team: Some(key.team),
        groups,
        owner: String::new(),
        ..device
    };
    let added = insert_one(work, digests, device).await?;
    let sql = "UPDATE provisioning_keys SET devices_made = devices_made + 1 WHERE id = $1";
    let query = sqlx::query(sql).bind(key.id);
    query.execute(&mut *work.all).await?;
    if let Some(request) = request {
        note_answer(work, &principal, &request.key, &added).await?;
    }
    Ok(Provisioned {
        device: added,
        is_again: false,
    })
}

/// Notes what was added, as it is known when the request comes again: number, tenant, credential.
async fn note_answer(
    work: &mut Work<'_>,
    principal: &str,
    key: &str,
    device: &AddedDevice,
) -> Result<(), Fault> {
    let sql = "SELECT id FROM device_credentials WHERE device = $1 AND revoked_ms = 0";
    let query = sqlx::query_scalar::<_, String>(sql).bind(device.number);
    let credential = query.fetch_one(&mut *work.all).await?;
    let sql = "UPDATE idempotency_keys SET status = 201, answer = $1 WHERE principal = $2 \
               AND key = $3";
    let answer = format!("{} {} {credential}", device.number, device.tenant);
    let query = sqlx::query(sql).bind(answer).bind(principal.to_owned());
    query.bind(clean(key)).execute(&mut *work.all).await?;
    Ok(())
}

/// The secret was shown once, and may not have arrived: a device that has not used it gets another.
/// None: the device does not exist any more.
async fn provision_again(
    work: &mut Work<'_>,
    digests: &DigestKey,
    answer: &str,
) -> Result<Option<AddedDevice>, Fault> {
    let mut words = answer.split(' ');
    let number: i64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let tenant: Option<u32> = words.next().and_then(|word| word.parse().ok());
    let shown = words.next().unwrap_or_default();
    let all = &mut work.all;
    let device = match find_device(all, work.engine, &Visibility::All, number.into(), false).await {
        Err(Fault::Told(RegistryError::NotFound(_))) => return Ok(None),
        found => found?,
    };
    let sql = "SELECT id, uses FROM device_credentials WHERE device = $1 AND revoked_ms = 0";
    let rows = sqlx::query_as::<_, (String, i64)>(sql).bind(number);
    let rows = rows.fetch_all(&mut *work.all).await?;
    // A device that was changed, rotated, revoked or moved since gets no secret here.
    let is_as_it_was = matches!(&rows[..], [(id, 0)] if id == shown);
    if !is_as_it_was || device.last_seen_ms > 0 || tenant != Some(device.tenant) {
        return Err(Exists::InUse(device.object_name()).into());
    }
    let secret = rotate_one(work, digests, number.into(), Duration::ZERO).await?;
    Ok(Some(AddedDevice {
        number,
        tenant: device.tenant,
        id: device.id,
        user_name: device.user_name,
        secret: Some(secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_pattern_has_one_star() {
        for (pattern, id, expected) in [
            ("", "x", true),
            ("x", "x", true),
            ("x", "xx", false),
            ("m-*", "m-1", true),
            ("m-*-z", "m-z", false),
            ("m-*-z", "m--z", true),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, id), expected, "{pattern} {id}");
        }
    }
}
