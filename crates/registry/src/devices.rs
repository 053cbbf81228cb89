//! Devices: an id, which is Client Identifier and user name, and credentials that were made up.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use crate::database::{database_error, digest_key, set_in_use};
use crate::rule_sets::{check_name, is_builtin, unknown};
use crate::secret::{self, Secret};
use crate::{Owner, Registry, RegistryError, now_ms};

/// What operators say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is let in.
    Active,
    /// It is not.
    Inactive,
    /// It is not, for a while.
    Maintenance,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Maintenance];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Maintenance => "maintenance",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A device, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its Client Identifier and user name.
    pub id: String,
    /// For people.
    pub name: String,
    /// Of its type are the topics that it may use.
    pub device_type: String,
    /// Whether it is let in.
    pub status: Status,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Credentials that are good now.
    pub credentials: usize,
}

/// A device, as the gate knows it.
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    pub(crate) device_type: String,
    pub(crate) status: Status,
}

/// A credential, as the gate knows it.
pub(crate) struct CredentialRow {
    pub(crate) device_id: String,
    pub(crate) digest: String,
    pub(crate) expires_ms: i64,
}

impl Registry {
    /// Adds a device with a credential, which is the answer.
    ///
    /// # Errors
    /// There is a device or a user of that name, or no such type.
    pub async fn add_device(
        &mut self,
        id: &str,
        name: Option<&str>,
        device_type: &str,
    ) -> Result<Secret, RegistryError> {
        check_id(id)?;
        let name = name.unwrap_or(id);
        check_name("device", name)?;
        let failed = database_error(self.path());
        let key = digest_key(self).await?;
        let mut all = self.begin().await?;
        expect_type(&mut all, device_type)
            .await
            .map_err(&failed)??;
        let user = sqlx::query_scalar::<_, String>("SELECT name FROM users WHERE name = $1");
        let user = user.bind(id).fetch_optional(&mut *all).await;
        if user.map_err(&failed)?.is_some() {
            return Err(RegistryError::Refused(format!(
                "there is a user {id}, and a device's id is its user name: choose another"
            )));
        }
        let sql = "INSERT INTO devices (id, name, type, status, created_ms) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(id).bind(name).bind(device_type);
        let query = query.bind(Status::Active.word()).bind(now_ms());
        let done = query.execute(&mut *all).await.map_err(&failed)?;
        if done.rows_affected() == 0 {
            return Err(RegistryError::Refused(format!(
                "{id} is there already: martlet device rotate {id} gives it another credential"
            )));
        }
        // What whoever removed one of that id by hand has left.
        let left = sqlx::query("DELETE FROM device_credentials WHERE device_id = $1").bind(id);
        left.execute(&mut *all).await.map_err(&failed)?;
        let secret = Secret::new()?;
        let digest = secret::digest_text(&key.digest(secret.text().as_bytes()));
        add_credential(&mut all, id, &secret::new_id()?, &digest)
            .await
            .map_err(&failed)?;
        set_in_use(&mut all).await.map_err(&failed)?;
        all.commit().await.map_err(failed)?;
        Ok(secret)
    }

