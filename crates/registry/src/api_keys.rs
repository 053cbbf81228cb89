//! Keys of the API: shown once, kept as a digest, and valid for their scopes until they expire.

use serde_json::json;
use sqlx::AnyConnection;

use crate::credentials::{CredentialUse, write_uses};
use crate::database::Work;
use crate::names::check_new_name;
use crate::object::{
    details_of_change, details_of_new, object, read_all, read_first, select_short, unchecked,
};
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

object! {
    /// An API key, without the key.
    ApiKey in "api_keys";
    /// A key to be added.
    #[derive(Default)]
    new NewApiKey
    kept {
        /// Id of the key.
        id ("id"): String, [];
        /// Number of times it was used, as far as that is written.
        @[serde(skip)]
        uses ("uses"): i64, [];
        /// Raised with every change; the `ETag` is made of it.
        revision ("revision"): i64, [Changed];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
        /// When it was last used, as far as that is written; null: never.
        last_used_ms as "last_used_at", [];
        /// When it was revoked; null: it is not revoked.
        revoked_ms as "revoked_at", [];
    }
    given {
        /// Id of the team whose objects it sees; empty: everybody's. A request may name the team by
        /// its id or name.
        team ("team"): String, new Option<String>,
            check unchecked, [];
        /// User who owns it: it is valid as long as the user is enabled. Empty: no owner.
        owner ("owner"): String, new #[serde(default)] String,
            check unchecked, [Audited];
        /// When it ends; null: never.
        @[serde(rename = "expires_at", with = "crate::object::time")]
        @[schema(value_type = Option<String>, format = DateTime)]
        expires_ms ("expires_ms"): i64, new #[serde(default)] i64,
            check unchecked, [Audited];
    }
    /// Changes of a key; fields that are not named stay.
    change ApiKeyChange set {
        /// Name of the key, for people.
        @[schema(example = "deploy")]
        name ("name"): String, new String,
            check check_key_name, [Audited];
        /// Rights of its holder: scopes and roles, such as `viewer` and `devices:write`.
        scopes ("scopes"): Vec<String>, new Vec<String>,
            check check_scopes, [Audited];
    }
}

fn check_key_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("key", name)
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

impl ApiKey {
    /// A key that the configuration has, by its name.
    pub fn of_configuration(name: &str, scopes: Vec<String>) -> Self {
        let new = NewApiKey {
            name: name.to_owned(),
            scopes,
            ..NewApiKey::default()
        };
        Self {
            id: name.to_owned(),
            ..Self::begun(new)
        }
    }
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
        let read = async {
            let mut sql = select_short::<ApiKey>();
            sql.push(
                " WHERE revoked_ms = 0 AND (owner = '' OR owner IN \
                 (SELECT name FROM users WHERE enabled = 1 AND deleted_ms = 0)) AND \
                 (team = '' OR team IN (SELECT id FROM teams WHERE deleted_ms = 0)) AND digest = ",
            );
            sql.bind(secret::digest_text(&digest));
            sql.push(" AND (expires_ms = 0 OR expires_ms > ");
            sql.bind(now_ms).push(")");
            read_first(sql, on).await
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
            let mut sql = select_short::<ApiKey>();
            sql.push(" ORDER BY created_ms DESC, id");
            let mut keys: Vec<ApiKey> = read_all(sql, on).await?;
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

    /// Changes a key.
    ///
    /// # Errors
    /// There is no such key, or it has another revision than expected.
    pub async fn change_api_key(
        &mut self,
        actor: &Actor,
        id: &str,
        change: ApiKeyChange,
        expected_revision: Expected,
    ) -> Result<ApiKey, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, id, change, expected_revision).await;
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

fn not_found(id: &str) -> NotFound {
    NotFound::Object(ObjectKind::ApiKey, id.to_owned())
}

async fn find(on: &mut AnyConnection, visibility: &Visibility, id: &str) -> Result<ApiKey, Fault> {
    let mut sql = select_short::<ApiKey>();
    sql.push(" WHERE id = ").bind(clean(id));
    let key: ApiKey = read_first(sql, on).await?.ok_or_else(|| not_found(id))?;
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
    mut new: NewApiKey,
) -> Result<(ApiKey, Secret), Fault> {
    let own = work.actor.visibility.team().unwrap_or_default().to_owned();
    let team = new.team.take().unwrap_or(own);
    let team = home(&mut work.all, &work.actor.visibility, &team)
        .await?
        .team;
    if !new.owner.is_empty() {
        expect_user(&mut work.all, &work.actor.visibility, &new.owner).await?;
    }
    let secret = Secret::with_prefix(PREFIX)?;
    let key = ApiKey {
        id: secret::new_id()?,
        team,
        revision: 1,
        created_ms: work.now_ms,
        ..ApiKey::begun(new)
    };
    key.check_values()?;
    let digest = secret::digest_text(&digests.digest(secret.text().as_bytes()));
    work.insert(&key, &[("digest", &digest)]).await?;
    let changed = details_of_new(&key).into();
    work.audit("api_key.add", ("api_key", &key.id), &key.team, changed)
        .await?;
    Ok((key, secret))
}

async fn change_one(
    work: &mut Work<'_>,
    id: &str,
    change: ApiKeyChange,
    expected_revision: Expected,
) -> Result<ApiKey, Fault> {
    let old = find(&mut work.all, &work.actor.visibility, id).await?;
    expected_revision.check("the key", old.revision)?;
    let mut key = old.clone();
    key.set_values(change)?;
    key.revision += 1;
    work.update(&key, "id", &key.id).await?;
    let changed = details_of_change(&old, &key).into();
    work.audit("api_key.change", ("api_key", id), &key.team, changed)
        .await?;
    Ok(key)
}
