//! Commands to shards and their answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{
    Answer, ClientDetail, ClientQuery, Command, Counters, Event, EventGroup, EventInterest,
    GroupLosses, Limits, MemoryUse, PartIdentity, PartLine, PartOutlet, PartSpec, Realm, Report,
    Search, SessionRules, ShardId, TenantId, Told, TopicUse, Traced, UnmatchedTopic, UserName,
};
use martlet_codec::ReasonCode;
use martlet_integrate::Part;
use martlet_registry::{Ban, BanKind};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::authentication::{AuthenticationChain, LockedClient, LockedOut, Policy};
use crate::event_log;
use crate::facts::NodeFacts;
use crate::feed::{self, Feed, PushState};
use crate::health::{Health, HealthReport, READY, Reader, STORE_FAILING};
use crate::history::History;
use crate::integrations::Integrations;
use crate::journal::Journal;
use crate::log_limit::{LeftOut, LogLimit};
use crate::logging::{Logging, Subject};
use crate::memory::{self, Outside};
use crate::metrics::Latencies;
use crate::presence::{ClientPresence, Known, Presence};
use crate::request::Places;
use crate::secrets::SecretStore;
use crate::store::{PinnedStore, StoreSize, StoreState};

/// Time that shards may take to answer: they answer within a tick, so a longer time means a stalled
/// node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that events take to arrive, at most, unless there are more than can be processed.
const SETTLED_WITHIN: Duration = Duration::from_millis(500);
/// Connected clients that are listed at once when some are banned.
const CLIENTS_PER_PAGE: usize = 4_000;
/// Time after a ban at which the connected clients are checked again.
const BANNED_AGAIN: Duration = Duration::from_millis(500);
/// Time that a health probe waits for the shards.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(200);

/// The shards, as the control plane reaches them. The binary implements it on the reactor.
pub trait Shards: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> u16;
    /// Tells one of them something.
    fn send(&self, shard: ShardId, command: Command);
    /// Connections accepted by the listeners since the start.
    fn sockets_accepted(&self) -> u64;
    /// Times that accepting began to pause because too few descriptors were left.
    fn accept_pauses(&self) -> u64;
    /// Accepting pauses now.
    fn is_accepting_paused(&self) -> bool;
    /// Connections that are open, those included that have not sent CONNECT or are being closed.
    fn sockets_open(&self) -> u64;
    /// Clients that are connected, by the listener that they came by, in the order of the
    /// listeners.
    fn clients_by_listener(&self) -> Vec<u32>;
    /// Events that were not read in time.
    fn events_dropped(&self) -> u64;
    /// Events that shards have told since the start, taken or not.
    fn events_told(&self) -> u64;
    /// How long messages were under way inside the node, by shard.
    fn latencies(&self) -> Vec<Latencies>;
    /// How the message store is; none if all is kept in memory.
    fn store_state(&self) -> Option<StoreState>;
    /// What the message store holds and takes; none if it does not say so within a second.
    fn store_size(&self) -> Option<StoreSize>;
    /// Attaches a part of the node: `outlet` is told whether it is attached, and then what there
    /// is for it. Its number in `spec` is set there.
    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine>;
    /// Disconnects clients whose certificates are no longer valid.
    fn recheck_certificates(&self);
    /// Borrows bytes of the node's memory for use outside of the shards. False if they are not
    /// available.
    fn borrow_memory(&self, bytes: usize) -> bool;
    /// Gives back what was borrowed.
    fn return_memory(&self, bytes: usize);
    /// Sets the number of bytes that are in use outside of the shards, beside what was borrowed.
    /// Answers whether memory is short.
    fn set_memory_outside(&self, bytes: usize) -> bool;
    /// Of the bytes in use, those of the addresses that clients connect from.
    fn addresses_bytes(&self) -> usize;
    /// Bytes of events that wait to be taken.
    fn events_bytes(&self) -> usize;
    /// What the node's memory is used for.
    fn memory_use(&self) -> MemoryUse;
    /// Pins the store as it is at this moment. Takes as long as its checkpoint.
    fn pin_store(&self) -> Result<PinnedStore, String>;
}

