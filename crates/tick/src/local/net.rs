//! Connections as queues of bytes, and mailboxes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use martlet_broker::{
    Authentication, EventNotice, PartEvent, PartId, RecordNumber, Report, Screening, TransportEnd,
};

use crate::SocketKey;
use crate::outside::{Arrival, Batch, Control, Layers, Notice, Stream};

/// Bytes of memory that a layer takes.
const LAYER_BYTES: u32 = 100;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub usize);

/// The node's end of a connection.
#[derive(Debug)]
pub struct Wire(pub(super) Link);

impl Stream for Wire {
    type Layers = Layer;
}

/// What lies between a connection and MQTT, in place of TLS and WebSocket: it passes all bytes on,
/// and ends the connection when the client breaks its rules.
#[derive(Debug)]
pub struct Layer {
    pub(super) link: Link,
    /// Bytes of memory that the shard has been told of.
    told: u32,
}

impl Layer {
    pub(super) fn new(link: Link) -> Self {
        Self { link, told: 0 }
    }
}

impl Layers for Layer {
    fn is_open(&self) -> bool {
        true
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn is_any(&self) -> bool {
        true
    }

    fn has_output(&self) -> bool {
        false
    }

    fn close(&mut self) {}

    fn say_end(&mut self) -> bool {
        false
    }

    fn charge(&mut self) -> Option<(u32, u32)> {
        let before = std::mem::replace(&mut self.told, LAYER_BYTES);
        (before != LAYER_BYTES).then_some((LAYER_BYTES, before))
    }

    fn discharge(&mut self) -> u32 {
        std::mem::take(&mut self.told)
    }
}

/// What is between a client and the node.
#[derive(Debug, Default)]
pub(super) struct LocalConnection {
    /// The socket that it belongs to; none before the node has it, while it moves between shards
    /// and when it is over.
    pub(super) at: Option<(usize, SocketKey)>,
    /// What the client has sent and the node has not read.
    pub(super) unread: VecDeque<u8>,
    /// How the client has ended it.
    pub(super) ended: Option<TransportEnd>,
    /// What the node has written and the client has not taken.
    pub(super) received: Vec<u8>,
    /// Bytes that the node may write before it has to wait.
    pub(super) room: usize,
    /// The node writes no more.
    pub(super) closed: bool,
    /// The turn in which the first byte of `received` came.
    pub(super) received_in: Option<u64>,
    /// The node has dropped it.
    pub(super) dropped: bool,
    /// The client does not end its side when the node has ended its own.
    pub(super) hangs: bool,
    /// A layer lies between it and MQTT.
    pub(super) layered: bool,
}

impl LocalConnection {
    /// The rule of its layer that the client has broken.
    pub(super) fn violation(&self) -> Option<&TransportEnd> {
        let end = self.ended.as_ref().filter(|_| self.layered)?;
        match end {
            TransportEnd::Violation(_) | TransportEnd::BadCertificate { .. } => Some(end),
            TransportEnd::EndOfStream | TransportEnd::Error | TransportEnd::Finished => None,
        }
    }
}

/// What waits for one shard.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) notices: Vec<(SocketKey, Notice)>,
    pub(super) control: VecDeque<Control<Wire>>,
    /// Connections from other shards that are kept from arriving.
    pub(super) arrivals: VecDeque<Arrival<Wire>>,
    pub(super) batches: VecDeque<Batch>,
    /// Batches that arrive though mail is held.
    pub(super) released: usize,
    pub(super) durable: Option<RecordNumber>,
    /// The last record that the store was given.
    pub(super) appended: RecordNumber,
    /// The last record that the store has answered for.
    pub(super) answered: RecordNumber,
}

/// Connections and mailboxes.
#[derive(Default)]
pub(super) struct Net {
    pub(super) lines: Vec<LocalConnection>,
    /// Places of lines to be used again.
    pub(super) free: Vec<Link>,
    pub(super) inboxes: Vec<Inbox>,
    /// Each look at the clock takes a nanosecond, so that a test can set a limit of no time.
    pub(super) moment: Cell<Duration>,
    /// Batches between shards do not arrive.
    pub(super) is_mail_held: bool,
    /// Connections that move between shards do not arrive.
    pub(super) are_moves_held: bool,
    /// Batches that a mailbox takes; none: any number.
    pub(super) mailbox_batches: Option<usize>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) turns: u64,
    pub(super) events: Vec<EventNotice>,
    pub(super) reports: Vec<Report>,
    pub(super) parts: VecDeque<(PartId, PartEvent)>,
    pub(super) asked: VecDeque<(u16, Authentication)>,
    pub(super) screenings: VecDeque<(u16, Screening)>,
}

impl Net {
    pub(super) fn notice(&mut self, link: Link, notice: Notice) {
        if let Some((shard, key)) = self.lines[link.0].at {
            self.inboxes[shard].notices.push((key, notice));
        }
    }

    /// Announces what there is to be read, if there is something, or the end of that.
    pub(super) fn announce(&mut self, link: Link) {
        let line = &self.lines[link.0];
        if !line.unread.is_empty() || line.ended.is_some() {
            let notice = Notice {
                readable: true,
                writable: false,
                read_closed: line.ended.is_some(),
                broken: line.ended == Some(TransportEnd::Error),
            };
            self.notice(link, notice);
        }
    }

    /// Batches that a shard may take.
    pub(super) fn arrived(&self, shard: usize) -> usize {
        let inbox = &self.inboxes[shard];
        match self.is_mail_held {
            true => inbox.released.min(inbox.batches.len()),
            false => inbox.batches.len(),
        }
    }
}
