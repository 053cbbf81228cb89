//! Users and devices of the script.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use martlet_access::hash;
use martlet_control::devices::DeviceName;
use martlet_control::text::{printable, typed};
use martlet_control::use_cases::{
    AddDevice, AddUser, ChangeUser, FindDevice, FindUser, NewPassword, PurgeUser, RotateSecret,
    SetPassword, UseCaseError,
};
use martlet_registry::{ApiRole, DeviceSecret, Expected, NewDevice, NewUser, UserChange};

use super::managed_node::ManagedNode;
use crate::cmd::argv::MANAGE_SCRIPT;
use crate::cmd::print::errln;
use crate::cmd::tables::{self, OpenTables};
use crate::cmd::user_source::{Change, UserSource};
use crate::cmd::{user, user_source};
use crate::private_file;

/// Name of the administrator.
pub(super) const ADMIN: &str = "admin";

/// Role of the administrator.
const ADMINISTRATOR: &str = "administrator";

/// Role of users, and type of devices.
const IOTFLOW: &str = "iotflow";

/// Shorter passwords, in characters, can be guessed.
const PASSWORD_CHARACTERS: usize = 10;

/// Sets the password of the administrator. Creates the administrator if there is none.
pub(super) fn setup_admin(managed: &ManagedNode, password: Option<&str>) -> anyhow::Result<String> {
    let node = managed.node();
    managed.wait_for_database()?;
    expect_tables_to_decide(managed, ADMIN)?;
    let made = match password {
        Some(_) => String::new(),
        None => hash::made_up_password().map_err(anyhow::Error::msg)?,
    };
    let given = password.unwrap_or(&made);
    warn_of_weak(given);
    tables::with(&node, async |open| {
        if !is_user(open, ADMIN).await? {
            return open.run(user::administrator(ADMIN, given)).await.map(drop);
        }
        let set = SetPassword {
            name: ADMIN.to_owned(),
            password: NewPassword::given(given.to_owned()),
        };
        open.run(set).await?;
        let change = ChangeUser {
            name: ADMIN.to_owned(),
            change: UserChange {
                role: Some(ADMINISTRATOR.to_owned()),
                api_role: Some(ApiRole::Administrator),
                enabled: Some(true),
                ..UserChange::default()
            },
            expected_revision: Expected::any(),
        };
        open.run(change).await.map(drop)
    })?;
    let reload_note = tables::reload_tables(&node);
    let shown = match password {
        Some(_) => String::new(),
        None => format!("The password, shown this once: {made}\n"),
    };
    // A password chosen by the user is not printed.
    let tried = match password {
        Some(_) => "PASSWORD".to_owned(),
        None => typed(&made),
    };
    let line = format!("./{MANAGE_SCRIPT} test {ADMIN} {tried}");
    Ok(format!(
        "The user {ADMIN} has the role {ADMINISTRATOR}\n{shown}{reload_note}Test it: {line}\n"
    ))
}

/// Adds a user. For an existing one, changes only the password.
pub(super) fn create_user(
    managed: &ManagedNode,
    name: &str,
    password: &str,
) -> anyhow::Result<String> {
    let node = managed.node();
    managed.wait_for_database()?;
    expect_tables_to_decide(managed, name)?;
    warn_of_weak(password);
    let (user, password) = (name.to_owned(), NewPassword::given(password.to_owned()));
    let is_new = tables::with(&node, async |open| {
        if is_user(open, name).await? {
            let name = user;
            open.run(SetPassword { name, password }).await?;
            return Ok(false);
        }
        let user = NewUser {
            role: Some(IOTFLOW.to_owned()),
            ..NewUser::new(name)
        };
        open.run(AddUser { user, password }).await?;
        Ok(true)
    })?;
    let reload_note = tables::reload_tables(&node);
    let name = printable(name);
    Ok(match is_new {
        true => format!("Added user {name} with the role {IOTFLOW}\n{reload_note}"),
        false => format!("Changed the password of user {name}\n{reload_note}"),
    })
}