/// Facts about this node that do not change.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Of the program.
    pub version: &'static str,
    /// Addresses it listens on, as URLs.
    pub listeners: Vec<String>,
    /// Where its data are.
    pub data_dir: String,
    /// Options by which commands find this node, as they are typed in a shell.
    pub command_options: String,
    /// What an acknowledgement promises: `sync`, `interval` or `memory`.
    pub durability: &'static str,
    /// With `interval`: the time between two syncs, milliseconds.
    pub interval_ms: Option<u64>,
    /// Connections that it takes at once: by its limits and by the descriptors of the process.
    pub connections_max: u64,
    /// Some listener beyond loopback takes clients without credentials.
    pub anonymous_beyond_loopback: bool,
    /// What it is bounded by.
    pub limits: Limits,
}

/// Where users are, by the configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserPlaces {
    /// The node's password file.
    pub password_file: Option<String>,
    /// Those that listeners have of their own.
    pub listener_password_files: Vec<String>,
    /// Reason why users and devices of the tables are refused; none if they are accepted.
    pub tables_unasked: Option<String>,
    /// Passwords that are set are kept for SCRAM too.
    #[serde(default)]
    pub keeps_scram: bool,
    /// Where the tables are, without a password.
    #[serde(default)]
    pub tables: Option<String>,
}

/// The control plane of one node.
pub struct Control {
    pub(crate) shards: Arc<dyn Shards>,
    /// What other parts of the node hold.
    pub(crate) outside: Outside,
    /// Facts about the node.
    pub info: NodeInfo,
    /// Alive, ready, and why not.
    pub health: Health,
    /// What happened recently.
    pub journal: Journal,
    /// Events that have gone to it and to the feed.
    events_taken: watch::Sender<u64>,
    /// What happens now.
    pub feed: Arc<Feed>,
    /// Who is connected.
    pub presence: Presence,
    /// The main numbers of the last day.
    pub history: History,
    push: OnceLock<Arc<PushState>>,
    integrations: OnceLock<Arc<Integrations>>,
    secrets: OnceLock<Arc<SecretStore>>,
    chain: OnceLock<AuthenticationChain>,
    logging: OnceLock<Arc<Logging>>,
    log_limit: Mutex<LogLimit>,
    users: Mutex<UserPlaces>,
    facts: Mutex<Arc<NodeFacts>>,
    anonymous: AtomicBool,
    started: Instant,
    /// See [`Control::clients_maximum`].
    clients_maximum: AtomicU64,
    next_request: AtomicU64,
    waiting: Waiting,
    pub(crate) requests: Places,
    stop: watch::Sender<bool>,
    reloads: mpsc::UnboundedSender<ReloadRequest>,
}

/// What is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOf {
    /// All files that may change while the node runs.
    Everything,
    /// What has changed in the tables of users and devices.
    Tables,
}

/// A request to reload files, which waits for the result.
#[derive(Debug)]
pub struct ReloadRequest {
    of: ReloadOf,
    answer: oneshot::Sender<Result<Reloaded, String>>,
}

impl ReloadRequest {
    /// Which.
    pub fn of(&self) -> ReloadOf {
        self.of
    }

    /// Tells them.
    pub fn answer(self, outcome: Result<Reloaded, String>) {
        // They may have given up.
        let _ = self.answer.send(outcome);
    }
}

/// What came of reading the files again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// What has changed since it was last read: files, keys of the configuration, `tables`. Empty:
    /// nothing has.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Listeners with certificates that were read again.
    pub certificates: usize,
    /// Users whose credentials are not valid any more. Who has a certificate that is on a
    /// revocation list is not counted.
    pub revoked: usize,
    /// What has changed and is in force from the next start on.
    pub needs_restart: Vec<String>,
    /// Listeners that are configured and not open before the next start, or open until then and not
    /// configured any more, each in words.
    #[serde(default)]
    pub listeners: Vec<String>,
}

