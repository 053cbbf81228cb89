//! `martlet serve`: wires the layers together, tells people what it does, and stops in order.

mod accept_failures;
pub(crate) mod admin_socket;
mod announce;
mod authentication;
pub(crate) mod data_dir;
mod facts;
mod http;
mod iotflow;
mod log;
mod log_text;
mod memory;
mod microservice;
mod notify;
mod panel_broker;
mod places;
mod reload;
mod setup_link;
mod signals;
mod stalling;
mod topic_memory;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use clap::Args;
use martlet_api::{Api, RouteSettings};
use martlet_broker::{
    Command, Event, MemoryUse, PartLine, PartOutlet, PartSpec, RuleBook, ShardId,
};
use martlet_control::authentication::Policy;
use martlet_control::backup::{STORE, unfinished_restore};
use martlet_control::feed::{self, PushState};
use martlet_control::history;
use martlet_control::integrations::{IntegrationSettings, Integrations};
use martlet_control::message_log::MessageLog;
use martlet_control::presence::{Alive, Keeper};
use martlet_control::secrets::SecretStore;
use martlet_control::tables::{PresenceInTables, Tables};
use martlet_control::{
    Control, Latencies, NodeInfo, PinnedStore, ReloadOf, Shards, StoreSize, StoreState,
    SysStatistics,
};
use martlet_reactor::{
    Descriptors, Durability, LATENCY_BOUNDS_US, LatencyHistogram, ReactorConfig, Restored, Running,
    StoreNotice,
};
use martlet_registry::Location;
use martlet_store::RealDisk;
#[cfg(target_os = "linux")]
use rustix::process::setpriority_process;
#[cfg(target_os = "linux")]
use rustix::thread::gettid;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use places::Places;

use crate::cmd::print::errln;
use crate::config::{self, NodeConfig, Overlay};

use accept_failures::AcceptFailures;
use announce::{HttpAt, announce};
use authentication::Doorkeeper;
use log::Log;
pub(crate) use log::check_log_file;
use microservice::MicroserviceOptions;
use panel_broker::PanelBrokerOptions;
use reload::Reload;
use setup_link::SetupLink;
use signals::Signals;

pub(crate) use data_dir::{claim as claim_data_dir, give_files_to_owner_of};

