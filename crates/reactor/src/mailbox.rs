//! Mailboxes between reactors: a bounded queue for batches of messages, and a separate control lane
//! for items that must not wait behind batches (commands, sockets, answers of the store).
//!
//! The content of messages is not inspected. Each sender's batches arrive in the order sent.

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};
use martlet_broker::{
    Authenticated, Command, ConnectionId, ListenerPolicy, PartCall, PartOutlet, PartSpec, ReadPage,
    RecordNumber, Screened, ShardId, ShardMessage,
};

use martlet_tick::{Arrival, Batch};

use crate::poll::{Stream, Wakeup};

/// Number of empty batches kept for reuse per shard.
const SPARE_BATCHES: usize = 64;

/// An item of the control lane.
pub(crate) enum Control {
    /// An accepted connection.
    Accepted {
        stream: Stream,
        /// Peer address; `None` for a Unix socket.
        address: Option<SocketAddr>,
        /// Number of the listener that accepted it.
        listener: usize,
    },
    /// A connection whose bytes another thread of this process carries.
    Carried {
        stream: Stream,
        /// Peer address; `None` for a Unix socket.
        address: Option<(IpAddr, u16)>,
        policy: Arc<ListenerPolicy>,
    },
    /// A connection from the lobby of another shard, whose session lives on this shard.
    Adopt(Arrival<Stream>),
    /// A command for the shard.
    Command(Command),
    /// Attaches a part; its events go to this outlet.
    AttachPart(Box<PartSpec>, Box<dyn PartOutlet>),
    /// A call of a part.
    Part(PartCall),
    /// Messages that a queue requested, from the store.
    MessagesRead(ReadPage),
    /// The store's state has changed. The receiver reads the current state itself, because notices
    /// from several threads may overtake each other.
    StoreState,
    /// The identity of the client of that connection, from the authenticator.
    Authenticated(ConnectionId, Box<Authenticated>),
    /// The answer for the screened message of that connection, from the authenticator.
    Screened(ConnectionId, Box<Screened>),
    /// Accept connections from now on.
    AcceptConnections,
    /// Check the certificates of clients again.
    RecheckCertificates,
    /// End the thread.
    Stop,
}

/// The sending side of the mailboxes of all reactors.
pub(crate) struct Mailboxes {
    boxes: Vec<Address>,
}

struct Address {
    batches: Sender<Batch>,
    control: Sender<Control>,
    /// Returns empty batches to this shard.
    spares: Sender<Vec<ShardMessage>>,
    /// Number of the last durable record. It has its own place, so it waits behind nothing.
    durable: Arc<AtomicU64>,
    wakeup: Arc<Wakeup>,
}

/// The receiving side of one reactor's mailboxes.
#[derive(Debug)]
pub(crate) struct Mailbox {
    batches: Receiver<Batch>,
    control: Receiver<Control>,
    spares: Receiver<Vec<ShardMessage>>,
    durable: Arc<AtomicU64>,
    /// The last durable record that the shard was notified of.
    known_durable: Cell<u64>,
}

impl Mailboxes {
    /// Creates mailboxes of `capacity` batches each, one for each wakeup.
    pub(crate) fn new(wakeups: &[Arc<Wakeup>], capacity: usize) -> (Arc<Self>, Vec<Mailbox>) {
        let both = wakeups.iter().map(|wakeup| {
            let (batches, batches_out) = bounded(capacity.max(1));
            let (control, control_out) = unbounded();
            let (spares, spares_out) = bounded(SPARE_BATCHES);
            let durable = Arc::<AtomicU64>::default();
            let address = Address {
                batches,
                control,
                spares,
                durable: Arc::clone(&durable),
                wakeup: Arc::clone(wakeup),
            };
            let mailbox = Mailbox {
                batches: batches_out,
                control: control_out,
                spares: spares_out,
                durable,
                known_durable: Cell::new(0),
            };
            (address, mailbox)
        });
        let (boxes, mailboxes) = both.unzip();
        (Arc::new(Self { boxes }), mailboxes)
    }

    pub(crate) fn shard_count(&self) -> u16 {
        self.boxes.len() as u16
    }

    /// Sends a batch. Returns it if the mailbox is full.
    pub(crate) fn send(&self, to: ShardId, batch: Batch) -> Result<(), Batch> {
        let Some(address) = self.boxes.get(usize::from(to.0)) else {
            return Ok(());
        };
        match address.batches.try_send(batch) {
            Ok(()) => {
                address.wakeup.wake();
                Ok(())
            }
            Err(TrySendError::Full(batch)) => Err(batch),
            // The reactor has ended, and with it all recipients of the messages.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Sends by the control lane. Items for a reactor that has ended are dropped.
    pub(crate) fn control(&self, to: ShardId, control: Control) {
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            let _ = address.control.send(control);
            address.wakeup.wake();
        }
    }

    /// Notifies a shard that all its records up to this one are durable.
    pub(crate) fn durable(&self, to: ShardId, up_to: RecordNumber) {
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            address.durable.fetch_max(up_to.0, Ordering::Release);
            address.wakeup.wake();
        }
    }

    /// Returns an empty batch to the shard that filled it, to avoid allocations.
    pub(crate) fn give_back(&self, to: ShardId, batch: Vec<ShardMessage>) {
        debug_assert!(batch.is_empty(), "a shard drains what it receives");
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            let _ = address.spares.try_send(batch);
        }
    }
}

impl Mailbox {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let durable = self.durable.load(Ordering::Acquire);
        self.batches.is_empty() && self.control.is_empty() && durable == self.known_durable.get()
    }

    /// Returns the last durable record, if there is a new one.
    pub(crate) fn next_durable(&self) -> Option<RecordNumber> {
        let durable = self.durable.load(Ordering::Acquire);
        let known = self.known_durable.replace(durable);
        (durable != known).then_some(RecordNumber(durable))
    }

    /// Number of batches that wait.
    pub(crate) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn next_batch(&self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// Returns the next item of the control lane. If all senders have ended, that is `Stop`.
    pub(crate) fn next_control(&self) -> Option<Control> {
        match self.control.try_recv() {
            Ok(control) => Some(control),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Control::Stop),
        }
    }

    /// Returns an empty batch, a used one if possible.
    pub(crate) fn spare(&self) -> Vec<ShardMessage> {
        self.spares.try_recv().unwrap_or_default()
    }
}

impl fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailboxes")
            .field("shards", &self.boxes.len())
            .finish()
    }
}
