//! The environment that the loop reads from, writes to, sends to and stores in. The code that runs
//! a [`Driver`] implements these traits: the reactor with sockets, mailboxes and threads, tests
//! with queues of bytes.
//!
//! Nothing here blocks. A moment is a [`Duration`] since an origin that all shards of a node share;
//! it never decreases.
//!
//! [`Driver`]: crate::Driver

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionId, Cx, Effects, EventNotice, Guest,
    LostMessage, MemoryGauge, Node, Now, PartCall, PartEvent, PartId, Peer, QueueRead, ReadPage,
    Record, RecordNumber, Report, Screened, Screening, Shard, ShardId, ShardMessage, StoreState,
    TenantId, TlsFault, TransportEnd,
};

use crate::socket_key::SocketKey;

/// Carries the bytes of one connection.
pub trait Stream {
    /// The layers between the stream and MQTT, such as TLS.
    type Layers: Layers;
}

/// The layers between a stream and MQTT: PROXY protocol, encryption, framing.
pub trait Layers {
    /// Whether MQTT may be sent.
    fn is_open(&self) -> bool;

    /// Whether the next bytes belong to a handshake, which takes as long as hundreds of messages.
    fn is_handshaking(&self) -> bool;

    /// The fault of a peer that ends the connection now, of a kind that it does not tell itself.
    fn fault_at_end(&self) -> Option<TlsFault>;

    /// Whether any layer is left; false when all layers are finished.
    fn is_any(&self) -> bool;

    /// Whether bytes other than MQTT wait to be written.
    fn has_output(&self) -> bool;

    /// Begins to close: all MQTT has been written. The layers queue their closing messages, except
    /// for those of [`Layers::say_end`].
    fn close(&mut self);

    /// Queues the last messages of the layers; nothing else will be written afterwards. Returns
    /// whether any of them wait to be written.
    fn say_end(&mut self) -> bool;

    /// Returns the current memory in bytes and the number last reported to the shard, if they
    /// differ. The caller must then report the change to the shard.
    fn charge(&mut self) -> Option<(u32, u32)>;

    /// Returns the number of bytes last reported to the shard. The caller must report to the shard
    /// that they are freed.
    fn discharge(&mut self) -> u32;
}

/// No layers between a stream and MQTT.
#[derive(Clone, Copy, Debug)]
pub enum NoLayers {}

impl Layers for NoLayers {
    fn is_open(&self) -> bool {
        match *self {}
    }

    fn is_handshaking(&self) -> bool {
        match *self {}
    }

    fn fault_at_end(&self) -> Option<TlsFault> {
        match *self {}
    }

    fn is_any(&self) -> bool {
        match *self {}
    }

    fn has_output(&self) -> bool {
        match *self {}
    }

    fn close(&mut self) {
        match *self {}
    }

    fn say_end(&mut self) -> bool {
        match *self {}
    }

    fn charge(&mut self) -> Option<(u32, u32)> {
        match *self {}
    }

    fn discharge(&mut self) -> u32 {
        match *self {}
    }
}

/// Readiness notice of a socket. Edge-triggered: it is not repeated until a read or a write has
/// been blocked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notice {
    /// Bytes have arrived.
    pub readable: bool,
    /// The transport accepts output again.
    pub writable: bool,
    /// The peer has ended its sending side, or the connection is broken.
    pub read_closed: bool,
    /// The connection is broken in both directions.
    pub broken: bool,
}

/// Result of one read of a socket.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// Number of bytes that were read.
    Bytes(usize),
    /// There are no bytes now.
    Empty,
    /// The peer has ended its sending side.
    End,
    /// The connection is broken.
    Broken,
}

/// Result of one write to a socket.
#[derive(Clone, Copy, Debug)]
pub enum SocketWrite {
    /// There was nothing to write.
    Nothing,
    /// Some output was written.
    Some {
        /// Bytes of the shard's output that must not be offered again.
        taken: usize,
        /// The transport accepts no more output for now.
        blocked: bool,
    },
    /// The connection is broken.
    Broken,
}

