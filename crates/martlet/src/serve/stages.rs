//! The start of a node in stages. Each stage takes the result of the previous one, so that nothing
//! is used before it is complete. One value is set later: the chain of credentials gets the tables
//! in the third stage, because the reactors use it before the tables are open.
//!
//! 1. [`Bound`]: sockets of the API are open, and the authentication policy exists
//! 2. [`Core`]: the reactors and the control plane run; events are forwarded
//! 3. [`Attached`]: the tables are open; presence is tracked and integrations run
//! 4. [`Serving`]: the API is served, and the node reports that it is ready
//!
//! A node stops in reverse order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use martlet_api::{Api, NodeParts, RouteSettings};
use martlet_control::activity::DeviceActivity;
use martlet_control::alarms::Alarms;
use martlet_control::authentication::{AuthenticationChain, Policy};
use martlet_control::backup::STORE;
use martlet_control::commands::Commands;
use martlet_control::event_outbox::EventOutbox;
use martlet_control::feed::{self, Push};
use martlet_control::firmware::FirmwareStore;
use martlet_control::history;
use martlet_control::integrations::Integrations;
use martlet_control::message_log::MessageLog;
use martlet_control::presence::Alive;
use martlet_control::rollouts::Rollouts;
use martlet_control::rules::Rules;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::telemetry::Telemetry;
use martlet_control::twins::Twins;
use martlet_control::{
    Control, ControlParts, ReloadOf, ReloadRequest, SysStatistics, part_of_memory,
};
use martlet_reactor::Running;
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, info, warn};

use super::accept_failures::AcceptFailures;
use super::admin_socket::AdminSocket;
use super::announce::announce;
use super::authentication::{ChainAuthenticator, identity_of_tables, note_tables, tell_ignored};
use super::connection_slots::ConnectionSlots;
use super::events::{end_streams, pump_events, pump_reports, tell_pauses};
use super::http::HttpAt;
use super::integrations::{OwnIntegrations, make_integrations, start_integrations};
use super::log::Log;
use super::parts::{PartStarter, start_topic_memory};
use super::presence::{KeptPresence, keep_presence};
use super::reactor::{OPENED_WITHIN, node_info, open_listeners_at_last, start_reactor};
use super::reload::{Configured, Reload};
use super::setup_link::SetupLink;
use super::shards::ReactorShards;
use super::signals::Signals;
use super::store::{pump_store_notices, tell_restored};
use super::{admin_socket, facts, http, memory, setup_link, signals};
use crate::config::NodeConfig;

/// Least time that integrations get to settle unsettled messages.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// Time limit for the last events when the node stops.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Runs a node until it is stopped.
pub(super) async fn run(of: Configured<'_>, log: &Log, signals: &Signals) -> anyhow::Result<()> {
    let node = of.node;
    signals.set_running();
    let bound = Bound::open(node).await?;
    let core = Core::start(of, log, &bound)?;
    let attached = Attached::start(node, &core).await;
    let serving = Serving::start(of, bound, core, attached).await?;
    let stopping = serving.until_stopped(log, signals).await;
    stopping.stop(node, signals).await;
    Ok(())
}

/// The first stage: nothing runs, and all required addresses are bound.
struct Bound {
    http: Vec<http::OpenListener>,
    http_at: Vec<HttpAt>,
    /// Removes the socket's file when it is dropped.
    admin_file: AdminSocket,
    admin: UnixListener,
    authenticator: ChainAuthenticator,
}

impl Bound {
    async fn open(node: &NodeConfig) -> anyhow::Result<Self> {
        let mut http = Vec::new();
        for listener in &node.http {
            http.extend(http::bind(listener).await?);
        }
        // Without a policy no login is checked yet; that may change while the node runs.
        let nobody = || {
            let mut policy = Policy::new(BTreeMap::new());
            policy.idle_tables = node.idle_tables.clone();
            policy.lockout = node.lockout;
            Arc::new(policy)
        };
        let policy = node.policy.clone().unwrap_or_else(nobody);
        let authenticator = ChainAuthenticator::new(policy, part_of_memory(node.memory_bytes))?;
        let (admin_file, admin) = admin_socket::open(&node.data_dir)?;
        Ok(Self {
            http_at: http.iter().map(HttpAt::of).collect(),
            http,
            admin_file,
            admin,
            authenticator,
        })
    }

