//! What a reactor counts about its own work. Each counter has one writer, its reactor; anybody
//! may read.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use martlet_broker::EventKind;

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
    /// Times that accepting paused because the process or the system had no room for more files.
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
    /// Events dropped because nobody took them in time.
    events_dropped,
    /// Of them, who came and went, and what was refused.
    connection_events_dropped,
    /// Of them, subscriptions made and ended.
    subscription_events_dropped,
    /// Of them, messages dropped.
    drop_events_dropped,
    /// Of them, messages published.
    published_events_dropped,
    /// Of them, messages delivered.
    delivered_events_dropped,
    /// Of them, packets.
    packet_events_dropped,
}

impl Counters {
    /// An event found no room.
    pub(crate) fn event_dropped(&self, kind: EventKind) {
        self.events_dropped.add(1);
        let counter = match kind {
            EventKind::Connection => &self.connection_events_dropped,
            EventKind::Subscription => &self.subscription_events_dropped,
            EventKind::Dropped => &self.drop_events_dropped,
            EventKind::Published => &self.published_events_dropped,
            EventKind::Delivered => &self.delivered_events_dropped,
            EventKind::Packet => &self.packet_events_dropped,
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
/// drops.
#[derive(Debug, Default)]
pub(crate) struct SocketCount(AtomicUsize);

impl SocketCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn raise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn lower(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
