//! People and programs: a name, a password that they may have chosen, a role.

use martlet_access::hash::{Kind, PasswordHash};
use martlet_access::scram::Verifier;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, Row as _};

use crate::database::database_error;
use crate::rule_sets::{check_name, is_builtin, unknown};
use crate::{Owner, Registry, RegistryError, now_ms};

/// A user, as lists show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// It is let in.
    pub enabled: bool,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A user, as the gate knows them.
pub(crate) struct UserRow {
    pub(crate) user: User,
    pub(crate) password_hash: String,
    pub(crate) password_set_ms: i64,
    /// Empty is none.
    pub(crate) scram_verifier: String,
}

impl Registry {
    /// Adds a user.
    ///
    /// # Errors
    /// There is a user or a device of that name, or no such role.
    pub async fn add_user(
        &mut self,
        name: &str,
        role: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        check_name("user", name)?;
        let (hash, verifier) = (new_hash(password)?, self.new_verifier(password)?);
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        if is_builtin(&mut all, Owner::Role, role)
            .await
            .map_err(&failed)?
            .is_none()
        {
            return Err(RegistryError::Refused(unknown(Owner::Role, role)));
        }
        let device = sqlx::query_scalar::<_, String>("SELECT id FROM devices WHERE id = $1");
        let device = device.bind(name).fetch_optional(&mut *all).await;
        if device.map_err(&failed)?.is_some() {
            return Err(RegistryError::Refused(format!(
                "there is a device {name}, whose user name that is"
            )));
        }
        let sql = "INSERT INTO users (name, role, password_hash, password_set_ms, scram_verifier, \
                   enabled, created_ms) VALUES ($1, $2, $3, $4, $5, 1, $4) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(name).bind(role).bind(hash.text());
        let query = query.bind(now_ms()).bind(verifier);
        let done = query.execute(&mut *all).await;
        if done.map_err(&failed)?.rows_affected() == 0 {
            return Err(RegistryError::Refused(format!(
                "{name} is there already: martlet user passwd {name}"
            )));
        }
        crate::database::set_in_use(&mut all)
            .await
            .map_err(&failed)?;
        all.commit().await.map_err(failed)
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn set_password(&mut self, name: &str, password: &str) -> Result<(), RegistryError> {
        let (hash, verifier) = (new_hash(password)?, self.new_verifier(password)?);
        self.set_secrets(name, &hash, &verifier).await
    }

    /// Has a hash of the same password take the place of a weaker one. Who is connected stays.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn renew_hash(
        &mut self,
        name: &str,
        weaker: &PasswordHash,
        password: &[u8],
    ) -> Result<(), RegistryError> {
        let hash = PasswordHash::new(password, Kind::Argon2id);
        let hash = hash.map_err(|why| RegistryError::Refused(why.to_owned()))?;
        let sql = "UPDATE users SET password_hash = $1 WHERE name = $2 AND password_hash = $3";
        let query = sqlx::query(sql).bind(hash.text()).bind(name);
        let done = query
            .bind(weaker.text())
            .execute(&mut self.connection)
            .await;
        done.map(drop).map_err(database_error(self.path()))
    }

