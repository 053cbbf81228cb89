//! What the loop reads from, writes to, sends to and stores in. Who runs a [`Driver`] implements
//! these traits: the reactor with sockets, mailboxes and threads, tests with queues of bytes.
//!
//! Nothing here blocks. A moment is a [`Duration`] since a beginning that all shards of a node
//! share; it never goes back.
//!
//! [`Driver`]: crate::Driver

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionId, Cx, Effects, EventNotice, Guest,
    LostMessage, MemoryGauge, Node, Now, PartCall, PartEvent, PartId, Peer, QueueRead, ReadPage,
    Record, RecordNumber, Report, Screened, Screening, Shard, ShardId, ShardMessage, StoreState,
    TlsFault, TransportEnd,
};

use crate::socket_key::SocketKey;

/// What carries the bytes of one connection.
pub trait Stream {
    /// What lies between it and MQTT, such as TLS.
    type Layers: Layers;
}

/// What lies between a stream and MQTT: encryption, framing, what a proxy says.
pub trait Layers {
    /// MQTT may be sent.
    fn is_open(&self) -> bool;

    /// The next bytes belong to a handshake that takes as long as hundreds of messages.
    fn is_handshaking(&self) -> bool;

    /// Something lies between; false when all that did has done its part.
    fn is_any(&self) -> bool;

    /// There is something to be written besides MQTT.
    fn has_output(&self) -> bool;

    /// All MQTT has been written: the layers say their end, but for what follows with
    /// [`Layers::say_end`].
    fn close(&mut self);

    /// Nothing more will be written, the last words of these layers included: answers whether there
    /// are any that are yet to be written.
    fn say_end(&mut self) -> bool;

    /// Bytes of memory that they take now, and those that the shard was last told of, if these
    /// differ: then it is to be told.
    fn charge(&mut self) -> Option<(u32, u32)>;

    /// Bytes that the shard was told of; it is to be told that they are gone.
    fn discharge(&mut self) -> u32;
}

/// Nothing between a stream and MQTT.
#[derive(Clone, Copy, Debug)]
pub enum NoLayers {}

impl Layers for NoLayers {
    fn is_open(&self) -> bool {
        match *self {}
    }

    fn is_handshaking(&self) -> bool {
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

/// News of a socket. Edge-triggered: what was announced is not announced again before a read or a
/// write has found that there is nothing more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notice {
    /// Bytes have come.
    pub readable: bool,
    /// The transport takes output again.
    pub writable: bool,
    /// The peer sends no more, or the connection is broken.
    pub read_closed: bool,
    /// The connection is broken both ways.
    pub broken: bool,
}

/// Result of one read of a socket.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// Number of bytes that were read.
    Bytes(usize),
    /// There are none now.
    Empty,
    /// The peer sends no more.
    End,
    /// The connection is broken.
    Broken,
}

/// What one write to a socket came to.
#[derive(Clone, Copy, Debug)]
pub enum SocketWrite {
    /// There was nothing to be written.
    Nothing,
    /// Some of it was written.
    Some {
        /// Bytes of the shard's output that need not be offered again.
        taken: usize,
        /// The transport takes no more for now.
        blocked: bool,
    },
    /// The connection is broken.
    Broken,
}

/// What the layers of a connection have made of bytes that came.
#[derive(Debug, Default)]
pub struct Received<'a> {
    /// Where the connection comes from, as a proxy says.
    pub source: Option<SocketAddr>,
    /// The certificate that the client has just proved to have, in DER.
    pub certificate: Option<Arc<[u8]>>,
    /// Bytes of MQTT, in one piece, because the first of them may make the shard give the
    /// connection away.
    pub data: &'a [u8],
    /// The connection is over after these bytes.
    pub end: Option<TransportEnd>,
    /// What the layers have done for it, in units of work of a shard.
    pub work: u64,
}

/// A connection that has just been accepted.
#[derive(Debug)]
pub struct Newcomer<S: Stream> {
    /// What carries it.
    pub stream: S,
    /// What lies between that and MQTT.
    pub layers: Option<Box<S::Layers>>,
    /// The peer at the other end.
    pub peer: Peer,
    /// Why it ends at once, if it does.
    pub refused: Option<TransportEnd>,
}

/// A connection on its way in from the lobby of another shard.
#[derive(Debug)]
pub struct Arrival<S: Stream> {
    /// What carries it.
    pub stream: S,
    /// What lies between that and MQTT.
    pub layers: Option<Box<S::Layers>>,
    /// What the lobby has learned.
    pub guest: Box<Guest>,
}

/// What must not wait behind batches of messages.
pub enum Control<S: Stream> {
    /// A connection for the lobby of this shard.
    Open(Newcomer<S>),
    /// A connection whose session lives here.
    Adopt(Arrival<S>),
    /// For the shard.
    Command(Command),
    /// From a part.
    Part(PartCall),
    /// From the store: messages that a queue asked for.
    MessagesRead(ReadPage),
    /// From the store: what it can take from now on.
    StoreIs(StoreState),
    /// From the authenticator: the identity of the client of that connection.
    Authenticated(ConnectionId, Box<Authenticated>),
    /// The answer for the screened message of that connection.
    Screened(ConnectionId, Box<Screened>),
    /// Look at the certificates of clients again.
    RecheckCertificates,
    /// The loop ends after this tick.
    Stop,
}

/// Messages of one shard for another.
#[derive(Debug)]
pub struct Batch {
    /// The shard that sent the messages.
    pub from: ShardId,
    /// When the tick began that the first of them was sent in.
    pub at: Duration,
    /// The messages, in order.
    pub messages: Vec<ShardMessage>,
}

