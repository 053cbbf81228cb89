//! The loop of one reactor. A tick: wait; take what has come by mailbox; accept; read; let the
//! shard's timers and deferred work go on; carry out its effects.
//!
//! `input.rs` reads, `output.rs` carries out effects and writes, `ending.rs` brings sockets to
//! their end. Nothing here knows what a packet is.

mod ending;
mod input;
mod output;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ipnet::IpNet;
use martlet_broker::{
    Command, ConnectionEffect, ConnectionId, Effects, Guest, ListenerPolicy, Peer, Report,
    Settings, Shard, ShardId, TransportEnd,
};

use crate::authenticate::Authenticator;
use crate::clock::Clock;
use crate::config::{ListenerConfig, Transport};
use crate::contention::{Contention, REST, time_run};
use crate::descriptors::Descriptors;
use crate::door::{Accepted, Door};
use crate::driver::Driver;
use crate::events::EventSender;
use crate::latency::UnderWay;
use crate::layers::Layers;
use crate::mailbox::{Control, Mailbox, Mailboxes};
use crate::node::SharedNode;
use crate::outbox::Outbox;
use crate::poll::{Listener, Poller, Source, Stream, Wakeup};
use crate::proxy::ProxyHeader;
use crate::socket::{SocketKey, Sockets};
use crate::stats::{Counters, SocketCount};
use crate::store::{Durable, Store, Writer};
use crate::sys::Entropy;
use crate::tls::{Tls, TlsSettings};
use crate::websocket::{UpgradeRules, WebSocket};

use ending::Deadline;
use input::{Group, READING_LAST_MAX, READING_MAX};
use output::{WRITING_LAST_MAX, WRITING_LAST_PART, WRITING_MAX};

/// A tick reads at most this number of bytes from one socket.
const READ_LEN: usize = 64 * 1024;

/// Certificates of connected clients that are checked again in one tick, at most.
const RECHECKS_PER_TICK: usize = 32;

/// Places of sockets that one tick looks at for them, at most.
const RECHECK_PLACES_PER_TICK: usize = 256;

/// Sockets to be read from or written to after others, from which on a reactor may rest.
const RESTS_FROM: usize = 1024;

/// Batches of other shards taken in one tick at most.
const BATCHES_PER_TICK: usize = 256;

/// How soon a full mailbox of another shard is tried again, milliseconds.
const CONGESTED_RETRY_MS: u64 = 1;

/// What all reactors of a node are made from.
pub(crate) struct Common {
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: Arc<SharedNode>,
    pub(crate) clock: Clock,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) entrances: Arc<[Entrance]>,
    pub(crate) sockets: Arc<SocketCount>,
    pub(crate) sockets_max: usize,
    pub(crate) events: EventSender,
    pub(crate) reports: Sender<Report>,
    pub(crate) batch_messages: usize,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) refused_name: fn() -> Option<String>,
}

/// What connections of one listener begin with.
#[derive(Debug)]
pub(crate) struct Entrance {
    policy: Arc<ListenerPolicy>,
    /// Proxies that say where connections come from; empty: none.
    proxies: Vec<IpNet>,
    /// None without encryption.
    tls: Option<TlsSettings>,
    /// None on plain TCP.
    web: Option<Arc<UpgradeRules>>,
}

impl Entrance {
    pub(crate) fn new(config: &ListenerConfig) -> Self {
        let web = match &config.transport {
            Transport::Tcp => None,
            Transport::WebSocket { path, origins } => {
                let (path, origins) = (path.clone(), origins.clone());
                Some(Arc::new(UpgradeRules { path, origins }))
            }
        };
        Self {
            policy: Arc::clone(&config.policy),
            proxies: config.proxies.clone(),
            tls: config.tls.clone(),
            web,
        }
    }

    /// The word of who connects from there is taken. Who may write to the file of a Unix socket is
    /// always believed.
    fn trusts(&self, address: Option<SocketAddr>) -> bool {
        address.is_none_or(|address| {
            let ip = address.ip().to_canonical();
            self.proxies.iter().any(|proxies| proxies.contains(&ip))
        })
    }
}

/// How long a tick may do what takes time by the number of clients.
#[derive(Clone, Copy, Debug)]
struct TimeLimits {
    reading: Duration,
    /// Reading answers to messages for many.
    reading_last: Duration,
    writing: Duration,
    /// Writing what messages for many have left.
    writing_last: Duration,
    /// The same as part of the time that other effects have taken: a divisor.
    writing_last_part: u32,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            reading: READING_MAX,
            reading_last: READING_LAST_MAX,
            writing: WRITING_MAX,
            writing_last: WRITING_LAST_MAX,
            writing_last_part: WRITING_LAST_PART,
        }
    }
}