/// Events that wait to be read, at most.
const EVENT_CAPACITY: usize = 65_536;
/// Time between two reads of events: the shards wake nobody meanwhile, and readers get the events
/// in few large pieces.
const EVENTS_PAUSE: Duration = Duration::from_millis(10);
/// Unit in which the system tells what a file takes on the disk.
const BYTES_OF_BLOCK: u64 = 512;
/// Time that the start waits for integrations to be attached: after that clients are accepted in
/// any case.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// Time that integrations may take to settle what they have in hand, at least.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// Time that the last events may take when the node stops.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// Nice value of a thread that gets a third of the processor time of others.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Options of `martlet serve`, `martlet config` and all that reads a configuration.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigOptions {
    /// Configuration file (TOML)
    #[arg(long, short = 'c', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Run by a configuration file of Mosquitto; martlet import mosquitto FILE says what it becomes
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) mosquitto_conf: Option<PathBuf>,
    /// Directory of all data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What an acknowledgement promises: sync (default), interval or memory
    #[arg(long, value_name = "MODE")]
    pub(crate) durability: Option<String>,
    /// Shards, one thread each (default: one per core)
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u64>,
    /// Where to listen, repeatable: mqtt://HOST:PORT, ws://HOST:PORT/PATH (default: loopback, 1883
    /// and WebSocket 9001)
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<String>,
    /// Accept clients without credentials on listeners beyond loopback too
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
    /// Address of the HTTP server with the API, health and metrics, or "off" (default:
    /// 127.0.0.1:8080)
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Form of the log on standard error: text or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    #[command(flatten)]
    pub(crate) microservice: MicroserviceOptions,
    #[command(flatten)]
    pub(crate) panel_broker: PanelBrokerOptions,
    /// Any other key of the configuration, repeatable: --set limits.in_flight=20
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigOptions {
    /// As the last layer over file and environment.
    pub(crate) fn overlay(&self) -> anyhow::Result<Overlay> {
        let mut values = self.panel_broker.assignments()?;
        values.extend(self.microservice.assignments());
        let mut http = Vec::new();
        http.extend(self.microservice.http()?);
        http.extend(self.panel_broker.http()?);
        for assignment in &self.set {
            let (key, value) = assignment
                .split_once('=')
                .with_context(|| format!("--set {assignment}: expected KEY=VALUE"))?;
            values.push((key.trim().to_owned(), value.to_owned(), "--set"));
        }
        let mut put = |key: &str, value: Option<String>, option| {
            if let Some(value) = value {
                values.push((key.to_owned(), value, option));
            }
        };
        let data_dir = self
            .data_dir
            .as_ref()
            .map(|path| path.display().to_string());
        put("node.data_dir", data_dir, "--data-dir");
        put(
            "node.threads",
            self.threads.map(|count| count.to_string()),
            "--threads",
        );
        let anonymous = self.allow_anonymous.then(|| "true".to_owned());
        put("mqtt.allow_anonymous", anonymous, "--allow-anonymous");
        put("store.durability", self.durability.clone(), "--durability");
        put("http.listen", self.http.clone(), "--http");
        put("log.format", self.log_format.clone(), "--log-format");
        put("log.level", self.log_level.clone(), "--log-level");
        let mut listen = self.panel_broker.listeners();
        listen.extend(self.listen.iter().cloned());
        Ok(Overlay {
            file: self.config.clone(),
            mosquitto: self.mosquitto_conf.clone(),
            values,
            listen,
            http,
            names_of_file: Vec::new(),
        })
    }

    /// The same as far as it is said in our own words: what devices' programs have in their
    /// environment is no matter of commands that only look for a node, but for its database.
    pub(crate) fn load_own(&self) -> anyhow::Result<config::Effective> {
        let mut environment = config::environment()?.variables;
        environment
            .retain(|(name, _)| name.starts_with("MARTLET_") || config::is_about_database(name));
        Ok(config::load(&self.overlay()?, &environment)?)
    }

    /// The configuration in force.
    pub(crate) fn load(&self) -> anyhow::Result<config::Effective> {
        let environment = config::environment()?;
        let mut overlay = self.overlay()?;
        if let Some(file) = &environment.file {
            overlay.names_of_file.clone_from(&file.names);
        }
        let mut effective = config::load(&overlay, &environment.variables)?;
        if let Some(file) = &environment.file {
            effective.files.push(file.path.clone());
            let warnings = file.unclosed.iter().map(|(line, name)| {
                format!(
                    "{}, line {line}: the value of {name} begins with a quote that is not closed, \
                     and the quote is taken as a part of it: close it",
                    file.path.display()
                )
            });
            effective.warnings.extend(warnings);
        }
        effective.environment_file = environment.file;
        Ok(effective)
    }
}

/// Runs a node until it is told to stop.
pub(crate) fn run(options: &ConfigOptions) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Looks for what [`run`] would refuse, as far as that can be seen without starting: the ports are
/// not tried, and what the store holds is not read.
///
/// # Errors
/// What a node would end with.
pub(crate) fn check(node: &NodeConfig) -> anyhow::Result<()> {
    log::filter(node)?;
    check_log_file(node)?;
    admin_socket::check(&node.data_dir)?;
    data_dir::check(&node.data_dir)?;
    if node.durability != Durability::Memory {
        check_restored(&node.data_dir)?;
        data_dir::check_store(&node.data_dir.join(STORE))?;
    }
    Ok(())
}

