//! Credentials of devices, several each: secrets, which are MQTT password and HTTP key at once, and
//! certificates by their fingerprint.

use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::find_device;
use crate::names::check_new_name;
use crate::secret::{self, Digest, DigestKey, Secret};
use crate::sql::{Fault, Sql, clean};
use crate::{
    Actor, Conflict, Device, DeviceRef, Exists, NotFound, Refused, Registry, RegistryError,
    Visibility,
};

/// Kind of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Long and random; a digest of it is kept.
    Secret,
    /// The SHA-256 fingerprint of a client certificate.
    Certificate,
}

impl CredentialKind {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
        }
    }
}

/// A credential, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Id of the credential.
    pub id: String,
    /// The device's number.
    pub device: i64,
    /// For people; may be empty.
    pub name: String,
    /// Kind of the credential.
    pub kind: CredentialKind,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it ends; 0: never.
    pub expires_ms: i64,
    /// When it was revoked; 0: it is not revoked.
    pub revoked_ms: i64,
    /// When it was last used, as far as that is written yet; 0: never.
    pub last_used_ms: i64,
    /// How often.
    pub uses: i64,
}

impl Credential {
    /// Whether it is good at this time.
    pub fn is_good(&self, now_ms: i64) -> bool {
        self.revoked_ms == 0 && (self.expires_ms == 0 || self.expires_ms > now_ms)
    }
}

/// A credential to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCredential {
    /// A secret that is made up, and shown once.
    MadeUp,
    /// A secret from elsewhere.
    Given(Secret),
    /// A certificate's SHA-256 fingerprint.
    Certificate([u8; 32]),
}

/// Uses of a credential, or of an API key, that are yet to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUse {
    /// Id of the credential or key.
    pub id: String,
    /// When it was last used.
    pub at_ms: i64,
    /// How often since it was last written.
    pub uses: i64,
}

/// A credential, as the gate knows it.
pub(crate) struct CredentialRow {
    pub(crate) device: i64,
    pub(crate) kind: CredentialKind,
    pub(crate) digest: String,
    pub(crate) expires_ms: i64,
    /// A use of it is recorded in the tables.
    pub(crate) is_used: bool,
}

/// Time for which old secrets of a device remain valid after a new one, by default.
pub const ROTATION_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest time for which old secrets of a device may remain valid after a new one: a year.
pub const ROTATION_GRACE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Registry {
    /// The credentials of a device, oldest first.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn credentials(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
    ) -> Result<Vec<Credential>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let found = find_device(on, engine, visibility, device, false).await?;
            let sql = "SELECT * FROM device_credentials WHERE device = $1 ORDER BY created_ms, id";
            let rows = sqlx::query(sql).bind(found.number).fetch_all(on).await?;
            rows.iter().map(read_credential).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The credentials of a tenant's device, oldest first; none if there is no such device.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn credentials_in(
        &mut self,
        tenant: u32,
        id: &str,
    ) -> Result<Vec<Credential>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT device_credentials.* FROM device_credentials JOIN devices ON \
                       number = device WHERE tenant = $1 AND devices.id = $2 AND deleted_ms = 0 \
                       ORDER BY device_credentials.created_ms, device_credentials.id";
            let query = sqlx::query(sql).bind(i64::from(tenant)).bind(clean(id));
            let rows = query.fetch_all(on).await?;
            rows.iter().map(read_credential).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Gives a device a credential beside those that it has; a secret that is made up is shown this
    /// once. 0 is for ever.
    ///
    /// # Errors
    /// There is no such device, or this very credential exists already.
    pub async fn add_credential(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        name: &str,
        credential: NewCredential,
        expires_ms: i64,
    ) -> Result<(Credential, Option<Secret>), RegistryError> {
        let key = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = add_one(&mut work, &key, device, name, credential, expires_ms).await;
        work.end(done).await
    }

    /// Gives a device another secret, which is the answer. Those that it has are good for `grace`
    /// longer, or if that is nothing, no more.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn rotate_secret(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        grace: Duration,
    ) -> Result<Secret, RegistryError> {
        let key = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = rotate_one(&mut work, &key, device, grace).await;
        work.end(done).await
    }

    /// Ends a credential.
    ///
    /// # Errors
    /// The device has no such credential that is good.
    pub async fn revoke_credential(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        credential: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = revoke_one(&mut work, device, credential).await;
        work.end(done).await
    }

    /// Owner of this secret, whatever name the client gives, and which secret of the owner it is;
    /// valid or not. None: no one has it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn device_of_secret(
        &mut self,
        secret: &str,
    ) -> Result<Option<(Device, Credential)>, RegistryError> {
        let digest = self.digest_key().await?.digest(secret.as_bytes());
        self.device_of(CredentialKind::Secret, &digest).await
    }

    async fn device_of(
        &mut self,
        kind: CredentialKind,
        digest: &Digest,
    ) -> Result<Option<(Device, Credential)>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            // The newest, should there be two.
            let sql = "SELECT * FROM device_credentials WHERE digest = $1 AND kind = $2 \
                       ORDER BY revoked_ms, created_ms DESC LIMIT 1";
            let query = sqlx::query(sql).bind(secret::digest_text(digest));
            let Some(row) = query.bind(kind.word()).fetch_optional(&mut *on).await? else {
                return Ok(None);
            };
            let credential = read_credential(&row)?;
            let device = DeviceRef::Number(credential.device);
            match find_device(on, engine, &Visibility::All, device, false).await {
                Ok(device) => Ok(Some((device, credential))),
                Err(Fault::Told(RegistryError::NotFound(_))) => Ok(None),
                Err(fault) => Err(fault),
            }
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes when credentials of devices were last used, as
    /// [`Snapshot::take_uses`](crate::Snapshot::take_uses) has it. No node reads anything again for
    /// that.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn write_secret_uses(&mut self, uses: &[CredentialUse]) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let update = "UPDATE device_credentials SET uses = uses + ";
        let whose = " ELSE last_used_ms END WHERE digest = ";
        let done = write_uses_by(&mut work, uses, update, whose).await;
        work.end(done).await
    }
}

