//! Starts and stops a node's reactors, and sends them commands while they run.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use martlet_broker::{
    Command, ListenerPolicy, MemoryUse, Node as _, Now, PartId, PartLine, PartOutlet, PartSpec,
    Report, Run, SHARDS_MAX, Settings, ShardId, owner,
};
use martlet_persistence::Shards;

use crate::clock::Clock;
use crate::config::{ListenAddress, ReactorConfig};
use crate::descriptors::Descriptors;
use crate::events::Events;
use crate::latency::LatencyHistogram;
use crate::listen;
use crate::mailbox::{Control, Mailboxes};
use crate::node::SharedNode;
use crate::part::AttachedPart;
use crate::poll::{Poller, Stream};
use crate::reactor::{Common, Entrance, Reactor};
use crate::start_error::StartError;
use crate::stats::{Counters, ReactorStats, SocketCount};
use crate::store::{PinnedFiles, Restored, Store, StoreHealth};
use crate::sys::{self, Entropy};

/// Interval at which the shutdown checks whether all connections are closed.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(5);

/// Sockets accepted in addition to the limit of connections, however low that limit is.
const LOBBY_ROOM: u64 = 64;

/// Starts a node: restores the store, opens all listeners, then starts the threads `martlet-0`,
/// `martlet-1` and so on. Raises the soft limit of open files to the hard limit.
pub fn start(mut config: ReactorConfig) -> Result<Running, StartError> {
    if config.threads == 0 || config.threads > usize::from(SHARDS_MAX) {
        return Err(StartError::Threads(config.threads));
    }
    for (number, listener) in config.listeners.iter_mut().enumerate() {
        let policy = Arc::make_mut(&mut listener.policy);
        policy.number = number as u16;
        policy.mark = ListenerPolicy::mark_of(&policy.name);
    }
    sys::raise_open_files_limit();
    let pollers = (0..config.threads)
        .map(|_| Poller::new())
        .collect::<io::Result<Vec<Poller>>>()?;
    let wakeups = pollers
        .iter()
        .map(Poller::waker)
        .collect::<io::Result<Vec<_>>>()?;
    let (mailboxes, boxes) = Mailboxes::new(&wakeups, config.mailbox_batches);
    let (events_in, events) = crate::events::events(config.event_capacity);
    let (reports_in, reports) = unbounded();
    let mut entropy = Entropy::open()?;
    let seed = u64::from_ne_bytes(entropy.take()?);
    let common = Common {
        settings: Arc::clone(&config.settings),
        node: Arc::new(SharedNode::new(
            seed,
            config.memory_bytes,
            config.listeners.len(),
        )),
        clock: Clock::start(),
        mailboxes: Arc::clone(&mailboxes),
        entrances: config.listeners.iter().map(Entrance::new).collect(),
        sockets: Arc::new(SocketCount::new(Arc::clone(&wakeups[0]))),
        sockets_max: sockets_max(config.settings.limits.connections),
        events: events_in,
        reports: reports_in,
        batch_messages: config.batch_messages,
        authenticator: Arc::clone(&config.authenticator),
        refused_name: config.refused_name,
    };
    let mut reactors = Vec::new();
    let mut counters = Vec::new();
    for (number, (poller, mailbox)) in pollers.into_iter().zip(boxes).enumerate() {
        let shard = ShardId(number as u16);
        let wakeup = Arc::clone(&wakeups[number]);
        let counted = Arc::new(Counters::default());
        counters.push(Arc::clone(&counted));
        let store = config.store.as_mut();
        let reactor = Reactor::new(shard, &common, poller, wakeup, mailbox, store, counted)?;
        reactors.push(reactor);
    }
    let now = common.clock.now();
    let restored = restore(&mut config, &common.node, now, &mut reactors)?;
    let mut clock = common.clock;
    if let Some(restored) = &restored {
        clock.set_record_time(now, restored.restored.record_ms);
    }
    reactors
        .iter_mut()
        .for_each(|reactor| reactor.set_clock(clock));
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        let unacknowledged = listen::unacknowledged_max(&config.settings.limits);
        let (bound, address) = listen::bind(listener, unacknowledged)?;
        listeners.push((bound, listener.accept_rate));
        addresses.push((listener.name.clone(), address));
    }
    config.store.begin(Box::new(move || clock.now()))?;
    // Files that are open now stay open.
    let descriptors = Descriptors::of_process();
    reactors[0].open_listeners(listeners, descriptors, !config.opens_later)?;
    let running = Running {
        health: config.store.health(),
        store: Mutex::new(config.store),
        restored,
        threads: Mutex::default(),
        mailboxes,
        addresses,
        events,
        reports,
        counters,
        sockets: common.sockets,
        descriptors,
        node: common.node,
        settings: common.settings,
        parts: AtomicU64::default(),
    };
    for (number, reactor) in reactors.into_iter().enumerate() {
        let thread = thread::Builder::new().name(format!("martlet-{number}"));
        let thread = thread.spawn(move || reactor.run())?;
        lock(&running.threads).push(thread);
    }
    Ok(running)
}

