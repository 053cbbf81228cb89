//! Secrets of other systems: stored sealed in the tables, opened with the key file for the
//! integrations that use them. Nothing here shows or logs a value.
//!
//! * `key_file`: the key, and sealing

mod key_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use martlet_integrate::{SecretCheck, SecretTrouble, SecretValue, SecretValues, Secrets};
pub use martlet_registry::SecretHead;
use martlet_registry::{Actor, Refused, RegistryError, Visibility};
use tokio::sync::Mutex;
use tokio::sync::watch;

use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use key_file::Key;

/// Name of the key file in the data directory, unless the configuration names another.
pub const KEY_FILE: &str = "secrets.key";
/// Longest value of a secret, bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Why a secret is not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The tables refuse it, or cannot be used.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] SecretTrouble),
    /// The value is none.
    #[error("the value of a secret has 1 to {SECRET_BYTES_MAX} bytes")]
    Value,
    /// The value could not stand in a URL, a header or a key.
    #[error(
        "the value of a secret is one line: it has {0}, which neither a URL nor a header may have"
    )]
    Line(&'static str),
}

/// A secret that was set.
#[derive(Debug)]
pub struct SetSecret {
    /// All but its value.
    pub head: SecretHead,
    /// Whether there was none of this name before.
    pub is_new: bool,
}

/// The secrets of a node.
#[derive(Debug)]
pub struct SecretStore {
    tables: Arc<SharedRegistry>,
    key_file: PathBuf,
    /// Options by which a command finds the node.
    options: String,
    /// Notified when a secret was changed here.
    changes: watch::Sender<()>,
    /// Held while a key file may be made.
    making: Mutex<()>,
}

impl SecretStore {
    /// The secrets in these tables, with this key file. Nothing is opened or made yet. `options`
    /// are those by which a command finds the node.
    pub fn new(tables: Arc<SharedRegistry>, key_file: PathBuf, options: &str) -> Self {
        Self {
            tables,
            key_file,
            options: options.to_owned(),
            changes: watch::Sender::default(),
            making: Mutex::default(),
        }
    }

    /// Path of the key file.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Sees each time after this that a secret was changed by this node.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Secrets that the caller sees, without values.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn list(&self, visibility: Visibility) -> Result<Vec<SecretHead>, SecretError> {
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.secrets(&visibility).await }));
        Ok(read.await?)
    }

    /// Sets a secret of the team of this id; empty: the common tenant. The first one makes the key
    /// file.
    ///
    /// # Errors
    /// The caller does not see the team, name or value are none, or the key file is missing,
    /// exposed or another one than before.
    pub async fn set(
        &self,
        actor: Actor,
        team: String,
        name: String,
        value: SecretValue,
    ) -> Result<SetSecret, SecretError> {
        check_secret_value(&value)?;
        martlet_registry::check_secret_name(&name).map_err(SharedRegistryError::Registry)?;
        let making = self.making.lock().await;
        let key = match Key::read(&self.key_file) {
            Err(SecretTrouble::NoKeyFile(_)) if self.has_none().await? => {
                tracing::info!(path = %self.key_file.display(), "the key file of secrets is made");
                Key::make(&self.key_file)?
            }
            found => found?,
        };
        drop(making);
        let sealed = key.seal(&team, &name, &value)?;
        let done = self.tables.note(move |registry| {
            Box::pin(async move {
                let is_new = registry.set_secret(&actor, &team, &name, &sealed).await?;
                let all = registry.secrets(&actor.visibility).await?;
                let mut all = all.into_iter();
                Ok(all
                    .find(|head| head.team == team && head.name == name)
                    .map(|head| SetSecret { head, is_new }))
            })
        });
        let done = done.await?;
        self.changes.send_replace(());
        // Removed by another node since.
        done.ok_or_else(|| {
            SharedRegistryError::from(RegistryError::from(Refused::SecretRemoved)).into()
        })
    }

    /// Removes a secret of the team of this id.
    ///
    /// # Errors
    /// There is none, or the caller does not see it.
    pub async fn remove(
        &self,
        actor: Actor,
        team: String,
        name: String,
    ) -> Result<(), SecretError> {
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.remove_secret(&actor, &team, &name).await })
        });
        done.await?;
        self.changes.send_replace(());
        Ok(())
    }

    async fn has_none(&self) -> Result<bool, SecretError> {
        let count = self
            .tables
            .read(|registry| Box::pin(registry.secret_count()));
        Ok(count.await? == 0)
    }

    /// The values of secrets of a team, which is named by id or name; empty: the common tenant.
    /// `check` refuses values that cannot be used.
    pub(crate) async fn values(
        &self,
        team: &str,
        names: &[Box<str>],
        check: &SecretCheck,
    ) -> Secrets {
        let read = self.read_values(team, names).await;
        let read = read.and_then(|values| check(&values).map(|()| values));
        read.map_err(|trouble| trouble.with_team(team).with_options(&self.options))
    }

    async fn read_values(&self, team: &str, names: &[Box<str>]) -> Secrets {
        if names.is_empty() {
            return Ok(Arc::default());
        }
        let missing = |names: Vec<String>| SecretTrouble::Missing {
            names,
            team: team.to_owned(),
            options: String::new(),
        };
        let (of, requested) = (team.to_owned(), names.to_vec());
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let id = registry.owner_of_secrets(&Visibility::All, &of).await?;
                let mut all = Vec::new();
                for name in requested {
                    let sealed = registry.sealed_secret(&id, &name).await?;
                    all.push((name, sealed));
                }
                Ok((id, all))
            })
        });
        let (id, sealed) = match read.await {
            Ok(read) => read,
            Err(SharedRegistryError::Registry(RegistryError::NotFound(_))) => {
                return Err(missing(names.iter().map(ToString::to_string).collect()));
            }
            Err(error) => return Err(SecretTrouble::Tables(error.caller_text())),
        };
        let unset = sealed.iter().filter(|(_, sealed)| sealed.is_none());
        let unset: Vec<String> = unset.map(|(name, _)| name.to_string()).collect();
        if !unset.is_empty() {
            return Err(missing(unset));
        }
        let key = Key::read(&self.key_file)?;
        let mut values = SecretValues::new();
        for (name, sealed) in sealed {
            if let Some(sealed) = sealed {
                let value = key.open(&id, &name, &sealed)?;
                values.insert(name, value);
            }
        }
        Ok(Arc::new(values))
    }
}

/// Checks the value of a new secret.
///
/// # Errors
/// It is empty, too long, or not one line.
pub fn check_secret_value(value: &SecretValue) -> Result<(), SecretError> {
    if !(1..=SECRET_BYTES_MAX).contains(&value.expose().len()) {
        return Err(SecretError::Value);
    }
    match not_of_a_line(value.expose()) {
        Some(what) => Err(SecretError::Line(what)),
        None => Ok(()),
    }
}

/// Part of a value that a URL or a header may not have; none: it is one line.
fn not_of_a_line(value: &str) -> Option<&'static str> {
    let of = |letter: char| match letter {
        '\r' | '\n' => Some("a line break"),
        '\0' => Some("a NUL character"),
        _ => None,
    };
    value.chars().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line() {
        for (value, has) in [
            ("token", None),
            ("a b\tc", None),
            ("a\nb", Some("a line break")),
            ("a\r", Some("a line break")),
            ("a\0b", Some("a NUL character")),
        ] {
            assert_eq!(not_of_a_line(value), has, "{value:?}");
        }
    }
}
