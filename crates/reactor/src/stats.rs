//! Counters of a reactor's work. Each counter has one writer, its reactor, and any number of
//! readers.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use martlet_broker::EventGroup;

use crate::latency::Latencies;
use crate::poll::Wakeup;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Sums of the counters of all reactors of a node, since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ReactorStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// Counters of one reactor.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            /// Latencies of messages.
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
    /// Connections closed at once because the limit of connections was reached.
    refused,
    /// How often accepting was paused because too few descriptors were left.
    accept_pauses,
    /// Number of ticks.
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
    /// How often a mailbox became full after all mailboxes had room.
    congestions,
    /// Events dropped because they were not taken in time.
    events_dropped,
    /// Dropped events about connects and disconnects, refusals, and messages that wait or were
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
    /// Counts an event that found no room.
    pub(crate) fn event_dropped(&self, group: EventGroup) {
        self.events_dropped.add(1);
        let counter = match group {
            EventGroup::Connection => &self.connection_events_dropped,
            EventGroup::Subscription => &self.subscription_events_dropped,
            EventGroup::Dropped => &self.drop_events_dropped,
            EventGroup::Published => &self.published_events_dropped,
            EventGroup::Delivered => &self.delivered_events_dropped,
            EventGroup::Packet => &self.packet_events_dropped,
        };
        counter.add(1);
    }
}

/// A counter with one writing thread.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // There is only one writer, so no update is lost and no atomic read-modify-write is needed.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// Number of sockets of all reactors. The accepting reactor increments it; the reactor that drops a
/// socket decrements it. While accepting is paused, the next close ends the pause.
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

    /// Pauses accepting until a socket is closed. Returns false if it was paused already.
    pub(crate) fn pause(&self) -> bool {
        !self.pauses.swap(true, Ordering::AcqRel)
    }

    /// Resumes accepting.
    pub(crate) fn resume(&self) {
        if self.is_paused() {
            self.pauses.store(false, Ordering::Release);
        }
    }

    /// Whether accepting is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire)
    }
}
