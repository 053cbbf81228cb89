//! The tables of a node, as used by commands that have no route of the API: imports from other
//! systems, and `martlet init`. Commands open them here and run use cases on them, and make the
//! running node reload. `cargo xtask tidy` checks that commands do not access the registry
//! elsewhere.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context as _;
use martlet_api::Status;
use martlet_control::callers::Caller;
use martlet_control::shared_registry::TablesSettings;
use martlet_control::use_cases::{UseCase, UseCaseError};
use martlet_control::{Reloaded, UserConfiguration};
use martlet_registry::{FILE, Location, Registry, RegistrySettings};
use martlet_text_file::owned;

use crate::cmd::admin;
use crate::cmd::errors::error_text;
use crate::cmd::node_options::NodeOptions;
use crate::config::{self, Effective};
use crate::serve::check_restored;

/// The tables of a node, opened by a command, which uses them through use cases.
#[derive(Debug)]
pub(crate) struct OpenTables {
    registry: Registry,
}

impl OpenTables {
    /// Runs a use case. The caller has all rights.
    pub(crate) async fn run<U: UseCase>(&mut self, case: U) -> Result<U::Output, UseCaseError> {
        case.run(&mut self.registry, &Caller::local()).await
    }

    /// Does the work, and closes the tables.
    async fn work<T>(
        mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, UseCaseError>,
    ) -> anyhow::Result<T> {
        let done = work(&mut self).await;
        self.registry.close().await?;
        Ok(done?)
    }
}

/// Runs work on the tables of a node, running or not. Creates missing tables.
pub(crate) fn with<T>(
    node: &NodeOptions,
    work: impl AsyncFnOnce(&mut OpenTables) -> Result<T, UseCaseError>,
) -> anyhow::Result<T> {
    with_or_dry_run(node, false, work)
}

/// Like [`with`]. What a dry run changes is undone, so that its result is that of the same work
/// without one.
pub(crate) fn with_or_dry_run<T>(
    node: &NodeOptions,
    is_dry_run: bool,
    work: impl AsyncFnOnce(&mut OpenTables) -> Result<T, UseCaseError>,
) -> anyhow::Result<T> {
    let effective = node.load()?;
    let settings = settings(node, &effective)?;
    let is_there = |file: &Path| file.try_exists().is_ok_and(|there| there);
    let is_new = !settings.location.file().is_none_or(is_there);
    if !is_dry_run {
        make_data_dir(&node.data_dir()?)?;
    }
    admin::wait(async {
        let registry = match is_dry_run && is_new {
            // A dry run leaves no file.
            true => Registry::empty().await?,
            false => Registry::open(&settings.location).await?,
        };
        let mut registry = registry.with(settings.of_registry());
        if is_dry_run && !is_new {
            registry.begin_dry_run().await?;
        }
        OpenTables { registry }.work(work).await
    })
    .map_err(|error| named(error, &effective))
}

/// How the tables of a node are kept.
///
/// # Errors
/// The configuration is faulty, or that of another node; or a restore into the data directory was
/// interrupted.
pub(crate) fn settings(
    node: &NodeOptions,
    effective: &Effective,
) -> anyhow::Result<TablesSettings> {
    let mut settings = config::tables_settings(effective)?;
    if let Some(running) = expect_same(node, &settings.location)? {
        // A node may have been started with other options.
        settings.keeps_scram |= running.keeps_scram;
        settings.devices_per_user_max = running.devices_per_user_max;
    }
    check_restored(&node.data_dir()?)?;
    Ok(settings)
}

/// Names the keys in the text of an error by the variables of other programs that set them.
fn named(error: anyhow::Error, effective: &Effective) -> anyhow::Error {
    let text = error_text(&error);
    match effective.foreign_variables().named(&text) {
        Cow::Borrowed(_) => error,
        Cow::Owned(text) => anyhow::Error::msg(text),
    }
}

/// Checks that this location is that of the node's tables. The running node, or the last one here,
/// may have been started with other options. Returns the configuration of the running one.
fn expect_same(
    node: &NodeOptions,
    location: &Location,
) -> anyhow::Result<Option<UserConfiguration>> {
    let (own, data_dir) = (location.to_string(), node.data_dir()?);
    let running = user_configuration(node).ok().flatten();
    let (of_node, which, or_else) = match &running {
        Some(places) => (places.tables.clone(), "that runs", String::new()),
        None => {
            let dir = data_dir.display();
            let or_else = format!("; or remove {dir}/registry, to use the new place from now on");
            (
                config::noted_tables(&data_dir),
                "that was last here",
                or_else,
            )
        }
    };
    match of_node {
        Some(of_node) if !is_same(&of_node, &own) => anyhow::bail!(
            "the node {which} has its users and devices in {of_node}, and this command would look \
             in {own}: give it the node's configuration with -c FILE, or the variable of the node \
             that names its database, such as DATABASE_URL or MARTLET_REGISTRY__URL\
             {or_else}"
        ),
        _ => Ok(running),
    }
}

