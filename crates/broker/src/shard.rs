//! The shard: all state that one core owns, and the calls that bring events in.
//!
//! Every call takes the time, the node and the effects along in [`Cx`]; nothing in here waits,
//! reads a clock or touches a socket. The calls of one tick come in any order; at its end the
//! driver carries out the effects (see [`Effects`](crate::Effects)).

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap as RawMap;
use martlet_codec::{
    Ack, AckKind, Auth, DecodeError, Disconnect, FixedHeader, PacketType, ProtocolVersion, Publish,
    QoS, ReasonCode, Subscribe, Unsubscribe, UserProperties,
};
use slab::Slab;
use smallvec::SmallVec;

use crate::command::{Command, SysTopic};
use crate::connection::{BufferPool, Connection, Connections, Phase};
use crate::counters::{Counters, DropReason};
use crate::effect::{ConnectionEffect, ShardMessage};
use crate::event::{ClientInfo, Event, Report};
use crate::hash::{HashMap, Seed, seeded};
use crate::id::{
    ConnectionId, MessageId, RecordNumber, SessionAddress, SessionId, ShardId, TenantId,
};
use crate::interest::{Epochs, Tree};
use crate::limits::Settings;
use crate::lobby::{ConnectRate, Guest, Peer};
use crate::memory::MemoryLoan;
use crate::message::{MemoryGauge, Publication};
use crate::node::{Cx, Node};
use crate::record::{Record, RecordCount};
use crate::route::{Routes, RoutingBuffers};
use crate::session::{Session, Sessions};
use crate::share::{Groups, ShareMessage};
use crate::subscribe::{PendingSubAck, Subscribers};
use crate::timer::{Timer, Wheel};

/// All state that one core owns.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) shard_count: u16,
    pub(crate) settings: Arc<Settings>,
    pub(crate) seed: Seed,
    pub(crate) connections: Connections,
    /// Connections that have not been accepted yet.
    pub(crate) lobby_count: usize,
    pub(crate) connect_rate: ConnectRate,
    pub(crate) sessions: Sessions,
    pub(crate) by_client: HashMap<(TenantId, Box<str>), u32>,
    pub(crate) tree: Tree<Subscribers>,
    /// Of `tree`.
    pub(crate) epochs: Epochs,
    pub(crate) routes: Routes,
    pub(crate) routing_buffers: RoutingBuffers,
    pub(crate) groups: Groups,
    /// Share group traffic between sessions and groups of this shard.
    pub(crate) own_share_traffic: VecDeque<ShareMessage>,
    pub(crate) pending_subacks: Slab<PendingSubAck>,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) records: RecordCount,
    /// What waits for a record to be durable, in order.
    gate: VecDeque<(RecordNumber, Gated)>,
    /// Messages whose entries other shards have yet to record: how many shards.
    pub(crate) awaiting_routed: HashMap<MessageId, u32>,
    /// Connections to be ended once the message under way is delivered to all.
    pub(crate) closing: Vec<(ConnectionId, ReasonCode, &'static str)>,
    /// Connections with input to be worked off.
    input_queue: VecDeque<ConnectionId>,
    /// Sessions with retained messages to be read.
    pub(crate) retained_queue: VecDeque<SessionId>,
    /// Where the sweep for expired retained messages goes on.
    retained_sweep: Option<(TenantId, Box<str>)>,
    pub(crate) counters: Counters,
    pub(crate) pool: BufferPool,
    /// Bytes of the connections' buffers.
    buffer_bytes: usize,
    pub(crate) gauge: Arc<MemoryGauge>,
    pub(crate) memory: MemoryLoan,
    pub(crate) scratch: Vec<u8>,
    pub(crate) forwarded: Vec<u8>,
    next_message: u64,
    pub(crate) next_epoch: u64,
    /// Another shard's mailbox is full: publishers are held back.
    congested: bool,
    pub(crate) stopping: bool,
}

/// How the transport of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The peer closed without DISCONNECT.
    EndOfStream,
    /// The socket failed.
    Error,
    /// What a Close effect asked for is done.
    Finished,
    /// The peer broke the rules of the transport (WebSocket); which one.
    Violation(&'static str),
}

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Gated {
    /// An encoded packet for a connection.
    Answer {
        connection: ConnectionId,
        bytes: SmallVec<[u8; 16]>,
        /// It acknowledges a PUBLISH.
        publish: bool,
    },
    /// The CONNACK that lets a client in.
    Admit {
        connection: ConnectionId,
        connack: Vec<u8>,
    },
    /// A session may have something to send.
    Pump(SessionId),
}

/// Why a packet ends its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketError {
    pub(crate) reason: ReasonCode,
    pub(crate) why: &'static str,
}

impl PacketError {
    pub(crate) fn of(reason: ReasonCode, why: &'static str) -> Self {
        Self { reason, why }
    }

    /// A Malformed Packet; `_statement` is the specification's.
    pub(crate) fn malformed(why: &'static str, _statement: &'static str) -> Self {
        Self {
            reason: ReasonCode::MalformedPacket,
            why,
        }
    }

    /// A Protocol Error; `_statement` is the specification's.
    pub(crate) fn protocol(why: &'static str, _statement: &'static str) -> Self {
        Self {
            reason: ReasonCode::ProtocolError,
            why,
        }
    }
}

impl From<DecodeError> for PacketError {
    fn from(error: DecodeError) -> Self {
        Self {
            reason: error.reason,
            why: error.what,
        }
    }
}

/// How an accepted connection is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    reason: ReasonCode,
    why: &'static str,
    /// v5 clients get DISCONNECT; the transport is still there.
    tell: bool,
    will: WillAtEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WillAtEnd {
    /// The client said goodbye [MQTT-3.1.2-10].
    Discarded,
    /// The connection is lost, or was ended by the server [MQTT-3.1.2-8].
    Due,
    /// The server stops: the clients are not lost.
    Kept,
}

impl Ending {
    /// The server ends it and says why.
    pub(crate) fn told(reason: ReasonCode, why: &'static str) -> Self {
        Self {
            reason,
            why,
            tell: true,
            will: WillAtEnd::Due,
        }
    }

    fn lost(why: &'static str) -> Self {
        let reason = ReasonCode::UnspecifiedError;
        Self {
            reason,
            why,
            tell: false,
            will: WillAtEnd::Due,
        }
    }
}

