//! The control plane of a node.
//!
//! * `shards`: the shards, as the control plane reaches them
//! * `ask`: questions to shards and their answers
//! * `events`: events of shards to log, journal and feed
//! * `bans`: ending the connections of banned clients
//! * `memory`: what the memory of the node is held for
//! * `reload`, `reloads`: reading files again, and requests to do so
//! * `traces`: what shards report of traced clients
//! * `waiting`: requests that wait for answers

mod ask;
mod bans;
mod events;
mod memory;
mod reloads;
mod shards;

pub use ask::ControlError;
pub(crate) use ask::sum;
pub use reloads::{ReloadOf, ReloadRequest, Reloaded};
pub use shards::{Latencies, Shards};

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use martlet_broker::{
    Command, EventInterest, Limits, PartIdentity, PartSpec, Realm, ShardId, TenantId, Traced,
};
use martlet_integrate::Part;
use martlet_registry::{AccountKind, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::authentication::{AuthenticationChain, LockedClient, LockedOut, Policy};
use crate::event_log;
use crate::facts::NodeFacts;
use crate::feed::{Bounds, Feed, PushState};
use crate::health::Health;
use crate::history::History;
use crate::journal::{Journal, TablesNow};
use crate::lock::lock;
use crate::log_limit::LogLimit;
use crate::logging::{Logging, Subject};
use crate::memory::{Outside, part_of_memory};
use crate::presence::{ClientPresence, Presence};
use crate::remedy::Command as CommandLine;
use crate::remedy::form::{CommandForm, Given};
use crate::request::slots::RequestSlots;
use crate::restore_note::RestoreNote;
use crate::store::{PinnedStore, StoreSize, StoreState};
use shards::PendingAnswers;

/// Facts about this node that do not change.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Version of the program.
    pub version: &'static str,
    /// Addresses it listens on, as URLs.
    pub listeners: Vec<String>,
    /// Where its data are.
    pub data_dir: String,
    /// Options by which commands find this node, as they are typed in a shell.
    pub command_options: String,
    /// Promise of an acknowledgement: `sync`, `interval` or `memory`.
    pub durability: &'static str,
    /// With `interval`: the time between two syncs, milliseconds.
    pub interval_ms: Option<u64>,
    /// Connections that it takes at once: by its limits and by the descriptors of the process.
    pub connections_max: u64,
    /// Some listener beyond loopback takes clients without credentials.
    pub anonymous_beyond_loopback: bool,
    /// Bounds of the node.
    pub limits: Limits,
    /// Messages that it publishes itself.
    pub own_topics: OwnTopics,
    /// The restore of a backup that it goes on from.
    pub restored: Option<RestoreNote>,
}

/// Messages that the node publishes itself, by its configuration, and those for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTopics {
    /// Statistics, below `$SYS/`.
    pub publishes_statistics: bool,
    /// Kinds of events, below `$events/`.
    pub events: Vec<&'static str>,
    /// The topic of presence, with `{client_id}` and `{state}` in it.
    pub presence: String,
    /// Presence is published there.
    pub publishes_presence: bool,
    /// Topic Filters of what devices publish for the node itself: reports of commands and twins.
    pub received: Vec<String>,
}

/// Where users are, by the configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserConfiguration {
    /// Sources of credentials by their names in `auth.order`; the first that has a user decides.
    #[serde(default)]
    pub order: Vec<String>,
    /// The variable or key with the users of `auth.credentials`; none: there are none.
    #[serde(default)]
    pub credentials: Option<String>,
    /// Names of the users of `auth.credentials`; empty for callers without the scope `users:read`.
    #[serde(default)]
    pub credential_users: Vec<String>,
    /// The node's password file.
    pub password_file: Option<String>,
    /// Password files that listeners have of their own.
    pub listener_password_files: Vec<String>,
    /// Reason why users and devices of the tables are refused; none if they are accepted.
    pub tables_unasked: Option<String>,
    /// Passwords that are set are kept for SCRAM too.
    #[serde(default)]
    pub keeps_scram: bool,
    /// Devices that one user may own; none: as many as they like.
    #[serde(default)]
    pub devices_per_user_max: Option<u64>,
    /// Where the tables are, without a password.
    #[serde(default)]
    pub tables: Option<String>,
}

