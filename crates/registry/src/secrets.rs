//! Secrets of other systems. A row has the sealed value; the key is never in the tables.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::teams::home;
use crate::{Actor, NotFound, ObjectKind, Refused, Registry, RegistryError, Visibility};

/// Longest name of a secret, bytes.
pub const SECRET_NAME_BYTES_MAX: usize = 64;

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHead {
    /// Id of the team that it belongs to; empty: the common tenant.
    pub team: String,
    /// Name, which no other secret of the same owner has.
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// The caller that changed it last, as in the audit log.
    pub changed_by: String,
}

/// A sealed value and the id of the key that opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Base64.
    pub sealed: String,
    /// Id of the key.
    pub key_id: String,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedSecret(key {})", self.key_id)
    }
}

/// Checks the name of a new secret: letters, digits, `-`, `_` and `.`, 1 to 64. It neither begins
/// with `-`, as options do, nor is `.` or `..`, which HTTP clients take out of paths.
///
/// # Errors
/// It is no such name.
pub fn check_secret_name(name: &str) -> Result<(), RegistryError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=SECRET_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with('-')
        && ![".", ".."].contains(&name);
    match is_name {
        true => Ok(()),
        false => Err(Refused::SecretName(name.to_owned(), SECRET_NAME_BYTES_MAX).into()),
    }
}

impl Registry {
    /// Secrets that the caller sees, by owner and name, without their values.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn secrets(
        &mut self,
        visibility: &Visibility,
    ) -> Result<Vec<SecretHead>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT team, name, created_ms, changed_ms, changed_by FROM secrets \
                       ORDER BY team, name";
            let rows = sqlx::query(sql).fetch_all(on).await?;
            let all: Result<Vec<_>, Fault> = rows.iter().map(read_head).collect();
            let mut all = all?;
            all.retain(|one| visibility.sees(&one.team));
            Ok(all)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Id of the team that owns the secrets of a caller that names this team, by id or name; empty:
    /// the common tenant.
    ///
    /// # Errors
    /// There is no such team, or the caller does not see it.
    pub async fn owner_of_secrets(
        &mut self,
        visibility: &Visibility,
        team: &str,
    ) -> Result<String, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = home(on, visibility, team).await;
        Ok(reading.end(found).await?.team)
    }

    /// Number of secrets of all owners.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn secret_count(&mut self) -> Result<u64, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let query = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM secrets");
        let count = query.fetch_one(on).await;
        let count = reading.end(count).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The sealed value of a secret of the team of this id; none if there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn sealed_secret(
        &mut self,
        team: &str,
        name: &str,
    ) -> Result<Option<SealedSecret>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT sealed, key_id FROM secrets WHERE team = $1 AND name = $2";
            let query = sqlx::query(sql).bind(clean(team)).bind(clean(name));
            let Some(row) = query.fetch_optional(on).await? else {
                return Ok(None);
            };
            Ok(Some(SealedSecret {
                sealed: row.try_get("sealed")?,
                key_id: row.try_get("key_id")?,
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes a secret of the team of this id; empty: the common tenant. Returns whether it is new.
    ///
    /// # Errors
    /// The caller does not see the team, the name is none, or there are values under another key.
    pub async fn set_secret(
        &mut self,
        actor: &Actor,
        team: &str,
        name: &str,
        value: &SealedSecret,
    ) -> Result<bool, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_one(&mut work, team, name, value).await;
        work.end(done).await
    }

    /// Removes a secret of the team of this id.
    ///
    /// # Errors
    /// There is none, or the caller does not see it.
    pub async fn remove_secret(
        &mut self,
        actor: &Actor,
        team: &str,
        name: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            if !is_there(&mut work.all, &work.actor.visibility, team, name).await? {
                return Err(not_found(name).into());
            }
            let query = sqlx::query("DELETE FROM secrets WHERE team = $1 AND name = $2");
            let query = query.bind(clean(team)).bind(clean(name));
            query.execute(&mut *work.all).await?;
            work.audit("secret.remove", ("secret", name), team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }
}

fn read_head(row: &AnyRow) -> Result<SecretHead, Fault> {
    Ok(SecretHead {
        team: row.try_get("team")?,
        name: row.try_get("name")?,
        created_ms: row.try_get("created_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        changed_by: row.try_get("changed_by")?,
    })
}

fn not_found(name: &str) -> NotFound {
    NotFound::Object(ObjectKind::Secret, name.to_owned())
}

async fn is_there(
    on: &mut AnyConnection,
    visibility: &Visibility,
    team: &str,
    name: &str,
) -> Result<bool, Fault> {
    if !visibility.sees(team) {
        return Ok(false);
    }
    let sql = "SELECT COUNT(*) FROM secrets WHERE team = $1 AND name = $2";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(team));
    Ok(query.bind(clean(name)).fetch_one(on).await? > 0)
}

async fn set_one(
    work: &mut Work<'_>,
    team: &str,
    name: &str,
    value: &SealedSecret,
) -> Result<bool, Fault> {
    check_secret_name(name)?;
    // A team that was removed meanwhile gets none.
    let team = home(&mut work.all, &work.actor.visibility, team)
        .await?
        .team;
    let sql = "SELECT COUNT(*) FROM secrets WHERE key_id <> $1";
    let others = sqlx::query_scalar::<_, i64>(sql).bind(value.key_id.clone());
    if others.fetch_one(&mut *work.all).await? > 0 {
        // Two nodes without a key file may each have made one at the same moment.
        return Err(Refused::OtherSecretKey.into());
    }
    let is_new = !is_there(&mut work.all, &Visibility::All, &team, name).await?;
    let sql = "INSERT INTO secrets (team, name, sealed, key_id, created_ms, changed_ms, \
               changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (team, name) DO \
               UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id, \
               changed_ms = excluded.changed_ms, changed_by = excluded.changed_by";
    let query = sqlx::query(sql).bind(team.clone()).bind(name.to_owned());
    let query = query
        .bind(value.sealed.clone())
        .bind(value.key_id.clone())
        .bind(work.now_ms)
        .bind(work.now_ms)
        .bind(clean(&work.actor.who));
    query.execute(&mut *work.all).await?;
    let action = if is_new {
        "secret.add"
    } else {
        "secret.change"
    };
    work.audit(action, ("secret", name), &team, json!({}))
        .await?;
    Ok(is_new)
}
