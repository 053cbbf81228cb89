//! Keys of the API: shown once, kept as a digest, and valid for their scopes until they expire.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::credentials::{CredentialUse, write_uses};
use crate::database::Work;
use crate::names::check_new_name;
use crate::secret::{self, DigestKey, Secret};
use crate::sql::{Fault, clean};
use crate::teams::home;
use crate::users::expect_user;
use crate::{Actor, Expected, NotFound, ObjectKind, Refused, Registry, RegistryError, Visibility};

/// Prefix of keys, so that a key that is found can be recognised.
const PREFIX: &str = "mk_";

/// Whether this has the form of an API key.
pub fn may_be_api_key(text: &[u8]) -> bool {
    text.starts_with(PREFIX.as_bytes()) && text.len() > KEY_BYTES_MIN
}

/// Keys are longer than this.
const KEY_BYTES_MIN: usize = 24;

/// A key, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Id of the key.
    pub id: String,
    /// For people.
    pub name: String,
    /// Scopes of the key; what they mean is the API's.
    pub scopes: Vec<String>,
    /// The id of the team whose objects it sees; empty: everybody's.
    pub team: String,
    /// The user that owns it; empty: none.
    pub owner: String,
    /// Raised with every change.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it ends; 0: never.
    pub expires_ms: i64,
    /// When it was last used, as far as that is written yet; 0: never.
    pub last_used_ms: i64,
    /// How often.
    pub uses: i64,
    /// When it was revoked; 0: it is not revoked.
    pub revoked_ms: i64,
}

/// Why a key is not accepted that has neither expired nor was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKeyBarred {
    /// The user that owns it is disabled.
    OwnerDisabled,
    /// The user that owns it was deleted.
    OwnerDeleted,
    /// The team of this name that it belongs to was deleted.
    TeamDeleted(String),
}

/// A key to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// Scopes of the key; words without spaces.
    pub scopes: Vec<String>,
    /// The team whose objects it sees, by id or name; none: that of the caller.
    pub team: Option<String>,
    /// The user that owns it; empty: none.
    pub owner: String,
    /// When it ends; 0: never.
    pub expires_ms: i64,
}

impl Registry {
    /// Adds a key, which is shown this once.
    ///
    /// # Errors
    /// There is no such team or owner, or a scope is none.
    pub async fn add_api_key(
        &mut self,
        actor: &Actor,
        key: NewApiKey,
    ) -> Result<(ApiKey, Secret), RegistryError> {
        let digests = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, &digests, key).await;
        work.end(done).await
    }

    /// The key that this is, if it is good now: neither ended nor revoked, its owner enabled and
    /// its team there.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn api_key_of(
        &mut self,
        secret: &str,
        now_ms: i64,
    ) -> Result<Option<ApiKey>, RegistryError> {
        if !secret.starts_with(PREFIX) {
            return Ok(None);
        }
        let digest = self.digest_key().await?.digest(secret.as_bytes());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let sql = "SELECT * FROM api_keys WHERE digest = $1 AND revoked_ms = 0 AND \
                   (expires_ms = 0 OR expires_ms > $2) AND \
                   (owner = '' OR owner IN \
                   (SELECT name FROM users WHERE enabled = 1 AND deleted_ms = 0)) AND \
                   (team = '' OR team IN (SELECT id FROM teams WHERE deleted_ms = 0))";
        let read = async {
            let query = sqlx::query(sql)
                .bind(secret::digest_text(&digest))
                .bind(now_ms);
            let row = query.fetch_optional(on).await?;
            row.as_ref().map(read_key).transpose()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn api_keys(
        &mut self,
        visibility: &Visibility,
    ) -> Result<Vec<ApiKey>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT * FROM api_keys ORDER BY created_ms DESC, id";
            let rows = sqlx::query(sql).fetch_all(on).await?;
            let keys: Result<Vec<_>, Fault> = rows.iter().map(read_key).collect();
            let mut keys = keys?;
            keys.retain(|key| visibility.sees(&key.team));
            Ok(keys)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Why [`Registry::api_key_of`] does not find a key that has neither expired nor was revoked;
    /// none: it finds it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn api_key_barred(
        &mut self,
        key: &ApiKey,
    ) -> Result<Option<ApiKeyBarred>, RegistryError> {
        let mut reading = self.reading().await?;
        let read = barred(reading.connection(), key).await;
        reading.end(read).await
    }

    /// Gives a key another name and other scopes.
    ///
    /// # Errors
    /// There is no such key, or it has another revision than expected.
    pub async fn change_api_key(
        &mut self,
        actor: &Actor,
        id: &str,
        name: &str,
        scopes: &[String],
        expected_revision: Expected,
    ) -> Result<ApiKey, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, id, name, scopes, expected_revision).await;
        work.end(done).await
    }

    /// Ends a key.
    ///
    /// # Errors
    /// There is no such key that is good.
    pub async fn revoke_api_key(&mut self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let key = find(&mut work.all, &actor.visibility, id).await?;
            let sql = "UPDATE api_keys SET revoked_ms = $1, revision = revision + 1 \
                       WHERE id = $2 AND revoked_ms = 0";
            let query = sqlx::query(sql).bind(work.now_ms).bind(key.id.clone());
            if query.execute(&mut *work.all).await?.rows_affected() == 0 {
                return Err(not_found(id).into());
            }
            let changed = json!({ "name": key.name });
            work.audit("api_key.revoke", ("api_key", id), &key.team, changed)
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Writes when keys were last used.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn write_api_key_uses(
        &mut self,
        uses: &[CredentialUse],
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = write_uses(&mut work, uses, "UPDATE api_keys SET uses = uses + ").await;
        work.end(done).await
    }
}