/// Why the shards could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A shard did not answer.
    #[error("only {answered} of {asked} shards answered within {} s; the node is stopping or overloaded", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// Shards that did.
        answered: usize,
        /// Shards asked.
        asked: usize,
    },
    /// A shard has too much to do, or its store does not answer.
    #[error("not done, and it may be asked again: {0}")]
    Refused(ReasonCode),
}

impl Control {
    /// The control plane of a node whose shards are running.
    pub fn new(
        shards: Box<dyn Shards>,
        info: NodeInfo,
        reloads: mpsc::UnboundedSender<ReloadRequest>,
    ) -> Self {
        let journal = Journal::of_node(&info.command_options);
        let shards: Arc<dyn Shards> = Arc::from(shards);
        let told = Arc::clone(&shards);
        let feed = Feed::new(Box::new(move |interest| {
            for shard in 0..told.count() {
                let interest = Arc::clone(&interest);
                told.send(ShardId(shard), Command::SetEvents(interest));
            }
        }));
        Self {
            shards,
            outside: Outside::default(),
            feed: Arc::new(feed),
            events_taken: watch::Sender::new(0),
            presence: Presence::new(&info.listeners),
            history: History::default(),
            push: OnceLock::new(),
            integrations: OnceLock::new(),
            secrets: OnceLock::new(),
            log_limit: Mutex::default(),
            info,
            health: Health::default(),
            journal,
            chain: OnceLock::new(),
            logging: OnceLock::new(),
            users: Mutex::default(),
            facts: Mutex::default(),
            anonymous: AtomicBool::new(false),
            started: Instant::now(),
            clients_maximum: AtomicU64::new(0),
            next_request: AtomicU64::new(1),
            waiting: Mutex::default(),
            requests: Places::default(),
            stop: watch::Sender::new(false),
            reloads,
        }
    }

    /// What the node is set up with from now on.
    pub fn set_node_facts(&self, facts: NodeFacts) {
        *lock(&self.facts) = Arc::new(facts);
    }

    /// What the node is set up with.
    pub fn node_facts(&self) -> Arc<NodeFacts> {
        Arc::clone(&lock(&self.facts))
    }

    /// Where users are from now on.
    pub fn set_user_places(&self, places: UserPlaces) {
        *lock(&self.users) = places;
    }

    /// Where users are.
    pub fn user_places(&self) -> UserPlaces {
        lock(&self.users).clone()
    }

    /// Whether some listener without credentials of its own takes clients without any.
    pub fn set_anonymous(&self, anonymous: bool) {
        self.anonymous.store(anonymous, Ordering::Relaxed);
    }

    /// It does.
    pub(crate) fn takes_anonymous(&self) -> bool {
        self.anonymous.load(Ordering::Relaxed)
    }

    /// A report came from a shard.
    pub fn report_received(&self, report: Report) {
        if let Some(asked) = lock(&self.waiting).remove(&report.request) {
            // The one who asked may have given up.
            let _ = asked.send(report.answer);
        }
    }

