//! The source of credentials that decides about a user of a node.

use std::path::{Path, PathBuf};

use anyhow::bail;
use martlet_control::UserConfiguration;
use martlet_control::text::printable;
use martlet_control::use_cases::FindUser;

use crate::cmd::node_options::NodeOptions;
use crate::cmd::tables;
use crate::cmd::user::{password_file, users};
use crate::config;

/// Where a user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserSource {
    /// In `auth.credentials`, which is set there.
    Credentials(String),
    /// In this password file.
    File(PathBuf),
    /// In the tables.
    Tables,
}

impl UserSource {
    /// The source that decides about a user: the first of `auth.order` that has the name. If none
    /// has it, or it is added, the password file, and without one the tables.
    pub(super) fn of(node: &NodeOptions, user: &str, is_new: bool) -> anyhow::Result<Self> {
        let path = password_file(node)?;
        let configured = user_configuration(node)?;
        let (target, place) = match &path {
            Some(path) => (Self::File(path.clone()), "password-file"),
            None => (Self::Tables, "registry"),
        };
        if path.is_none() && configured.credentials.is_none() {
            return Ok(target);
        }
        for source in &configured.order {
            match source.as_str() {
                // It decides when it has been added.
                source if is_new && source == place => break,
                "credentials" if configured.credential_users.iter().any(|one| one == user) => {
                    let place = configured.credentials.unwrap_or_default();
                    return Ok(Self::Credentials(place));
                }
                "password-file" if path.as_deref().is_some_and(|path| has(path, user)) => {
                    return Ok(target);
                }
                "registry" if configured.tables_unasked.is_none() && are_in_tables(node, user)? => {
                    return Ok(Self::Tables);
                }
                _ => {}
            }
        }
        Ok(target)
    }

    /// The password file, or none for the tables.
    ///
    /// # Errors
    /// The user is in neither of them. `change` is what has to be done to the user.
    pub(super) fn file(self, user: &str, change: &str) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::File(path) => Ok(Some(path)),
            Self::Tables => Ok(None),
            Self::Credentials(place) => bail!(
                "{} is a user of {place}, which decides: {change} there, and restart the node",
                printable(user)
            ),
        }
    }
}

/// Where the users of the running node are; of none, those of the configuration.
fn user_configuration(node: &NodeOptions) -> anyhow::Result<UserConfiguration> {
    Ok(match tables::user_configuration(node)? {
        Some(running) => running,
        None => config::user_configuration(&node.load()?),
    })
}

fn has(path: &Path, user: &str) -> bool {
    users(path).is_ok_and(|all| all.iter().any(|one| one == user))
}

/// Whether the tables have a user of this name.
pub(super) fn are_in_tables(node: &NodeOptions, user: &str) -> anyhow::Result<bool> {
    let name = user.to_owned();
    tables::read(node, async |open| {
        Ok(open.run(FindUser { name }).await.is_ok())
    })
}
