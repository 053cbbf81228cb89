//! Connections as queues of bytes, and mailboxes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use martlet_broker::{
    Authentication, EventNotice, PartEvent, PartId, RecordNumber, Report, Screening, TlsFault,
    TransportEnd,
};

use crate::SocketKey;
use crate::outside::{Arrival, Batch, Control, Layers, Notice, Stream};

/// Memory of a layer in bytes.
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

/// A layer between a connection and MQTT, as a substitute for TLS and WebSocket. It passes all
/// bytes on, and ends the connection when the client breaks its rules.
#[derive(Debug)]
pub struct Layer {
    pub(super) link: Link,
    /// Memory that was last reported to the shard, in bytes.
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

    fn fault_at_end(&self) -> Option<TlsFault> {
        None
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

/// The state between a client and the node.
#[derive(Debug, Default)]
pub(super) struct LocalConnection {
    /// The shard and socket of the connection. `None` before the node has it, while it moves
    /// between shards, and after its end.
    pub(super) at: Option<(usize, SocketKey)>,
    /// Bytes that the client has sent and the node has not read.
    pub(super) unread: VecDeque<u8>,
    /// How the client has ended the connection, if it has.
    pub(super) ended: Option<TransportEnd>,
    /// Bytes that the node has written and the client has not taken.
    pub(super) received: Vec<u8>,
    /// Bytes that the node may write before it is blocked.
    pub(super) room: usize,
    /// Whether the node has ended its side.
    pub(super) closed: bool,
    /// The turn in which the first byte of `received` arrived.
    pub(super) received_in: Option<u64>,
    /// Whether the node has dropped the connection.
    pub(super) dropped: bool,
    /// Whether the client keeps its side open when the node has ended its own.
    pub(super) hangs: bool,
    /// Whether there is a layer between the connection and MQTT.
    pub(super) layered: bool,
}

impl LocalConnection {
    /// The rule of the layer that the client has broken.
    pub(super) fn violation(&self) -> Option<&TransportEnd> {
        let end = self.ended.as_ref().filter(|_| self.layered)?;
        match end {
            TransportEnd::Violation(_) | TransportEnd::BadCertificate { .. } => Some(end),
            TransportEnd::EndOfStream | TransportEnd::Error | TransportEnd::Finished => None,
        }
    }
}

/// Input that waits for one shard.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) notices: Vec<(SocketKey, Notice)>,
    pub(super) control: VecDeque<Control<Wire>>,
    /// Connections from other shards that are held back.
    pub(super) arrivals: VecDeque<Arrival<Wire>>,
    pub(super) batches: VecDeque<Batch>,
    /// Number of batches that arrive although mail is held back.
    pub(super) released: usize,
    pub(super) durable: Option<RecordNumber>,
    /// The last record that was given to the store.
    pub(super) appended: RecordNumber,
    /// The last record that the store has answered.
    pub(super) answered: RecordNumber,
}

/// Connections and mailboxes.
#[derive(Default)]
pub(super) struct Net {
    pub(super) lines: Vec<LocalConnection>,
    /// Free places for connections.
    pub(super) free: Vec<Link>,
    pub(super) inboxes: Vec<Inbox>,
    /// Each reading of the clock advances it by a nanosecond, so that a test can set a limit of
    /// zero time.
    pub(super) moment: Cell<Duration>,
    /// Whether batches between shards are held back.
    pub(super) is_mail_held: bool,
    /// Whether connections that move between shards are held back.
    pub(super) are_moves_held: bool,
    /// Most batches that a mailbox takes; `None` means no limit.
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

    /// Announces unread bytes or the end of input, if there are any.
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

    /// Number of batches that a shard may take.
    pub(super) fn arrived(&self, shard: usize) -> usize {
        let inbox = &self.inboxes[shard];
        match self.is_mail_held {
            true => inbox.released.min(inbox.batches.len()),
            false => inbox.batches.len(),
        }
    }
}