/// Connections whose input is worked off per call of [`Shard::work`].
const INPUTS_PER_WORK: usize = 64;
/// Pages of retained messages read per call of [`Shard::work`].
const PAGES_PER_WORK: usize = 16;
/// Timers fired per call of [`Shard::advance`], so that many that are due at once, such as the
/// Wills of a whole site, do not hold up everybody else.
const TIMERS_PER_ADVANCE: usize = 512;
/// Bytes held back for a publisher that is too fast before its socket is not read any more.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Retained topics looked at per sweep.
const SWEEP_STEPS: usize = 1024;
const SWEEP_INTERVAL_MS: u64 = 1000;

impl Shard {
    /// Shard `id` of a node of `shard_count`. `seed` is for its hash tables: random in production,
    /// since clients choose the keys.
    pub fn new(settings: Arc<Settings>, id: ShardId, shard_count: u16, seed: u64) -> Self {
        let route_entries = settings.limits.route_cache_entries as usize;
        let mut wheel = Wheel::new(0);
        wheel.arm(SWEEP_INTERVAL_MS, Timer::RetainedSweep);
        Self {
            id,
            shard_count,
            settings,
            seed: seeded(seed),
            connections: Connections::default(),
            lobby_count: 0,
            connect_rate: ConnectRate::default(),
            sessions: Sessions::default(),
            by_client: RawMap::with_hasher(seeded(seed)),
            tree: Tree::new(seed),
            epochs: Epochs::default(),
            routes: Routes::new(seed, route_entries),
            routing_buffers: RoutingBuffers::default(),
            groups: Groups::new(seed),
            own_share_traffic: VecDeque::new(),
            pending_subacks: Slab::new(),
            wheel,
            records: RecordCount::default(),
            gate: VecDeque::new(),
            awaiting_routed: RawMap::with_hasher(seeded(seed)),
            closing: Vec::new(),
            input_queue: VecDeque::new(),
            retained_queue: VecDeque::new(),
            retained_sweep: None,
            counters: Counters::default(),
            pool: BufferPool::default(),
            buffer_bytes: 0,
            gauge: Arc::default(),
            memory: MemoryLoan::default(),
            scratch: Vec::new(),
            forwarded: Vec::new(),
            next_message: 0,
            next_epoch: 0,
            congested: false,
            stopping: false,
        }
    }

    /// A connection was accepted: it begins in the lobby, and its deadline runs.
    pub fn open<N: Node>(&mut self, cx: &mut Cx<'_, N>, peer: Peer) -> ConnectionId {
        self.enter_lobby(cx, peer)
    }

    /// A connection comes from another shard's lobby, because its session lives here.
    #[expect(clippy::boxed_local, reason = "guests travel boxed between shards")]
    pub fn adopt<N: Node>(&mut self, cx: &mut Cx<'_, N>, guest: Box<Guest>) -> ConnectionId {
        let Guest {
            peer,
            connect,
            unread,
        } = *guest;
        let id = self.enter_lobby(cx, peer);
        let connection = self.connections.at(id.index);
        connection.input = unread;
        connection.packet_bytes_max = connect.packet_bytes_max;
        if self.stopping {
            let (version, reason) = (connect.version, ReasonCode::ServerUnavailable);
            self.refuse(
                cx,
                id.index,
                Some(version),
                reason,
                "the server is shutting down",
            );
        } else {
            self.accept_connect(cx, id.index, connect);
        }
        self.settle(cx);
        id
    }