/// Parts that a control plane is made of.
pub struct ControlParts {
    /// The shards, which run.
    pub shards: Box<dyn Shards>,
    /// Facts about the node.
    pub info: NodeInfo,
    /// Takes requests to read files again.
    pub reloads: mpsc::UnboundedSender<ReloadRequest>,
    /// The chain that authenticates clients; none: no credentials are asked for.
    pub chain: Option<AuthenticationChain>,
    /// Control of the log; none: nothing does.
    pub logging: Option<Arc<Logging>>,
    /// How pushing events goes; none: events are not pushed.
    pub push: Option<Arc<PushState>>,
    /// Where users are.
    pub user_configuration: UserConfiguration,
    /// Some listener without credentials of its own takes clients without any.
    pub takes_anonymous: bool,
    /// How many events are kept.
    pub events_kept: Bounds,
    /// Events that are always wanted, as the shards know already.
    pub events: EventInterest,
    /// Memory of the node, bytes; none: no limit is known.
    pub memory_bytes: Option<usize>,
    /// The `.env` that the configuration was read from.
    pub environment_file: Option<String>,
    /// Facts about what the node is set up with.
    pub facts: NodeFacts,
}

impl ControlParts {
    /// The parts of a node without authentication, whose log does not change and that pushes no
    /// events.
    pub fn new(
        shards: Box<dyn Shards>,
        info: NodeInfo,
        reloads: mpsc::UnboundedSender<ReloadRequest>,
    ) -> Self {
        Self {
            shards,
            info,
            reloads,
            chain: None,
            logging: None,
            push: None,
            user_configuration: UserConfiguration::default(),
            takes_anonymous: false,
            events_kept: Bounds::default(),
            events: EventInterest::default(),
            memory_bytes: None,
            environment_file: None,
            facts: NodeFacts::default(),
        }
    }
}

/// Called when a device has sent nothing for a number of seconds, or sends again.
pub type SilenceObserver = Box<dyn Fn(TenantId, &str, Option<u32>) + Send + Sync>;

/// The control plane of one node.
pub struct Control {
    pub(crate) shards: Arc<dyn Shards>,
    /// Memory that other parts of the node hold.
    pub(crate) outside: Outside,
    /// Facts about the node.
    pub info: NodeInfo,
    /// Alive, ready, and why not.
    pub health: Health,
    /// Events that happened recently.
    pub journal: Journal,
    /// Events that have gone to it and to the feed.
    events_taken: watch::Sender<u64>,
    /// Events that happen now.
    pub feed: Arc<Feed>,
    /// The clients that are connected.
    pub presence: Presence,
    /// The main numbers of the last day.
    pub history: History,
    push: Option<Arc<PushState>>,
    /// The receiver of what falls silent: devices without messages.
    silence_observer: OnceLock<SilenceObserver>,
    chain: Option<AuthenticationChain>,
    logging: Option<Arc<Logging>>,
    log_limit: Mutex<LogLimit>,
    users: Mutex<UserConfiguration>,
    facts: Mutex<Arc<NodeFacts>>,
    anonymous: AtomicBool,
    started: Instant,
    /// See [`Control::clients_maximum`].
    clients_maximum: AtomicU64,
    next_request: AtomicU64,
    waiting: PendingAnswers,
    pub(crate) requests: RequestSlots,
    stop: watch::Sender<bool>,
    reloads: mpsc::UnboundedSender<ReloadRequest>,
}

