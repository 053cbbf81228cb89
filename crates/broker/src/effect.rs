//! Effects: what a shard asks of its driver.
//!
//! Effects are gathered during a tick and carried out at its end in this order: records go to the
//! writer, batches to the other shards, then output is written. So no record stands before one
//! that it follows from, and an answer of another shard leaves after its own records.

use crate::authentication::Authentication;
use crate::connect_request::Guest;
use crate::event::{Event, EventNotice};
use crate::event_head::EventHead;
use crate::id::{ConnectionId, MessageId, SessionEpoch, SessionId, ShardId};
use crate::message::Message;
use crate::part::holds::Hold;
use crate::part::interface::{PartEvent, PartId, Receipt};
use crate::record::Record;
use crate::report::Report;
use crate::screening::Screening;
use crate::share::message::ShareMessage;
use crate::share::ticket::GroupId;

/// All effects of one tick. The driver empties it and hands it in again, so that a tick in steady
/// state allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be appended to the store in this order; the first has the number after the last one of
    /// the tick before. The shard counts along.
    pub records: Vec<Record>,
    /// The batch for each other shard, in order; indexed by shard number.
    pub batches: Vec<Vec<ShardMessage>>,
    /// Tasks of the driver for connections, in order.
    pub connections: Vec<ConnectionEffect>,
    /// Clients whose CONNECT needs an authentication first.
    pub authentications: Vec<Authentication>,
    /// Messages that the control plane looks at before they are routed.
    pub screenings: Vec<Screening>,
    /// Events, for logs and event feeds; only kinds that were asked for.
    pub events: Vec<EventNotice>,
    /// Answers to commands.
    pub reports: Vec<Report>,
    /// Messages of queues that lie in the store and are wanted now.
    pub reads: Vec<QueueRead>,
    /// Messages that were requested and that the store could not read back, to be reported to
    /// operators.
    pub lost: Vec<LostMessage>,
    /// Events for parts, in order.
    pub parts: Vec<(PartId, PartEvent)>,
    /// Output that is added now is that of a message with many receivers.
    pub(crate) is_fanning_out: bool,
}

/// The owner of a queue, on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueOwner {
    /// A session's.
    Session(SessionId),
    /// A share group's.
    Group(GroupId),
}

/// Messages that lie in the store are wanted in memory. Answered with
/// [`Shard::messages_read`](crate::Shard::messages_read), even if they cannot be read.
#[derive(Debug, Clone)]
pub struct QueueRead {
    /// The owner of the queue.
    pub owner: QueueOwner,
    /// Which messages of the queue they are.
    pub of: PageOf,
    /// Which messages, in the order in which they are to be sent.
    pub messages: Vec<MessageId>,
    /// Whether the answer needs their publishers.
    pub with_publishers: bool,
}

/// Which messages of the store are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOf {
    /// The next ones of a queue.
    Queue,
    /// In flight and to be sent again.
    InFlight,
}

/// The answer to a [`QueueRead`], in the order asked for. What cannot be read has the reason
/// instead; the shard knows whether it is still needed, for it may have ended meanwhile.
#[derive(Debug)]
pub struct ReadPage {
    /// The owner of the queue.
    pub owner: QueueOwner,
    /// As in the request.
    pub of: PageOf,
    /// The messages.
    pub messages: Vec<ReadMessage>,
}

/// A message that was read back, or why it cannot be had.
pub type ReadMessage = (MessageId, Result<Message, String>);

/// A message that a session still needs cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostMessage {
    /// Name of the message in the store.
    pub id: MessageId,
    /// The client, or the Topic Filter of a share group, that waited for it.
    pub waited_for: String,
    /// Why it cannot be read.
    pub why: String,
}

impl Effects {
    /// Reports an event. Long names are cut here.
    pub(crate) fn notify(&mut self, head: EventHead, event: Event) {
        self.events.push(EventNotice::new(head, event));
    }

    /// Room for a node of `shard_count` shards.
    pub fn new(shard_count: u16) -> Self {
        let batches = (0..shard_count).map(|_| Vec::new()).collect();
        Self {
            batches,
            ..Self::default()
        }
    }

    /// Whether there are no effects.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.batches.iter().all(Vec::is_empty)
            && self.connections.is_empty()
            && self.authentications.is_empty()
            && self.screenings.is_empty()
            && self.events.is_empty()
            && self.reports.is_empty()
            && self.reads.is_empty()
            && self.lost.is_empty()
            && self.parts.is_empty()
    }
}

/// Something to be done with one connection.
#[derive(Debug)]
pub enum ConnectionEffect {
    /// [`Shard::output`](crate::Shard::output) has bytes to write. At most once per connection
    /// and tick; after a partial write the driver goes on by itself when the socket is writable.
    Write(ConnectionId),
    /// Bytes to write, likewise, of a message with more than a few receivers: after all clients
    /// that wait for messages of their own.
    WriteInTurn(ConnectionId),
    /// Stop reading from this connection until `Resume`.
    PauseReading(ConnectionId),
    /// Read again.
    ResumeReading(ConnectionId),
    /// Write what is left, end the sending side, then call [`Shard::closed`](crate::Shard::closed).
    /// What still arrives is thrown away.
    Close(ConnectionId),
    /// Drop the connection now; the shard has forgotten it already.
    Abort(ConnectionId),
    /// The session of this connection lives on another shard: hand the transport and `guest` over
    /// to it, whose driver calls [`Shard::adopt`](crate::Shard::adopt). This shard has forgotten
    /// the connection already.
    Move {
        /// The connection as this shard named it.
        id: ConnectionId,
        /// The shard that owns its session.
        to: ShardId,
        /// All that the lobby learned, with the bytes not yet worked off.
        guest: Box<Guest>,
    },
}

impl ConnectionEffect {
    /// The connection that it is for.
    pub fn connection(&self) -> ConnectionId {
        match self {
            Self::Write(id)
            | Self::WriteInTurn(id)
            | Self::PauseReading(id)
            | Self::ResumeReading(id)
            | Self::Close(id)
            | Self::Abort(id)
            | Self::Move { id, .. } => *id,
        }
    }
}

/// A message from one shard to another.
#[derive(Debug, Clone)]
pub enum ShardMessage {
    /// Memory is short: a client that holds much may be on a shard that has nothing to do.
    MemoryShort,
    /// A message for the receiving shard's own subscribers.
    Publish {
        /// The message.
        message: Message,
        /// Whether it has a record, so that the receiver answers with [`ShardMessage::Routed`] once
        /// its own records of it are appended.
        recorded: bool,
        /// Sessions and share groups that had it before a restart; nearly always none.
        had: Box<[SessionEpoch]>,
    },
    /// The answer: all entries of that message are recorded here.
    Routed(MessageId),
    /// Traffic of a share group.
    Share(ShareMessage),
    /// A part holds publishers back.
    Hold(Hold),
    /// The part whose session this is holds publishers back no more.
    HoldOver(SessionEpoch),
    /// A message of this session of the receiving shard is being fanned out (`fan_out.rs`): its
    /// client's next messages wait. With `on` false that is over.
    HoldPublisher {
        /// The session with the messages.
        session: SessionId,
        /// They wait from now on.
        on: bool,
    },
    /// A receipt for the part of this session of the receiving shard.
    Receipt(SessionId, Box<Receipt>),
    /// A message that the receiving shard has routed, and that asks for receipts, has this number
    /// of receivers here.
    Receivers(MessageId, u64),
}
