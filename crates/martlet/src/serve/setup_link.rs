//! The link that creates the first administrator of a node.
//!
//! Responsible for where it is shown. It is a secret: it is printed to the terminal, or written to
//! a file of the data directory that only its owner can read, and never to a log file or the
//! journal.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use martlet_api::{Api, UNCLAIMED};
use martlet_control::Control;
use martlet_control::shared_registry::SharedRegistry;
use rustix::fs::{FileType, fstat};
use tracing::{error, warn};

use super::http::HttpAt;
use crate::cmd::node_options::for_node;
use crate::private_file;

/// Warning in health until there is an administrator. The log has a separate line.
pub(super) const OPEN_HERE: &str = "The node has no administrator yet, and its HTTP listeners are \
    open to all users of this machine: create the first administrator (martlet user add NAME \
    --role administrator).";

/// The file in the data directory.
const FILE: &str = "setup-link";

/// Interval at which a node without an administrator checks whether there is one.
const CLAIM_EVERY: Duration = Duration::from_secs(2);

/// Name of a warning in health: no administrator is left.
const NO_ADMINISTRATOR: &str = "no_administrator";

/// Text of this warning.
const NOBODY_LEFT: &str = "No administrator is left: every user with that API role is deleted or \
    disabled, and no API key has all rights. Add one on the node's machine: martlet user add NAME \
    --api-role administrator.";

/// Time after a change of the tables during which further changes are combined.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Interval of checks for administrators even without changes, since keys expire.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The link and where users find it.
#[derive(Debug)]
pub(super) struct SetupLink {
    link: String,
    /// The file that contains it; `None` if it is printed.
    file: Option<PathBuf>,
}

impl SetupLink {
    /// Creates the one-time link for a node without an administrator. Its token is after `#`, which
    /// browsers do not send.
    pub(super) async fn of(
        api: &Api,
        control: &Arc<Control>,
        http: &[HttpAt],
        data_dir: &Path,
    ) -> Option<Self> {
        let file = data_dir.join(FILE);
        remove(&file);
        let at = http.first()?;
        if !api.is_unclaimed().await {
            return None;
        }
        control.health.warn_as(UNCLAIMED, OPEN_HERE.to_owned());
        tokio::spawn(withdraw_once_claimed(
            api.clone(),
            Arc::clone(control),
            file.clone(),
        ));
        let token = api.setup_token().await?;
        let link = format!("{}/setup#{token}", at.url);
        if is_not_stored() {
            return Some(Self { link, file: None });
        }
        match write(&file, &link) {
            Ok(()) => Some(Self {
                link,
                file: Some(file),
            }),
            Err(problem) => {
                error!(
                    "the setup link cannot be written to {}: {problem}",
                    file.display()
                );
                None
            }
        }
    }

    /// Lines for the output of the start.
    pub(super) fn lines(&self) -> String {
        let what = "to create the first administrator, once, within an hour";
        match &self.file {
            None => format!("  {what}:\n  {}\n", self.link),
            Some(file) => format!("  {what}: the link in {}\n", file.display()),
        }
    }

    /// Place of the link, for the log.
    pub(super) fn place(&self) -> String {
        match &self.file {
            None => "the first lines that the node has printed".to_owned(),
            Some(file) => file.display().to_string(),
        }
    }
}

/// Whether standard output is not stored: it is a terminal, or a pipe to the program that started
/// the node. A socket leads to the journal, and a file is stored.
fn is_not_stored() -> bool {
    let stdout = io::stdout();
    if io::IsTerminal::is_terminal(&stdout) {
        return true;
    }
    fstat(&stdout).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

fn write(path: &Path, link: &str) -> io::Result<()> {
    let mut file = private_file::create_new(path)?;
    file.write_all(format!("{link}\n").as_bytes())
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
            warn!("{} cannot be removed: {problem}", path.display());
        }
        _ => {}
    }
}

/// Removes the file when there is an administrator or a key, however it was created.
async fn withdraw_once_claimed(api: Api, control: Arc<Control>, file: PathBuf) {
    let mut ticks = tokio::time::interval(CLAIM_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !api.is_unclaimed().await {
            remove(&file);
            return control.health.withdraw(UNCLAIMED);
        }
    }
}

/// Sets a warning in health while a node that had administrators has none, whatever the cause.
pub(super) async fn watch_administrators(
    api: Api,
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
) {
    let mut changes = tables.changes();
    loop {
        changes.mark_unchanged();
        match api.lacks_administrator().await {
            Some(true) => {
                if !control.health.says(NO_ADMINISTRATOR) {
                    warn!("{}", for_node(NOBODY_LEFT));
                }
                control
                    .health
                    .warn_logged_as(NO_ADMINISTRATOR, NOBODY_LEFT.to_owned());
            }
            Some(false) => control.health.withdraw(NO_ADMINISTRATOR),
            None => {}
        }
        tokio::time::sleep(LOOK_PAUSE).await;
        // A timeout is no error, and the tables outlive the node.
        let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
    }
}