impl Control {
    /// The control plane of a node whose shards are running.
    pub fn new(parts: ControlParts) -> Self {
        let part = parts.memory_bytes.map(part_of_memory);
        let tables = parts.chain.as_ref().map(|chain| {
            let (policy, others) = (chain.clone(), chain.clone());
            TablesNow {
                tables: Arc::new(move || policy.policy().tables().cloned()),
                have_others: Arc::new(move || others.policy().has_rules_of_others()),
            }
        });
        let variables = parts.facts.variables.clone();
        let journal = Journal::of_node(&parts.info.command_options, variables, tables, part);
        let shards: Arc<dyn Shards> = Arc::from(parts.shards);
        let observer = Arc::clone(&shards);
        let set_interest = move |interest: Arc<EventInterest>| {
            for shard in 0..observer.count() {
                let interest = Arc::clone(&interest);
                observer.send(ShardId(shard), Command::SetEvents(interest));
            }
        };
        let feed = Feed::new(Box::new(set_interest), parts.events_kept, parts.events);
        let feed = Arc::new(match part {
            Some(bytes) => feed.within(bytes),
            None => feed,
        });
        if let Some(logging) = &parts.logging {
            follow_traces(logging, &feed);
        }
        let team_share = parts.info.limits.team_share();
        Self {
            shards,
            outside: Outside::new(part),
            feed,
            events_taken: watch::Sender::new(0),
            presence: Presence::new(&parts.info.listeners, part),
            history: History::default(),
            push: parts.push,
            silence_observer: OnceLock::new(),
            log_limit: Mutex::default(),
            info: parts.info,
            health: Health::new(parts.environment_file),
            journal,
            chain: parts.chain,
            logging: parts.logging,
            users: Mutex::new(parts.user_configuration),
            facts: Mutex::new(Arc::new(parts.facts)),
            anonymous: AtomicBool::new(parts.takes_anonymous),
            started: Instant::now(),
            clients_maximum: AtomicU64::new(0),
            next_request: AtomicU64::new(1),
            waiting: Mutex::default(),
            requests: RequestSlots::new(team_share),
            stop: watch::Sender::new(false),
            reloads: parts.reloads,
        }
    }

    /// Sets the facts about what the node is set up with from now on.
    pub fn set_node_facts(&self, facts: NodeFacts) {
        *lock(&self.facts) = Arc::new(facts);
    }

    /// Facts about what the node is set up with.
    pub fn node_facts(&self) -> Arc<NodeFacts> {
        Arc::clone(&lock(&self.facts))
    }