/// Whether both are the same location, or paths of the same file.
fn is_same(one: &str, other: &str) -> bool {
    let found = |path: &str| Path::new(path).canonicalize().ok();
    one == other || found(one).is_some_and(|one| found(other) == Some(one))
}

/// The location of a node's tables, as text.
pub(crate) fn place(node: &NodeOptions) -> anyhow::Result<String> {
    Ok(config::location(&node.load()?)?.to_string())
}

/// Creates the data directory, for this user only, if it does not exist.
pub(crate) fn make_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    owned::check_directory(data_dir)?;
    martlet_store::make_directory(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))
}

/// Reads from the tables of a node. Does not create missing tables.
pub(crate) fn read<T>(
    node: &NodeOptions,
    work: impl AsyncFnOnce(&mut OpenTables) -> Result<T, UseCaseError>,
) -> anyhow::Result<T> {
    let effective = node.load()?;
    let location = config::location(&effective)?;
    let of_reading = RegistrySettings {
        iotflow_base: config::iotflow_base(&effective)?,
        ..RegistrySettings::default()
    };
    let Some(file) = location.file() else {
        return with(node, work);
    };
    expect_same(node, &location)?;
    check_restored(&node.data_dir()?)?;
    if file.try_exists().is_ok_and(|there| there) {
        return admin::wait(async {
            let registry = Registry::open_to_read(file).await?.with(of_reading);
            OpenTables { registry }.work(work).await
        });
    }
    admin::wait(async {
        let registry = Registry::empty().await?.with(of_reading);
        OpenTables { registry }.work(work).await
    })
}

/// Like [`with`], for a data directory. Creates it for this user only if it does not exist.
pub(crate) fn with_tables_of<T>(
    data_dir: &Path,
    work: impl AsyncFnOnce(&mut OpenTables) -> Result<T, UseCaseError>,
) -> anyhow::Result<T> {
    make_data_dir(data_dir)?;
    admin::wait(async {
        let registry = Registry::open(&data_dir.join(FILE)).await?;
        OpenTables { registry }.work(work).await
    })
}

/// Makes the running node reload the tables at once. Returns the result as lines.
pub(crate) fn reload_tables(node: &NodeOptions) -> String {
    let Ok(data_dir) = node.data_dir() else {
        return String::new();
    };
    let reload_note = request_reload(node, "/api/v1/reload?only=tables");
    match reload_note.is_empty() {
        true => not_running(node, &data_dir),
        false => format!("{reload_note}{}", unasked(node)),
    }
}

/// Lines about a change of the tables of a node that does not run.
pub(crate) fn not_running(node: &NodeOptions, data_dir: &Path) -> String {
    let unasked = node.load().ok().as_ref().and_then(config::tables_unasked);
    let unasked =
        unasked.map(|why| format!("This configuration does not use them for logins: {why}.\n"));
    format!(
        "No node runs with the data directory {} now; it applies at the next start there. If your \
         node has another data directory, name it: --data-dir DIR or -c FILE.\n{}",
        data_dir.display(),
        unasked.unwrap_or_default()
    )
}

/// Lines about a change that the running node has made.
pub(crate) fn applied(node: &NodeOptions) -> String {
    format!("{APPLIED}{}", unasked(node))
}

/// A line about a running node that does not use the tables for logins; else empty.
fn unasked(node: &NodeOptions) -> String {
    let places = user_configuration(node).ok().flatten();
    let unasked = places.and_then(|places| places.tables_unasked);
    unasked.map_or_else(String::new, |why| {
        format!("But the node does not use the tables for logins: {why}.\n")
    })
}

/// The line about a change that is in force.
const APPLIED: &str = "Applied to the running node.\n";

/// Where the running node has its users; `None` if no node runs.
///
/// # Errors
/// A node runs but does not respond.
pub(crate) fn user_configuration(node: &NodeOptions) -> anyhow::Result<Option<UserConfiguration>> {
    let status = status(&node.data_dir()?)?;
    Ok(status.map(|status| status.users))
}

/// Makes the running node reload its files at once. Returns the result as a line; empty if no node
/// runs.
pub(crate) fn reload_files(node: &NodeOptions) -> String {
    request_reload(node, "/api/v1/reload")
}

fn request_reload(node: &NodeOptions, path: &str) -> String {
    let Ok(data_dir) = node.data_dir() else {
        return String::new();
    };
    let answer = match admin::may_ask(&data_dir) {
        Ok(false) => return String::new(),
        Ok(true) => admin::ask(&data_dir, "POST", path),
        Err(denied) => Err(denied),
    };
    let done = answer.and_then(|body| Ok(serde_json::from_str::<Reloaded>(&body)?));
    match done {
        Ok(_) => APPLIED.to_owned(),
        Err(error) => format!("NOT applied to the running node: {error:#}\n"),
    }
}

/// The status of the running node; `None` if no node runs.
pub(crate) fn status(data_dir: &Path) -> anyhow::Result<Option<Status>> {
    if !admin::may_ask(data_dir)? {
        return Ok(None);
    }
    let status = admin::ask(data_dir, "GET", "/api/v1/status")?;
    Ok(Some(serde_json::from_str(&status)?))
}
