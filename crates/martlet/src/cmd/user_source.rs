//! The source of credentials that decides about a user of a node.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use martlet_access::{PasswordFile, Plain};
use martlet_control::UserConfiguration;
use martlet_control::text::{printable, typed, typed_names};
use serde_json::Value;

use crate::cmd::admin;
use crate::cmd::door::Door;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::query::{USERS, device_path, user_path};
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

/// Holder of a User Name in the tables, for clients without a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    User,
    /// A user whose logins are refused.
    DisabledUser,
    /// A user that was deleted and can be restored: logins with its name are refused.
    DeletedUser,
    Device,
}

/// Change of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Password,
    Remove,
}

impl UserSource {
    /// The source in which a user is added, or is.
    ///
    /// A user is in the first source of `auth.order` that has the name. If none has it, or none
    /// before the password file does and the user is added: the password file, and without one the
    /// tables.
    ///
    /// # Errors
    /// The tables bar a user of the password file with this name.
    pub(super) fn of(node: &NodeOptions, user: &str, change: Change) -> anyhow::Result<Self> {
        let path = password_file(node)?;
        let (target, place) = match &path {
            Some(path) => (Self::File(path.clone()), "password-file"),
            None => (Self::Tables, "registry"),
        };
        let configured = user_configuration(node)?;
        let asks_tables = configured.tables_unasked.is_none();
        if target != Self::Tables && change != Change::Remove && asks_tables {
            expect_not_barred(node, user, path.as_deref(), change)?;
        }
        let Some((source, holder)) = Self::first(node, user, path.as_deref())? else {
            return Ok(target);
        };
        let rank = |name: &str| configured.order.iter().position(|one| one == name);
        match (change, holder) {
            // The new user decides.
            (Change::Add, _) if rank(source.name()) >= rank(place) => Ok(target),
            // The user of the file may be removed, which never logged in.
            (Change::Remove, Some(Holder::DeletedUser | Holder::Device)) => Ok(target),
            _ => Ok(source),
        }
    }

    /// The first source of `auth.order` that has a user, and what the tables have of it.
    fn first(
        node: &NodeOptions,
        user: &str,
        path: Option<&Path>,
    ) -> anyhow::Result<Option<(Self, Option<Holder>)>> {
        let configured = user_configuration(node)?;
        for source in &configured.order {
            match source.as_str() {
                "credentials" if configured.credential_users.iter().any(|one| one == user) => {
                    let place = configured.credentials.unwrap_or_default();
                    return Ok(Some((Self::Credentials(place), None)));
                }
                "password-file" if path.is_some_and(|path| has(path, user)) => {
                    let path = path.unwrap_or(Path::new("")).to_owned();
                    return Ok(Some((Self::File(path), None)));
                }
                "registry" if configured.tables_unasked.is_none() => {
                    if let Some(holder) = Holder::of(node, user)? {
                        return Ok(Some((Self::Tables, Some(holder))));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Name in `auth.order`.
    fn name(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::File(_) => "password-file",
            Self::Tables => "registry",
        }
    }

    /// The password file, or none for the tables.
    ///
    /// # Errors
    /// The user is in neither of them. `change` is what has to be done to the user.
    pub(super) fn file(self, user: &str, change: Change) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::File(path) => Ok(Some(path)),
            Self::Tables => Ok(None),
            Self::Credentials(place) => bail!(
                "{} is a user of {place}, which decides: {} there, and restart the node",
                printable(user),
                match change {
                    Change::Add | Change::Password => "change the password",
                    Change::Remove => "remove the user",
                }
            ),
        }
    }
}

/// Checks that the tables do not bar a user of the password file with this name: they do so
/// wherever they are in `auth.order`.
fn expect_not_barred(
    node: &NodeOptions,
    user: &str,
    path: Option<&Path>,
    change: Change,
) -> anyhow::Result<()> {
    let shown = printable(user);
    let name = typed_names(&[user]);
    let is_in_file = path.is_some_and(|path| has(path, user));
    match Holder::of(node, user)? {
        Some(Holder::DeletedUser) => bail!(
            "{shown} is a deleted user of the tables, so that one of the password file with this \
             name is refused: martlet user restore {name} restores it, martlet user rm --purge \
             {name} frees the name"
        ),
        Some(Holder::DisabledUser) if change == Change::Add || is_in_file => bail!(
            "{shown} is a disabled user of the tables, so that one of the password file with this \
             name is refused: martlet user set --enable {name} enables it"
        ),
        Some(Holder::Device) if change == Change::Add || is_in_file => bail!(
            "{shown} is a device of the tables, so that a user of the password file with this name \
             is refused: choose another name"
        ),
        _ => Ok(()),
    }
}

/// A line about the source that decides about a user, if it is not the one that was changed, which
/// is the node's password file (`in_file`) or the tables; else empty.
pub(crate) fn note_of_other(node: &NodeOptions, user: &str, in_file: bool) -> String {
    let found = password_file(node).and_then(|path| UserSource::first(node, user, path.as_deref()));
    let (place, what) = match found {
        Ok(Some((UserSource::Credentials(place), _))) => (place, "a user"),
        Ok(Some((UserSource::File(path), _))) if !in_file => {
            (format!("the password file {}", path.display()), "a user")
        }
        Ok(Some((UserSource::Tables, Some(holder)))) if in_file => {
            let what = match holder {
                Holder::User | Holder::DisabledUser => "a user",
                Holder::DeletedUser => "a deleted user",
                Holder::Device => "a device",
            };
            ("the node's tables".to_owned(), what)
        }
        _ => return String::new(),
    };
    format!(
        "But {} is {what} of {place} too, which decides about its MQTT logins (auth.order).\n",
        printable(user)
    )
}

impl Holder {
    fn of(node: &NodeOptions, user: &str) -> anyhow::Result<Option<Self>> {
        let door = Door::of(node)?;
        if let Some(found) = door.find(&user_path(user))?
            && found["team"] == ""
        {
            return Ok(Some(match found["enabled"] == true {
                true => Self::User,
                false => Self::DisabledUser,
            }));
        }
        if let Some(device) = door.find(&device_path(user))?
            && device["id"] == user
            && device["user_name"] == user
        {
            return Ok(Some(Self::Device));
        }
        let deleted = door.all(USERS, &[("deleted", "true")])?;
        let is_it = |found: &Value| found["name"] == user && found["team"] == "";
        Ok(deleted.iter().any(is_it).then_some(Self::DeletedUser))
    }
}

/// Where the users of the running node are; of none, those of the configuration.
fn user_configuration(node: &NodeOptions) -> anyhow::Result<UserConfiguration> {
    Ok(match tables::user_configuration(node)? {
        Some(running) => running,
        // With the variables of other programs that the node would read.
        None => config::user_configuration(&node.load_as_node()?),
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
    let holder = Holder::of(node, user)?;
    Ok(matches!(holder, Some(Holder::User | Holder::DisabledUser)))
}
