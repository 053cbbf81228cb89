//! `mqtt_manage.sh`: the commands of IoTFlow's script of that name, for a node with its data in
//! `data` next to the link.
//!
//! Accounts are changed in the tables, whether or not the node runs (`accounts`). The node is a
//! separate process (`process`).

mod accounts;
mod managed_node;
mod process;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_control::text::{printable, typed};
use martlet_reactor::{ListenerConfig, Transport};

use crate::cmd::argv::MANAGE_SCRIPT;
use crate::cmd::door::Door;
use crate::cmd::errors::error_text;
use crate::cmd::print::{errln, out, outln};
use crate::cmd::query::{device_path, user_path};
use crate::cmd::{reach, tables};
use crate::config::{self, Effective, NodeConfig};
use crate::private_file;
use managed_node::{CONFIGURATION, ManagedNode};

/// Directory of backups, next to the link.
const BACKUPS: &str = "backups";

/// Password of the user admin in the script's documentation; no user has it unless it is set
/// explicitly.
const DOCUMENTED_PASSWORD: &str = "admin123";

/// Port of MQTT over WebSocket in the script's documentation.
const WEB_PORT: u16 = 9001;

/// Number of log lines shown.
const LOG_LINES: usize = 100;

/// Arguments of the script.
#[derive(Args, Debug)]
#[command(
    disable_help_subcommand = true,
    override_usage = "mqtt_manage.sh COMMAND"
)]
pub(crate) struct ManageOptions {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make the data directory and start the broker
    Setup,
    /// Set the password of the administrator admin; without one a password is generated
    SetupAdmin {
        #[arg(value_name = "PASSWORD")]
        password: Option<String>,
    },
    /// Add a user with the role iotflow, or change the password of a user
    CreateUser { user: String, password: String },
    /// Remove a user permanently
    DeleteUser { user: String },
    /// List the users
    ListUsers,
    /// Add a device of the type iotflow and save its credentials to a file
    GenerateDevice { id: String },
    /// Publish a message to iotflow/test; without a user as admin with admin123, if there is admin
    Test {
        #[arg(requires = "password")]
        user: Option<String>,
        password: Option<String>,
    },
    /// Show the state of the broker
    Status,
    /// Show the log of the broker; at a terminal, continue with new lines
    Logs,
    /// Start the broker
    Start,
    /// Stop the broker
    Stop,
    /// Stop the broker and start it again
    Restart,
    /// Copy data and configuration to backups/mqtt_TIME
    Backup,
    /// Show the commands
    Help,
}

const HELP: &str = "\
Usage: mqtt_manage.sh COMMAND

  setup                   Make ./data and start the broker
  setup-admin [PASSWORD]  Set the password of the administrator admin; without one a password is
                          generated and printed
  create-user USER PASSWORD
                          Add a user with the role iotflow, or change the password of a user
  delete-user USER        Remove a user permanently
  list-users              List the users
  generate-device ID      Add a device, and save its credentials to device_credentials_ID.txt
  test [USER PASSWORD]    Publish a message to iotflow/test
  status                  Show the state of the broker
  logs                    Show the log of the broker
  start, stop, restart    Start and stop the broker
  backup                  Copy data and configuration to backups/mqtt_TIME
  help                    Show this text

The data are in ./data beside this link; martlet.toml and .env beside it are the configuration.
";

/// Runs the script.
pub(crate) fn run(options: &ManageOptions) -> ExitCode {
    let Some(action) = &options.action else {
        out!("{HELP}");
        return ExitCode::FAILURE;
    };
    let outcome = ManagedNode::enter().and_then(|managed| act(&managed, action));
    outcome.unwrap_or_else(|error| {
        let error = error_text(&error);
        errln!("{MANAGE_SCRIPT}: {}", printable(&error));
        ExitCode::FAILURE
    })
}