/// Result of passing received bytes through the layers of a connection.
#[derive(Debug, Default)]
pub struct Received<'a> {
    /// The source address in the proxy's header.
    pub source: Option<SocketAddr>,
    /// The certificate of the client, in DER, if it has just been verified.
    pub certificate: Option<Arc<[u8]>>,
    /// Bytes of MQTT. Contiguous, because the first of them may make the shard hand over the
    /// connection.
    pub data: &'a [u8],
    /// Set if the connection ends after these bytes.
    pub end: Option<TransportEnd>,
    /// Work done by the layers, in a shard's units of work.
    pub work: u64,
}

/// A newly accepted connection.
#[derive(Debug)]
pub struct Newcomer<S: Stream> {
    /// Carries the connection.
    pub stream: S,
    /// The layers between the stream and MQTT.
    pub layers: Option<Box<S::Layers>>,
    /// The peer.
    pub peer: Peer,
    /// Set if the connection ends at once.
    pub refused: Option<TransportEnd>,
}

/// A connection that arrives from the lobby of another shard.
#[derive(Debug)]
pub struct Arrival<S: Stream> {
    /// Carries the connection.
    pub stream: S,
    /// The layers between the stream and MQTT.
    pub layers: Option<Box<S::Layers>>,
    /// Information that the lobby has gathered.
    pub guest: Box<Guest>,
}

/// Items that must not wait behind batches of messages.
pub enum Control<S: Stream> {
    /// A connection for the lobby of this shard.
    Open(Newcomer<S>),
    /// A connection whose session lives here.
    Adopt(Arrival<S>),
    /// A command for the shard.
    Command(Command),
    /// A call of a part.
    Part(PartCall),
    /// Messages that a queue requested, from the store.
    MessagesRead(ReadPage),
    /// State of the store: what it can take from now on, and the tenants that have their share of
    /// it, in order.
    StoreIs(StoreState, Arc<[TenantId]>),
    /// The identity of the client of that connection, from the authenticator.
    Authenticated(ConnectionId, Box<Authenticated>),
    /// The answer for the screened message of that connection.
    Screened(ConnectionId, Box<Screened>),
    /// Check the certificates of clients again.
    RecheckCertificates,
    /// End the loop after this tick.
    Stop,
}

/// Messages of one shard for another.
#[derive(Debug)]
pub struct Batch {
    /// The shard that sent the messages.
    pub from: ShardId,
    /// When the tick began in which the first of them was sent.
    pub at: Duration,
    /// The messages, in order.
    pub messages: Vec<ShardMessage>,
}

/// Interface of the loop to sockets.
pub trait Transport {
    /// Carries one connection.
    type Stream: Stream;

    /// Whether a read that does not fill the buffer means that no bytes are left, and the next byte
    /// brings a notice.
    const SHORT_READ_MEANS_EMPTY: bool = true;

    /// Passes on all notices of sockets since the last tick.
    fn notices(&mut self, take: impl FnMut(SocketKey, Notice));

    /// Adds the connections that begin in the lobby of this shard.
    fn accept(&mut self, now: Now, into: &mut Vec<Newcomer<Self::Stream>>) {
        let _ = (now, into);
    }

    /// Registers this stream under `key` for notices, including what has already arrived. Returns
    /// false on failure.
    fn add(&mut self, stream: &mut Self::Stream, key: SocketKey) -> bool;

    /// Reads once.
    fn read(&mut self, stream: &mut Self::Stream, room: &mut [u8]) -> Read;

    /// Writes pending bytes of the layers, then `output`, which may be empty.
    fn write(
        &mut self,
        stream: &mut Self::Stream,
        layers: Option<&mut <Self::Stream as Stream>::Layers>,
        output: &[u8],
    ) -> SocketWrite;

    /// Passes `bytes` through the layers. They may put extracted bytes into `plain`, which is
    /// empty. `listener` is the number of the connection's listener.
    fn receive<'a>(
        &mut self,
        layers: &mut <Self::Stream as Stream>::Layers,
        listener: impl FnOnce() -> Option<u16>,
        bytes: &'a mut [u8],
        plain: &'a mut Vec<u8>,
    ) -> Received<'a> {
        let _ = (layers, listener, plain);
        Received {
            data: bytes,
            ..Received::default()
        }
    }

    /// Checks the certificate of a client again. Returns `None` if it has none.
    ///
    /// # Errors
    /// The reason why it is no longer valid.
    fn recheck(
        &mut self,
        layers: &<Self::Stream as Stream>::Layers,
        listener: Option<u16>,
    ) -> Option<Result<(), TlsFault>> {
        let _ = (layers, listener);
        None
    }

    /// Shuts down the sending direction. Returns false if the connection is broken.
    fn end_writing(&mut self, stream: &mut Self::Stream) -> bool;

    /// Closes `stream`: the connection is over.
    fn drop_stream(&mut self, stream: Self::Stream);
}