/// A connection on its way in from the lobby of another shard.
struct Arrival {
    stream: Stream,
    layers: Option<Box<Layers>>,
    guest: Box<Guest>,
}

/// One reactor with its shard.
pub(crate) struct Reactor {
    shard: ShardId,
    driver: Driver,
    settings: Arc<Settings>,
    clock: Clock,
    poller: Poller,
    wakeup: Arc<Wakeup>,
    mailbox: Mailbox,
    mailboxes: Arc<Mailboxes>,
    outbox: Outbox,
    writer: Box<dyn Writer>,
    authenticator: Arc<dyn Authenticator>,
    refused_name: fn() -> Option<String>,
    /// When this tick began.
    tick_at: Instant,
    under_way: UnderWay,
    /// The shard has been told that other shards do not keep up.
    congested: bool,
    contention: Contention,
    sockets: Sockets,
    times: TimeLimits,
    /// Sockets that may still be written to in this tick though they have little output.
    turns: usize,
    /// When this tick stops writing.
    writing_ends: Instant,
    /// Broken sockets that no read will find out about, to be dropped.
    broken: VecDeque<(SocketKey, ConnectionId)>,
    /// When sockets that are being ended are dropped, whatever their peers do.
    deadlines: BinaryHeap<Reverse<Deadline>>,
    /// Sockets that have been read in this tick and whose bytes are not processed yet.
    group: Group,
    /// What has been decrypted of it.
    plain: Vec<u8>,
    /// TLS handshakes that may still be processed in this tick.
    handshakes: usize,
    /// Connections without a client that may still be read from in this tick though the shard's
    /// turn is over.
    newcomers: usize,
    /// On the first reactor, until the node stops.
    door: Option<Door>,
    /// Connections dealt out so far.
    dealt: u64,
    entrances: Arc<[Entrance]>,
    /// What each listener permits now.
    policies: Vec<Arc<ListenerPolicy>>,
    /// Connections from the lobbies of other shards, let in by the next tick.
    arrivals: Vec<Arrival>,
    entropy: Entropy,
    events: EventSender,
    reports: Sender<Report>,
    counters: Arc<Counters>,
    socket_count: Arc<SocketCount>,
    sockets_max: usize,
    /// While clients' certificates are looked at again: the place of the next socket.
    next_recheck: Option<SocketKey>,
    /// Emptied lists, to be filled again by the next tick.
    spare_keys: Vec<SocketKey>,
    /// Sockets that have something and had no turn in this tick.
    put_off: Vec<SocketKey>,
    spare_effects: Vec<ConnectionEffect>,
    stopped: bool,
}

impl Reactor {
    /// A reactor for `shard` that waits and is reached by the given three.
    pub(crate) fn new(
        shard: ShardId,
        common: &Common,
        (poller, wakeup, mailbox): (Poller, Arc<Wakeup>, Mailbox),
        store: &mut dyn Store,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let mut entropy = Entropy::open()?;
        let seed = u64::from_ne_bytes(entropy.take()?);
        let mailboxes = Arc::clone(&common.mailboxes);
        let count = mailboxes.shard_count();
        let state = Shard::new(Arc::clone(&common.settings), shard, count, seed);
        let node = Arc::clone(&common.node);
        Ok(Self {
            shard,
            driver: Driver::new(state, count, node, common.clock.now()),
            settings: Arc::clone(&common.settings),
            clock: common.clock,
            poller,
            wakeup,
            mailbox,
            outbox: Outbox::new(shard, Arc::clone(&mailboxes), common.batch_messages),
            writer: store.writer(shard, Durable::new(shard, Arc::clone(&mailboxes))),
            authenticator: Arc::clone(&common.authenticator),
            refused_name: common.refused_name,
            mailboxes,
            tick_at: Instant::now(),
            under_way: UnderWay::default(),
            congested: false,
            contention: Contention::default(),
            sockets: Sockets::default(),
            times: TimeLimits::default(),
            turns: 0,
            writing_ends: Instant::now(),
            broken: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            group: Group::new(),
            plain: Vec::new(),
            handshakes: 0,
            newcomers: 0,
            door: None,
            dealt: 0,
            policies: common
                .entrances
                .iter()
                .map(|entrance| Arc::clone(&entrance.policy))
                .collect(),
            entrances: Arc::clone(&common.entrances),
            arrivals: Vec::new(),
            entropy,
            events: common.events.clone(),
            reports: common.reports.clone(),
            counters,
            socket_count: Arc::clone(&common.sockets),
            sockets_max: common.sockets_max,
            next_recheck: None,
            spare_keys: Vec::new(),
            put_off: Vec::new(),
            spare_effects: Vec::new(),
            stopped: false,
        })
    }