    /// Gives a device another credential, which is the answer. Those that it has are good for
    /// `grace` longer, or if that is nothing, no more.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn rotate(&mut self, id: &str, grace: Duration) -> Result<Secret, RegistryError> {
        let failed = database_error(self.path());
        let key = digest_key(self).await?;
        let mut all = self.begin().await?;
        let known = sqlx::query_scalar::<_, String>("SELECT id FROM devices WHERE id = $1");
        let known = known.bind(id).fetch_optional(&mut *all).await;
        expect_device(known.map_err(&failed)?.iter().count() as u64, id)?;
        let now = now_ms();
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let gone = sqlx::query(
            "DELETE FROM device_credentials WHERE device_id = $1 AND (revoked_ms > 0 OR \
             (expires_ms > 0 AND expires_ms <= $2))",
        );
        let gone = gone.bind(id).bind(now).execute(&mut *all).await;
        gone.map_err(&failed)?;
        let ended = match grace_ms {
            0 => sqlx::query(
                "UPDATE device_credentials SET revoked_ms = $1 WHERE device_id = $2 AND \
                 revoked_ms = 0",
            )
            .bind(now)
            .bind(id),
            _ => sqlx::query(
                "UPDATE device_credentials SET expires_ms = $1 WHERE device_id = $2 AND \
                 revoked_ms = 0 AND (expires_ms = 0 OR expires_ms > $1)",
            )
            .bind(now.saturating_add(grace_ms))
            .bind(id),
        };
        ended.execute(&mut *all).await.map_err(&failed)?;
        let secret = Secret::new()?;
        let digest = secret::digest_text(&key.digest(secret.text().as_bytes()));
        add_credential(&mut all, id, &secret::new_id()?, &digest)
            .await
            .map_err(&failed)?;
        all.commit().await.map_err(failed)?;
        Ok(secret)
    }

    /// Changes what a device is, as far as it is named.
    ///
    /// # Errors
    /// There is no such device or type.
    pub async fn set_device(
        &mut self,
        id: &str,
        status: Option<Status>,
        name: Option<&str>,
        device_type: Option<&str>,
    ) -> Result<(), RegistryError> {
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        if let Some(status) = status {
            let query = sqlx::query("UPDATE devices SET status = $1 WHERE id = $2");
            let done = query.bind(status.word()).bind(id).execute(&mut *all).await;
            expect_device(done.map_err(&failed)?.rows_affected(), id)?;
        }
        if let Some(name) = name {
            check_name("device", name)?;
            let query = sqlx::query("UPDATE devices SET name = $1 WHERE id = $2");
            let done = query.bind(name).bind(id).execute(&mut *all).await;
            expect_device(done.map_err(&failed)?.rows_affected(), id)?;
        }
        if let Some(device_type) = device_type {
            expect_type(&mut all, device_type)
                .await
                .map_err(&failed)??;
            let query = sqlx::query("UPDATE devices SET type = $1 WHERE id = $2");
            let done = query.bind(device_type).bind(id).execute(&mut *all).await;
            expect_device(done.map_err(&failed)?.rows_affected(), id)?;
        }
        all.commit().await.map_err(failed)
    }

    /// Removes a device with its credentials.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn remove_device(&mut self, id: &str) -> Result<(), RegistryError> {
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        let credentials = sqlx::query("DELETE FROM device_credentials WHERE device_id = $1");
        let gone = credentials.bind(id).execute(&mut *all).await;
        gone.map_err(&failed)?;
        let query = sqlx::query("DELETE FROM devices WHERE id = $1").bind(id);
        let done = query.execute(&mut *all).await.map_err(&failed)?;
        expect_device(done.rows_affected(), id)?;
        all.commit().await.map_err(failed)
    }

    /// The type of a device.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn type_of(&mut self, id: &str) -> Result<String, RegistryError> {
        let query = sqlx::query_scalar("SELECT type FROM devices WHERE id = $1").bind(id);
        let found = query.fetch_optional(&mut self.connection).await;
        let found: Option<String> = found.map_err(database_error(self.path()))?;
        expect_device(found.iter().count() as u64, id)?;
        Ok(found.unwrap_or_default())
    }

    /// All devices, by id.
    ///
    /// # Errors
    /// The database cannot be read, or a status means nothing.
    pub async fn devices(&mut self) -> Result<Vec<Device>, RegistryError> {
        let path = self.shared_path();
        let failed = database_error(&path);
        let sql = "SELECT id, name, type, status, created_ms, \
                   (SELECT COUNT(*) FROM device_credentials WHERE device_id = devices.id AND \
                   revoked_ms = 0 AND (expires_ms = 0 OR expires_ms > $1)) AS credentials \
                   FROM devices ORDER BY id";
        let rows = sqlx::query(sql).bind(now_ms());
        let rows = rows.fetch_all(&mut self.connection).await;
        let mut devices = Vec::new();
        for row in rows.map_err(&failed)? {
            let id: String = row.try_get("id").map_err(&failed)?;
            let status = read_status(&path, &id, &row)?;
            let credentials: i64 = row.try_get("credentials").map_err(&failed)?;
            devices.push(Device {
                id,
                name: row.try_get("name").map_err(&failed)?,
                device_type: row.try_get("type").map_err(&failed)?,
                status,
                created_ms: row.try_get("created_ms").map_err(&failed)?,
                credentials: usize::try_from(credentials).unwrap_or(0),
            });
        }
        Ok(devices)
    }

    /// A device as the gate knows it, with its credentials that are not revoked; none: there is no
    /// such device.
    pub(crate) async fn device_row(
        &mut self,
        id: &str,
    ) -> Result<Option<(DeviceRow, Vec<CredentialRow>)>, RegistryError> {
        let path = self.shared_path();
        let failed = database_error(&path);
        let query = sqlx::query("SELECT type, status FROM devices WHERE id = $1").bind(id);
        let found = query.fetch_optional(&mut self.connection).await;
        let Some(row) = found.map_err(&failed)? else {
            return Ok(None);
        };
        let device = DeviceRow {
            id: id.to_owned(),
            device_type: row.try_get("type").map_err(&failed)?,
            status: read_status(&path, id, &row)?,
        };
        let sql = "SELECT digest, expires_ms FROM device_credentials WHERE device_id = $1 AND \
                   revoked_ms = 0";
        let rows = sqlx::query(sql).bind(id).fetch_all(&mut self.connection);
        let mut credentials = Vec::new();
        for row in rows.await.map_err(&failed)? {
            credentials.push(CredentialRow {
                device_id: id.to_owned(),
                digest: row.try_get("digest").map_err(&failed)?,
                expires_ms: row.try_get("expires_ms").map_err(&failed)?,
            });
        }
        Ok(Some((device, credentials)))
    }

    /// All devices as the gate knows them, by and by: there may be many.
    pub(crate) async fn each_device(
        &mut self,
        mut take: impl FnMut(DeviceRow) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let path = self.shared_path();
        let sql = "SELECT string_agg(id || $1 || type || $1 || status, $2) AS lines \
                   FROM devices GROUP BY substr(id, length(id), 1)";
        let take = |[id, device_type, status]: [&str; 3]| {
            take(DeviceRow {
                id: id.to_owned(),
                device_type: device_type.to_owned(),
                status: status_of(&path, id, status)?,
            })
        };
        self.each_line(sql, take).await
    }

    /// Credentials that are not revoked, by and by.
    pub(crate) async fn each_credential(
        &mut self,
        mut take: impl FnMut(CredentialRow) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let path = self.shared_path();
        let sql = "SELECT string_agg(device_id || $1 || digest || $1 || \
                   CAST(expires_ms AS TEXT), $2) AS lines FROM device_credentials \
                   WHERE revoked_ms = 0 GROUP BY substr(id, length(id), 1)";
        let take = |[device_id, digest, expires_ms]: [&str; 3]| {
            take(CredentialRow {
                device_id: device_id.to_owned(),
                digest: digest.to_owned(),
                expires_ms: expires_ms.parse().map_err(|_| RegistryError::Damaged {
                    path: path.to_path_buf(),
                    what: format!("a credential of {device_id} ends at no time"),
                })?,
            })
        };
        self.each_line(sql, take).await
    }

    /// Rows as lines of text, of which the database gives those in one whose ids end alike: a row
    /// of its own takes the driver several times as long as the database needs to find it.
    async fn each_line<const N: usize>(
        &mut self,
        sql: &'static str,
        mut take: impl FnMut([&str; N]) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let path = self.shared_path();
        let failed = database_error(&path);
        let query = sqlx::query(sql).bind(FIELD_END.to_string());
        let mut rows = query.bind(LINE_END.to_string()).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let lines: String = row.try_get("lines").map_err(&failed)?;
            for line in lines.split(LINE_END) {
                let mut fields = [""; N];
                let mut found = line.split(FIELD_END);
                fields.fill_with(|| found.next().unwrap_or_default());
                if found.next().is_some() {
                    return Err(RegistryError::Damaged {
                        path: path.to_path_buf(),
                        what: format!("a control character where none can be: {line:?}"),
                    });
                }
                take(fields)?;
            }
        }
        Ok(())
    }
}