fn serve(options: &ConfigOptions) -> anyhow::Result<()> {
    // Before anything slow: a signal without a handler ends the process.
    let signals = Signals::handle()?;
    let effective = options.load()?;
    let node = config::resolve(&effective)?;
    let log = log::start(&node)?;
    for warning in effective.warnings.iter().chain(&node.warnings) {
        warn!("{warning}");
    }
    keep_pages_small();
    // Before anything is made in a directory that will not do.
    admin_socket::check(&node.data_dir)?;
    let lock = data_dir::claim(&node.data_dir)?;
    if node.user_places.tables_unasked.is_none() {
        let identity = identity_of_tables(&node);
        let expected =
            config::expect_noted_tables(&node.data_dir, &node.tables.location, identity.as_deref());
        expected.map_err(anyhow::Error::msg)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("martlet-control")
        .enable_all()
        .build()
        .context("cannot start the control plane")?;
    let outcome = runtime.block_on(run_node(&node, &effective, options, &log, &signals));
    // What still runs there waits for clients that are gone.
    runtime.shutdown_background();
    drop(lock);
    outcome
}

/// Of the tables that say who is let in, if any do.
fn identity_of_tables(node: &NodeConfig) -> Option<String> {
    let tables = node.policy.as_ref()?.tables()?;
    Some(tables.identity())
}

/// For the next start, which is to go by the same.
fn note_tables(data_dir: &Path, location: &Location, identity: Option<String>) {
    if let Err(error) = config::note_tables(data_dir, location, identity.as_deref()) {
        warn!(%error, "by which tables the node goes could not be written");
    }
}

async fn run_node(
    node: &NodeConfig,
    effective: &config::Effective,
    options: &ConfigOptions,
    log: &Log,
    signals: &Signals,
) -> anyhow::Result<()> {
    signals.set_running();
    let mut http = Vec::new();
    for listener in &node.http {
        http.extend(http::bind(listener).await?);
    }
    // Nobody is asked yet where there are no credentials; that may change while the node runs.
    let nobody = || {
        let mut policy = Policy::new(BTreeMap::new());
        policy.idle_tables = node.idle_tables.clone();
        policy.lockout = node.lockout;
        Arc::new(policy)
    };
    let doorkeeper = Doorkeeper::new(node.policy.clone().unwrap_or_else(nobody))?;
    let (_socket, admin) = admin_socket::open(&node.data_dir)?;
    let running = Arc::new(start_reactor(node, &doorkeeper)?);
    let opened_by = Instant::now() + OPENED_WITHIN;
    let opening =
        (!node.sinks.sinks.is_empty()).then(|| open_listeners_at_last(&running, opened_by));
    let damage = tell_restored(&running);
    let (reloads, mut reloads_asked) = unbounded_channel();
    let control = Arc::new(Control::new(
        Box::new(ReactorShards {
            running: Arc::clone(&running),
            store: node.data_dir.join(STORE),
        }),
        node_info(node, options, &running),
        reloads,
    ));
    let Doorkeeper(chain) = doorkeeper;
    control.set_authentication_chain(chain.clone());
    control.set_user_places(node.user_places.clone());
    control.set_anonymous(node.lets_anonymous_in());
    tell_ignored(&control, &node.warnings);
    control.feed.set_bounds(node.events_kept);
    control.feed.set_base(node.settings.events.clone());
    control.bound_memory(node.memory_bytes);
    control.set_logging(Arc::clone(&log.logging));
    if let Some(damage) = damage {
        control.health.warn(damage);
    }
    pump_reports(&running, &control);
    pump_store_notices(&running);
    let standard = log.standard.clone();
    let pump = pump_events(&running, &control, node.log_connections, standard)
        .context("cannot start the control plane")?;
    let tables = Arc::new(Tables::new(node.tables.clone(), Arc::clone(&control)));
    let notes = Arc::clone(&tables);
    control.count_also("audit", Box::new(move || notes.notes_bytes()));
    note_tables(&node.data_dir, tables.location(), identity_of_tables(node));
    if node.user_places.tables_unasked.is_none() {
        tables.warn_of_renamed().await;
    }
    let alive = Arc::new(Alive::open(&node.data_dir));
    let presence = keep_presence(node, &control, &tables, &alive).await;
    let message_log = MessageLog::new(Arc::clone(&tables), alive.node(), node.message_log.kept);
    let integrations =
        start_integrations(node, &control, &tables, &alive, &message_log, opened_by).await;
    if let Some(opening) = opening
        && Instant::now() < opened_by
    {
        opening.abort();
        running.open_listeners();
    }
    tokio::spawn(history::keep(Arc::clone(&control)));
    tokio::spawn(memory::keep(Arc::clone(&control)));
    if let Some(push) = &node.push {
        let state = Arc::<PushState>::default();
        control.set_push(Arc::clone(&state));
        tokio::spawn(feed::push(Arc::clone(&control), push.clone(), state));
    }
    if let Some(kinds) = &node.events_published {
        tokio::spawn(feed::publish_events(Arc::clone(&control), kinds.clone()));
    }
    let directory = Arc::new(Arc::clone(&tables));
    let api = Api::new(Arc::clone(&control), directory, node.api.clone());
    let api = api.context("no source of randomness")?;
    api.set_tables(Arc::clone(&tables));
    api.set_message_log(message_log.clone());
    tokio::spawn(message_log.keep());
    tokio::spawn(Arc::clone(&tables).keep_notes());
    tokio::spawn(Arc::clone(&control).follow_sources());
    if let Some(chain) = control.authentication_chain() {
        let tables = Arc::clone(&tables);
        chain.write_uses_by(Box::new(move || {
            let tables = Arc::clone(&tables);
            Box::pin(async move { tables.write_uses().await.is_ok() })
        }));
    }
    let watched = Arc::clone(&tables);
    tokio::spawn(async move { watched.watch().await });
    let http_at: Vec<HttpAt> = http.iter().map(HttpAt::of).collect();
    let descriptors = running.descriptors();
    let places = Places::new(node.http_connections.clone(), &descriptors);
    let failures = Arc::<AcceptFailures>::default();
    let mut routers = Routers::new(&api);
    for open in http {
        let (routes, failures) = (routers.of(&open.routes), Arc::clone(&failures));
        tokio::spawn(http::serve(open, routes, places.clone(), failures));
    }
    admin_socket::serve(admin, routers.of(&node.api.routes));
    if node.sys_interval_secs > 0 {
        let every = Duration::from_secs(node.sys_interval_secs);
        tokio::spawn(publish_statistics(Arc::clone(&control), every));
    }
    iotflow::start(node, &control, &tables);
    if let Some(topics) = &node.api.topic_memory {
        topic_memory::start(topics, &control);
    }
    let (options, effective_now) = (options.clone(), effective.clone());
    let http_urls = http_at.iter().map(|at| at.url.clone()).collect();
    let asked = Arc::clone(&control);
    let held = Arc::clone(&tables);
    let tables_watched = Arc::clone(&tables);
    let mut reload = Reload::new(options, effective_now, node, chain, asked, held, http_urls);
    // The announcement must be true when it is read.
    control.health.set_ready();
    let setup = SetupLink::of(&api, &control, &http_at, &node.data_dir).await;
    announce(
        node,
        effective,
        &control,
        &http_at,
        setup.as_ref(),
        api.is_unclaimed().await,
        &descriptors,
    );
    tokio::spawn(tell_pauses(Arc::clone(&control)));
    tokio::spawn(setup_link::watch_administrators(
        api.clone(),
        Arc::clone(&control),
        tables_watched,
    ));
    notify::ready();
    {
        let mut stopping = std::pin::pin!(stop_asked(&control, signals));
        loop {
            let (of, why, asked) = tokio::select! {
                () = &mut stopping => break,
                () = signals.hangup() => {
                    notify::reloading();
                    log.reopen();
                    (ReloadOf::Everything, "SIGHUP", None)
                }
                Some(asked) = reloads_asked.recv() => (asked.of(), "told by admin.sock", Some(asked)),
                (of, why) = reload.changed() => (of, why, None),
            };
            // A database that does not answer keeps nobody from stopping.
            let outcome = tokio::select! {
                () = &mut stopping => break,
                outcome = reload.run(of, why) => outcome,
            };
            if why == "SIGHUP" {
                notify::ready();
            }
            // What came of it is in the log and in health, too.
            if let Some(asked) = asked {
                asked.answer(outcome);
            }
        }
    }
    control.health.set_stopping();
    notify::stopping();
    signals.set_stopping();
    let grace = Duration::from_secs(node.shutdown_grace_secs);
    // What they have in hand is settled while the shards still run.
    integrations.stop(grace.max(SETTLED_WITHIN)).await;
    stop(running, grace).await;
    // Its last lines are those of clients who were told to go, and why they went is known then.
    let over = tokio::task::spawn_blocking(|| pump.join());
    let _ = tokio::time::timeout(LAST_EVENTS, over).await;
    presence.stop().await;
    if let Err(error) = alive.note_stop() {
        warn!(%error, "that the node was stopped could not be written");
    }
    end_streams(&control).await;
    tables.close().await;
    Ok(())
}

/// The routes of listeners; those that serve the same share theirs.
struct Routers<'a> {
    api: &'a Api,
    made: Vec<(RouteSettings, Router)>,
}