/// Whether this user exists.
async fn is_user(open: &mut OpenTables, name: &str) -> Result<bool, UseCaseError> {
    let name = name.to_owned();
    match open.run(FindUser { name }).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a user, so that the name can be reused.
pub(super) fn delete_user(managed: &ManagedNode, name: &str) -> anyhow::Result<String> {
    let node = managed.node();
    managed.wait_for_database()?;
    expect_tables(managed)?;
    let before = user::administrators(&node)?;
    let purge = PurgeUser {
        name: name.to_owned(),
    };
    tables::run(&node, purge)?;
    user::warn_of_none(&node, before)?;
    let reload_note = tables::reload_tables(&node);
    Ok(format!("Removed user {}\n{reload_note}", printable(name)))
}

/// Adds a device and writes its credentials to a new file. An existing device gets a new secret.
pub(super) fn generate_device(managed: &ManagedNode, id: &str) -> anyhow::Result<String> {
    if !martlet_registry::is_device_id(id) {
        bail!("{id:?} is not a valid id of a device: no +, # or /, and no $ at its beginning");
    }
    let node = managed.node();
    managed.wait_for_database()?;
    let (host, port) = tables::plain_address(&node).unwrap_or(("localhost".to_owned(), 1883));
    let path = managed
        .directory
        .join(format!("device_credentials_{id}.txt"));
    let mut file = private_file::create_new(&path).map_err(|error| {
        let is_there = error.kind() == std::io::ErrorKind::AlreadyExists;
        let path = path.display();
        match is_there {
            true => anyhow!(
                "cannot write {path}: an existing file is not overwritten. Move it away first"
            ),
            false => anyhow!("cannot write {path}: {error}"),
        }
    })?;
    let made = tables::with(&node, async |open| {
        let device = DeviceName::Id(id.to_owned());
        match open.run(FindDevice { device }).await {
            Ok(found) => {
                let renew = RotateSecret {
                    device: DeviceName::Number(found.number),
                    grace: Duration::ZERO,
                };
                let secret = open.run(renew).await?;
                Ok((found.user_name, Some(secret), false))
            }
            Err(error) if error.is_not_found() => {
                let device = NewDevice {
                    device_type: IOTFLOW.to_owned(),
                    secret: DeviceSecret::MadeUp,
                    ..NewDevice::new(id)
                };
                let add = AddDevice {
                    device,
                    kind_is_type: false,
                };
                let (added, secret) = open.run(add).await?;
                Ok((added.user_name, secret, true))
            }
            Err(error) => Err(error),
        }
    });
    let (user_name, secret, is_new) = match made {
        Ok(made) => made,
        Err(error) => {
            // The file is empty.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
    };
    let secret = secret.as_ref().map_or("", |secret| secret.text());
    let date = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z");
    let text = format!(
        "Device ID: {id}\nUsername: {user_name}\nPassword: {secret}\nMQTT Host: {host}\n\
         MQTT Port: {port}\nClient ID: {id}\nGenerated: {date}\n"
    );
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    let reload_note = tables::reload_tables(&node);
    let line = match is_new {
        true => format!("Added device {id} of the type {IOTFLOW}"),
        false => format!("Device {id} has another password; the old one is no longer valid"),
    };
    Ok(format!(
        "{line}\nIts credentials are in {}\n{reload_note}",
        path.display()
    ))
}

/// Checks that users are in the tables. Users of a password file have no roles, so the script does
/// not change them.
fn expect_tables(managed: &ManagedNode) -> anyhow::Result<()> {
    match user_source::password_file(&managed.node())? {
        None => Ok(()),
        Some(path) => bail!(
            "the users of this node are in the password file {0}: martlet passwd {0} USER",
            typed(&path.display().to_string())
        ),
    }
}

/// Checks that the tables decide about the password of a user.
fn expect_tables_to_decide(managed: &ManagedNode, user: &str) -> anyhow::Result<()> {
    expect_tables(managed)?;
    let source = UserSource::of(&managed.node(), user, Change::Password)?;
    source.file(user, Change::Password).map(drop)
}

fn warn_of_weak(password: &str) {
    if password.chars().count() < PASSWORD_CHARACTERS {
        errln!(
            "{MANAGE_SCRIPT}: warning: the password has fewer than {PASSWORD_CHARACTERS} characters and could \
             be guessed"
        );
    }
}
