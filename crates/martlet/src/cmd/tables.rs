//! The tables of a node, as used by commands. Commands open them here and run use cases on them,
//! make the running node reload, and print a command line to try a credential. `cargo xtask tidy`
//! checks that commands do not access the registry elsewhere.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use martlet_api::Status;
use martlet_broker::Actions;
use martlet_certificates::ClientCertificates;
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::shared_registry::TablesSettings;
use martlet_control::text::{typed, typed_names};
use martlet_control::use_cases::{
    FindDevice, FindRuleSet, FindTeamId, UseCase, UseCaseEffect, UseCaseError,
};
use martlet_control::{Reloaded, UserConfiguration};
use martlet_registry::{DEVICE_TYPE, FILE, Location, Owner, Registry, RegistrySettings};
use martlet_text_file::owned;

use crate::cmd::admin;
use crate::cmd::errors::error_text;
use crate::cmd::node_options::NodeOptions;
use crate::config::{self, Effective};
use crate::serve::{check_restored, program_name};

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

    /// Like [`OpenTables::run`]. If a team is given by id or name, the caller sees only that team.
    pub(crate) async fn run_in<U: UseCase>(
        &mut self,
        team: Option<&str>,
        case: U,
    ) -> Result<U::Output, UseCaseError> {
        let Some(team) = team else {
            return self.run(case).await;
        };
        let team = team.to_owned();
        let id = self.run(FindTeamId { team }).await?;
        let caller = Caller::local().in_team(id);
        case.run(&mut self.registry, &caller).await
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

/// Runs a use case on the tables of a node, running or not. The caller has all rights.
pub(crate) fn run<U: UseCase>(node: &NodeOptions, case: U) -> anyhow::Result<U::Output> {
    run_in(node, None, case)
}

/// Like [`run`]. If a team is given by id or name, the caller sees only that team.
pub(crate) fn run_in<U: UseCase>(
    node: &NodeOptions,
    team: Option<&str>,
    case: U,
) -> anyhow::Result<U::Output> {
    let work = async |open: &mut OpenTables| open.run_in(team, case).await;
    match U::EFFECT {
        UseCaseEffect::Reads => read(node, work),
        UseCaseEffect::Notes | UseCaseEffect::Changes => with(node, work),
    }
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

/// A device with a new credential.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) id: &'a str,
    pub(crate) user_name: &'a str,
    pub(crate) device_type: &'a str,
    pub(crate) secret: &'a str,
}

/// A command line that shows that a device can log in and publish.
pub(crate) fn line_to_try(node: &NodeOptions, given: &Given<'_>) -> String {
    let Given {
        id,
        user_name,
        device_type,
        secret,
    } = given;
    let way = node.load().map(|effective| way_in(node, &effective));
    let way = way.unwrap_or_default();
    let (program, name, user) = (program_name(), typed(id), typed(user_name));
    let topic = typed(&topic_of(node, id, device_type));
    format!("{program} pub{way} -i {name} -u {user} -P {secret} -t {topic} -m hello -q 1")
}

/// A topic that a device of this type may publish to.
fn topic_of(node: &NodeOptions, id: &str, device_type: &str) -> String {
    let (owner, name) = (Owner::DeviceType, device_type.to_owned());
    let known = run(node, FindRuleSet { owner, name });
    let topic = known.ok().and_then(|known| {
        let rules = known.in_force(Owner::DeviceType)?;
        let mut rules = rules.into_iter();
        let rule = rules.find(|rule| rule.allows && rule.actions.has(Actions::PUBLISH))?;
        let topic = rule.filter.replace("%c", id).replace("%u", id);
        Some(topic.replace(['#', '+'], "test"))
    });
    topic.unwrap_or_else(|| format!("d/{id}/test"))
}

/// The command lines by which a device publishes to this node with its certificate: one line for
/// each remaining step; the last one publishes. `None` if the node does not respond, or has no
/// suitable listener.
pub(crate) fn lines_of_certificate(
    node: &NodeOptions,
    id: &str,
    certificate: &Path,
    key: &Path,
) -> Option<Vec<String>> {
    let effective = node.load().ok()?;
    let data_dir = node.data_dir().ok()?;
    let urls = listening(&data_dir).unwrap_or_else(|| configured(&effective));
    let url = urls.iter().find(|url| url.starts_with("mqtts://"))?;
    let way = config::way_in(&effective, url);
    let options = config::command_options(Some(&data_dir), effective.own_file.as_deref());
    let program = program_name();
    let device = DeviceName::Id(id.to_owned());
    let device = run(node, FindDevice { device }).ok();
    let device_type = device
        .as_ref()
        .map_or(DEVICE_TYPE, |device| &device.device_type);
    let topic = topic_of(node, id, device_type);
    let mut lines = Vec::new();
    if device.is_none() {
        lines.push(format!(
            "{program} device add {options} {}",
            typed_names(&[id])
        ));
    }
    let settings = effective.settings();
    let mut missing = String::new();
    if settings.tls.client_certificates == ClientCertificates::Off {
        missing.push_str(" --set tls.client_certificates=optional");
    }
    if settings.auth.certificate_user_name.is_none() {
        missing.push_str(" --set auth.certificate_user_name=common-name");
    }
    if !missing.is_empty() {
        lines.push(format!("{program} serve {options}{missing}"));
    }
    let file = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        typed(&path.display().to_string())
    };
    lines.push(format!(
        "{program} pub{way} --cert {} --key {} -i {} -t {} -m hello -q 1",
        file(certificate),
        file(key),
        typed(id),
        typed(&topic)
    ));
    Some(lines)
}