    /// From now on this reactor accepts connections for all.
    pub(crate) fn open_door(
        &mut self,
        listeners: Vec<(Listener, u32)>,
        descriptors: Descriptors,
    ) -> io::Result<()> {
        if !listeners.is_empty() {
            let sockets = Arc::clone(&self.socket_count);
            self.door = Some(Door::new(&self.poller, listeners, descriptors, sockets)?);
        }
        Ok(())
    }

    /// The clock after the start: what is restored has set the time of records.
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.driver.now = clock.now();
    }

    /// The shard and its effects, to be restored.
    pub(crate) fn lend_shard(&mut self) -> (&mut Shard, &mut Effects) {
        (&mut self.driver.shard, &mut self.driver.effects)
    }

    /// Goes round until told to stop.
    pub(crate) fn run(mut self) {
        while !self.stopped {
            self.tick();
        }
        let left = self.sockets.len() + self.arrivals.len();
        (0..left).for_each(|_| self.socket_count.lower());
    }

    fn tick(&mut self) {
        let timeout = self.timeout();
        self.poller
            .wait(timeout)
            .expect("waiting fails only for a poller that is not one");
        self.wakeup.is_awake();
        self.counters.ticks.add(1);
        self.tick_at = Instant::now();
        self.driver.now = self.clock.at(self.tick_at);
        self.take_notices();
        self.let_in();
        self.take_control();
        self.take_batches();
        // Packets that came along with an adopted connection, or were put off, have their turn
        // before what is read now: that may be the end of the stream.
        self.append_records();
        let before = self.driver.shard.sent_at_once();
        self.driver.call(|shard, cx| shard.work(cx));
        self.accept();
        self.read_ready();
        let sent = self.driver.shard.sent_at_once() - before;
        self.under_way.note(self.tick_at, sent);
        let now_ms = self.driver.now.mono_ms;
        if self
            .driver
            .shard
            .next_wakeup()
            .is_some_and(|due_ms| due_ms <= now_ms)
        {
            self.driver.call(|shard, cx| shard.advance(cx));
        }
        self.recheck_certificates();
        self.end_overdue();
        self.carry_out();
        self.under_way.written(&self.counters.latencies);
        self.rest_if_crowded();
    }

    /// Rests for a moment if work for thousands of clients goes on and the cores are busy, so that
    /// the system does not suspend this thread when other clients wait for it (`contention.rs`).
    fn rest_if_crowded(&mut self) {
        if !self.serves_crowd() {
            self.contention.forget_last();
            return;
        }
        if !self.contention.should_rest(Instant::now(), time_run())
            || self.sockets.is_turn_due()
            || !self.arrivals.is_empty()
            || !self.driver.effects.is_empty()
        {
            return;
        }
        // Not a wait for notices: sockets that the kernel has written from bring some all the time.
        std::thread::sleep(REST);
        self.contention.rested(Instant::now(), time_run());
    }

    /// Work for thousands of clients goes on.
    fn serves_crowd(&self) -> bool {
        let waiting = self.sockets.last_count() + self.sockets.ready_last_count();
        waiting >= RESTS_FROM || self.driver.shard.serves_crowd()
    }

    /// Shows clients out whose certificates are not good any more; a few in one tick, so that
    /// nobody waits long.
    fn recheck_certificates(&mut self) {
        let mut checked = 0;
        for _ in 0..RECHECK_PLACES_PER_TICK {
            let Some(key) = self.next_recheck.filter(|_| checked < RECHECKS_PER_TICK) else {
                return;
            };
            let next = (key + 1 < self.sockets.places()).then_some(key + 1);
            self.next_recheck = next;
            let Some((id, tls)) = self
                .sockets
                .get(key)
                .and_then(|found| Some((found.id, found.tls()?)))
            else {
                continue;
            };
            checked += 1;
            let listener = self.driver.shard.listener_of(id);
            let entrance = listener.and_then(|number| self.entrances.get(usize::from(number)));
            let settings = entrance.and_then(|entrance| entrance.tls.as_ref());
            if let Some(Err(why)) = settings.map(|settings| tls.recheck(settings)) {
                // Who it is was known before.
                let _claimed = (self.refused_name)();
                self.driver
                    .call(|shard, cx| shard.is_not_let_in(cx, id, why));
            }
        }
    }

    /// How long nothing happens unless something comes; none is for ever.
    fn timeout(&self) -> Option<Duration> {
        let busy = !self.arrivals.is_empty()
            || !self.broken.is_empty()
            || self.next_recheck.is_some()
            || !self.sockets.is_idle()
            || self.driver.shard.has_work()
            || !self.driver.effects.is_empty();
        if busy {
            return Some(Duration::ZERO);
        }
        let now_ms = self.driver.now.mono_ms;
        let due_ms = [
            self.driver.shard.next_wakeup(),
            self.deadlines
                .peek()
                .map(|Reverse(deadline)| deadline.due_ms),
            self.door.as_ref().and_then(Door::due_ms),
            self.congested.then_some(now_ms + CONGESTED_RETRY_MS),
        ];
        let due_ms = due_ms.into_iter().flatten().min();
        let timeout = due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
        if timeout == Some(Duration::ZERO) {
            return timeout;
        }
        self.wakeup.falls_asleep();
        // What was sent before that brought no wakeup.
        if self.mailbox.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        }
    }

    fn take_notices(&mut self) {
        for notice in self.poller.notices() {
            match notice.source {
                Source::Socket(key) => {
                    if self.sockets.notice(key, &notice, self.driver.now.mono_ms)
                        && let Some(socket) = self.sockets.get(key)
                    {
                        self.broken.push_back((key, socket.id));
                    }
                }
                Source::Listener(number) => {
                    if let Some(door) = &mut self.door {
                        door.notice(number);
                    }
                }
            }
        }
        self.drop_broken();
    }

    /// Handles messages of the control lane until the turn is over: thousands of clients may
    /// become known at once. The rest has the next turn.
    fn take_control(&mut self) {
        self.driver.shard.begin_turn();
        if let Some(up_to) = self.mailbox.next_durable() {
            self.driver.call(|shard, cx| shard.durable(cx, up_to));
        }
        while let Some(control) = self.mailbox.next_control() {
            match control {
                Control::Accepted {
                    stream,
                    address,
                    listener,
                } => {
                    self.open(stream, address, listener);
                }
                Control::Attached { stream, policy } => self.attach(stream, policy),
                Control::Adopt {
                    stream,
                    layers,
                    guest,
                } => {
                    self.arrivals.push(Arrival {
                        stream,
                        layers,
                        guest,
                    });
                }
                Control::Command(command) => self.command(command),
                Control::MessagesRead(page) => {
                    self.driver.call(|shard, cx| shard.messages_read(cx, page));
                }
                Control::StoreState => {
                    let state = self.writer.state();
                    self.driver.shard.store_is(state);
                }
                Control::Authenticated(id, answer) => {
                    self.driver
                        .call(|shard, cx| shard.authenticated(cx, id, *answer));
                }
                Control::RecheckCertificates => self.next_recheck = Some(0),
                Control::Stop => {
                    self.stopped = true;
                    return;
                }
            }
            if self.driver.shard.has_done_enough() {
                return;
            }
        }
    }

    fn take_batches(&mut self) {
        self.driver.shard.begin_turn();
        for _ in 0..self.mailbox.batch_count().min(BATCHES_PER_TICK) {
            if self.driver.shard.is_behind() || self.driver.shard.has_done_enough() {
                return;
            }
            let Some(mut batch) = self.mailbox.next_batch() else {
                return;
            };
            let (from, messages) = (batch.from, &mut batch.messages);
            let before = self.driver.shard.sent_at_once();
            self.driver
                .call(|shard, cx| shard.receive_batch(cx, from, messages));
            let sent = self.driver.shard.sent_at_once() - before;
            self.under_way.note(batch.at, sent);
            batch.messages.clear();
            self.mailboxes.give_back(from, batch.messages);
        }
    }

    fn command(&mut self, command: Command) {
        match &command {
            Command::Shutdown => self.door = None,
            Command::Ask(listeners) => {
                for listener in listeners.iter() {
                    if let Some(now) = self.policies.get_mut(usize::from(listener.number)) {
                        *now = Arc::clone(listener);
                    }
                }
            }
            _ => {}
        }
        self.driver.call(|shard, cx| shard.command(cx, command));
    }

    fn accept(&mut self) {
        let Some(mut door) = self.door.take() else {
            return;
        };
        door.accept(self.driver.now.mono_ms, |accepted| match accepted {
            Accepted::Connection(stream, address, listener) => {
                self.deal_out(stream, address, listener);
            }
            Accepted::Paused => self.counters.accept_pauses.add(1),
        });
        self.door = Some(door);
    }

    /// Gives an accepted connection to the shard whose turn it is.
    fn deal_out(&mut self, stream: Stream, address: Option<SocketAddr>, listener: usize) {
        if self.socket_count.get() >= self.sockets_max {
            self.counters.refused.add(1);
            return;
        }
        self.counters.accepted.add(1);
        self.socket_count.raise();
        let to = ShardId((self.dealt % u64::from(self.mailboxes.shard_count())) as u16);
        self.dealt += 1;
        if to == self.shard {
            self.open(stream, address, listener);
        } else {
            self.mailboxes.control(
                to,
                Control::Accepted {
                    stream,
                    address,
                    listener,
                },
            );
        }
    }

    /// Begins a connection in the lobby of this shard, whose deadline covers the WebSocket
    /// request as well.
    fn open(&mut self, stream: Stream, address: Option<SocketAddr>, listener: usize) {
        let entrance = &self.entrances[listener];
        // Bytes for a client identifier that may never be asked for: a connection is no reason
        // to end the node, so one without them is refused.
        let options = address.map_or(Ok(()), |_| stream.set_options());
        let (Ok(entropy), Ok(())) = (self.entropy.take(), options) else {
            self.socket_count.lower();
            return;
        };
        let peer = Peer {
            // IPv4 through a socket for both families looks like any IPv4.
            address: address.map(|address| (address.ip().to_canonical(), address.port())),
            listener: Arc::clone(&self.policies[listener]),
            entropy,
        };
        let packet_len_max = u64::from(self.settings.limits.packet_bytes);
        let web = entrance
            .web
            .as_ref()
            .map(|rules| WebSocket::new(Arc::clone(rules), packet_len_max));
        let tls = entrance.tls.as_ref().map(Tls::new);
        let by_proxy = !entrance.proxies.is_empty();
        let is_trusted = !by_proxy || entrance.trusts(address);
        self.make_way();
        let id = self.driver.call(|shard, cx| shard.open(cx, peer));
        if !is_trusted {
            self.socket_count.lower();
            let why = "this listener is for proxies alone, and this address is none of theirs";
            let end = TransportEnd::Violation(why);
            return self.driver.call(|shard, cx| shard.closed(cx, id, end));
        }
        let proxy = by_proxy.then(ProxyHeader::default);
        self.insert(stream, id, Layers::new(proxy, tls, web));
    }

    /// Begins a connection of a part of the node, which is MQTT and nothing below it.
    fn attach(&mut self, stream: Stream, policy: Arc<ListenerPolicy>) {
        let Ok(entropy) = self.entropy.take() else {
            self.socket_count.lower();
            return;
        };
        let peer = Peer {
            address: None,
            listener: policy,
            entropy,
        };
        let id = self.driver.call(|shard, cx| shard.open(cx, peer));
        self.insert(stream, id, None);
    }

    /// Lets connections in that came before this tick looked which sockets are readable, and reads
    /// those first: a client that sent its last words, perhaps DISCONNECT, before it connected
    /// anew is heard out before the new connection takes over. Else its Will would be sent though
    /// it said goodbye [MQTT-3.14.4-3].
    fn let_in(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        // What was put off comes before what is read, here too.
        self.append_records();
        self.driver.call(|shard, cx| shard.work(cx));
        self.read_ready();
        self.carry_out();
        // Each may take over a session, and what that one left behind is done first.
        self.driver.shard.begin_turn();
        let mut arrivals = std::mem::take(&mut self.arrivals).into_iter();
        for arrival in arrivals.by_ref() {
            self.adopt(arrival);
            if self.driver.shard.has_done_enough() {
                break;
            }
        }
        // The others are let in by the next tick.
        self.arrivals = arrivals.collect();
    }

    /// Takes over a connection from the lobby of another shard.
    fn adopt(&mut self, arrival: Arrival) {
        let Arrival {
            stream,
            layers,
            guest,
        } = arrival;
        self.make_way();
        let id = self.driver.call(|shard, cx| shard.adopt(cx, guest));
        self.insert(stream, id, layers);
    }

    fn insert(&mut self, mut stream: Stream, id: ConnectionId, layers: Option<Box<Layers>>) {
        // What is readable by now is announced at once.
        if self
            .poller
            .add(&mut stream, self.sockets.next_key())
            .is_err()
        {
            self.socket_count.lower();
            self.driver
                .call(|shard, cx| shard.closed(cx, id, TransportEnd::Error));
            return;
        }
        let unwritten = layers.as_ref().is_some_and(|layers| layers.has_output());
        let key = self.sockets.insert(stream, id, layers);
        self.charge_layers(key);
        if unwritten {
            self.write_later(key);
        }
    }
}