fn act(managed: &ManagedNode, action: &Action) -> anyhow::Result<ExitCode> {
    let text = match action {
        Action::Setup => return setup(managed),
        Action::SetupAdmin { password } => accounts::setup_admin(managed, password.as_deref())?,
        Action::CreateUser { user, password } => accounts::create_user(managed, user, password)?,
        Action::DeleteUser { user } => accounts::delete_user(managed, user)?,
        Action::ListUsers => return Ok(managed.run(&["user", "ls"])),
        Action::GenerateDevice { id } => accounts::generate_device(managed, id)?,
        Action::Test { user, password } => {
            return match user.as_deref().zip(password.as_deref()) {
                Some(account) => test(managed, Some(account)),
                None => test_without_account(managed),
            };
        }
        Action::Status => return Ok(process::status(managed)),
        Action::Logs => return logs(managed),
        Action::Start => return process::start(managed),
        Action::Stop => return process::stop(managed),
        Action::Restart => return process::restart(managed),
        Action::Backup => return backup(managed),
        Action::Help => HELP.to_owned(),
    };
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn setup(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    managed.wait_for_database()?;
    tables::make_data_dir(&managed.data())?;
    outln!("The data are in {}", managed.data().display());
    let started = process::start(managed)?;
    if started == ExitCode::SUCCESS {
        let effective = managed.node().load()?;
        let node = config::resolve(&effective)?;
        out!("{}", open_ports(&node, &effective));
        let to_others = format!("MQTT_HOST=0.0.0.0 in .env, then ./{MANAGE_SCRIPT} restart");
        if let Some(access) = crate::serve::access(&node, &to_others) {
            outln!("{access}");
        }
        let admin = match has_admin(managed)? {
            true => String::new(),
            false => format!("./{MANAGE_SCRIPT} setup-admin makes the administrator; "),
        };
        outln!("Next: {admin}./{MANAGE_SCRIPT} generate-device ID adds a device");
    }
    Ok(started)
}

/// Lines about the listeners of MQTT, and about the documented port of WebSocket if it is closed.
fn open_ports(node: &NodeConfig, effective: &Effective) -> String {
    let all = &node.listeners;
    if all.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = all.iter().map(|listener| &*listener.name).collect();
    let mut text = format!("Open: {}\n", names.join(", "));
    let is_web =
        |listener: &ListenerConfig| matches!(listener.transport, Transport::WebSocket { .. });
    if !all.iter().any(is_web) {
        let mut sources = effective.listeners.iter().map(|table| table.source("url"));
        let opens = match sources.any(|source| source.contains(" MQTT_")) {
            true => format!("MQTT_WEBSOCKET_PORT={WEB_PORT} in .env"),
            false => format!("a listener with the URL ws://HOST:{WEB_PORT} in {CONFIGURATION}"),
        };
        text.push_str(&format!(
            "Closed: {WEB_PORT} (WebSocket); to open it: {opens}, then ./{MANAGE_SCRIPT} restart\n"
        ));
    }
    text
}

/// The script tests the documented user. A node without this user may accept anonymous clients.
fn test_without_account(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    if !has_admin(managed)? {
        return test(managed, None);
    }
    let done = test(managed, Some((accounts::ADMIN, DOCUMENTED_PASSWORD)))?;
    if done != ExitCode::SUCCESS {
        outln!(
            "If {} has another password than {DOCUMENTED_PASSWORD}: ./{MANAGE_SCRIPT} test {} PASSWORD",
            accounts::ADMIN,
            accounts::ADMIN
        );
    }
    Ok(done)
}

/// Publishes a message, and waits for its acknowledgement.
fn test(managed: &ManagedNode, account: Option<(&str, &str)>) -> anyhow::Result<ExitCode> {
    let (host, port) = reach::plain_address(&managed.node()).context(
        "the node has no listener without TLS: test it with mosquitto_pub --cafile CA.crt",
    )?;
    let port = port.to_string();
    // MQTT_USE_TLS of .env is about other ports.
    let to = ["pub", "-h", &host, "-p", &port, "--without-tls"];
    let mut words: Vec<OsString> = to.map(OsString::from).to_vec();
    words.extend(["-V", "5", "-q", "1"].map(OsString::from));
    let base = config::iotflow_base(&managed.node().load()?)?;
    let topic = format!("{}/test", base.as_str());
    words.extend(["-t", &topic, "-m", "test"].map(OsString::from));
    if let Some((user, password)) = account {
        words.extend(["-u", user, "-P", password].map(OsString::from));
        if is_device(managed, user)? {
            // A device must use its own Client Identifier.
            words.extend(["-i", user].map(OsString::from));
        }
    }
    let who = account.map_or("without a user".to_owned(), |(user, _)| {
        format!("as {}", printable(user))
    });
    let done = crate::run_words(words);
    match done == ExitCode::SUCCESS {
        true => outln!("Passed: published to {topic} at {host}:{port} {who}"),
        false => outln!("Failed: not published to {topic} at {host}:{port} {who}"),
    };
    if done != ExitCode::SUCCESS && process::is_stopped(managed) {
        outln!("{}", process::STOPPED);
    }
    Ok(done)
}

fn has_admin(managed: &ManagedNode) -> anyhow::Result<bool> {
    let found = Door::of(&managed.node())?.find(&user_path(accounts::ADMIN))?;
    Ok(found.is_some())
}

fn is_device(managed: &ManagedNode, name: &str) -> anyhow::Result<bool> {
    let found = Door::of(&managed.node())?.find(&device_path(name))?;
    Ok(found.is_some())
}

/// Prints the log of the running node, or the end of the last log file.
fn logs(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    use std::io::IsTerminal as _;
    if crate::cmd::admin::is_running(&managed.data()) {
        let lines = LOG_LINES.to_string();
        let mut words = vec!["logs", "--level", "info", "-n", &lines];
        if std::io::stdout().is_terminal() {
            words.push("--follow");
        }
        return Ok(managed.run(&words));
    }
    let path = process::log_file(managed);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "the broker does not run (./{MANAGE_SCRIPT} start starts it), and {} cannot be read",
            path.display()
        )
    })?;
    out!("{}", process::last_lines(&text, LOG_LINES));
    Ok(ExitCode::SUCCESS)
}

/// Writes a copy of the data to a file, and copies the configuration files.
fn backup(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    let time = jiff::Zoned::now().strftime("%Y%m%d_%H%M%S");
    let directory = managed.directory.join(BACKUPS).join(format!("mqtt_{time}"));
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.with_context(|| format!("cannot make {}", directory.display()))?;
    let archive = directory.join("martlet.backup");
    let done = managed.run(&["backup", "create", &archive.display().to_string()]);
    if done != ExitCode::SUCCESS {
        // The directory is empty.
        let _ = fs::remove_dir(&directory);
        return Ok(done);
    }
    for name in [CONFIGURATION, ".env"] {
        copy_private(&managed.directory.join(name), &directory.join(name))?;
    }
    outln!("The backup is in {}", directory.display());
    outln!(
        "To restore it: martlet backup restore {} --data-dir DIR",
        typed(&archive.display().to_string())
    );
    Ok(done)
}

/// Copies an existing file so that no other user can read the copy, since it may contain secrets.
fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_file() {
        return Ok(());
    }
    let copy = || {
        let mut source = fs::File::open(from)?;
        std::io::copy(&mut source, &mut private_file::create_new(to)?)
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