impl<'a> Routers<'a> {
    fn new(api: &'a Api) -> Self {
        let made = Vec::new();
        Self { api, made }
    }

    fn of(&mut self, settings: &RouteSettings) -> Router {
        if let Some((_, known)) = self.made.iter().find(|(known, _)| known == settings) {
            return known.clone();
        }
        let router = martlet_api::router(self.api.with_routes(settings.clone()));
        self.made.push((settings.clone(), router.clone()));
        router
    }
}

/// Waits for a signal or request to stop.
async fn stop_asked(control: &Control, signals: &Signals) {
    tokio::select! {
        name = signals.stop_asked() => info!("{name}: stopping"),
        () = control.stop_requested() => info!("told to stop by admin.sock"),
    }
}

/// The allocator asks for huge pages, so that one idle connection more may cost 2 MiB. Many small
/// things are held for long here: with small pages a broker takes about half the memory, and its
/// CPU time does not change measurably.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

/// Tells clients, waits for their connections to close, ends the reactors and closes the store.
async fn stop(running: Arc<Running>, grace: Duration) {
    let stopped = tokio::task::spawn_blocking(move || {
        let closed = running.shutdown(grace);
        (closed, running.open_connections())
    })
    .await;
    match stopped {
        Ok((true, _)) => info!("all connections are closed"),
        Ok((false, left)) => warn!(left, "connections were still open when their time was over"),
        Err(error) => error!(%error, "stopping failed"),
    }
}

