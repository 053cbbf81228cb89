//! The source of credentials that decides about a user of a node.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use martlet_access::{PasswordFile, Plain};
use martlet_control::UserConfiguration;
use martlet_control::text::{printable, typed};
use martlet_control::use_cases::FindUser;

use crate::cmd::admin;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::tables;
use crate::config::{self, regular_file};

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

/// The password file of a node; `None` if its users are in the tables.
pub(super) fn password_file(node: &NodeOptions) -> anyhow::Result<Option<PathBuf>> {
    // A running node may have been started with other options.
    if let Some(places) = tables::user_configuration(node)? {
        let own = &places.listener_password_files;
        if let (None, Some(_)) = (&places.password_file, &places.tables_unasked)
            && !own.is_empty()
        {
            bail!(
                "the node's listeners have password files of their own; name one: --file {}",
                own.join(", --file ")
            );
        }
        let file = places.password_file.map(PathBuf::from);
        if let Some(file) = &file {
            expect_nodes_own(&node.data_dir()?, file)?;
        }
        return Ok(file);
    }
    let configured = node.load()?;
    let path = &configured.settings().auth.password_file;
    Ok((!path.is_empty()).then(|| PathBuf::from(path)))
}

/// For a node that runs as another user, root changes only files of that user. Otherwise a
/// compromised node could make root change any file.
fn expect_nodes_own(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let node = admin::user_of_node(data_dir)?;
    let owner = file.metadata().map(|found| found.uid());
    if node == 0 || owner.is_ok_and(|owner| owner == node) {
        return Ok(());
    }
    bail!(
        "the password file {} does not belong to the user {node}, which runs the node: to use it \
         anyway, name it: --file {}",
        file.display(),
        typed(&file.display().to_string())
    )
}

pub(super) fn users(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = regular_file::read_named(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let file = PasswordFile::parse(&path.display().to_string(), &text, Plain::Accepted)?;
    let mut users: Vec<String> = file.users().map(str::to_owned).collect();
    users.sort_unstable();
    Ok(users)
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