fn read_key(row: &AnyRow) -> Result<ApiKey, Fault> {
    let scopes: String = row.try_get("scopes")?;
    Ok(ApiKey {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        team: row.try_get("team")?,
        owner: row.try_get("owner")?,
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        last_used_ms: row.try_get("last_used_ms")?,
        uses: row.try_get("uses")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}

fn not_found(id: &str) -> NotFound {
    NotFound::Object(ObjectKind::ApiKey, id.to_owned())
}

async fn find(on: &mut AnyConnection, visibility: &Visibility, id: &str) -> Result<ApiKey, Fault> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(clean(id));
    let row = query
        .fetch_optional(on)
        .await?
        .ok_or_else(|| not_found(id))?;
    let key = read_key(&row)?;
    match visibility.sees(&key.team) {
        true => Ok(key),
        false => Err(not_found(id).into()),
    }
}

fn check_scopes(scopes: &[String]) -> Result<(), RegistryError> {
    let is_word = |scope: &String| {
        !scope.is_empty() && scope.len() <= 64 && scope.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match scopes.len() <= 64 && scopes.iter().all(is_word) {
        true => Ok(()),
        false => Err(Refused::Scopes.into()),
    }
}

/// Why a key is not accepted because of its team or its owner.
async fn barred(on: &mut AnyConnection, key: &ApiKey) -> Result<Option<ApiKeyBarred>, Fault> {
    if !key.team.is_empty() {
        let sql = "SELECT name FROM teams WHERE id = $1 AND deleted_ms > 0";
        let query = sqlx::query_scalar::<_, String>(sql).bind(key.team.clone());
        if let Some(name) = query.fetch_optional(&mut *on).await? {
            return Ok(Some(ApiKeyBarred::TeamDeleted(name)));
        }
    }
    if key.owner.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT enabled FROM users WHERE name = $1 AND deleted_ms = 0";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(key.owner.clone());
    Ok(match query.fetch_optional(on).await? {
        Some(0) => Some(ApiKeyBarred::OwnerDisabled),
        Some(_) => None,
        None => Some(ApiKeyBarred::OwnerDeleted),
    })
}

async fn insert(
    work: &mut Work<'_>,
    digests: &DigestKey,
    new: NewApiKey,
) -> Result<(ApiKey, Secret), Fault> {
    check_new_name("key", &new.name)?;
    check_scopes(&new.scopes)?;
    let own = work.actor.visibility.team().unwrap_or_default().to_owned();
    let team = new.team.unwrap_or(own);
    let team = home(&mut work.all, &work.actor.visibility, &team)
        .await?
        .team;
    if !new.owner.is_empty() {
        expect_user(&mut work.all, &work.actor.visibility, &new.owner).await?;
    }
    let secret = Secret::with_prefix(PREFIX)?;
    let key = ApiKey {
        id: secret::new_id()?,
        name: new.name,
        scopes: new.scopes,
        team,
        owner: new.owner,
        revision: 1,
        created_ms: work.now_ms,
        expires_ms: new.expires_ms,
        last_used_ms: 0,
        uses: 0,
        revoked_ms: 0,
    };
    let mut sql = work.sql(
        "INSERT INTO api_keys (last_used_ms, uses, revoked_ms, revision, id, name, digest, scopes, \
         team, owner, created_ms, expires_ms) VALUES (0, 0, 0, 1",
    );
    let digest = secret::digest_text(&digests.digest(secret.text().as_bytes()));
    let scopes = key.scopes.join(" ");
    for text in [&key.id, &key.name, &digest, &scopes, &key.team, &key.owner] {
        sql.push(", ").bind(text.clone());
    }
    sql.push(", ").bind(key.created_ms);
    sql.push(", ").bind(key.expires_ms).push(")");
    sql.execute(&mut work.all).await?;
    let changed = json!({
        "name": key.name, "scopes": key.scopes, "owner": key.owner, "expires_ms": key.expires_ms,
    });
    work.audit("api_key.add", ("api_key", &key.id), &key.team, changed)
        .await?;
    Ok((key, secret))
}

async fn change_one(
    work: &mut Work<'_>,
    id: &str,
    name: &str,
    scopes: &[String],
    expected_revision: Expected,
) -> Result<ApiKey, Fault> {
    check_new_name("key", name)?;
    check_scopes(scopes)?;
    let mut key = find(&mut work.all, &work.actor.visibility, id).await?;
    expected_revision.check("the key", key.revision)?;
    let changed = json!({ "name": [key.name, name], "scopes": [key.scopes, scopes] });
    key.name = name.to_owned();
    key.scopes = scopes.to_vec();
    key.revision += 1;
    let sql = "UPDATE api_keys SET name = $1, scopes = $2, revision = $3 WHERE id = $4";
    let query = sqlx::query(sql)
        .bind(key.name.clone())
        .bind(scopes.join(" "));
    let query = query.bind(key.revision).bind(key.id.clone());
    query.execute(&mut *work.all).await?;
    work.audit("api_key.change", ("api_key", id), &key.team, changed)
        .await?;
    Ok(key)
}
