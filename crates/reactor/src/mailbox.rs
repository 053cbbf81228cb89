//! Mailboxes between reactors: a bounded one for batches of messages, and a lane of its own for
//! what must not wait behind them (commands, sockets, answers of the store).
//!
//! Knows nothing of what a message means. Each sender's batches arrive in the order sent.

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

/// Emptied batches kept for a shard to be filled again.
const SPARE_BATCHES: usize = 64;

/// What comes by the control lane.
pub(crate) enum Control {
    /// An accepted connection.
    Accepted {
        stream: Stream,
        /// Where from; none is this machine.
        address: Option<SocketAddr>,
        /// Number of the listener that accepted it.
        listener: usize,
    },
    /// A connection whose bytes another thread of this process carries.
    Carried {
        stream: Stream,
        /// Where from; none is this machine.
        address: Option<(IpAddr, u16)>,
        policy: Arc<ListenerPolicy>,
    },
    /// A connection whose session lives here, from the lobby of another shard.
    Adopt(Arrival<Stream>),
    /// For the shard.
    Command(Command),
    /// A part attaches, and this takes what it is told.
    AttachPart(Box<PartSpec>, Box<dyn PartOutlet>),
    /// From a part.
    Part(PartCall),
    /// From the store: messages that a queue asked for.
    MessagesRead(ReadPage),
    /// From the store: whether it keeps up has changed. What holds now is asked then, because such
    /// news from several threads may overtake each other.
    StoreState,
    /// From the authenticator: the identity of the client of that connection.
    Authenticated(ConnectionId, Box<Authenticated>),
    /// From the authenticator: the answer for the screened message of that connection.
    Screened(ConnectionId, Box<Screened>),
    /// Accept connections from now on.
    AcceptConnections,
    /// Look at the certificates of clients again.
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
    /// Where those who have emptied a batch of this shard put it.
    spares: Sender<Vec<ShardMessage>>,
    /// Number of the last record that is durable: it waits behind nothing.
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
    /// What the shard has been told of it.
    known_durable: Cell<u64>,
}

impl Mailboxes {
    /// Mailboxes for as many reactors as there are wakeups, of `capacity` batches each.
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

    /// Sends a batch, or gives it back when the mailbox is full.
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
            // The reactor has ended, and with it all that could want the messages.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Sends by the control lane. What is sent to a reactor that has ended is dropped.
    pub(crate) fn control(&self, to: ShardId, control: Control) {
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            let _ = address.control.send(control);
            address.wakeup.wake();
        }
    }

    /// All records of a shard up to this one are durable.
    pub(crate) fn durable(&self, to: ShardId, up_to: RecordNumber) {
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            address.durable.fetch_max(up_to.0, Ordering::Release);
            address.wakeup.wake();
        }
    }

    /// Gives the empty batch back to the shard that filled it, so that none is allocated anew.
    pub(crate) fn give_back(&self, to: ShardId, batch: Vec<ShardMessage>) {
        debug_assert!(batch.is_empty(), "a shard drains what it receives");
        if let Some(address) = self.boxes.get(usize::from(to.0)) {
            let _ = address.spares.try_send(batch);
        }
    }
}

impl Mailbox {
    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let durable = self.durable.load(Ordering::Acquire);
        self.batches.is_empty() && self.control.is_empty() && durable == self.known_durable.get()
    }

    /// The last record that is durable, if there is a new one.
    pub(crate) fn next_durable(&self) -> Option<RecordNumber> {
        let durable = self.durable.load(Ordering::Acquire);
        let known = self.known_durable.replace(durable);
        (durable != known).then_some(RecordNumber(durable))
    }

    /// Batches that wait.
    pub(crate) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn next_batch(&self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// The next of the control lane; when all senders are gone there is nothing left to do.
    pub(crate) fn next_control(&self) -> Option<Control> {
        match self.control.try_recv() {
            Ok(control) => Some(control),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Control::Stop),
        }
    }

    /// An empty batch, used before if possible.
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