    /// URLs of the API.
    fn http_urls(&self) -> Vec<String> {
        self.http_at.iter().map(|at| at.url.clone()).collect()
    }
}

/// The second stage: the data plane and the control plane run.
struct Core {
    running: Arc<Running>,
    control: Arc<Control>,
    authenticator: ChainAuthenticator,
    chain: AuthenticationChain,
    reloads: UnboundedReceiver<ReloadRequest>,
    /// Forwards events; ends with the reactors.
    events: JoinHandle<()>,
    /// Time at which listeners are opened, even if integrations are not yet attached.
    opened_by: Instant,
    opening: Option<tokio::task::JoinHandle<()>>,
}

impl Core {
    fn start(of: Configured<'_>, log: &Log, bound: &Bound) -> anyhow::Result<Self> {
        let Configured {
            node,
            effective,
            options,
        } = of;
        let authenticator = &bound.authenticator;
        memory::set_delay(node.memory_bytes);
        let running = Arc::new(start_reactor(node, authenticator)?);
        let opened_by = Instant::now() + OPENED_WITHIN;
        let has_sinks = !node.sinks.sinks.is_empty() || !node.rules.rules.is_empty();
        let waits = has_sinks || node.telemetry.is_some();
        let opening = waits.then(|| open_listeners_at_last(&running, opened_by));
        let damage = tell_restored(&running);
        let (reloads_to, reloads) = unbounded_channel();
        let chain = authenticator.chain.clone();
        let shards = ReactorShards {
            running: Arc::clone(&running),
            store: node.data_dir.join(STORE),
        };
        let info = node_info(node, options, &running);
        let environment_file = effective.environment_file.as_ref();
        let control = Arc::new(Control::new(ControlParts {
            shards: Box::new(shards),
            facts: facts::of(node, effective, &info.listeners, &bound.http_urls()),
            info,
            reloads: reloads_to,
            chain: Some(chain.clone()),
            logging: Some(Arc::clone(&log.logging)),
            push: node.push.as_ref().map(|_| Arc::default()),
            user_configuration: node.user_configuration.clone(),
            takes_anonymous: node.lets_anonymous_in(),
            events_kept: node.events_kept,
            events: node.settings.events.clone(),
            memory_bytes: Some(node.memory_bytes),
            environment_file: environment_file.map(|file| file.path.display().to_string()),
        }));
        tell_ignored(&control, &node.warnings);
        if let Some(damage) = damage {
            control.health.warn(damage);
        }
        pump_reports(&running, &control);
        pump_store_notices(&running);
        let standard = log.standard.clone();
        let events = pump_events(&running, &control, node.log_connections, standard)
            .context("cannot start the control plane")?;
        Ok(Self {
            running,
            control,
            authenticator: authenticator.clone(),
            chain,
            reloads,
            events,
            opened_by,
            opening,
        })
    }
}

/// The third stage: the users of the tables, and the consumers of published messages.
struct Attached {
    tables: Arc<SharedRegistry>,
    alive: Arc<Alive>,
    presence: KeptPresence,
    message_log: MessageLog,
    activity: Arc<DeviceActivity>,
    commands: Arc<Commands>,
    firmware: (Arc<FirmwareStore>, Arc<Rollouts>),
    twins: Arc<Twins>,
    rules: (Arc<Rules>, Arc<Alarms>),
    telemetry: Option<Arc<Telemetry>>,
    integrations: Arc<Integrations>,
}