fn start_reactor(node: &NodeConfig, doorkeeper: &Doorkeeper) -> anyhow::Result<Running> {
    if node.durability != Durability::Memory {
        check_restored(&node.data_dir)?;
    }
    let mut settings = node.settings.clone();
    settings.node_seed = random_u64()?;
    let mut config = ReactorConfig::new(Arc::new(settings));
    config.threads = node.threads;
    config.listeners = node.listeners.clone();
    config.memory_bytes = node.memory_bytes;
    config.event_capacity = EVENT_CAPACITY;
    config.authenticator = Arc::new(doorkeeper.clone());
    config.refused_name = martlet_certificates::take_refused_name;
    // What is published before an integration is attached would not reach it.
    config.opens_later = !node.sinks.sinks.is_empty();
    config.rules = node
        .policy
        .clone()
        .map(|policy| policy as Arc<dyn RuleBook>);
    let (store, power_loss) = (node.data_dir.join(STORE), node.simulate_power_loss);
    let bytes_max = node.settings.limits.store_bytes;
    config.store = martlet_reactor::open_store(&store, node.durability, bytes_max, power_loss)?;
    Ok(martlet_reactor::start(config)?)
}

/// Opens the listeners even if the integrations are not attached by then: clients do not wait for
/// a database that does not answer.
fn open_listeners_at_last(
    running: &Arc<Running>,
    opened_by: Instant,
) -> tokio::task::JoinHandle<()> {
    let running = Arc::clone(running);
    tokio::spawn(async move {
        tokio::time::sleep_until(opened_by.into()).await;
        warn!("clients are accepted before all integrations are attached: see martlet health");
        running.open_listeners();
    })
}

/// What a restore that was cut off has left may be a part of the backup, or nothing at all.
pub(crate) fn check_restored(data_dir: &Path) -> anyhow::Result<()> {
    match unfinished_restore(data_dir) {
        None => Ok(()),
        Some(unfinished) => anyhow::bail!(
            "a restore into {} was cut off: run martlet backup restore again, or move the \
             directory away to start with nothing ({} says so)",
            data_dir.display(),
            unfinished.display()
        ),
    }
}

/// Says what the start has brought back, and what it could not; answers what operators should know
/// for longer than a line in the log.
fn tell_restored(running: &Running) -> Option<String> {
    let Restored {
        opened,
        damage,
        restored,
        took,
    } = running.restored()?;
    for damage in damage {
        error!("the store is damaged: {damage}");
    }
    if let Some(torn) = &opened.torn {
        info!(
            file = torn.file,
            offset = torn.offset,
            "the end of the log was not synced: cut off"
        );
    }
    for damaged in &restored.damage {
        error!("not restored: {damaged}");
    }
    if restored.clock_behind_ms > 0 {
        warn!(
            secs = restored.clock_behind_ms as f64 / 1000.0,
            "the clock is behind what it was when the node last ran: sessions and messages expire \
             later, by the time the node was not running"
        );
    }
    info!(
        run = restored.start,
        sessions = restored.sessions,
        subscriptions = restored.subscriptions,
        messages = restored.entries,
        retained = restored.retained,
        wills = restored.wills,
        routed_again = restored.routed_again,
        ms = took.as_millis() as u64,
        "restored"
    );
    let places = damage.len() + restored.damage.len();
    (places > 0).then(|| {
        format!(
            "The store was found damaged at the start ({}); the log of the start says where, and \
             what is lost.",
            counted(places, "place")
        )
    })
}

/// Carries what the store has to say to the log. Ends with the store.
fn pump_store_notices(running: &Running) {
    let Some(health) = running.store_health() else {
        return;
    };
    let notices = health.notices();
    std::thread::spawn(move || {
        for notice in notices {
            match notice {
                StoreNotice::Failing { error } => {
                    error!("the store cannot write, acknowledgements wait: {error}");
                }
                StoreNotice::Recovered { after } => {
                    let secs = after.as_secs_f32();
                    info!("the store writes again, after {secs:.1} s");
                }
                StoreNotice::Low { why } => error!("nothing more is stored: {why}"),
                StoreNotice::RoomAgain => info!("the store has room again"),
                StoreNotice::Unread { what } => {
                    error!("the disk does not read; it is tried again for minutes: {what}");
                }
                StoreNotice::Unreadable { what } => error!("a message is lost: {what}"),
                StoreNotice::Unwritten { error } => {
                    error!("the store was closed before all was written: {error}");
                }
                other => warn!("the store: {other:?}"),
            }
        }
    });
}