/// Sockets, as the loop reads from and writes to them.
pub trait Transport {
    /// What carries one connection.
    type Stream: Stream;

    /// A read that fills less than the room says that nothing more is there, and the next byte
    /// brings a notice.
    const SHORT_READ_MEANS_EMPTY: bool = true;

    /// Tells all that has happened to sockets since the last tick.
    fn notices(&mut self, take: impl FnMut(SocketKey, Notice));

    /// Connections that are to begin in the lobby of this shard.
    fn accept(&mut self, now: Now, into: &mut Vec<Newcomer<Self::Stream>>) {
        let _ = (now, into);
    }

    /// Gives notices of this stream under `key` from now on, also of what has come by now; false
    /// if it cannot.
    fn add(&mut self, stream: &mut Self::Stream, key: SocketKey) -> bool;

    /// Reads once.
    fn read(&mut self, stream: &mut Self::Stream, room: &mut [u8]) -> Read;

    /// Writes `output`, which may be empty, and what the layers have to say before it.
    fn write(
        &mut self,
        stream: &mut Self::Stream,
        layers: Option<&mut <Self::Stream as Stream>::Layers>,
        output: &[u8],
    ) -> SocketWrite;

    /// Takes `bytes` through the layers. They may put what they make of them into `plain`, which is
    /// empty. `listener` is the number of the listener that the connection came by.
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

    /// Looks at the certificate of a client again; none if it has none.
    ///
    /// # Errors
    /// Why it is no longer valid.
    fn recheck(
        &mut self,
        layers: &<Self::Stream as Stream>::Layers,
        listener: Option<u16>,
    ) -> Option<Result<(), TlsFault>> {
        let _ = (layers, listener);
        None
    }

    /// Says to the peer that nothing more will come; false if the connection is broken.
    fn end_writing(&mut self, stream: &mut Self::Stream) -> bool;

    /// The connection is over: `stream` is closed.
    fn drop_stream(&mut self, stream: Self::Stream);
}

/// What comes from other shards, the store and operators, and what goes to other shards.
pub trait Mail: Transport {
    /// The last record that is durable, if there is a new one.
    fn next_durable(&mut self) -> Option<RecordNumber>;

    /// The next of what must not wait behind batches.
    fn next_control(&mut self) -> Option<Control<Self::Stream>>;

    /// Batches that wait.
    fn batch_count(&self) -> usize;

    /// The next of them.
    fn next_batch(&mut self) -> Option<Batch>;

    /// Gives the empty batch back to the shard that filled it, so that none is allocated anew.
    fn give_back(&mut self, to: ShardId, messages: Vec<ShardMessage>) {
        let _ = (to, messages);
    }

    /// An empty batch, used before if possible.
    fn spare(&mut self) -> Vec<ShardMessage> {
        Vec::new()
    }

    /// Sends a batch. Never blocks.
    ///
    /// # Errors
    /// The mailbox of that shard is full: the batch, to be tried again.
    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch>;

    /// Whether mailboxes of other shards are full has changed.
    fn congested(&mut self, on: bool) {
        let _ = on;
    }

    /// Takes all that parts are told, in order.
    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        debug_assert!(events.is_empty(), "no part was attached");
        events.clear();
    }

    /// Hands a connection to the shard that owns its session.
    fn give_away(&mut self, to: ShardId, arrival: Arrival<Self::Stream>);
}

/// Where records go.
pub trait Storage {
    /// Takes what all `records` of a tick at `now` say, in order; the last of them is number `last`
    /// of its shard. Those that are not `awaited` may be synced a few milliseconds later. Answers
    /// up to which number records are durable by now, if that is known already.
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        awaited: bool,
    ) -> Option<RecordNumber>;

    /// Takes all `reads`, to be answered by [`Control::MessagesRead`] after what was appended
    /// before; messages are counted by `gauge`.
    fn read_back(&mut self, reads: &mut Vec<QueueRead>, now: Now, gauge: Arc<MemoryGauge>) {
        let _ = (now, gauge);
        debug_assert!(
            reads.is_empty(),
            "nothing is read back from a store that keeps nothing"
        );
        reads.clear();
    }

    /// Takes all of `lost`, messages that could not be read and that a session waited for: to be
    /// reported to the operators.
    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        lost.clear();
    }
}

/// All that is around the loop of one shard.
pub trait Outside: Mail + Storage {
    /// What the shards of the node share.
    type Node: Node;

    /// What the shards of the node share.
    fn node(&self) -> &Self::Node;

    /// This moment.
    fn moment(&self) -> Duration;

    /// Makes each call into the shard that may ask for effects, but nothing else: for those who
    /// watch what a shard does.
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

    /// The shard has gone on with its deferred work, as far as a turn allows.
    fn worked(&mut self) {}

    /// Asks who a client is, to be answered by [`Control::Authenticated`].
    fn ask(&mut self, authentication: Authentication);

    /// Asks for a message to be checked. The answer comes as [`Control::Screened`].
    fn screen(&mut self, screening: Screening) {
        debug_assert!(false, "no listener screens messages: {screening:?}");
    }

    /// Takes all of `events`.
    fn tell(&mut self, events: &mut Vec<EventNotice>);

    /// Takes an answer to a command.
    fn report(&mut self, report: Report);

    /// This number of messages took this time, from the tick in which the bytes of their publisher
    /// were read to the end of that in which their packets were written.
    fn under_way(&mut self, took: Duration, messages: u64) {
        let _ = (took, messages);
    }
}