/// Neither is in a name, an id or a digest.
const LINE_END: char = '\u{1e}';
const FIELD_END: char = '\u{1f}';

fn read_status(path: &Path, id: &str, row: &AnyRow) -> Result<Status, RegistryError> {
    let status: String = row.try_get("status").map_err(database_error(path))?;
    status_of(path, id, &status)
}

fn status_of(path: &Path, id: &str, word: &str) -> Result<Status, RegistryError> {
    Status::from_word(word).ok_or_else(|| RegistryError::Damaged {
        path: path.to_owned(),
        what: format!("device {id}: {word:?} is no status"),
    })
}

async fn add_credential(
    all: &mut Transaction<'_, Any>,
    device_id: &str,
    id: &str,
    digest: &str,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO device_credentials (id, device_id, digest, created_ms, expires_ms, \
               revoked_ms) VALUES ($1, $2, $3, $4, 0, 0)";
    let query = sqlx::query(sql).bind(id).bind(device_id).bind(digest);
    query.bind(now_ms()).execute(&mut **all).await.map(drop)
}

async fn expect_type(
    all: &mut Transaction<'_, Any>,
    device_type: &str,
) -> Result<Result<(), RegistryError>, sqlx::Error> {
    let known = is_builtin(all, Owner::DeviceType, device_type).await?;
    Ok(match known {
        Some(_) => Ok(()),
        None => Err(RegistryError::Refused(unknown(
            Owner::DeviceType,
            device_type,
        ))),
    })
}

fn expect_device(found: u64, id: &str) -> Result<(), RegistryError> {
    match found {
        0 => Err(RegistryError::Refused(format!(
            "there is no device {id}: martlet device ls shows which there are"
        ))),
        _ => Ok(()),
    }
}

/// It stands in topics for one level, and for itself alone.
fn check_id(id: &str) -> Result<(), RegistryError> {
    check_name("device", id)?;
    match id.contains(['+', '#', '/']) || id.starts_with('$') {
        true => Err(RegistryError::Refused(format!(
            "{id:?} is no id of a device, which is one level of its topics: no +, # or /, and no $ \
             at its beginning"
        ))),
        false => Ok(()),
    }
}