/// Interface to other shards, the store and operators.
pub trait Mail: Transport {
    /// Returns the last durable record, if there is a new one.
    fn next_durable(&mut self) -> Option<RecordNumber>;

    /// Returns the next item that must not wait behind batches.
    fn next_control(&mut self) -> Option<Control<Self::Stream>>;

    /// Number of batches that wait.
    fn batch_count(&self) -> usize;

    /// Returns the next batch.
    fn next_batch(&mut self) -> Option<Batch>;

    /// Returns the empty batch to the shard that filled it, to avoid allocations.
    fn give_back(&mut self, to: ShardId, messages: Vec<ShardMessage>) {
        let _ = (to, messages);
    }

    /// Returns an empty batch, a used one if possible.
    fn spare(&mut self) -> Vec<ShardMessage> {
        Vec::new()
    }

    /// Sends a batch. Never blocks.
    ///
    /// # Errors
    /// The mailbox of that shard is full. Contains the batch, to be sent again later.
    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch>;

    /// Notes whether mailboxes of other shards are full, when this changes.
    fn congested(&mut self, on: bool) {
        let _ = on;
    }

    /// Takes all events for parts, in order.
    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        debug_assert!(events.is_empty(), "no part was attached");
        events.clear();
    }

    /// Hands a connection to the shard that owns its session.
    fn give_away(&mut self, to: ShardId, arrival: Arrival<Self::Stream>);
}

/// Interface to the storage of records.
pub trait Storage {
    /// Takes all `records` of a tick at `now`, in order; the last of them has number `last` in its
    /// shard. Records that are not `awaited` may be synced a few milliseconds later. Returns the
    /// number up to which records are durable, if that is already known.
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        awaited: bool,
    ) -> Option<RecordNumber>;

    /// Takes all `reads`. Each is answered by [`Control::MessagesRead`], after all records appended
    /// earlier are written. `gauge` counts the messages.
    fn read_back(&mut self, reads: &mut Vec<QueueRead>, now: Now, gauge: Arc<MemoryGauge>) {
        let _ = (now, gauge);
        debug_assert!(
            reads.is_empty(),
            "nothing is read back from a store that keeps nothing"
        );
        reads.clear();
    }

    /// Takes all of `lost`: messages that could not be read and that a session waited for. They
    /// must be reported to the operators.
    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        lost.clear();
    }
}

/// The whole environment of the loop of one shard.
pub trait Outside: Mail + Storage {
    /// State shared by the shards of the node.
    type Node: Node;

    /// State shared by the shards of the node.
    fn node(&self) -> &Self::Node;

    /// The current moment.
    fn moment(&self) -> Duration;

    /// Makes each call into the shard that may cause effects, and nothing else. Tests override it
    /// to observe a shard.
    #[inline(always)]
    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, Self::Node>) -> T,
    ) -> T {
        let node = self.node();
        let mut cx = Cx { now, node, effects };
        call(shard, &mut cx)
    }

    /// Called when the shard has continued its deferred work, as far as a turn allows.
    fn worked(&mut self) {}

    /// Requests the identity of a client, to be answered by [`Control::Authenticated`].
    fn ask(&mut self, authentication: Authentication);

    /// Requests a check of a message. The answer comes as [`Control::Screened`].
    fn screen(&mut self, screening: Screening) {
        debug_assert!(false, "no listener screens messages: {screening:?}");
    }

    /// Takes all of `events`.
    fn tell(&mut self, events: &mut Vec<EventNotice>);

    /// Takes a report.
    fn report(&mut self, report: Report);

    /// Records the latency of this number of messages: from the tick in which their publisher's
    /// bytes were read to the end of the tick in which their packets were written.
    fn under_way(&mut self, took: Duration, messages: u64) {
        let _ = (took, messages);
    }
}