    /// The text with the variables of other programs that set the keys which it names.
    pub fn with_variables<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.node_facts().variables.named(text)
    }

    /// Where users are from now on.
    pub fn set_user_configuration(&self, places: UserConfiguration) {
        *lock(&self.users) = places;
    }

    /// Where users are.
    pub fn user_configuration(&self) -> UserConfiguration {
        lock(&self.users).clone()
    }

    /// Whether some listener without credentials of its own takes clients without any.
    pub fn set_anonymous(&self, anonymous: bool) {
        self.anonymous.store(anonymous, Ordering::Relaxed);
    }

    /// Whether some listener without credentials of its own takes clients without any.
    pub(crate) fn takes_anonymous(&self) -> bool {
        self.anonymous.load(Ordering::Relaxed)
    }

    /// The most clients that were connected when the counters were read: at the interval of `$SYS`,
    /// and on each request for them.
    pub fn clients_maximum(&self) -> u64 {
        self.clients_maximum.load(Ordering::Relaxed)
    }

    /// Control of what is logged.
    pub fn logging(&self) -> Option<&Arc<Logging>> {
        self.logging.as_ref()
    }

    /// Whether this client is connected, since when, and why not; none: nothing is known of it.
    pub fn presence(&self, tenant: TenantId, client_id: &str) -> Option<ClientPresence> {
        self.presence.of(tenant, client_id)
    }

    /// How pushing events goes, if they are pushed.
    pub fn push(&self) -> Option<&Arc<PushState>> {
        self.push.as_ref()
    }

    /// Sets the observer of devices that fall silent.
    pub fn observe_silence(&self, observer: SilenceObserver) {
        // It is set once, at the start.
        let _ = self.silence_observer.set(observer);
    }

    /// A device has sent nothing for this number of seconds; none: it has sent something again.
    pub(crate) fn silence(&self, tenant: TenantId, device: &str, secs: Option<u32>) {
        if let Some(observer) = self.silence_observer.get() {
            observer(tenant, device, secs);
        }
    }

    /// Authentication policy; none: authentication is off.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.chain.as_ref().map(AuthenticationChain::policy)
    }

    /// A user or device of a tenant, by whose rules a part publishes.
    ///
    /// # Errors
    /// No user or device of this name may log in; the reason in words.
    pub fn identity(&self, tenant: TenantId, name: &str) -> Result<PartIdentity, String> {
        match self.chain.as_ref() {
            Some(chain) => chain.identity(tenant, name),
            None => Err("the node has no users and no devices".to_owned()),
        }
    }

    /// The lockout of this name of a tenant, from this address, as it is for this client.
    pub fn locked_out(
        &self,
        tenant: TenantId,
        user_name: &str,
        client_id: &str,
        address: Option<IpAddr>,
    ) -> Option<LockedClient> {
        let realm = Realm::of_tenant(tenant);
        let chain = self.chain.as_ref()?;
        chain.locked(realm, user_name, client_id, address)
    }

    /// The tenant of the team of this id or name; none: it owns none, or there is no such team.
    pub fn tenant_of_team(&self, team: &str) -> Option<TenantId> {
        let policy = self.policy()?;
        let tables = policy.tables_even_idle()?;
        let found = tables.tenant_of_team(team);
        found.or_else(|| tables.tenant_named(team)).map(TenantId)
    }

    /// The name of the team that owns a tenant; none: no team, as for the common one.
    pub fn name_of_tenant(&self, tenant: TenantId) -> Option<String> {
        let policy = self.policy()?;
        let tables = policy.tables_even_idle()?;
        tables.team_of(tenant.0).map(ToOwned::to_owned)
    }

    /// The id of the team that owns a tenant; none: no team, as for the common one.
    pub fn team_of_tenant(&self, tenant: TenantId) -> Option<String> {
        let policy = self.policy()?;
        let tables = policy.tables()?;
        tables.team_id_of(tenant.0).map(ToOwned::to_owned)
    }

    /// While the node runs, refreshes what decides about clients and changes elsewhere, such as the
    /// keys of a server, and ends the connections of clients that are no longer accepted.
    pub async fn follow_sources(self: Arc<Self>) {
        const EVERY: Duration = Duration::from_secs(1);
        let Some(chain) = self.chain.as_ref() else {
            return;
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let revocations = chain.refresh().await;
            if !revocations.is_empty() {
                let revoked = revocations.len();
                tracing::info!(
                    revoked,
                    "signing keys were withdrawn by their server: clients with their tokens are disconnected"
                );
                self.send_to_all_shards(&Command::Revoke(revocations.into()));
            }
        }
    }

    /// Borrows bytes of `limits.memory_bytes`, as for the body of a request. False if they are not
    /// available.
    pub fn borrow_memory(&self, bytes: usize) -> bool {
        self.shards.borrow_memory(bytes)
    }

    /// Gives back what was borrowed.
    pub fn return_memory(&self, bytes: usize) {
        self.shards.return_memory(bytes);
    }

    /// The chain; none: no credentials are asked for.
    pub fn authentication_chain(&self) -> Option<&AuthenticationChain> {
        self.chain.as_ref()
    }

    /// The lockouts in force now, of all tenants.
    pub fn all_locked_out(&self) -> LockedOut {
        let chain = self.chain.as_ref();
        chain.map_or_else(LockedOut::default, AuthenticationChain::locked_out)
    }

    /// Says that what certificates are good by has changed: those of connected clients are looked
    /// at again.
    pub fn recheck_certificates(&self) {
        self.shards.recheck_certificates();
    }

    /// Attaches a part of the node.
    pub(crate) fn attach(&self, spec: PartSpec) -> Part {
        Part::attach(spec, |spec, outlet| self.shards.attach(spec, outlet))
    }

    /// Sends a command to shard 0.
    pub fn send_to_first_shard(&self, command: Command) {
        self.shards.send(ShardId(0), command);
    }

    /// Sends a command to every shard.
    pub fn send_to_all_shards(&self, command: &Command) {
        for shard in 0..self.shards.count() {
            self.shards.send(ShardId(shard), command.clone());
        }
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Times that accepting began to pause because too few descriptors were left.
    pub fn accept_pauses(&self) -> u64 {
        self.shards.accept_pauses()
    }

    /// Connections accepted by the listeners since the start.
    pub fn sockets_accepted(&self) -> u64 {
        self.shards.sockets_accepted()
    }

    /// Connections that are open, those included that have not sent CONNECT or are being closed.
    pub fn sockets_open(&self) -> u64 {
        self.shards.sockets_open()
    }

    /// Clients that are connected, by the listener that they came by.
    pub fn clients_by_listener(&self) -> Vec<u32> {
        self.shards.clients_by_listener()
    }

    /// How long messages were under way inside the node, by shard.
    pub fn latencies(&self) -> Vec<Latencies> {
        self.shards.latencies()
    }

    /// Events that were dropped because they were not read in time.
    pub fn events_dropped(&self) -> u64 {
        self.shards.events_dropped()
    }

    /// How the message store is; none if all is kept in memory.
    pub fn store_state(&self) -> Option<StoreState> {
        self.shards.store_state()
    }

    /// Sizes of what the message store holds and takes. Blocks for a second at most.
    pub fn store_size(&self) -> Option<StoreSize> {
        self.shards.store_size()
    }

    /// Pins the store as it is at this moment. Blocks for as long as its checkpoint takes.
    ///
    /// # Errors
    /// All is kept in memory, or the disk does not take the checkpoint; in words.
    pub fn pin_store(&self) -> Result<PinnedStore, String> {
        self.shards.pin_store()
    }

    /// Asks the node to stop, in order.
    pub fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for a request to stop the node.
    pub async fn stop_requested(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// How many shards there are.
    pub(crate) fn shard_count(&self) -> u16 {
        self.shards.count()
    }
}

impl Control {
    /// The tables of users and devices as of now; none: they are not in use.
    pub(crate) fn tables(&self) -> Option<Arc<Snapshot>> {
        self.policy()?.tables().cloned()
    }

    /// Whether the tables have a device or a user of this name; none: neither.
    pub(crate) fn account_kind(&self, tenant: TenantId, name: &str) -> Option<AccountKind> {
        self.tables()?.account_kind(tenant.0, name)
    }

    /// A command about this node.
    pub(crate) fn command(&self, form: CommandForm, values: &[&str]) -> Option<CommandLine> {
        self.command_of_team(form, "", values)
    }

    /// A command about an object of a tenant, which may be that of a team; none: the team has no
    /// name any more, and without it the command would be about another object.
    pub(crate) fn command_of_tenant(
        &self,
        form: CommandForm,
        tenant: TenantId,
        values: &[&str],
    ) -> Option<CommandLine> {
        self.journal.commands().in_tenant_of(tenant, form, values)
    }

    /// A command about an object of a team; empty: of none.
    pub(crate) fn command_of_team(
        &self,
        form: CommandForm,
        team: &str,
        values: &[&str],
    ) -> Option<CommandLine> {
        let node = &*self.info.command_options;
        form.command(Given { node, team, values })
    }
}

/// Sets in all shards what is traced, when that changes.
fn follow_traces(logging: &Logging, feed: &Arc<Feed>) {
    let feed = Arc::clone(feed);
    logging.on_change(Box::new(move |logging| {
        let mut traced = Traced::default();
        for (subject, _) in logging.traces() {
            match subject {
                Subject::Client(tenant, client_id) => traced.clients.push((tenant, client_id)),
                Subject::Address(address) => traced.addresses.push(address),
                Subject::Topic(filter) => traced.topics.push(filter),
            }
        }
        let interest = EventInterest {
            traced,
            ..event_log::interest()
        };
        feed.set_logged(interest);
    }));
}

impl Control {
    /// Has the files read again that may change while the node runs.
    ///
    /// # Errors
    /// What is wrong with which of them; then nothing has changed.
    pub async fn reload(&self, of: ReloadOf) -> Result<Reloaded, String> {
        let (answer, outcome) = oneshot::channel();
        let stopping = || "the node is stopping".to_owned();
        self.reloads
            .send(ReloadRequest { of, answer })
            .map_err(|_| stopping())?;
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }
}