/// Opens the directory of a store that no other process has open.
pub(crate) fn claim_store(directory: &Path) -> anyhow::Result<RealDisk> {
    claimed(directory, RealDisk::open(directory))
}

/// The same to look at what is there, also where nothing can be written.
pub(crate) fn claim_store_to_read(directory: &Path) -> anyhow::Result<RealDisk> {
    claimed(directory, RealDisk::open_to_read(directory))
}

fn claimed(directory: &Path, opened: std::io::Result<RealDisk>) -> anyhow::Result<RealDisk> {
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!(
            "the store {} is in use; stop that process first",
            directory.display()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot open {}", directory.display())),
    })
}

/// How many of something there are.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn random_u64() -> anyhow::Result<u64> {
    let mut bytes = [0_u8; 8];
    let mut source = std::fs::File::open("/dev/urandom").context("no source of randomness")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("no source of randomness")?;
    Ok(u64::from_ne_bytes(bytes))
}

fn node_info(node: &NodeConfig, options: &ConfigOptions, running: &Running) -> NodeInfo {
    let listeners = running
        .local_addresses()
        .iter()
        .zip(&node.listeners)
        .map(|((_, address), listener)| {
            config::listener_url(address, &listener.transport, listener.tls.is_some())
        })
        .collect();
    let (durability, interval_ms) = match node.durability {
        Durability::Sync => ("sync", None),
        Durability::Interval { ms } => ("interval", Some(ms)),
        Durability::Memory => ("memory", None),
    };
    NodeInfo {
        version: env!("CARGO_PKG_VERSION"),
        listeners,
        data_dir: node.data_dir.display().to_string(),
        command_options: config::command_options(&node.data_dir, options.config.as_deref()),
        durability,
        interval_ms,
        connections_max: connections_max(node, &running.descriptors()),
        anonymous_beyond_loopback: node.anonymous_beyond_loopback,
        limits: node.settings.limits.clone(),
    }
}

/// What the limits and the descriptors of the process allow.
fn connections_max(node: &NodeConfig, descriptors: &Descriptors) -> u64 {
    u64::from(node.settings.limits.connections).min(descriptors.connections)
}

struct ReactorShards {
    running: Arc<Running>,
    /// The directory of the store.
    store: PathBuf,
}

impl Shards for ReactorShards {
    fn count(&self) -> u16 {
        self.running.shard_count()
    }

    fn send(&self, shard: ShardId, command: Command) {
        self.running.command(shard, command);
    }

    fn sockets_accepted(&self) -> u64 {
        self.running.stats().accepted
    }

    fn accept_pauses(&self) -> u64 {
        self.running.stats().accept_pauses
    }

    fn is_accepting_paused(&self) -> bool {
        self.running.is_accepting_paused()
    }

    fn sockets_open(&self) -> u64 {
        self.running.open_connections() as u64
    }

    fn clients_by_listener(&self) -> Vec<u32> {
        self.running.clients_by_listener()
    }

    fn events_dropped(&self) -> u64 {
        self.running.stats().events_dropped
    }

    fn events_told(&self) -> u64 {
        self.running.events().put()
    }

    fn latencies(&self) -> Vec<Latencies> {
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let bounds: Vec<f64> = bounds.chain([f64::INFINITY]).collect();
        let seconds = |found: LatencyHistogram| Latencies {
            buckets: bounds.iter().copied().zip(found.counts).collect(),
            sum_secs: found.sum_us as f64 / 1e6,
        };
        self.running.latencies().into_iter().map(seconds).collect()
    }

    fn store_state(&self) -> Option<StoreState> {
        let status = self.running.store_health()?.status();
        let failing = status.failure.map(|failure| {
            let secs = failure.since.elapsed().as_secs();
            (secs, failure.error)
        });
        Some(StoreState {
            failing,
            low: status.is_low.then_some(status.low_because),
            is_at_limit: status.is_at_limit,
            behind: status.is_behind,
            unreadable: status.unreadable,
            syncs: status.syncs,
            records: status.records,
        })
    }