    /// Bytes came in. All are taken; what cannot be worked off yet is kept.
    pub fn receive<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, bytes: &[u8]) {
        self.counters.bytes_received += bytes.len() as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        if connection.flags.publishes_held || !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            self.work_off_input(cx, id);
        } else {
            let consumed = self.receive_packets(cx, id, bytes);
            self.keep_input(cx, id, &bytes[consumed..]);
        }
        self.after_input(cx, id);
        self.settle(cx);
    }

    /// Bytes to be written.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(id).map_or(&[], Connection::output)
    }

    /// `count` bytes of the output have been taken by the transport; 0 when it took none.
    pub fn wrote<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, count: usize) {
        self.counters.bytes_sent += count as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let delivered = connection.wrote(count, &mut self.pool);
        let owner = connection.owner;
        self.count_qos0_delivered(owner, u64::from(delivered));
        let connection = self.connections.at(id.index);
        if count > 0 {
            connection.last_progress_ms = cx.now.mono_ms;
        }
        if connection.output_len() > 0 {
            self.watch_stalled(cx, id);
            return;
        }
        self.charge_buffers(id.index);
        let connection = self.connections.at(id.index);
        if connection.answers_gated == 0
            && let Some(timer) = connection.stalled.take()
        {
            self.wheel.cancel(timer);
        }
        let connection = self.connections.at(id.index);
        if let Some(session) = connection.session()
            && connection.flags.admitted
        {
            if !self.sessions.at(session).outbound.is_idle() {
                self.pump(cx, session);
            }
            self.queue_retained(session);
            self.settle(cx);
        }
    }

    /// The transport of a connection has ended. Called once per connection.
    pub fn closed<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, end: TransportEnd) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let why = match end {
            TransportEnd::EndOfStream => "the client closed the connection without DISCONNECT",
            TransportEnd::Error => "the connection failed",
            TransportEnd::Finished => "closed",
            TransportEnd::Violation(why) => why,
        };
        match connection.phase {
            Phase::Accepted(_) if !connection.input.is_empty() => {
                // What came before the end counts, a DISCONNECT above all, even if its client did
                // not wait for CONNACK.
                let admitted = connection.flags.admitted;
                self.connections.at(id.index).flags.transport_gone = true;
                if admitted {
                    self.finish_input(cx, id);
                }
                return self.settle(cx);
            }
            Phase::Accepted(_) => self.end_connection(cx, id.index, Ending::lost(why)),
            Phase::Lobby => {
                self.lobby_count -= 1;
                self.counters.connects_refused += 1;
            }
            Phase::Closing => {}
        }
        self.forget_connection(id);
        self.settle(cx);
    }

    /// Another shard's batch; it is emptied.
    pub fn receive_batch<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        from: ShardId,
        batch: &mut Vec<ShardMessage>,
    ) {
        for message in batch.drain(..) {
            match message {
                ShardMessage::Publish { message, recorded } => {
                    self.routed_message_received(cx, from, &message, recorded);
                }
                ShardMessage::Routed(id) => self.routed_answer_received(cx, id),
                ShardMessage::Share(message) => self.share_received(cx, from, message),
            }
            self.settle(cx);
        }
    }

    /// A command of those who operate the node.
    pub fn command<N: Node>(&mut self, cx: &mut Cx<'_, N>, command: Command) {
        match command {
            Command::Snapshot { request } => {
                let counters = Box::new(self.snapshot(cx));
                cx.effects
                    .reports
                    .push(Report::Snapshot { request, counters });
            }
            Command::Clients { request, limit } => {
                let clients = self
                    .sessions
                    .iter()
                    .take(limit)
                    .map(|(_, session)| self.info(session))
                    .collect();
                let total = self.sessions.len();
                cx.effects.reports.push(Report::Clients {
                    request,
                    clients,
                    total,
                });
            }
            Command::PublishSys(topics) => {
                for topic in &topics {
                    self.publish_sys(cx, topic);
                }
            }
            Command::Disconnect {
                tenant,
                client_id,
                reason,
            } => {
                if let Some(&session) = self.by_client.get(&(tenant, client_id.into_boxed_str()))
                    && let Some(connection) = self.sessions.at(session).connection
                {
                    let ending = Ending::told(reason, "ended by an operator");
                    self.end_connection(cx, connection, ending);
                }
            }
            Command::Shutdown => self.shut_down(cx),
        }
        self.settle(cx);
    }

    /// All records up to this number are durable: what waited for them goes out.
    pub fn durable<N: Node>(&mut self, cx: &mut Cx<'_, N>, up_to: RecordNumber) {
        self.records.durable(up_to);
        while let Some((number, _)) = self.gate.front() {
            if !self.records.is_durable(*number) {
                break;
            }
            if let Some((_, gated)) = self.gate.pop_front() {
                self.run_gated(cx, gated);
            }
        }
        self.settle(cx);
    }

    /// Some other shard's mailbox is full (`on`), or has room again: publishers are held back.
    pub fn congested<N: Node>(&mut self, _cx: &mut Cx<'_, N>, on: bool) {
        let was = core::mem::replace(&mut self.congested, on);
        if was && !on {
            for id in self.connections.ids() {
                if self.connections.at(id.index).flags.publishes_held {
                    self.queue_input(id.index);
                }
            }
        }
    }

    /// Fires timers that are due, a bounded number at a time.
    pub fn advance<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..TIMERS_PER_ADVANCE {
            let Some((_, timer)) = self.wheel.expire(cx.now.mono_ms) else {
                break;
            };
            self.fire(cx, timer);
            self.settle(cx);
        }
    }

    /// Goes on with what was put off: held-back input, retained messages; settles accounts with
    /// the node's memory. Called once per tick.
    pub fn work<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..INPUTS_PER_WORK.min(self.input_queue.len()) {
            let Some(id) = self.input_queue.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(id) {
                connection.flags.input_queued = false;
                connection.flags.publishes_held = false;
                connection.held_bytes = 0;
                self.work_off_input(cx, id);
                self.after_input(cx, id);
                self.settle(cx);
            }
        }
        for _ in 0..PAGES_PER_WORK {
            if !self.read_retained_page(cx) {
                break;
            }
        }
        let used = self.gauge.bytes() + self.buffer_bytes;
        self.memory.settle(cx.node, used);
    }

    /// [`Shard::work`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.input_queue.is_empty() || !self.retained_queue.is_empty()
    }

    /// When [`Shard::advance`] is to be called next, monotonic milliseconds.
    pub fn next_wakeup(&self) -> Option<u64> {
        self.wheel.next_wakeup()
    }

    /// The number of the last record appended.
    pub fn last_record(&self) -> RecordNumber {
        self.records.last()
    }

    /// Counters and gauges as of now.
    pub fn snapshot<N: Node>(&self, cx: &Cx<'_, N>) -> Counters {
        let mut counters = self.counters.clone();
        let accepted = self
            .connections
            .iter()
            .filter(|found| found.session().is_some())
            .count();
        counters.connections = accepted as u64;
        counters.lobby_connections = self.lobby_count as u64;
        counters.sessions = self.sessions.len() as u64;
        counters.subscriptions = self
            .sessions
            .iter()
            .map(|(_, session)| session.subscriptions.len() as u64)
            .sum();
        counters.share_groups = self.groups.len() as u64;
        counters.held = self.held();
        counters.memory_bytes = (self.gauge.bytes() + self.buffer_bytes) as u64;
        counters.records_appended = self.records.last().0;
        if self.id == ShardId(0) {
            let (count, bytes) = cx.node.retained(|store| (store.len(), store.bytes()));
            counters.retained_messages = count as u64;
            counters.retained_bytes = bytes as u64;
        }
        counters
    }

    /// The equation of idea 6 holds for each session, each share group and the whole shard. Slow:
    /// for tests.
    pub fn accounts_balance(&self) -> bool {
        let sessions = self.sessions.iter().all(|(index, session)| {
            let held = (session.outbound.held() + self.qos0_held(index)) as u64;
            let sums = &session.accounting;
            sums.matched == sums.delivered + sums.dropped + sums.expired + held
        });
        let mut counters = self.counters.clone();
        counters.held = self.held();
        sessions && self.groups.balanced() && counters.balanced()
    }

    fn held(&self) -> u64 {
        let sessions: usize = self
            .sessions
            .iter()
            .map(|(_, session)| session.outbound.held())
            .sum();
        let output: u64 = self
            .connections
            .iter()
            .map(|found| u64::from(found.qos0_in_output))
            .sum();
        (sessions + self.groups.held()) as u64 + output
    }

    fn qos0_held(&self, session: u32) -> usize {
        let owner = self.sessions.id_of(session);
        self.connections
            .iter()
            .filter(|found| found.owner == Some(owner))
            .map(|found| found.qos0_in_output as usize)
            .sum()
    }

    // What other modules of the shard use.

    pub(crate) fn gated_count(&self) -> usize {
        self.gate.len()
    }

    pub(crate) fn next_message_id(&mut self) -> MessageId {
        self.next_message += 1;
        MessageId::new(self.id, self.next_message)
    }

    pub(crate) fn address_of(&self, session: u32) -> SessionAddress {
        SessionAddress {
            shard: self.id,
            session: self.sessions.id_of(session),
        }
    }

    pub(crate) fn append<N: Node>(&mut self, cx: &mut Cx<'_, N>, record: Record) -> RecordNumber {
        cx.effects.records.push(record);
        self.records.appended()
    }

    /// The connection has new output.
    pub(crate) fn output_appended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.packets_sent += 1;
        let connection = self.connections.at(index);
        if !connection.flags.write_pending {
            connection.flags.write_pending = true;
            connection.last_progress_ms = cx.now.mono_ms;
            let id = ConnectionId {
                index,
                generation: connection.generation,
            };
            cx.effects.connections.push(ConnectionEffect::Write(id));
        }
        if connection.buffer_bytes() != connection.charged_bytes as usize {
            self.charge_buffers(index);
        }
    }

    /// Sends a packet once `record` is durable, never before one that was asked for earlier.
    pub(crate) fn answer<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        record: RecordNumber,
        publish: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let connection = self.connections.at(index);
        if connection.answers_gated == 0 && self.records.is_durable(record) {
            encode(connection.output_mut(&mut self.pool));
            self.output_appended(cx, index);
            return;
        }
        let waits_for = record.max(connection.gated_for);
        connection.gated_for = waits_for;
        if connection.answers_gated == 0 {
            connection.gated_since_ms = cx.now.mono_ms;
        }
        connection.answers_gated += 1;
        connection.publishes_gated += u16::from(publish);
        let id = ConnectionId {
            index,
            generation: connection.generation,
        };
        self.scratch.clear();
        encode(&mut self.scratch);
        let bytes = SmallVec::from_slice(&self.scratch);
        self.gate(
            cx,
            waits_for,
            Gated::Answer {
                connection: id,
                bytes,
                publish,
            },
        );
        self.watch_stalled(cx, id);
    }

    /// Puts something off until `record` is durable. Records are numbered in order, so the gate is
    /// sorted except for what waits for an earlier one; that waits a little longer.
    pub(crate) fn gate<N: Node>(&mut self, _cx: &Cx<'_, N>, record: RecordNumber, gated: Gated) {
        let last = self
            .gate
            .back()
            .map_or(RecordNumber(0), |(number, _)| *number);
        self.gate.push_back((record.max(last), gated));
    }

    pub(crate) fn gate_or_run<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        record: RecordNumber,
        gated: Gated,
    ) {
        if self.records.is_durable(record) {
            self.run_gated(cx, gated);
        } else {
            self.gate(cx, record, gated);
        }
    }

    pub(crate) fn queue_input(&mut self, index: u32) {
        let id = self.connections.id_of(index);
        let connection = self.connections.at(index);
        let waiting = !connection.input.is_empty() || connection.flags.reading_paused;
        if waiting && !connection.flags.input_queued {
            connection.flags.input_queued = true;
            self.input_queue.push_back(id);
        }
    }

    pub(crate) fn check_user_properties(
        &self,
        properties: UserProperties<'_>,
    ) -> Result<(), PacketError> {
        let count_max = usize::from(self.settings.limits.user_properties);
        if properties.iter().take(count_max + 1).count() > count_max {
            return Err(PacketError::of(
                ReasonCode::QuotaExceeded,
                "limit user_properties",
            ));
        }
        Ok(())
    }

    /// Takes a connection out of the tables, whatever state it is in.
    pub(crate) fn forget_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        let mut connection = self.connections.remove(id)?;
        for timer in [connection.deadline.take(), connection.stalled.take()]
            .into_iter()
            .flatten()
        {
            self.wheel.cancel(timer);
        }
        let lost = u64::from(core::mem::take(&mut connection.qos0_in_output));
        if lost > 0 {
            self.counters
                .drop_messages(DropReason::ConnectionLost, lost);
            if let Some(session) = connection.owner.and_then(|owner| self.live_session(owner)) {
                self.sessions.at(session).accounting.dropped += lost;
            }
        }
        self.buffer_bytes -= connection.charged_bytes as usize;
        connection.release_buffers(&mut self.pool);
        Some(connection)
    }

    /// Ends an accepted connection: its session lives on or ends, its Will is due or not, and what
    /// is left to say is said.
    pub(crate) fn end_connection<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        ending: Ending,
    ) {
        let Some(session) = self.connections.at(index).session() else {
            return;
        };
        self.report_disconnected(cx, session, ending);
        cx.node.return_connection();
        let id = self.connections.id_of(index);
        let connection = self.connections.at(index);
        let transport_gone = connection.flags.transport_gone;
        connection.phase = Phase::Closing;
        connection.flags.publishes_held = false;
        connection.input = Vec::new();
        connection.aliases = None;
        if let Some(timer) = connection.deadline.take() {
            self.wheel.cancel(timer);
        }
        if ending.tell {
            self.say_goodbye(cx, index, ending);
            cx.effects.connections.push(ConnectionEffect::Close(id));
        }
        self.leave_session(cx, session, ending.will);
        if transport_gone {
            // The driver has told of its end already, and will not again.
            self.forget_connection(id);
        }
    }

    /// Ends a session: its subscriptions, its queue, its Will if one is still due.
    pub(crate) fn end_session<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        // [MQTT-3.1.2-8]: the Will goes out before the session's end is over.
        self.send_will(cx, index);
        self.unsubscribe_all(cx, index);
        self.abandon_outbound(cx, index);
        let session = self.sessions.at(index);
        let (epoch, persistent) = (session.epoch, session.is_persistent());
        let key = (session.tenant, session.client_id.clone());
        if let Some(timer) = session.expiry_timer.take() {
            self.wheel.cancel(timer);
        }
        if persistent {
            self.append(cx, Record::SessionEnded(epoch));
        }
        self.by_client.remove(&key);
        self.sessions.remove(index);
    }

    /// The session stays for its Session Expiry Interval [MQTT-4.1.0-1], then it ends
    /// [MQTT-4.1.0-2].
    fn leave_session<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, will: WillAtEnd) {
        self.sessions.at(index).connection = None;
        match will {
            WillAtEnd::Discarded => self.discard_will(index),
            WillAtEnd::Due => self.will_after_loss(cx, index),
            WillAtEnd::Kept => self.sessions.at(index).will = None,
        }
        let session = self.sessions.at(index);
        match session.expiry_secs {
            0 => return self.end_session(cx, index),
            u32::MAX => {}
            secs => {
                let due_ms = cx.now.mono_ms + u64::from(secs) * 1000;
                let id = self.sessions.id_of(index);
                let timer = self.wheel.arm(due_ms, Timer::SessionExpiry(id));
                self.sessions.at(index).expiry_timer = Some(timer);
            }
        }
        self.send_presence(cx, index, false);
        self.pause_outbound(cx, index);
    }

    /// DISCONNECT with reason and Reason String, to v5 clients [MQTT-3.14.2-3]; without User
    /// Properties [MQTT-3.14.2-4] or Session Expiry Interval [MQTT-3.14.2-2], and not before
    /// CONNACK [MQTT-3.14.0-1]. Nothing follows it [MQTT-3.14.4-1].
    fn say_goodbye<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, ending: Ending) {
        let connection = self.connections.at(index);
        if !connection.version.is_v5() || !connection.flags.admitted {
            return;
        }
        let mut packet = Disconnect::new(ending.reason);
        packet.reason_string = Some(ending.why);
        let mut bytes = Vec::new();
        packet.encode(connection.version, &mut bytes);
        if bytes.len() > connection.packet_bytes_max as usize {
            bytes.clear();
            Disconnect::new(ending.reason).encode(connection.version, &mut bytes);
        }
        if bytes.len() <= connection.packet_bytes_max as usize {
            connection
                .output_mut(&mut self.pool)
                .extend_from_slice(&bytes);
            self.output_appended(cx, index);
        }
    }

    fn report_disconnected<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, ending: Ending) {
        if self.settings.events.connections {
            let client_id = self.sessions.at(session).client_id.to_string();
            let Ending { reason, why, .. } = ending;
            cx.effects.events.push(Event::Disconnected {
                client_id,
                reason,
                why,
            });
        }
    }

    fn run_gated<N: Node>(&mut self, cx: &mut Cx<'_, N>, gated: Gated) {
        match gated {
            Gated::Answer {
                connection: id,
                bytes,
                publish,
            } => {
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                if connection.phase == Phase::Closing {
                    return;
                }
                connection.answers_gated -= 1;
                connection.publishes_gated -= u16::from(publish);
                connection.gated_since_ms = cx.now.mono_ms;
                connection
                    .output_mut(&mut self.pool)
                    .extend_from_slice(&bytes);
                let drained = connection.answers_gated == 0;
                let held = connection.flags.publishes_held;
                let session = connection.session();
                self.output_appended(cx, id.index);
                if held {
                    self.queue_input(id.index);
                }
                if let Some(session) = session.filter(|_| drained) {
                    self.queue_retained(session);
                }
            }
            Gated::Admit {
                connection: id,
                connack,
            } => {
                if self
                    .connections
                    .get(id)
                    .is_none_or(|found| found.session().is_none())
                {
                    return;
                }
                if connack.len() > self.connections.at(id.index).packet_bytes_max as usize {
                    // Not even CONNACK fits [MQTT-3.1.2-24].
                    let why = "CONNACK exceeds the client's Maximum Packet Size";
                    let ending = Ending::told(ReasonCode::PacketTooLarge, why);
                    return self.end_connection(cx, id.index, ending);
                }
                self.admit(cx, id.index, &connack);
            }
            Gated::Pump(id) => {
                if let Some(session) = self.live_session(id) {
                    self.pump(cx, session);
                }
            }
        }
    }

    /// Carries out what must not happen in the middle of something else.
    pub(crate) fn settle<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        loop {
            if let Some(message) = self.own_share_traffic.pop_front() {
                let own = self.id;
                self.share_received(cx, own, message);
            } else if let Some((id, reason, why)) = self.closing.pop() {
                if self.connections.get(id).is_some() {
                    self.end_connection(cx, id.index, Ending::told(reason, why));
                }
            } else {
                return;
            }
        }
    }

    fn shut_down<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        self.stopping = true;
        for id in self.connections.ids() {
            let (reason, why) = (
                ReasonCode::ServerShuttingDown,
                "the server is shutting down",
            );
            match self.connections.at(id.index).phase {
                Phase::Accepted(_) => {
                    let ending = Ending {
                        reason,
                        why,
                        tell: true,
                        will: WillAtEnd::Kept,
                    };
                    self.end_connection(cx, id.index, ending);
                }
                Phase::Lobby => {
                    self.refuse(cx, id.index, None, ReasonCode::ServerUnavailable, why);
                }
                Phase::Closing => {}
            }
        }
    }

    fn publish_sys<N: Node>(&mut self, cx: &mut Cx<'_, N>, topic: &SysTopic) {
        let publication = Publication {
            id: self.next_message_id(),
            tenant: TenantId(0),
            publisher: None,
            topic: &topic.topic,
            forwarded: &[],
            payload: topic.payload.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: true,
            received_wall_ms: cx.now.wall_ms,
            expires_at_ms: u64::MAX,
            received_mono_ms: cx.now.mono_ms,
        };
        self.route(cx, publication, None, None);
    }

    fn info(&self, session: &Session) -> ClientInfo {
        let id = session
            .connection
            .map(|connection| self.connections.id_of(connection));
        let connection = id.and_then(|id| self.connections.get(id));
        ClientInfo {
            client_id: session.client_id.to_string(),
            connected: connection.is_some(),
            user_name: connection
                .and_then(|found| found.user_name.as_deref())
                .map(Into::into),
            version: session.version,
            address: connection.and_then(|found| found.address),
            keep_alive_secs: connection.map_or(0, |found| (found.keep_alive_ms / 1500) as u16),
            session_expiry_secs: session.expiry_secs,
            connected_at_ms: session.connected_at_wall_ms,
            subscriptions: session.subscriptions.len(),
            queued: session.outbound.queue.len(),
            in_flight: session.outbound.in_flight.len(),
            matched: session.accounting.matched,
            delivered: session.accounting.delivered,
            dropped: session.accounting.dropped,
            expired: session.accounting.expired,
        }
    }

    fn count_qos0_delivered(&mut self, owner: Option<SessionId>, count: u64) {
        if count == 0 {
            return;
        }
        self.counters.delivered += count;
        if let Some(session) = owner.and_then(|owner| self.live_session(owner)) {
            self.sessions.at(session).accounting.delivered += count;
        }
    }

    fn charge_buffers(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let bytes = connection.buffer_bytes();
        let before = core::mem::replace(&mut connection.charged_bytes, bytes as u32) as usize;
        self.buffer_bytes = self.buffer_bytes + bytes - before;
    }

    // Timers.

    fn fire<N: Node>(&mut self, cx: &mut Cx<'_, N>, timer: Timer) {
        match timer {
            Timer::ConnectDeadline(id) => {
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                connection.deadline = None;
                if connection.phase == Phase::Lobby {
                    let why =
                        "no complete CONNECT before the deadline (limit connect_timeout_secs)";
                    self.refuse(cx, id.index, None, ReasonCode::MaximumConnectTime, why);
                }
            }
            Timer::KeepAlive(id) => self.check_keep_alive(cx, id),
            Timer::Stalled(id) => self.check_stalled(cx, id),
            Timer::SessionExpiry(id) => {
                if let Some(session) = self.live_session(id) {
                    self.sessions.at(session).expiry_timer = None;
                    self.counters.sessions_expired += 1;
                    self.end_session(cx, session);
                }
            }
            Timer::WillDelay(id) => {
                if let Some(session) = self.live_session(id) {
                    self.sessions.at(session).will_timer = None;
                    self.send_will(cx, session);
                }
            }
            Timer::RetainedSweep => {
                let (after, now_ms) = (self.retained_sweep.take(), cx.now.mono_ms);
                if self.id == ShardId(0) {
                    self.retained_sweep = cx
                        .node
                        .retained(|store| store.sweep(after, SWEEP_STEPS, now_ms));
                    self.wheel
                        .arm(now_ms + SWEEP_INTERVAL_MS, Timer::RetainedSweep);
                }
            }
        }
    }

    fn check_keep_alive<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let now_ms = cx.now.mono_ms;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.deadline = None;
        if connection.session().is_none() {
            return;
        }
        if connection.flags.reading_paused {
            // It is we who do not read.
            connection.last_received_ms = now_ms;
        }
        let due_ms = connection.last_received_ms + u64::from(connection.keep_alive_ms);
        if due_ms > now_ms {
            connection.deadline = Some(self.wheel.arm(due_ms, Timer::KeepAlive(id)));
            return;
        }
        self.counters.keep_alive_timeouts += 1;
        // [MQTT-3.1.2-22]
        let ending = Ending::told(
            ReasonCode::KeepAliveTimeout,
            "1.5 x Keep Alive without a packet",
        );
        self.end_connection(cx, id.index, ending);
    }

    /// Output or answers wait from now on: somebody looks after them in time.
    fn watch_stalled<N: Node>(&mut self, cx: &Cx<'_, N>, id: ConnectionId) {
        if self.connections.at(id.index).stalled.is_some() {
            return;
        }
        if let Some(due_ms) = self.stalled_at(id.index) {
            let due_ms = due_ms.max(cx.now.mono_ms);
            let timer = self.wheel.arm(due_ms, Timer::Stalled(id));
            self.connections.at(id.index).stalled = Some(timer);
        }
    }

    /// When the connection will have waited too long, if nothing moves until then.
    fn stalled_at(&mut self, index: u32) -> Option<u64> {
        let output_ms = u64::from(self.settings.limits.output_stalled_secs) * 1000;
        let store_ms = u64::from(self.settings.limits.store_stalled_secs) * 1000;
        let connection = self.connections.at(index);
        let output = (output_ms > 0 && connection.output_len() > 0)
            .then(|| connection.last_progress_ms + output_ms);
        let store = (store_ms > 0 && connection.answers_gated > 0)
            .then(|| connection.gated_since_ms + store_ms);
        output.into_iter().chain(store).min()
    }

    fn check_stalled<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.stalled = None;
        let now_ms = cx.now.mono_ms;
        match self.stalled_at(id.index) {
            None => return,
            Some(due_ms) if due_ms > now_ms => return self.watch_stalled(cx, id),
            Some(_) => {}
        }
        let output_ms = u64::from(self.settings.limits.output_stalled_secs) * 1000;
        let connection = self.connections.at(id.index);
        let output_due = output_ms > 0
            && connection.output_len() > 0
            && connection.last_progress_ms + output_ms <= now_ms;
        if !output_due {
            let why = "the message store does not answer (limit store_stalled_secs)";
            let ending = Ending::told(ReasonCode::QuotaExceeded, why);
            return self.end_connection(cx, id.index, ending);
        }
        // It reads nothing, so there is no use in telling it.
        let why = "the client takes no output (limit output_stalled_secs)";
        self.end_connection(cx, id.index, Ending::lost(why));
        self.forget_connection(id);
        cx.effects.connections.push(ConnectionEffect::Abort(id));
    }

    // Input.

    /// The transport is gone: what came before its end is worked off, then the connection is lost
    /// unless its client said goodbye.
    pub(crate) fn finish_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        connection.flags.publishes_held = false;
        connection.held_bytes = 0;
        let input = core::mem::take(&mut connection.input);
        self.receive_packets(cx, id, &input);
        if self.connections.get(id).is_some() {
            let why = "the client closed the connection without DISCONNECT";
            self.end_connection(cx, id.index, Ending::lost(why));
            self.forget_connection(id);
        }
    }

    /// Keeps what was not worked off. Most reads end with a whole packet and keep nothing.
    fn keep_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, rest: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing || rest.is_empty() {
            return;
        }
        if connection.input.capacity() == 0 {
            connection.input = self.pool.take();
        }
        connection.input.extend_from_slice(rest);
        if connection.flags.publishes_held {
            self.work_off_input(cx, id);
        }
    }

    /// Works off what lies in the connection's own input buffer.
    fn work_off_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let mut input = core::mem::take(&mut connection.input);
        if !connection.flags.publishes_held {
            let consumed = self.receive_packets(cx, id, &input);
            input.drain(..consumed);
        }
        if self
            .connections
            .get(id)
            .is_some_and(|found| found.flags.publishes_held)
        {
            self.pass_acknowledgements(cx, id, &mut input);
        }
        match self.connections.get_mut(id) {
            Some(connection) if connection.phase != Phase::Closing && !input.is_empty() => {
                connection.input = input;
            }
            _ => self.pool.put(input),
        }
    }

    /// A publisher is too fast: its PUBLISH packets wait.
    fn must_hold(&mut self, index: u32) -> bool {
        let connection = self.connections.at(index);
        let gated_max = self.settings.limits.receive_maximum;
        self.congested || !connection.version.is_v5() && connection.publishes_gated >= gated_max
    }

    /// Works off acknowledgements and pings among held-back packets: they pass even while
    /// publishes are blocked [MQTT-3.3.4-8], [MQTT-3.3.4-10].
    /// [MQTT-4.9.0-3]
    fn pass_acknowledgements<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        input: &mut Vec<u8>,
    ) {
        while let Some(connection) = self.connections.get(id)
            && connection.phase != Phase::Closing
        {
            let at = connection.held_bytes as usize;
            let header = match martlet_codec::decode_fixed_header(&input[at..]) {
                Ok(Some(header)) => header,
                Ok(None) => return,
                Err(error) => return self.packet_refused(cx, id, error.into()),
            };
            let length = header.packet_len();
            if length > self.settings.limits.packet_bytes as usize {
                let error = PacketError::of(ReasonCode::PacketTooLarge, "limit packet_bytes");
                return self.packet_refused(cx, id, error);
            }
            if input.len() - at < length {
                return;
            }
            let connection = self.connections.at(id.index);
            connection.last_received_ms = cx.now.mono_ms;
            let passes = matches!(
                header.packet_type,
                PacketType::PubAck
                    | PacketType::PubRec
                    | PacketType::PubRel
                    | PacketType::PubComp
                    | PacketType::PingReq
            );
            if !passes {
                connection.held_bytes += length as u32;
                continue;
            }
            self.counters.packets_received += 1;
            let body = &input[at + usize::from(header.header_len)..at + length];
            if let Err(error) = self.packet_received(cx, id.index, header, body) {
                return self.packet_refused(cx, id, error);
            }
            input.drain(at..at + length);
        }
    }

    /// Reading stops while too much is held back, and goes on when it is worked off.
    fn after_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        let waits = connection.flags.publishes_held
            || !connection.flags.admitted && connection.session().is_some();
        let pause = waits && connection.input.len() >= HELD_BYTES_MAX;
        if pause != connection.flags.reading_paused {
            connection.flags.reading_paused = pause;
            let effect = match pause {
                true => ConnectionEffect::PauseReading(id),
                false => ConnectionEffect::ResumeReading(id),
            };
            cx.effects.connections.push(effect);
        }
        if connection.buffer_bytes() != connection.charged_bytes as usize {
            self.charge_buffers(id.index);
        }
    }

    /// Works off complete packets; answers how many bytes they were.
    fn receive_packets<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> usize {
        let mut consumed = 0;
        while consumed < bytes.len() {
            let rest = &bytes[consumed..];
            let Some(connection) = self.connections.get(id) else {
                return bytes.len();
            };
            let outcome = match connection.phase {
                Phase::Closing => return bytes.len(),
                Phase::Lobby => self.receive_first_packet(cx, id, rest),
                Phase::Accepted(_) if !connection.flags.admitted => break,
                Phase::Accepted(_) => self.receive_packet(cx, id, rest),
            };
            match outcome {
                Ok(Progress::Packet(length)) => consumed += length,
                Ok(Progress::NeedMore) => break,
                Ok(Progress::Gone) => return bytes.len(),
                Err(error) => {
                    self.packet_refused(cx, id, error);
                    return bytes.len();
                }
            }
        }
        consumed
    }

    /// The lobby's packet: a CONNECT or nothing [MQTT-3.1.0-1].
    fn receive_first_packet<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Result<Progress, PacketError> {
        if bytes.first() != Some(&0x10) {
            // Known by its first byte, before a length is looked at.
            let why = "the first packet is not CONNECT [MQTT-3.1.0-1]";
            self.refuse(cx, id.index, None, ReasonCode::ProtocolError, why);
            return Ok(Progress::Gone);
        }
        let header = match martlet_codec::decode_fixed_header(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Progress::NeedMore),
            Err(error) => {
                self.refuse(cx, id.index, None, error.reason, error.what);
                return Ok(Progress::Gone);
            }
        };
        let length = header.packet_len();
        if length > self.settings.limits.connect_packet_bytes as usize {
            let version = version_of_partial_connect(&bytes[usize::from(header.header_len)..]);
            let (reason, why) = (ReasonCode::PacketTooLarge, "limit connect_packet_bytes");
            if version.is_none() && bytes.len() < usize::from(header.header_len) + 7 {
                return Ok(Progress::NeedMore);
            }
            self.refuse(cx, id.index, version, reason, why);
            return Ok(Progress::Gone);
        }
        if bytes.len() < length {
            return Ok(Progress::NeedMore);
        }
        self.counters.packets_received += 1;
        let body = &bytes[usize::from(header.header_len)..length];
        match self.connect_received(cx, id.index, header.flags, body, &bytes[length..]) {
            crate::lobby::Admission::Here => Ok(Progress::Packet(length)),
            crate::lobby::Admission::Moved => Ok(Progress::Gone),
        }
    }

    fn receive_packet<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Result<Progress, PacketError> {
        let Some(header) = martlet_codec::decode_fixed_header(bytes)? else {
            return Ok(Progress::NeedMore);
        };
        let length = header.packet_len();
        if length > self.settings.limits.packet_bytes as usize {
            // Refused on its announced length: nothing is allocated for it [MQTT-3.2.2-15].
            return Err(PacketError::of(
                ReasonCode::PacketTooLarge,
                "limit packet_bytes",
            ));
        }
        if bytes.len() < length {
            let connection = self.connections.at(id.index);
            header.check_version(connection.version)?;
            return Ok(Progress::NeedMore);
        }
        if header.packet_type == PacketType::Publish && self.must_hold(id.index) {
            // Kept with all that follows; acknowledgements and pings among it pass.
            self.connections.at(id.index).flags.publishes_held = true;
            return Ok(Progress::NeedMore);
        }
        self.counters.packets_received += 1;
        let connection = self.connections.at(id.index);
        connection.last_received_ms = cx.now.mono_ms;
        let body = &bytes[usize::from(header.header_len)..length];
        self.packet_received(cx, id.index, header, body)?;
        Ok(Progress::Packet(length))
    }

    /// One packet of an accepted client.
    fn packet_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        header: FixedHeader,
        body: &[u8],
    ) -> Result<(), PacketError> {
        let version = self.connections.at(index).version;
        header.check_version(version)?;
        match header.packet_type {
            PacketType::Publish => {
                let publish = Publish::decode(header.flags, body, version)?;
                self.publish_received(cx, index, &publish)
            }
            PacketType::PubAck => {
                let ack = Ack::decode(AckKind::PubAck, body, version)?;
                self.puback_received(cx, index, ack.packet_id, ack.reason)
            }
            PacketType::PubRec => {
                let ack = Ack::decode(AckKind::PubRec, body, version)?;
                self.pubrec_received(cx, index, ack.packet_id, ack.reason)
            }
            PacketType::PubRel => {
                let ack = Ack::decode(AckKind::PubRel, body, version)?;
                self.pubrel_received(cx, index, ack.packet_id);
                Ok(())
            }
            PacketType::PubComp => {
                let ack = Ack::decode(AckKind::PubComp, body, version)?;
                self.pubcomp_received(cx, index, ack.packet_id)
            }
            PacketType::Subscribe => {
                self.subscribe_received(cx, index, &Subscribe::decode(body, version)?)
            }
            PacketType::Unsubscribe => {
                self.unsubscribe_received(cx, index, &Unsubscribe::decode(body, version)?)
            }
            PacketType::PingReq => {
                if !body.is_empty() {
                    return Err(PacketError::malformed("PINGREQ with a body", "MQTT-3.12"));
                }
                // [MQTT-3.12.4-1]
                let connection = self.connections.at(index);
                martlet_codec::encode_pingresp(connection.output_mut(&mut self.pool));
                self.output_appended(cx, index);
                Ok(())
            }
            PacketType::Disconnect => {
                self.disconnect_received(cx, index, &Disconnect::decode(body, version)?)
            }
            PacketType::Auth => {
                let auth = Auth::decode(body)?;
                Err(self.auth_refused(&auth))
            }
            PacketType::Connect => Err(PacketError::protocol("a second CONNECT", "MQTT-3.1.0-2")),
            PacketType::ConnAck
            | PacketType::SubAck
            | PacketType::UnsubAck
            | PacketType::PingResp => Err(PacketError::protocol(
                "a packet that only servers send",
                "MQTT-4.13.1-1",
            )),
        }
    }

    /// DISCONNECT from the client [MQTT-3.14.4-1], [MQTT-3.14.4-2].
    fn disconnect_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), PacketError> {
        self.check_user_properties(disconnect.user_properties)?;
        if !disconnect.reason.sendable_by_client_in_disconnect() {
            return Err(PacketError::protocol(
                "a reason code that only servers send",
                "MQTT-3.14.2-1",
            ));
        }
        let connection = self.connections.at(index);
        let Some(session) = connection.session() else {
            return Ok(());
        };
        if let Some(expiry_secs) = disconnect.session_expiry_secs {
            if connection.flags.session_expiry_zero && expiry_secs != 0 {
                // MQTT 5 section 3.14.2.2.2
                return Err(PacketError::protocol("Session Expiry raised from 0", ""));
            }
            self.change_expiry(cx, session, expiry_secs);
        }
        let normal = disconnect.reason == ReasonCode::Success;
        let will = if normal {
            WillAtEnd::Discarded
        } else {
            WillAtEnd::Due
        };
        let ending = Ending {
            reason: disconnect.reason,
            why: "the client said goodbye",
            tell: false,
            will,
        };
        let id = self.connections.id_of(index);
        self.end_connection(cx, index, ending);
        cx.effects.connections.push(ConnectionEffect::Close(id));
        Ok(())
    }

    /// DISCONNECT may change the Session Expiry Interval.
    fn change_expiry<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, expiry_secs: u32) {
        let ceiling = self.settings.limits.session_expiry_max_secs;
        let state = self.sessions.at(session);
        let was_persistent = state.is_persistent();
        state.expiry_secs = expiry_secs.min(ceiling);
        let record = Record::Session {
            tenant: state.tenant,
            client_id: state.client_id.clone(),
            epoch: state.epoch,
            expiry_secs: state.expiry_secs,
        };
        if was_persistent {
            self.append(cx, record);
        }
        if was_persistent != self.sessions.at(session).is_persistent() {
            self.reclassify_subscriptions(cx, session);
        }
    }

    /// No authentication method is configured, so no AUTH has a place [MQTT-4.12.0-7].
    /// Nor is AUTH ever sent [MQTT-4.12.0-6].
    fn auth_refused(&self, auth: &Auth<'_>) -> PacketError {
        match auth.authentication_method {
            Some(_) => PacketError::of(
                ReasonCode::ProtocolError,
                "AUTH although CONNECT named no Authentication Method",
            ),
            None => PacketError::protocol("AUTH without Authentication Method", "MQTT-4.12.0-7"),
        }
    }

    /// A packet that must not be, or that goes beyond a limit, ends the connection
    /// [MQTT-4.13.1-1].
    /// [MQTT-3.1.1/2.2.2-2] too.
    fn packet_refused<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        error: PacketError,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.phase {
            Phase::Lobby => self.refuse(cx, id.index, None, error.reason, error.why),
            Phase::Accepted(_) => {
                self.counters.protocol_errors += 1;
                self.end_connection(cx, id.index, Ending::told(error.reason, error.why));
            }
            Phase::Closing => {}
        }
    }
}

/// What became of the bytes at the front.
enum Progress {
    /// A packet of this length is worked off.
    Packet(usize),
    /// The packet is not complete, or has to wait.
    NeedMore,
    /// The connection is gone, or takes no more input.
    Gone,
}

/// The protocol version of a CONNECT whose beginning is there, to answer it in its own style.
fn version_of_partial_connect(body: &[u8]) -> Option<ProtocolVersion> {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(ProtocolVersion::V5),
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(ProtocolVersion::V311),
        _ => None,
    }
}