    /// Counters and gauges of each shard.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn snapshots(&self) -> Result<Vec<Counters>, ControlError> {
        self.snapshots_within(ANSWER_TIMEOUT).await
    }

    async fn snapshots_within(&self, timeout: Duration) -> Result<Vec<Counters>, ControlError> {
        let command = |request| Command::Snapshot { request };
        let reports = self.ask(timeout, command).await?;
        let counters = reports.into_iter().filter_map(|answer| match answer {
            Answer::Snapshot(counters) => Some(*counters),
            _ => None,
        });
        Ok(counters.collect())
    }

    /// Counters and gauges of the node.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn snapshot(&self) -> Result<Counters, ControlError> {
        let counters = sum(&self.snapshots().await?);
        self.clients_maximum
            .fetch_max(counters.connections, Ordering::Relaxed);
        Ok(counters)
    }

    /// The most clients that were connected when the counters were read: at the interval of `$SYS`,
    /// and whenever somebody asks for them.
    pub fn clients_maximum(&self) -> u64 {
        self.clients_maximum.load(Ordering::Relaxed)
    }

    /// The session of this Client Identifier, with `limit` of its subscriptions, of the messages in
    /// its queue and of those in flight at most.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn client(
        &self,
        tenant: TenantId,
        client_id: &str,
        limit: usize,
    ) -> Result<Option<ClientDetail>, ControlError> {
        let command = |request| Command::ClientDetail {
            request,
            tenant,
            client_id: client_id.into(),
            limit,
        };
        let mut answers = self.ask_all(command).await?.into_iter();
        Ok(answers.find_map(|answer| match answer {
            Answer::ClientDetail(found) => found.map(|found| *found),
            _ => None,
        }))
    }

    /// What share groups of a tenant have lost, of those with these Topic Filters.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn group_losses(
        &self,
        tenant: TenantId,
        filters: Arc<[Box<str>]>,
    ) -> Result<Vec<GroupLosses>, ControlError> {
        let command = |request| Command::GroupLosses {
            request,
            tenant,
            filters: Arc::clone(&filters),
        };
        let answers = self.ask_all(command).await?.into_iter();
        let groups = answers.filter_map(|answer| match answer {
            Answer::GroupLosses(groups) => Some(groups),
            _ => None,
        });
        Ok(groups.flatten().collect())
    }

    /// Topics of a tenant to which messages were published while nobody was subscribed, the latest
    /// last.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn unmatched_topics(
        &self,
        tenant: TenantId,
    ) -> Result<Vec<UnmatchedTopic>, ControlError> {
        let command = |request| Command::Unmatched { request, tenant };
        let mut topics: Vec<UnmatchedTopic> = Vec::new();
        for answer in self.ask_all(command).await? {
            let Answer::Unmatched(found) = answer else {
                continue;
            };
            for one in found {
                match topics.iter_mut().find(|known| known.topic == one.topic) {
                    Some(known) => known.add(one),
                    None => topics.push(one),
                }
            }
        }
        topics.sort_by_key(|one| one.last_ms);
        Ok(topics)
    }

    /// Which topics are in use, and by whom: `limit` uses of each shard at most.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn traffic(&self, limit: usize) -> Result<Vec<TopicUse>, ControlError> {
        let command = |request| Command::Traffic { request, limit };
        let reports = self.ask(ANSWER_TIMEOUT, command).await?;
        let uses = reports.into_iter().filter_map(|answer| match answer {
            Answer::Traffic(uses) => Some(uses),
            _ => None,
        });
        Ok(uses.flatten().collect())
    }

    /// What the client of this identifier may do, if it is connected.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn session_rules(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<SessionRules>, ControlError> {
        let command = |request| Command::SessionRules {
            request,
            tenant,
            client_id: client_id.to_owned(),
        };
        let mut reports = self.ask(ANSWER_TIMEOUT, command).await?.into_iter();
        Ok(reports.find_map(|answer| match answer {
            Answer::SessionRules(found) => found,
            _ => None,
        }))
    }

    /// By this the log is changed.
    pub fn set_logging(&self, logging: Arc<Logging>) {
        let feed = Arc::clone(&self.feed);
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
        // There is one from the start on.
        let _ = self.logging.set(logging);
    }

    /// What is logged.
    pub fn logging(&self) -> Option<&Arc<Logging>> {
        self.logging.get()
    }

    /// An event of which everything is logged: of its client, its address or its topic. `arrived`
    /// are clients whose presence is not known yet, with their addresses.
    fn is_traced(&self, told: &Told, arrived: &HashMap<(TenantId, &str), IpAddr>) -> bool {
        let event = &told.event;
        let Some(logging) = self.logging.get() else {
            return false;
        };
        logging.is_traced(|subject| match subject {
            Subject::Client(tenant, client_id) => {
                *tenant == told.head.tenant && told.head.is_of_client(client_id)
            }
            Subject::Address(address) => {
                let own = told.head.ip();
                let known = || {
                    let (tenant, client_id) = (told.head.tenant, told.head.whole_client_id()?);
                    let arrived = arrived.get(&(tenant, client_id)).copied();
                    arrived.or_else(|| self.presence.address_of(tenant, client_id))
                };
                own.or_else(known) == Some(*address)
            }
            Subject::Topic(filter) => {
                event.kind().group() != EventGroup::Subscription && feed::has_topic(event, filter)
            }
        })
    }

    /// Whether this client is connected, since when, and why not; none: nothing is known of it.
    pub fn presence(&self, tenant: TenantId, client_id: &str) -> Option<ClientPresence> {
        self.presence.of(tenant, client_id)
    }

    /// Events are pushed, and this is how that goes.
    pub fn set_push(&self, state: Arc<PushState>) {
        // It is so from the start on.
        let _ = self.push.set(state);
    }

    /// How pushing events goes, if they are pushed.
    pub fn push(&self) -> Option<&Arc<PushState>> {
        self.push.get()
    }

    /// Sets the integrations, which run from now on.
    pub fn set_integrations(&self, integrations: Arc<Integrations>) {
        // They are there from the start on.
        let _ = self.integrations.set(integrations);
    }

    /// Sets the secrets of other systems.
    pub fn set_secrets(&self, secrets: Arc<SecretStore>) {
        // They are there from the start on.
        let _ = self.secrets.set(secrets);
    }

    /// The secrets of other systems; none before the node is set up.
    pub fn secrets(&self) -> Option<&Arc<SecretStore>> {
        self.secrets.get()
    }

    /// The integrations of the node; none before they are started.
    pub fn integrations(&self) -> Option<&Arc<Integrations>> {
        self.integrations.get()
    }

    /// Takes events of the shards: into the log, the journal and the feed. `is_logged` says which
    /// have a line at the level of the log.
    pub fn events_received(
        &self,
        events: &mut Vec<Told>,
        lost: u64,
        is_logged: impl Fn(&Event) -> bool,
    ) {
        events.iter_mut().for_each(|told| self.settle_claim(told));
        let has_traces = self.logging().is_some_and(|logging| logging.has_traces());
        let mut arrived = HashMap::new();
        let logs_drops = self.feed.logs_drops();
        let log_limit = self.log_limit.lock();
        let mut log_limit = log_limit.unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (at, told) in events.iter().enumerate() {
            let event = &told.event;
            // Its CONNECT, and by what it has proved who it is, are told before it.
            for told in events[at..].iter().take(3).filter(|_| has_traces) {
                if let Event::Connected(_) = &told.event {
                    let who = (told.head.tenant, &*told.head.client_id);
                    arrived.extend(told.head.ip().map(|ip| (who, ip)));
                }
            }
            let is_traced = has_traces && self.is_traced(told, &arrived);
            // The shards tell of drops for other readers, too: the log does not depend on them.
            let is_for_log = logs_drops || !matches!(event, Event::Dropped { .. });
            // What somebody traces is wanted as a whole.
            let left_out = match is_traced {
                true => Some(LeftOut::default()),
                false if is_for_log && is_logged(event) => log_limit.take(told, now),
                false => None,
            };
            if let Some(left_out) = left_out {
                let way = self.journal.way(told);
                event_log::write(told, way.as_ref(), is_traced, left_out);
            }
        }
        drop(log_limit);
        let count = events.len() as u64;
        let journal = |known: &Known, told: &Told| {
            if logs_drops || !matches!(told.event, Event::Dropped { .. }) {
                self.journal.write(told, known);
            }
        };
        self.feed.write(events, lost, &self.presence, journal);
        self.journal.announce();
        self.events_taken.send_modify(|taken| *taken += count);
    }

    /// A client that is refused before its CONNECT, as in the TLS handshake, may have shown a name:
    /// the refusal is reported to the team of that name.
    fn settle_claim(&self, told: &mut Told) {
        let (head, is_refused) = (&mut told.head, matches!(told.event, Event::Refused { .. }));
        let Some(UserName::Claimed(name)) = &mut head.user else {
            return;
        };
        if !is_refused || !head.client_id.is_empty() || head.tenant != TenantId::default() {
            return;
        }
        if let Some(policy) = self.policy() {
            let (realm, own) = policy.tenant_of(Realm::COMMON, name);
            (head.tenant, *name) = (realm.tenant(), own.into());
        }
    }

    /// Sets the chain that authenticates clients.
    pub fn set_authentication_chain(&self, chain: AuthenticationChain) {
        let (policy, others) = (chain.clone(), chain.clone());
        self.journal.set_tables(
            move || policy.policy().tables().cloned(),
            move || others.policy().has_rules_of_others(),
        );
        // There is one from the start on, or none.
        let _ = self.chain.set(chain);
    }

    /// Authentication policy; none: authentication is off.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.chain.get().map(AuthenticationChain::policy)
    }

    /// A user or device of a tenant, by whose rules a part publishes.
    ///
    /// # Errors
    /// No user or device of this name may log in; the reason in words.
    pub fn identity(&self, tenant: TenantId, name: &str) -> Result<PartIdentity, String> {
        match self.chain.get() {
            Some(chain) => chain.identity(tenant, name),
            None => Err("the node has no users and no devices".to_owned()),
        }
    }

    /// The lockout of this name of a tenant, from this address, as it is for this client.
    pub fn locked_out(
        &self,
        tenant: TenantId,
        who: (&str, &str),
        address: Option<IpAddr>,
    ) -> Option<LockedClient> {
        let realm = Realm::of_tenant(tenant);
        self.chain.get()?.locked(realm, who, address)
    }

    /// The tenant of the team of this id or name; none: it owns none, or there is no such team.
    pub fn tenant_of_team(&self, team: &str) -> Option<TenantId> {
        let policy = self.policy()?;
        let tables = policy.tables_even_idle()?;
        let found = tables.tenant_of_team(team);
        found.or_else(|| tables.tenant_named(team)).map(TenantId)
    }

    /// While the node runs, refreshes what decides about clients and changes elsewhere, such as the
    /// keys of a server, and ends the connections of clients that are no longer accepted.
    pub async fn follow_sources(self: Arc<Self>) {
        const EVERY: Duration = Duration::from_secs(1);
        let Some(chain) = self.chain.get() else {
            return;
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let revocations = chain.refresh().await;
            if !revocations.is_empty() {
                let revoked = revocations.len();
                tracing::info!(revoked, "keys of tokens are gone from their server");
                self.tell_all(&Command::Revoke(revocations.into()));
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
        self.chain.get()
    }

    /// Who is locked out now, of all tenants.
    pub fn all_locked_out(&self) -> LockedOut {
        let chain = self.chain.get();
        chain.map_or_else(LockedOut::default, AuthenticationChain::locked_out)
    }

    /// What certificates are good by has changed: those of connected clients are looked at again.
    pub fn recheck_certificates(&self) {
        self.shards.recheck_certificates();
    }

    /// Ends the connections of clients that are banned from now on.
    pub async fn end_banned(&self, bans: Vec<Ban>) {
        // A client that the former rules let in may come a moment later.
        for pause in [Duration::ZERO, BANNED_AGAIN] {
            tokio::time::sleep(pause).await;
            for ban in &bans {
                if let Err(error) = self.end_banned_by(ban).await {
                    tracing::warn!(%error, "who is banned may be connected yet");
                }
            }
        }
    }

    async fn end_banned_by(&self, ban: &Ban) -> Result<(), ControlError> {
        let is_network = ban.kind == BanKind::Address && ban.value.contains('/');
        let search = (!is_network).then(|| Search {
            text: ban.value.as_str().into(),
            anywhere: false,
        });
        let mut query = ClientQuery {
            search,
            connected: Some(true),
            limit: CLIENTS_PER_PAGE,
            ..ClientQuery::default()
        };
        let policy = self.policy();
        loop {
            let page = self.clients(&query).await?;
            query.after = page.end;
            for client in page.clients {
                let address = client.address.map(|(address, _)| address);
                let (id, name) = (&client.client_id, client.user_name.as_deref());
                let why = policy
                    .as_ref()
                    .and_then(|policy| policy.banned(client.tenant, id, name, address));
                if why.is_some() {
                    self.tell_all(&Command::Disconnect {
                        request: 0,
                        tenant: client.tenant,
                        client_id: client.client_id,
                        reason: ReasonCode::Banned,
                    });
                }
            }
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    /// Attaches a part of the node.
    pub(crate) fn attach(&self, spec: PartSpec) -> Part {
        Part::attach(spec, |spec, outlet| self.shards.attach(spec, outlet))
    }

    /// Tells shard 0 something.
    pub fn tell_first(&self, command: Command) {
        self.shards.send(ShardId(0), command);
    }

    /// Tells every shard something.
    pub fn tell_all(&self, command: &Command) {
        for shard in 0..self.shards.count() {
            self.shards.send(ShardId(shard), command.clone());
        }
    }

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

    /// Waits until every shard has done what it was told before, 5 s at most.
    pub async fn all_told(&self) {
        // What they answer does not matter: they take one command after the other.
        let _ = self.session_rules(TenantId::default(), "").await;
    }

    /// Waits until what has happened up to now is in the journal and the feed, where it comes a few
    /// milliseconds later. Who cannot wait any longer goes by what is there.
    pub async fn settle_events(&self) {
        // A shard that answers has told of what it did before.
        self.all_told().await;
        let told = self.shards.events_told();
        let mut taken = self.events_taken.subscribe();
        let waiting = taken.wait_for(|taken| *taken >= told);
        let _ = tokio::time::timeout(SETTLED_WITHIN, waiting).await;
    }

    /// Events that were dropped because they were not read in time.
    pub fn events_dropped(&self) -> u64 {
        self.shards.events_dropped()
    }

    /// How the message store is; none if all is kept in memory.
    pub fn store_state(&self) -> Option<StoreState> {
        self.shards.store_state()
    }

    /// Alive, ready, and what operators should know, of the store and the queues too. Shards that
    /// do not answer at once are not waited for: nothing is said of their queues then.
    pub async fn health_report(&self, reader: Reader) -> HealthReport {
        let counters = self.snapshots_within(HEALTH_TIMEOUT).await;
        let counters = counters.map_or_else(|_| Counters::default(), |all| sum(&all));
        self.health_report_with(&counters, reader)
    }

    /// The same, with the node's counters known.
    pub fn health_report_with(&self, counters: &Counters, reader: Reader) -> HealthReport {
        let mut report = self.health.report();
        if reader == Reader::Operator {
            report.connections_max = Some(self.info.connections_max);
        }
        if self.shards.is_accepting_paused() {
            report.warnings.push(format!(
                "Nobody is accepted now: no descriptors are left for more connections (of {} at most); \
                 raise the limit of open files (ulimit -n, LimitNOFILE).",
                self.info.connections_max
            ));
        }
        if reader == Reader::Anybody {
            report.environment_file = None;
        }
        let memory = memory::warning(&self.shards.memory_use());
        report.warnings.extend(memory);
        if let Some(warning) = queues_warning(counters.queues_full) {
            report.warnings.push(warning);
        }
        if let Some(integrations) = self.integrations() {
            report.warnings.extend(integrations.warnings(reader));
        }
        let locked_out = lockouts_warning(&self.all_locked_out(), reader);
        report.warnings.extend(locked_out);
        let Some(store) = self.store_state() else {
            return report;
        };
        if let Some((secs, error)) = store.failing {
            let patience_secs = u64::from(self.info.limits.store_patience_secs());
            if report.status == READY && secs >= patience_secs {
                report.status = STORE_FAILING;
            }
            report.warnings.push(format!(
                "The message store has not been able to write for {secs} s: {error}. \
                 What has to be stored is not acknowledged; QoS 0 goes on."
            ));
        } else if let Some(why) = store.low {
            report.warnings.push(format!(
                "No more messages are stored: {why}. QoS 0 goes on."
            ));
        } else if store.behind {
            let behind = "The disk is too slow: publishers with QoS 1 and 2 are held back.";
            report.warnings.push(behind.to_owned());
        }
        if store.unreadable > 0 {
            report.warnings.push(format!(
                "{} messages could not be read back: the store is damaged; `martlet store check` says where.",
                store.unreadable
            ));
        }
        report
    }

    /// What the message store holds and takes. Blocks for a second at most.
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

    /// Asks every shard; `command` is made with the number of the request. The answers come in no
    /// particular order.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn ask_all(
        &self,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        self.ask(ANSWER_TIMEOUT, command).await
    }

    /// How many shards there are.
    pub(crate) fn shard_count(&self) -> u16 {
        self.shards.count()
    }

    /// Asks one shard, and waits as long as what it is asked for may have to wait for the store.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn ask_shard(
        &self,
        shard: ShardId,
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Answer, ControlError> {
        let mut answers = self.ask_some(&[shard], timeout, command).await?;
        let none = ControlError::NoAnswer {
            answered: 0,
            asked: 1,
        };
        answers.pop().ok_or(none)
    }

    pub(crate) async fn ask(
        &self,
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        let shards: Vec<ShardId> = (0..self.shards.count()).map(ShardId).collect();
        self.ask_some(&shards, timeout, command).await
    }

    /// Answers are in the order of the shards.
    async fn ask_some(
        &self,
        shards: &[ShardId],
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        let asked: Vec<Asked<'_>> = shards.iter().map(|_| self.expect_answer()).collect();
        for (shard, asked) in shards.iter().zip(&asked) {
            self.shards.send(*shard, command(asked.request));
        }
        let until = tokio::time::Instant::now() + timeout;
        let mut answers = Vec::with_capacity(shards.len());
        for mut asked in asked {
            let answer = tokio::time::timeout_at(until, &mut asked.answer).await;
            answers.extend(answer.ok().and_then(Result::ok));
        }
        match answers.len() == shards.len() {
            true => Ok(answers),
            false => Err(ControlError::NoAnswer {
                answered: answers.len(),
                asked: shards.len(),
            }),
        }
    }

    fn expect_answer(&self) -> Asked<'_> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(request, sender);
        Asked {
            waiting: &self.waiting,
            request,
            answer,
        }
    }
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;

/// A question is forgotten when its answer is not waited for any more.
struct Asked<'a> {
    waiting: &'a Waiting,
    request: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.request);
    }
}