    fn store_size(&self) -> Option<StoreSize> {
        let stats = self.running.store_stats()?;
        Some(StoreSize {
            waiting_bytes: stats.staged_bytes as u64,
            disk_bytes: stats.disk_bytes,
            live_bytes: stats.live_bytes,
            messages: stats.bodies as u64,
            entries: stats.entries as u64,
        })
    }

    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        self.running.attach(spec, outlet)
    }

    fn recheck_certificates(&self) {
        self.running.recheck_certificates();
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        self.running.borrow_memory(bytes)
    }

    fn return_memory(&self, bytes: usize) {
        self.running.return_memory(bytes);
    }

    fn set_memory_outside(&self, bytes: usize) -> bool {
        self.running.set_memory_outside(bytes)
    }

    fn addresses_bytes(&self) -> usize {
        self.running.addresses_bytes()
    }

    fn events_bytes(&self) -> usize {
        self.running.events().memory_bytes()
    }

    fn memory_use(&self) -> MemoryUse {
        self.running.memory_use()
    }

    fn pin_store(&self) -> Result<PinnedStore, String> {
        let pinned = self.running.pin_store()?;
        Ok(PinnedStore {
            directory: self.store.clone(),
            files: pinned.files,
            pin: pinned.pin,
        })
    }
}

/// Carries reports from the reactors to the control plane. Ends with the reactors.
fn pump_reports(running: &Running, control: &Arc<Control>) {
    let (reports, control) = (running.reports(), Arc::clone(control));
    std::thread::spawn(move || {
        for report in reports {
            control.report_received(report);
        }
    });
}

/// Who reads events is told that there are no more.
async fn end_streams(control: &Control) {
    control.feed.close();
    let until = Instant::now() + Duration::from_millis(500);
    while control.feed.readers() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Who is connected, while it is kept.
struct KeptPresence {
    stopped: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl KeptPresence {
    /// The node has stopped: what is left is written.
    async fn stop(self) {
        let _ = self.stopped.send(());
        if let Err(error) = self.task.await {
            error!(%error, "presence of clients is no longer kept");
        }
    }
}

/// Starts to keep presence; the clients that were connected before are known when it returns.
async fn keep_presence(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<Tables>,
    alive: &Arc<Alive>,
) -> KeptPresence {
    let topics = node.presence_topics.clone();
    let store = PresenceInTables::new(Arc::clone(tables), alive.node(), topics.is_some());
    let (control, alive) = (Arc::clone(control), Arc::clone(alive));
    let mut keeper = Keeper::new(control, Arc::new(store), topics, alive);
    keeper.restore().await;
    let (stopped, is_stopped) = oneshot::channel();
    let task = tokio::spawn(keeper.run(async move {
        let _ = is_stopped.await;
    }));
    KeptPresence { stopped, task }
}

/// Time for which a start waits for the bridges in the tables.
const SAVED_BRIDGES_WITHIN: Duration = Duration::from_secs(2);

/// Bytes that are free on the disk of a directory; where the system does not say, 10 GB.
fn free_bytes(directory: &Path) -> u64 {
    let disk = rustix::fs::statvfs(directory);
    disk.map_or(10_000_000_000, |disk| disk.f_bavail * disk.f_frsize)
}

/// Bytes that the files in a directory take on the disk, those in directories below left out.
fn used_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    let files = files.filter(std::fs::Metadata::is_file);
    files.map(|file| file.blocks() * BYTES_OF_BLOCK).sum()
}

/// Bytes that the queue of an integration may have unless the configuration says so: a tenth of
/// what is free, with what the message store has taken of that. So it is the same after a restart
/// with full queues.
fn queue_bytes_default(free_bytes: u64, store_bytes: u64) -> u64 {
    free_bytes.saturating_add(store_bytes) / 10
}

/// Starts the integrations of the configuration and of the tables. When it returns they get what is published.
async fn start_integrations(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<Tables>,
    alive: &Alive,
    message_log: &MessageLog,
    attached_by: Instant,
) -> Arc<Integrations> {
    let config::SinksConfig {
        sinks,
        dead_letters,
        allowed,
        removes_others,
    } = node.sinks.clone();
    let store_bytes = used_bytes(&node.data_dir.join(STORE));
    let bytes_max = queue_bytes_default(free_bytes(&node.data_dir), store_bytes);
    let kept = &node.message_log.filters;
    let kept: Vec<Box<str>> = kept.iter().map(|filter| filter.as_str().into()).collect();
    let log = (!kept.is_empty()).then(|| message_log.integration(kept));
    let sinks = sinks.into_iter().chain(log);
    let sinks = sinks.map(|sink| sink.bounded(bytes_max));
    let sinks = sinks.collect();
    for warning in config::unwritable_sinks(&node.sinks) {
        warn!("{warning}");
    }
    let options = &control.info.command_options;
    let secrets = SecretStore::new(Arc::clone(tables), node.key_file.clone(), options);
    let secrets = Arc::new(secrets);
    control.set_secrets(Arc::clone(&secrets));
    let maker = config::MadeIntegrations {
        data_dir: node.data_dir.clone(),
        allowed,
        queue_bytes: bytes_max,
    };
    let settings = IntegrationSettings {
        node: alive.node().to_owned(),
        dead_letters,
        secrets,
        maker: Arc::new(maker),
    };
    let started = Arc::new(Integrations::start(control, tables, sinks, settings));
    let (is_read, read) = oneshot::channel();
    let all = Arc::clone(&started);
    tokio::spawn(async move {
        let are_all_there = all.start_saved().await;
        // The start may wait no longer.
        let _ = is_read.send(());
        // The queue of a bridge that cannot be started now is kept.
        if removes_others && are_all_there {
            all.remove_others().await;
        }
    });
    // Tables that do not answer hold up nothing else.
    let _ = tokio::time::timeout(SAVED_BRIDGES_WITHIN, read).await;
    // One that is not attached in time is in health.
    let _ = tokio::time::timeout_at(attached_by.into(), started.attached()).await;
    control.set_integrations(Arc::clone(&started));
    started
}

/// Carries events to the log, the journal and the feed. Ends with the reactors.
fn pump_events(
    running: &Running,
    control: &Arc<Control>,
    logs_connections: bool,
    standard: log::Standard,
) -> std::io::Result<JoinHandle<()>> {
    let (events, control) = (running.events(), Arc::clone(control));
    let pump = move || {
        may_wait();
        let is_drop =
            |event: &Event| matches!(event, Event::Dropped { .. } | Event::RateExceeded { .. });
        let mut lost_before = 0;
        let mut batch = Vec::new();
        while events.recv_some(&mut batch) {
            let lost = control.events_dropped();
            let is_logged = |event: &Event| logs_connections || is_drop(event);
            let since = lost - lost_before;
            standard.gather(|| control.events_received(&mut batch, since, is_logged));
            lost_before = lost;
            if events.is_empty() {
                std::thread::sleep(EVENTS_PAUSE);
            }
        }
    };
    let thread = std::thread::Builder::new().name("martlet-events".to_owned());
    thread.spawn(pump)
}

/// The work of this thread may wait: where all cores are busy, threads that carry messages go
/// first.
#[cfg(target_os = "linux")]
fn may_wait() {
    // Where it is not permitted, it takes its turn like everybody else.
    let _ = setpriority_process(Some(gettid()), NICE);
}

/// Elsewhere there is no such thing for one thread.
#[cfg(not(target_os = "linux"))]
fn may_wait() {}

/// Logs that accepting pauses, at most once a second.
async fn tell_pauses(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        ticks.tick().await;
        let pauses = control.accept_pauses();
        if pauses > told {
            warn!(
                times = pauses - told,
                open = control.sockets_open(),
                at_most = control.info.connections_max,
                "accepting paused: no descriptors were left for more connections; raise the limit of \
                 open files (ulimit -n, LimitNOFILE)"
            );
            told = pauses;
        }
    }
}