/// Host and port of the node's first listener for plain MQTT over TCP; `None` if there is none.
pub(crate) fn plain_address(node: &NodeOptions) -> Option<(String, u16)> {
    let effective = node.load().ok()?;
    let running = node
        .data_dir()
        .ok()
        .and_then(|directory| listening(&directory));
    let urls = running.unwrap_or_else(|| configured(&effective));
    let address = urls.iter().find_map(|url| url.strip_prefix("mqtt://"))?;
    let address: SocketAddr = address.parse().ok()?;
    let host = match address.ip() {
        ip if ip.is_unspecified() || ip == IpAddr::from([127, 0, 0, 1]) => "localhost".to_owned(),
        ip => ip.to_string(),
    };
    Some((host, address.port()))
}

/// Client options that select the node, each preceded by a space; empty if the defaults are
/// sufficient.
fn way_in(node: &NodeOptions, effective: &Effective) -> String {
    let urls = node
        .data_dir()
        .ok()
        .and_then(|directory| listening(&directory));
    let urls = urls.unwrap_or_else(|| configured(effective));
    let scheme = |scheme: &str| urls.iter().find(|url| url.starts_with(scheme));
    let mut best = ["mqtt://", "mqtts://", "unix://", "ws://", "wss://"].into_iter();
    let Some(url) = best.find_map(scheme) else {
        return String::new();
    };
    config::way_in(effective, url)
}

/// The listeners of the running node; `None` if no node runs.
fn listening(data_dir: &Path) -> Option<Vec<String>> {
    let status = status(data_dir).ok()?;
    status.map(|status| status.listeners)
}

/// The status of the running node; `None` if no node runs.
fn status(data_dir: &Path) -> anyhow::Result<Option<Status>> {
    if !admin::may_ask(data_dir)? {
        return Ok(None);
    }
    let status = admin::ask(data_dir, "GET", "/api/v1/status")?;
    Ok(Some(serde_json::from_str(&status)?))
}

/// The configured listeners.
fn configured(effective: &Effective) -> Vec<String> {
    let node = config::resolve(effective);
    let listeners = node.map(|node| node.listeners).unwrap_or_default();
    let urls = listeners.iter().map(|listener| {
        config::listener_url(
            &listener.address,
            &listener.transport,
            listener.tls.is_some(),
        )
    });
    urls.collect()
}