    /// Gives a user a hash that was made elsewhere.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn import_hash(
        &mut self,
        name: &str,
        hash: &PasswordHash,
    ) -> Result<(), RegistryError> {
        self.set_secrets(name, hash, "").await
    }

    async fn set_secrets(
        &mut self,
        name: &str,
        hash: &PasswordHash,
        verifier: &str,
    ) -> Result<(), RegistryError> {
        let sql = "UPDATE users SET password_hash = $1, password_set_ms = $2, scram_verifier = $3 \
                   WHERE name = $4";
        let query = sqlx::query(sql).bind(hash.text()).bind(now_ms());
        let query = query.bind(verifier).bind(name);
        let done = query.execute(&mut self.connection).await;
        let done = done.map_err(database_error(self.path()))?;
        expect_user(done.rows_affected(), name)
    }

    /// Changes what a user is, as far as it is named.
    ///
    /// # Errors
    /// There is no such user or role.
    pub async fn set_user(
        &mut self,
        name: &str,
        role: Option<&str>,
        enabled: Option<bool>,
    ) -> Result<(), RegistryError> {
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        if let Some(role) = role {
            let known = is_builtin(&mut all, Owner::Role, role).await;
            if known.map_err(&failed)?.is_none() {
                return Err(RegistryError::Refused(unknown(Owner::Role, role)));
            }
            let query = sqlx::query("UPDATE users SET role = $1 WHERE name = $2");
            let done = query.bind(role).bind(name).execute(&mut *all).await;
            expect_user(done.map_err(&failed)?.rows_affected(), name)?;
        }
        if let Some(enabled) = enabled {
            let query = sqlx::query("UPDATE users SET enabled = $1 WHERE name = $2");
            let query = query.bind(i64::from(enabled)).bind(name);
            let done = query.execute(&mut *all).await.map_err(&failed)?;
            expect_user(done.rows_affected(), name)?;
        }
        all.commit().await.map_err(failed)
    }

    /// Removes a user.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn remove_user(&mut self, name: &str) -> Result<(), RegistryError> {
        let query = sqlx::query("DELETE FROM users WHERE name = $1").bind(name);
        let done = query.execute(&mut self.connection).await;
        let done = done.map_err(database_error(self.path()))?;
        expect_user(done.rows_affected(), name)
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn users(&mut self) -> Result<Vec<User>, RegistryError> {
        let rows = self.user_rows().await?;
        Ok(rows.into_iter().map(|row| row.user).collect())
    }

    /// Of a password that is being set; empty where none is kept.
    fn new_verifier(&self, password: &str) -> Result<String, RegistryError> {
        if !self.with_scram {
            return Ok(String::new());
        }
        let verifier = Verifier::new(password.as_bytes());
        let verifier = verifier.map_err(|why| RegistryError::Refused(why.to_owned()))?;
        Ok(verifier.text())
    }

    pub(crate) async fn user_rows(&mut self) -> Result<Vec<UserRow>, RegistryError> {
        let sql = "SELECT name, role, enabled, created_ms, password_hash, password_set_ms, \
                   scram_verifier FROM users ORDER BY name";
        self.users_by(sqlx::query(sql)).await
    }

    pub(crate) async fn user_row(&mut self, name: &str) -> Result<Option<UserRow>, RegistryError> {
        let sql = "SELECT name, role, enabled, created_ms, password_hash, password_set_ms, \
                   scram_verifier FROM users WHERE name = $1";
        let found = self.users_by(sqlx::query(sql).bind(name)).await?;
        Ok(found.into_iter().next())
    }

    async fn users_by(
        &mut self,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Vec<UserRow>, RegistryError> {
        let failed = database_error(self.path());
        let rows = query.fetch_all(&mut self.connection).await;
        let mut users = Vec::new();
        for row in rows.map_err(&failed)? {
            users.push(UserRow {
                user: User {
                    name: row.try_get("name").map_err(&failed)?,
                    role: row.try_get("role").map_err(&failed)?,
                    enabled: row.try_get::<i64, _>("enabled").map_err(&failed)? != 0,
                    created_ms: row.try_get("created_ms").map_err(&failed)?,
                },
                password_hash: row.try_get("password_hash").map_err(&failed)?,
                password_set_ms: row.try_get("password_set_ms").map_err(&failed)?,
                scram_verifier: row.try_get("scram_verifier").map_err(&failed)?,
            });
        }
        Ok(users)
    }
}

fn expect_user(changed: u64, name: &str) -> Result<(), RegistryError> {
    match changed {
        0 => Err(RegistryError::Refused(format!(
            "there is no user {name} in martlet.db: martlet user ls shows who there is"
        ))),
        _ => Ok(()),
    }
}

/// Passwords of people are few and their hash is slow, whoever made them up.
fn new_hash(password: &str) -> Result<PasswordHash, RegistryError> {
    let refused = |why: &str| RegistryError::Refused(why.to_owned());
    if password.is_empty() {
        return Err(refused("the password is empty"));
    }
    PasswordHash::new(password.as_bytes(), Kind::Argon2id).map_err(refused)
}