/// Restores the store's contents and passes the rule book to the shards.
fn restore(
    config: &mut ReactorConfig,
    node: &SharedNode,
    now: Now,
    reactors: &mut [Reactor],
) -> Result<Option<Restored>, StartError> {
    let shards = reactors.iter_mut().map(Reactor::lend_shard);
    let listeners = config.listeners.iter();
    let restored = config.store.restore(Shards {
        settings: &config.settings,
        node,
        now,
        listeners: listeners.map(|one| Arc::clone(&one.policy)).collect(),
        shards: shards.collect(),
    })?;
    if restored.is_none() {
        // Recipients of messages of an earlier run must be able to distinguish this run's messages.
        let run = Run::after(0, now.wall_ms, config.settings.node_seed).unwrap_or_default();
        for reactor in reactors.iter_mut() {
            reactor.lend_shard().0.begin_names(run);
        }
    }
    if let Some(book) = &config.rules {
        for reactor in reactors.iter_mut() {
            let (shard, _) = reactor.lend_shard();
            shard.set_rule_book(Arc::clone(book));
        }
    }
    Ok(restored)
}

/// Number of client sockets that are accepted. In addition to the limit of connections there is
/// room for some in the lobby, which the shard refuses with a reason code, and for those that are
/// being closed.
fn sockets_max(connections: u32) -> usize {
    let connections = u64::from(connections);
    usize::try_from(connections + connections / 8 + LOBBY_ROOM).unwrap_or(usize::MAX)
}

/// A running node. Dropping it stops the node immediately; [`Running::shutdown`] stops it in order.
#[derive(Debug)]
pub struct Running {
    store: Mutex<Box<dyn Store>>,
    health: Option<Arc<StoreHealth>>,
    restored: Option<Restored>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    mailboxes: Arc<Mailboxes>,
    addresses: Vec<(String, ListenAddress)>,
    events: Events,
    reports: Receiver<Report>,
    counters: Vec<Arc<Counters>>,
    sockets: Arc<SocketCount>,
    descriptors: Descriptors,
    node: Arc<SharedNode>,
    settings: Arc<Settings>,
    /// Number of parts that have been attached.
    parts: AtomicU64,
}

impl Running {
    /// Name and address of each listener, with the port that the system chose for port 0.
    pub fn local_addresses(&self) -> Vec<(String, ListenAddress)> {
        self.addresses.clone()
    }

    /// Starts to accept connections, if that was deferred ([`ReactorConfig::opens_later`]).
    pub fn open_listeners(&self) {
        self.mailboxes
            .control(ShardId(0), Control::AcceptConnections);
    }

    /// Sends a command to one shard. Unknown shards are ignored.
    pub fn command(&self, shard: ShardId, command: Command) {
        self.mailboxes.control(shard, Control::Command(command));
    }