async fn publish_statistics(control: Arc<Control>, every: Duration) {
    let mut statistics = SysStatistics::default();
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if let Err(error) = statistics.publish(&control, every).await {
            warn!(%error, "$SYS statistics not published");
        }
    }
}

/// Reports listeners at which the tables are not checked to health.
fn tell_ignored(control: &Control, warnings: &[String]) {
    let mut all = warnings.iter();
    let told = all.find(|warning| warning.starts_with(config::IGNORES_TABLES));
    match told {
        Some(warning) => control
            .health
            .warn_as(config::IGNORES_TABLES, format!("{warning}.")),
        None => control.health.withdraw(config::IGNORES_TABLES),
    }
}

/// As it was called: lines to be typed next must work even if it is not on the path.
pub(crate) fn program_name() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "martlet".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bound_of_a_queue_does_not_shrink_by_what_is_queued() {
        let directory = std::env::temp_dir().join(format!("martlet-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("there is room");
        let before = used_bytes(&directory);
        std::fs::write(directory.join("segment"), vec![7; 1 << 20]).expect("there is room");
        let queued = used_bytes(&directory) - before;
        std::fs::remove_dir_all(&directory).expect("it is there");
        assert!(queued >= 1 << 20, "{queued}");
        let free = 50_000_000;
        assert_eq!(
            queue_bytes_default(free, 0),
            queue_bytes_default(free - queued, queued)
        );
        assert_eq!(queue_bytes_default(free, 0), 5_000_000);
    }
}