impl Attached {
    async fn start(node: &NodeConfig, core: &Core) -> Self {
        let control = &core.control;
        let alive = Arc::new(Alive::open(&node.data_dir));
        let events = node.events_published.clone();
        let outbox = EventOutbox::new(Arc::clone(control), alive.node(), events);
        let (settings, own) = (node.tables.clone(), Arc::clone(control));
        let tables = Arc::new(SharedRegistry::new(settings, own, outbox));
        let notes = Arc::clone(&tables);
        control.count_also("audit", Box::new(move || notes.notes_bytes()));
        note_tables(&node.data_dir, tables.location(), identity_of_tables(node));
        if node.user_configuration.tables_unasked.is_none() {
            tables.warn_of_renamed().await;
        }
        core.authenticator.begin_discovery(node, control, &tables);
        let presence = keep_presence(node, control, &tables, &alive).await;
        let message_log = MessageLog::new(Arc::clone(&tables), alive.node(), node.message_log.kept);
        let start = PartStarter {
            node,
            control,
            tables: &tables,
        };
        let activity = start.activity();
        // Before listeners open: a device may immediately answer commands from before the restart.
        let commands = start.commands();
        let twins = start.twins();
        let telemetry = start.telemetry(&activity);
        let integrations = make_integrations(node, control, &tables, &alive);
        let watched = start.rules(&integrations, &commands, telemetry.as_ref(), alive.node());
        let watched = watched.await;
        let firmware = start.firmware(&commands, &watched.1);
        let (rules, alarms) = (Arc::clone(&watched.0), Arc::clone(&watched.1));
        let own = OwnIntegrations {
            message_log: &message_log,
            telemetry: telemetry.as_ref(),
            rules: &rules,
        };
        start_integrations(node, &integrations, own, core.opened_by).await;
        if let Some(opening) = &core.opening
            && Instant::now() < core.opened_by
        {
            opening.abort();
            core.running.open_listeners();
        }
        tokio::spawn(rules.keep());
        tokio::spawn(alarms.keep());
        let uses = Arc::clone(&tables);
        core.chain.write_uses_by(Box::new(move || {
            let tables = Arc::clone(&uses);
            Box::pin(async move { tables.write_uses().await.is_ok() })
        }));
        Self {
            tables,
            alive,
            presence,
            message_log,
            activity,
            commands,
            firmware,
            twins,
            rules: watched,
            telemetry,
            integrations,
        }
    }
}

/// The fourth stage: the node is in service.
struct Serving {
    core: Core,
    attached: Attached,
    reload: Reload,
    _admin_file: AdminSocket,
}

impl Serving {
    async fn start(
        of: Configured<'_>,
        bound: Bound,
        core: Core,
        attached: Attached,
    ) -> anyhow::Result<Self> {
        let Configured {
            node, effective, ..
        } = of;
        let (control, tables) = (&core.control, &attached.tables);
        let start = PartStarter {
            node,
            control,
            tables,
        };
        let directory = Arc::new(Arc::clone(tables));
        let parts = NodeParts {
            tables: Some(Arc::clone(tables)),
            message_log: Some(attached.message_log.clone()),
            commands: Some(Arc::clone(&attached.commands)),
            twins: Some(Arc::clone(&attached.twins)),
            firmware: Some(attached.firmware.clone()),
            rules: Some(attached.rules.clone()),
            integrations: Some(Arc::clone(&attached.integrations)),
            telemetry: attached.telemetry.clone(),
            event_archive: start.event_archive(),
        };
        let api = Api::new(Arc::clone(control), directory, parts, node.api.clone());
        let api = api.context("no source of randomness")?;
        spawn_tasks(node, control, tables, &bound.http_at);
        tokio::spawn(attached.message_log.clone().keep());
        let http_urls = bound.http_urls();
        let descriptors = core.running.descriptors();
        let slots = ConnectionSlots::new(node.http_connections.clone(), &descriptors);
        let failures = Arc::<AcceptFailures>::default();
        let mut routers = Routers::new(&api);
        for open in bound.http {
            let (routes, failures) = (routers.of(&open.routes), Arc::clone(&failures));
            let (slots, control) = (slots.clone(), Arc::clone(control));
            tokio::spawn(http::serve(open, routes, slots, failures, control));
        }
        admin_socket::serve(bound.admin, routers.of(&node.api.routes));
        start.iotflow(&attached.integrations, &attached.activity);
        let reload = Reload::new(
            of,
            core.chain.clone(),
            Arc::clone(control),
            Arc::clone(tables),
            Arc::clone(&attached.integrations),
            http_urls,
        );
        // The state must be true when it is announced.
        control.health.set_ready();
        let setup = SetupLink::of(&api, control, &bound.http_at, &node.data_dir).await;
        announce(
            node,
            effective,
            control,
            &bound.http_at,
            setup.as_ref(),
            api.is_unclaimed().await,
            &descriptors,
        );
        tokio::spawn(tell_pauses(Arc::clone(control)));
        tokio::spawn(setup_link::watch_administrators(
            api,
            Arc::clone(control),
            Arc::clone(tables),
        ));
        signals::notify_ready();
        Ok(Self {
            core,
            attached,
            reload,
            _admin_file: bound.admin_file,
        })
    }