    /// Opens a connection whose bytes this process carries, for example an upgraded HTTP
    /// connection. Returns its other end, which is non-blocking. The node treats the client as if
    /// it had connected from `address` through a listener with this policy.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn carry(
        &self,
        policy: Arc<ListenerPolicy>,
        address: Option<(IpAddr, u16)>,
    ) -> io::Result<UnixStream> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        self.sockets.raise();
        let carried = Control::Carried {
            stream: Stream::unix(own),
            address,
            policy,
        };
        // Any shard's lobby can take it.
        self.mailboxes.control(ShardId(0), carried);
        Ok(other)
    }

    /// Attaches a part of the node. `outlet` is notified whether it is attached, and then receives
    /// what is meant for it. The part's number in `spec` is set here.
    pub fn attach(&self, mut spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        spec.id = PartId(self.parts.fetch_add(1, Ordering::Relaxed));
        let count = self.shard_count();
        let shard = owner(&self.settings, spec.tenant, &spec.client_id, count);
        let mailboxes = Arc::clone(&self.mailboxes);
        let part = AttachedPart::new(spec.id, shard, mailboxes);
        let attach = Control::AttachPart(Box::new(spec), outlet);
        self.mailboxes.control(shard, attach);
        Box::new(part)
    }

    /// Call this when the CAs or revocation lists have changed by [`TlsSettings::replace`]. Clients
    /// whose certificates are no longer valid are disconnected.
    ///
    /// [`TlsSettings::replace`]: crate::TlsSettings::replace
    pub fn recheck_certificates(&self) {
        for shard in 0..self.shard_count() {
            self.mailboxes
                .control(ShardId(shard), Control::RecheckCertificates);
        }
    }

    /// Number of shards of this node; they are numbered from 0.
    pub fn shard_count(&self) -> u16 {
        self.mailboxes.shard_count()
    }

    /// Returns what the start restored from the store; `None` without a persistent store.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// The health of the store; `None` without a persistent store.
    pub fn store_health(&self) -> Option<Arc<StoreHealth>> {
        self.health.clone()
    }

    /// Pins the current files of the store, so that they can be copied. Blocks.
    ///
    /// # Errors
    /// There is no store on disk, or the disk failed; as text.
    pub fn pin_store(&self) -> Result<PinnedFiles, String> {
        lock(&self.store).pin()
    }

    /// Contents and disk use of the store; `None` without a store on disk. Blocks briefly.
    pub fn store_stats(&self) -> Option<martlet_store::Stats> {
        lock(&self.store).stats()
    }

    /// The events of the shards. All clones take from the same queue.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Answers to commands. All clones of this receiver take from the same queue.
    pub fn reports(&self) -> Receiver<Report> {
        self.reports.clone()
    }

    /// Sum of the counters of all reactors.
    pub fn stats(&self) -> ReactorStats {
        let mut stats = ReactorStats::default();
        for counters in &self.counters {
            stats += counters;
        }
        stats
    }

    /// Latencies of messages inside the node, by the shard that sent them.
    pub fn latencies(&self) -> Vec<LatencyHistogram> {
        let all = self.counters.iter();
        all.map(|counters| counters.latencies.read()).collect()
    }

    /// Number of client sockets, including those before CONNECT and those being closed.
    pub fn open_connections(&self) -> usize {
        self.sockets.get()
    }

    /// The file descriptors of the process, and how many connections they allow.
    pub fn descriptors(&self) -> Descriptors {
        self.descriptors
    }

    /// Whether accepting is paused because too few descriptors are left.
    pub fn is_accepting_paused(&self) -> bool {
        self.sockets.is_paused()
    }

    /// Connected clients by listener, in the order of [`ReactorConfig::listeners`].
    pub fn clients_by_listener(&self) -> Vec<u32> {
        self.node.clients_by_listener()
    }

    /// Use of the bytes of [`ReactorConfig::memory_bytes`].
    pub fn memory_use(&self) -> MemoryUse {
        self.node.memory_use()
    }

    /// Memory used for the addresses of clients, in bytes.
    pub fn addresses_bytes(&self) -> usize {
        self.node.addresses_bytes()
    }

    /// Memory used by the store, in bytes: for records that wait to be written, and for its index.
    pub fn store_held_bytes(&self) -> usize {
        self.store_health().map_or(0, |health| health.held_bytes())
    }

    /// Borrows bytes of the node's memory for use outside of the shards. Returns false if they are
    /// not available.
    pub fn borrow_memory(&self, bytes: usize) -> bool {
        self.node.borrow_memory(bytes)
    }

    /// Returns borrowed bytes.
    pub fn return_memory(&self, bytes: usize) {
        self.node.return_memory(bytes);
    }

    /// Sets the number of bytes of the node's memory that are in use outside of the shards, even if
    /// they are not available. Returns whether memory is short.
    pub fn set_memory_outside(&self, bytes: usize) -> bool {
        self.node.set_memory_outside(bytes)
    }

    /// Stops the node. No more connections are accepted. Clients are notified and get at most
    /// `grace` until their connections are closed. Returns when all threads have ended; true if all
    /// connections had been closed by then.
    pub fn shutdown(&self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        for shard in 0..self.shard_count() {
            self.command(ShardId(shard), Command::Shutdown);
        }
        while self.open_connections() > 0 && Instant::now() < end {
            thread::sleep(SHUTDOWN_LOOK);
        }
        let closed = self.open_connections() == 0;
        self.stop();
        closed
    }

    fn stop(&self) {
        for shard in 0..self.shard_count() {
            self.mailboxes.control(ShardId(shard), Control::Stop);
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A thread that panicked has already reported the panic.
            let _ = thread.join();
        }
        lock(&self.store).end();
    }
}

/// Locks a mutex, even if another thread panicked while holding it.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
