//! Passwords of users, of which only digests are kept.

use martlet_access::hash::{Kind, PasswordHash};
use martlet_access::scram::Verifier;
use serde_json::json;

use super::find::{find_own, user_row};
use super::user::User;
use crate::{Actor, Refused, Registry, RegistryError};

impl Registry {
    /// Gives a user another password.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn set_password(&mut self, name: &str, password: &str) -> Result<(), RegistryError> {
        self.change_password(&Actor::local(), name, password).await
    }

    /// As [`Registry::set_password`], for a caller.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn change_password(
        &mut self,
        actor: &Actor,
        name: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        let (hash, verifier) = (new_hash(password)?, self.new_verifier(password)?);
        self.set_secrets(actor, name, &hash, verifier).await
    }

    /// Replaces a hash by a stronger one of the same password. Connected clients stay.
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
        let hash = hash.map_err(Refused::Password)?;
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE users SET password_hash = $1 WHERE name = $2 AND password_hash = $3";
            let query = sqlx::query(sql).bind(hash.text()).bind(name.to_owned());
            let done = query.bind(weaker.text()).execute(&mut *work.all).await?;
            match done.rows_affected() {
                0 => Ok(()),
                _ => {
                    work.audit("user.rehash", ("user", name), "", json!({}))
                        .await
                }
            }
        };
        let done = done.await;
        work.end(done).await
    }

    async fn set_secrets(
        &mut self,
        actor: &Actor,
        name: &str,
        hash: &PasswordHash,
        verifier: String,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let user = find_own(&mut work.all, &actor.visibility, name, false).await?;
            let sql = "UPDATE users SET password_hash = $1, password_set_ms = $2, \
                       scram_verifier = $3, revision = revision + 1, updated_ms = $2 \
                       WHERE name = $4";
            let query = sqlx::query(sql).bind(hash.text()).bind(work.now_ms);
            let query = query.bind(verifier).bind(name.to_owned());
            query.execute(&mut *work.all).await?;
            work.audit("user.password", ("user", name), &user.team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Whether this is the user's password, for the panel: it is the same as for MQTT. Takes as
    /// long as the hash does; none: it is not, or the user is not accepted.
    ///
    /// # Errors
    /// The database cannot be read, or the hash means nothing.
    pub async fn log_in(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<Option<User>, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = user_row(on, name).await;
        let found = reading.end(found).await?;
        let Some(row) = found else {
            // As long as a wrong password takes.
            drop(new_hash("nobody"));
            return Ok(None);
        };
        let hash = PasswordHash::parse(&row.password_hash);
        let hash = hash.map_err(|expected| RegistryError::Damaged {
            place,
            what: format!("user {name}: expected {expected}"),
        })?;
        let is_in = hash.is_of(password.as_bytes()) && row.user.enabled;
        Ok(is_in.then_some(row.user))
    }

    /// The verifier of a password that is being set; empty where none is kept.
    pub(super) fn new_verifier(&self, password: &str) -> Result<String, RegistryError> {
        if !self.settings.keeps_scram {
            return Ok(String::new());
        }
        let verifier = Verifier::new(password.as_bytes());
        Ok(verifier.map_err(Refused::Password)?.text())
    }
}

/// Passwords of people are few and their hash is slow, also if they are generated.
pub(super) fn new_hash(password: &str) -> Result<PasswordHash, RegistryError> {
    if password.is_empty() {
        return Err(Refused::EmptyPassword.into());
    }
    let hash = PasswordHash::new(password.as_bytes(), Kind::Argon2id);
    Ok(hash.map_err(Refused::Password)?)
}
