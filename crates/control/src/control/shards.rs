//! The shards, as the control plane reaches them.

use std::collections::HashMap;
use std::sync::Mutex;

use martlet_broker::{Answer, Command, MemoryUse, PartLine, PartOutlet, PartSpec, ShardId};
use tokio::sync::oneshot;

use crate::store::{PinnedStore, StoreSize, StoreState};

/// The shards, as the control plane reaches them. The binary implements it on the reactor.
pub trait Shards: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> u16;
    /// Sends a command to one of them.
    fn send(&self, shard: ShardId, command: Command);
    /// Connections accepted by the listeners since the start.
    fn sockets_accepted(&self) -> u64;
    /// Times that accepting began to pause because too few descriptors were left.
    fn accept_pauses(&self) -> u64;
    /// Accepting pauses now.
    fn is_accepting_paused(&self) -> bool;
    /// Connections that are open, those included that have not sent CONNECT or are being closed.
    fn sockets_open(&self) -> u64;
    /// Clients that are connected, by the listener that they came by, in the order of the
    /// listeners.
    fn clients_by_listener(&self) -> Vec<u32>;
    /// Events that were not read in time.
    fn events_dropped(&self) -> u64;
    /// Number of events that shards have reported since the start, taken or not.
    fn events_reported(&self) -> u64;
    /// How long messages were under way inside the node, by shard.
    fn latencies(&self) -> Vec<Latencies>;
    /// How the message store is; none if all is kept in memory.
    fn store_state(&self) -> Option<StoreState>;
    /// The size of the message store; none if it does not answer within a second.
    fn store_size(&self) -> Option<StoreSize>;
    /// Attaches a part of the node: `outlet` gets the result, and then the messages for the part.
    /// The shard sets its number in `spec`.
    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine>;
    /// Disconnects clients whose certificates are no longer valid.
    fn recheck_certificates(&self);
    /// Borrows bytes of the node's memory for use outside of the shards. False if they are not
    /// available.
    fn borrow_memory(&self, bytes: usize) -> bool;
    /// Gives back what was borrowed.
    fn return_memory(&self, bytes: usize);
    /// Sets the number of bytes that are in use outside of the shards, beside what was borrowed.
    /// Returns whether memory is short.
    fn set_memory_outside(&self, bytes: usize) -> bool;
    /// How many of the bytes in use are for the addresses that clients connect from.
    fn addresses_bytes(&self) -> usize;
    /// Bytes of events that wait to be taken.
    fn events_bytes(&self) -> usize;
    /// Bytes of memory that the store holds: for records that wait to be written, and its index.
    fn store_held_bytes(&self) -> usize;
    /// Use of the node's memory.
    fn memory_use(&self) -> MemoryUse;
    /// Pins the store as it is at this moment. Takes as long as its checkpoint.
    fn pin_store(&self) -> Result<PinnedStore, String>;
}

/// How long the messages that a shard sent were under way inside the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    /// Upper bounds in seconds, rising, each with the messages that are above the one before; the
    /// last is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all of them, in seconds.
    pub sum_secs: f64,
}

/// The waiting requests, by number.
pub(super) type PendingAnswers = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;
