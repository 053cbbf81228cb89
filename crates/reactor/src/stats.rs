//! What a reactor counts about its own work. Each counter has one writer, its reactor; anybody
//! may read.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use martlet_broker::EventGroup;

use crate::latency::Latencies;
use crate::poll::Wakeup;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of all reactors of a node, since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ReactorStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// Counters of one reactor.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            /// How long messages were under way.
            pub(crate) latencies: Latencies,
        }

        impl AddAssign<&Counters> for ReactorStats {
            fn add_assign(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.0.load(Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections closed at once because the node had as many as it may.
    refused,
    /// Times that accepting began to pause because too few descriptors were left.
    accept_pauses,
    /// Times that the loop has gone round.
    ticks,
    /// System calls that read.
    reads,
    /// System calls that wrote.
    writes,
    /// Bytes read, WebSocket framing included.
    read_bytes,
    /// Bytes written, WebSocket framing included.
    written_bytes,
    /// Connections handed to the shard that owns their session.
    moved,
    /// Batches of messages sent to other shards.
    batches_sent,
    /// Times that a mailbox was found full after there had been room in all.
    congestions,
    /// Events dropped because they were not read in time.
    events_dropped,
    /// Dropped events about clients that came and went, refusals, and messages that wait or were
    /// lost.
    connection_events_dropped,
    /// Dropped events about subscriptions.
    subscription_events_dropped,
    /// Dropped events about messages that were dropped.
    drop_events_dropped,
    /// Dropped events about messages that were published.
    published_events_dropped,
    /// Dropped events about messages that were delivered.
    delivered_events_dropped,
    /// Dropped events about packets.
    packet_events_dropped,
}

impl Counters {
    /// An event found no room.
    pub(crate) fn event_dropped(&self, group: EventGroup) {
        self.events_dropped.add(1);
        let counter = match group {
            EventGroup::Connection => &self.connection_events_dropped,
            EventGroup::Subscription => &self.subscription_events_dropped,
            EventGroup::Dropped => &self.drop_events_dropped,
            EventGroup::Published => &self.published_events_dropped,
            EventGroup::Delivered => &self.delivered_events_dropped,
            EventGroup::Packet => &self.packet_events_dropped,
            EventGroup::Gap => return,
        };
        counter.add(1);
    }
}

/// Raised by one thread only.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // One writer, so this loses nothing and needs no locked instruction.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// Sockets of all reactors together: raised by the one that accepts, lowered by the one that
/// drops. Where accepting pauses, it is the next to close that ends the pause.
#[derive(Debug)]
pub(crate) struct SocketCount {
    count: AtomicUsize,
    pauses: AtomicBool,
    /// Wakes the reactor that accepts.
    accepting: Arc<Wakeup>,
}

impl SocketCount {
    pub(crate) fn new(accepting: Arc<Wakeup>) -> Self {
        Self {
            count: AtomicUsize::new(0),
            pauses: AtomicBool::new(false),
            accepting,
        }
    }

    pub(crate) fn get(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn raise(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn lower(&self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        if self.pauses.load(Ordering::Acquire) && self.pauses.swap(false, Ordering::AcqRel) {
            self.accepting.wake();
        }
    }

    /// Accepting pauses until a socket is closed; false if it did already.
    pub(crate) fn pause(&self) -> bool {
        !self.pauses.swap(true, Ordering::AcqRel)
    }

    /// It accepts again.
    pub(crate) fn resume(&self) {
        if self.is_paused() {
            self.pauses.store(false, Ordering::Release);
        }
    }

    /// Accepting pauses.
    pub(crate) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire)
    }
}