/// Writes when credentials or API keys were used.
pub(crate) async fn write_uses(
    work: &mut Work<'_>,
    uses: &[CredentialUse],
    update: &'static str,
) -> Result<(), Fault> {
    write_uses_by(work, uses, update, " ELSE last_used_ms END WHERE id = ").await
}

async fn write_uses_by(
    work: &mut Work<'_>,
    uses: &[CredentialUse],
    update: &'static str,
    whose: &'static str,
) -> Result<(), Fault> {
    for one in uses {
        let mut sql = work.sql(update);
        sql.bind(one.uses)
            .push(", last_used_ms = CASE WHEN last_used_ms < ");
        sql.bind(one.at_ms).push(" THEN ").bind(one.at_ms);
        sql.push(whose).bind(one.id.clone());
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

fn read_credential(row: &AnyRow) -> Result<Credential, Fault> {
    let kind: String = row.try_get("kind")?;
    Ok(Credential {
        id: row.try_get("id")?,
        device: row.try_get("device")?,
        name: row.try_get("name")?,
        kind: match kind.as_str() {
            "certificate" => CredentialKind::Certificate,
            _ => CredentialKind::Secret,
        },
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
        last_used_ms: row.try_get("last_used_ms")?,
        uses: row.try_get("uses")?,
    })
}

async fn insert(
    work: &mut Work<'_>,
    credential: &Credential,
    digest: &Digest,
) -> Result<(), sqlx::Error> {
    let mut sql: Sql = work.sql(
        "INSERT INTO device_credentials (last_used_ms, uses, revoked_ms, id, name, kind, digest, \
         device, created_ms, expires_ms) VALUES (0, 0, 0",
    );
    for text in [&*credential.id, &credential.name, credential.kind.word()] {
        sql.push(", ").bind(text.to_owned());
    }
    sql.push(", ").bind(secret::digest_text(digest));
    for number in [
        credential.device,
        credential.created_ms,
        credential.expires_ms,
    ] {
        sql.push(", ").bind(number);
    }
    sql.push(")");
    sql.execute(&mut work.all).await.map(drop)
}

/// Unexpired credentials that a device may have. It is low because each of them is compared with
/// what a client presents.
const PER_DEVICE_MAX: i64 = 16;

async fn add_one(
    work: &mut Work<'_>,
    key: &DigestKey,
    device: DeviceRef<'_>,
    name: &str,
    new: NewCredential,
    expires_ms: i64,
) -> Result<(Credential, Option<Secret>), Fault> {
    if !name.is_empty() {
        check_new_name("credential", name)?;
    }
    let found = find_device(
        &mut work.all,
        work.engine,
        &work.actor.visibility,
        device,
        false,
    )
    .await?;
    let sql = "SELECT COUNT(*) FROM device_credentials WHERE device = $1 AND revoked_ms = 0";
    let many: i64 = sqlx::query_scalar(sql)
        .bind(found.number)
        .fetch_one(&mut *work.all)
        .await?;
    if many >= PER_DEVICE_MAX {
        return Err(Conflict::Credentials(found.id, many).into());
    }
    let (kind, digest, secret) = match new {
        NewCredential::MadeUp => {
            let secret = Secret::new()?;
            let digest = key.digest(secret.text().as_bytes());
            (CredentialKind::Secret, digest, Some(secret))
        }
        NewCredential::Given(secret) => {
            let digest = key.digest(secret.text().as_bytes());
            (CredentialKind::Secret, digest, None)
        }
        NewCredential::Certificate(fingerprint) => (CredentialKind::Certificate, fingerprint, None),
    };
    let sql = "SELECT id FROM device_credentials WHERE digest = $1 AND revoked_ms = 0";
    let same = sqlx::query(sql).bind(secret::digest_text(&digest));
    if same.fetch_optional(&mut *work.all).await?.is_some() {
        return Err(Exists::Credential.into());
    }
    let credential = Credential {
        id: secret::new_id()?,
        device: found.number,
        name: name.to_owned(),
        kind,
        created_ms: work.now_ms,
        expires_ms,
        revoked_ms: 0,
        last_used_ms: 0,
        uses: 0,
    };
    insert(work, &credential, &digest).await?;
    let changed =
        json!({ "credential": credential.id, "kind": kind.word(), "expires_ms": expires_ms });
    work.audit(
        "credential.add",
        ("device", &found.id),
        &found.team,
        changed,
    )
    .await?;
    Ok((credential, secret))
}

pub(crate) async fn rotate_one(
    work: &mut Work<'_>,
    key: &DigestKey,
    device: DeviceRef<'_>,
    grace: Duration,
) -> Result<Secret, Fault> {
    if grace > ROTATION_GRACE_MAX {
        return Err(Refused::RotationGrace.into());
    }
    let found = find_device(
        &mut work.all,
        work.engine,
        &work.actor.visibility,
        device,
        false,
    )
    .await?;
    let (number, now) = (found.number, work.now_ms);
    let sql = "DELETE FROM device_credentials WHERE device = $1 AND kind = 'secret' AND \
               (revoked_ms > 0 OR (expires_ms > 0 AND expires_ms <= $2))";
    let deleted = sqlx::query(sql).bind(number).bind(now);
    deleted.execute(&mut *work.all).await?;
    let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    let ended = match grace_ms {
        0 => sqlx::query(
            "UPDATE device_credentials SET revoked_ms = $1 WHERE device = $2 AND kind = 'secret' \
             AND revoked_ms = 0",
        )
        .bind(now),
        _ => sqlx::query(
            "UPDATE device_credentials SET expires_ms = $1 WHERE device = $2 AND kind = 'secret' \
             AND revoked_ms = 0 AND (expires_ms = 0 OR expires_ms > $1)",
        )
        .bind(now.saturating_add(grace_ms)),
    };
    ended.bind(number).execute(&mut *work.all).await?;
    let secret = Secret::new()?;
    let credential = Credential {
        id: secret::new_id()?,
        device: number,
        name: String::new(),
        kind: CredentialKind::Secret,
        created_ms: now,
        expires_ms: 0,
        revoked_ms: 0,
        last_used_ms: 0,
        uses: 0,
    };
    insert(work, &credential, &key.digest(secret.text().as_bytes())).await?;
    let changed = json!({ "credential": credential.id, "grace_ms": grace_ms });
    work.audit(
        "credential.rotate",
        ("device", &found.id),
        &found.team,
        changed,
    )
    .await?;
    Ok(secret)
}

async fn revoke_one(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    credential: &str,
) -> Result<(), Fault> {
    let found = find_device(
        &mut work.all,
        work.engine,
        &work.actor.visibility,
        device,
        false,
    )
    .await?;
    let sql = "UPDATE device_credentials SET revoked_ms = $1 WHERE id = $2 AND device = $3 AND \
               revoked_ms = 0";
    let query = sqlx::query(sql).bind(work.now_ms).bind(clean(credential));
    let done = query.bind(found.number).execute(&mut *work.all).await?;
    if done.rows_affected() == 0 {
        return Err(NotFound::Credential(found.id).into());
    }
    let changed = json!({ "credential": credential });
    work.audit(
        "credential.revoke",
        ("device", &found.id),
        &found.team,
        changed,
    )
    .await
}

/// When a credential ended that is over, whenever that was.
pub(crate) const OVER_MS: i64 = 1;

/// Credentials of a device that are not revoked; revoked certificates are included, as expired: a
/// device that has had a certificate is accepted by no other.
pub(crate) async fn rows_of(
    on: &mut AnyConnection,
    device: i64,
) -> Result<Vec<CredentialRow>, Fault> {
    let sql = "SELECT * FROM device_credentials WHERE device = $1 AND \
               (revoked_ms = 0 OR kind = 'certificate')";
    let rows = sqlx::query(sql).bind(device).fetch_all(on).await?;
    let read = |row: &AnyRow| {
        let credential = read_credential(row)?;
        Ok(CredentialRow {
            device,
            kind: credential.kind,
            is_used: credential.uses > 0,
            digest: row.try_get("digest")?,
            expires_ms: match row.try_get::<i64, _>("revoked_ms")? {
                0 => credential.expires_ms,
                _ => OVER_MS,
            },
        })
    };
    rows.iter().map(read).collect()
}