pub(crate) fn sum(all: &[Counters]) -> Counters {
    let mut sum = Counters::default();
    for counters in all {
        sum.add(counters);
    }
    sum
}

/// What operators should know of queues that lose messages.
fn queues_warning(full: u64) -> Option<String> {
    let whose = match full {
        0 => return None,
        1 => "The queue of 1 session or share group is full".to_owned(),
        _ => format!("The queues of {full} sessions or share groups are full"),
    };
    Some(format!(
        "{whose}: messages for them are dropped as mqtt.queue_full says; \
         `martlet clients` shows what is queued."
    ))
}

/// What operators should know of guessed passwords.
fn lockouts_warning(locked_out: &LockedOut, reader: Reader) -> Option<String> {
    let who = match locked_out.now {
        0 => return None,
        1 => "1 address or name is".to_owned(),
        now => format!("{now} addresses and names are"),
    };
    let more = match locked_out.now > locked_out.some.len() {
        true => ", …",
        false => "",
    };
    let named = match reader {
        Reader::Anybody => String::new(),
        Reader::Operator => format!(" ({}{more})", locked_out.some.join("; ")),
    };
    Some(format!(
        "{who} locked out for too many wrong credentials{named}: no more passwords are checked \
         there for a while. Clients are let in all the same while the password that they logged in \
         with is remembered (auth.remember_secs), or where they have logged in before and only \
         others were wrong. `martlet logs -t` tells who tries, `martlet why NAME` whether a client \
         is kept out. It ends by itself; `martlet lockout rm` ends it now."
    ))
}

/// A lock that a panic elsewhere does not take along.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