    /// Reloads files on request or when needed.
    async fn until_stopped(mut self, log: &Log, signals: &Signals) -> Self {
        let control = Arc::clone(&self.core.control);
        let mut stopping = std::pin::pin!(stop_asked(&control, signals));
        loop {
            let (of, why, asked) = tokio::select! {
                () = &mut stopping => break,
                () = signals.hangup() => {
                    signals::notify_reloading();
                    log.reopen();
                    (ReloadOf::Everything, "SIGHUP", None)
                }
                Some(asked) = self.core.reloads.recv() => {
                    (asked.of(), "told by admin.sock", Some(asked))
                }
                (of, why) = self.reload.changed() => (of, why, None),
            };
            // A database that does not respond must not delay stopping.
            let outcome = tokio::select! {
                () = &mut stopping => break,
                outcome = self.reload.run(of, why) => outcome,
            };
            if why == "SIGHUP" {
                signals::notify_ready();
            }
            // The outcome is also in the log and in health.
            if let Some(asked) = asked {
                asked.answer(outcome);
            }
        }
        self
    }

    async fn stop(self, node: &NodeConfig, signals: &Signals) {
        let (core, attached) = (self.core, self.attached);
        core.control.health.set_stopping();
        signals::notify_stopping();
        signals.set_stopping();
        let grace = Duration::from_secs(node.shutdown_grace_secs);
        // Unsettled messages are settled while the shards still run.
        attached.integrations.stop(grace.max(SETTLED_WITHIN)).await;
        stop_reactors(core.running, grace).await;
        // Its last lines are about clients that were disconnected for the shutdown, with the
        // reason.
        let over = tokio::task::spawn_blocking(|| core.events.join());
        let _ = tokio::time::timeout(LAST_EVENTS, over).await;
        attached.presence.stop().await;
        if let Err(error) = attached.alive.note_stop() {
            warn!(%error, "cannot note that the node was stopped");
        }
        end_streams(&core.control).await;
        if let Some(telemetry) = &attached.telemetry {
            telemetry.close().await;
        }
        attached.tables.close().await;
    }
}

/// Starts the background tasks of the node.
fn spawn_tasks(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
    http: &[HttpAt],
) {
    tokio::spawn(history::task::keep(Arc::clone(control)));
    tokio::spawn(memory::keep(Arc::clone(control)));
    let is_own = |push: &Push| http.iter().any(|at| at.is_at(&push.url));
    if node.push.as_ref().is_some_and(is_own) {
        warn!("events are not pushed: events.push_url is the address of this node's HTTP server");
    } else if let (Some(push), Some(state)) = (&node.push, control.push()) {
        let state = Arc::clone(state);
        tokio::spawn(feed::push(Arc::clone(control), push.clone(), state));
    }
    if let Some(kinds) = &node.events_published {
        tokio::spawn(feed::publish_events(Arc::clone(control), kinds.clone()));
    }
    if let Some(topics) = &node.api.topic_memory {
        start_topic_memory(topics, control);
    }
    tokio::spawn(Arc::clone(tables).keep_notes());
    tokio::spawn(Arc::clone(control).follow_sources());
    let watched = Arc::clone(tables);
    tokio::spawn(async move { watched.watch().await });
    if node.sys_interval_secs > 0 {
        let every = Duration::from_secs(node.sys_interval_secs);
        tokio::spawn(publish_statistics(Arc::clone(control), every));
    }
}

/// The routers of listeners; listeners with the same routes share one.
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
        () = control.stop_requested() => info!("stop requested through admin.sock"),
    }
}

/// Disconnects clients, waits for their connections to close, ends the reactors and closes the
/// store.
async fn stop_reactors(running: Arc<Running>, grace: Duration) {
    let stopped = tokio::task::spawn_blocking(move || {
        let closed = running.shutdown(grace);
        (closed, running.open_connections())
    })
    .await;
    match stopped {
        Ok((true, _)) => info!("all connections are closed"),
        Ok((false, left)) => warn!(
            left,
            "connections were still open at the end of the time for stopping"
        ),
        Err(error) => error!(%error, "stopping failed"),
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
