//! Accounting (idea 6): at any moment, for each session, each share group and the whole broker,
//! *matched = delivered + held + dropped (by reason) + expired*.

macro_rules! drop_reasons {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// Why a message was dropped: a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $(#[doc = $what] $variant,)*
        }

        impl DropReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name in metrics and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the meaning.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

drop_reasons! {
    ClientAway = "client_away", "A QoS 0 message for a session whose client is not connected.";
    OutputFull = "output_full", "A QoS 0 message for a client that does not read fast enough.";
    PartBusy = "integration_busy", "A QoS 0 message for an integration that could not accept it at once; with `keep_qos0` it waits.";
    QueueFull = "queue_full", "The session's queue was full; see `queue_full` in the configuration.";
    PacketTooLarge = "packet_too_large", "The packet would exceed the client's Maximum Packet Size.";
    RefusedByReceiver = "refused_by_receiver", "The client answered with a reason code of 0x80 or above, or an integration's target refused the message.";
    SessionEnded = "session_ended", "The session ended with the message still held.";
    ConnectionLost = "connection_lost", "A QoS 0 message in the output buffer of a connection that ended.";
    NoMember = "no_member", "A QoS 0 message for a share group none of whose members is connected.";
    MemoryFull = "memory_full", "The memory for buffers and queues was spent.";
    NotPermitted = "not_permitted", "The client may not have the message: its permissions changed after it was queued, or it came by a share group.";
    TooOld = "too_old", "The message waited for longer than the integration's `max_age_secs` allows.";
    StoreFull = "store_full", "A QoS 0 message that an integration keeps, while the message store had no room.";
    StoreStalled = "store_stalled", "A QoS 0 message that an integration keeps, while the message store wrote too slowly or not at all.";
    StoreDamaged = "store_damaged", "The store could not read the message back: it is damaged on the disk.";
}

/// How many drop reasons there are.
pub const DROP_REASONS: usize = DropReason::ALL.len();

/// The equation's terms, except what is held, which is counted where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Messages chosen for this receiver, after No Local and permissions.
    pub matched: u64,
    /// QoS 0: the kernel took the last byte; QoS 1 PUBACK, QoS 2 PUBREC below 0x80.
    pub delivered: u64,
    /// All reasons.
    pub dropped: u64,
    /// Message expiry ran out while held.
    pub expired: u64,
}

/// A number that a shard reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, without prefix and unit suffix.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// Meaning.
    pub meaning: &'static str,
    /// Value.
    pub value: u64,
}

/// Kind of number that a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A state now.
    Gauge,
}

macro_rules! counters {
    ($($field:ident: $kind:ident, $what:literal;)*) => {
        /// Counters of a shard. Sums over shards are the node's. Metric names are the field names.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[doc = $what] pub $field: u64,)*
            /// Dropped, by [`DropReason`].
            pub dropped: [u64; DROP_REASONS],
        }

        impl Counters {
            /// Each counter and gauge but `dropped`.
            pub fn each(&self, mut show: impl FnMut(Metric)) {
                $(show(Metric {
                    name: stringify!($field),
                    kind: MetricKind::$kind,
                    meaning: $what,
                    value: self.$field,
                });)*
            }

            /// Adds another shard's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                for (sum, value) in self.dropped.iter_mut().zip(other.dropped) {
                    *sum += value;
                }
            }
        }
    };
}

counters! {
    connections: Gauge, "Accepted connections now.";
    lobby_connections: Gauge, "Connections before their CONNECT is accepted, now.";
    sessions: Gauge, "Sessions of clients now, connected or not.";
    parts: Gauge, "Parts of the node that receive messages now, such as integrations: one per thread.";
    subscriptions: Gauge, "Subscriptions now.";
    share_groups: Gauge, "Share groups now.";
    queues_full: Gauge, "Sessions and share groups whose queue has dropped messages and is still full.";
    retained_messages: Gauge, "Retained messages of the node now (reported by shard 0).";
    retained_bytes: Gauge, "Bytes of retained messages of the node now (reported by shard 0).";
    memory_bytes: Gauge, "Bytes of messages, buffers and whatever else shards charge to the memory limit now.";
    route_cache_bytes: Gauge, "Bytes of remembered routes, which shrink when memory is short; they are in those of the shards.";
    held: Gauge, "Messages held now: queued, in flight, or in an output buffer.";
    connects_accepted: Counter, "CONNECTs accepted.";
    connects_refused: Counter, "CONNECTs refused or connections closed before a CONNECT.";
    sessions_taken_over: Counter, "Connections ended because their client connected again.";
    sessions_expired: Counter, "Sessions ended by their Session Expiry Interval.";
    clients_relieved: Counter, "Connections ended because memory was short, or what those without a login may have of it was used up, and they held most.";
    keep_alive_timeouts: Counter, "Connections ended because Keep Alive ran out.";
    protocol_errors: Counter, "Connections ended for a malformed packet or protocol error.";
    packets_received: Counter, "Packets received.";
    packets_sent: Counter, "Packets put into output buffers.";
    bytes_received: Counter, "Bytes received.";
    bytes_sent: Counter, "Bytes written.";
    publishes_received: Counter, "PUBLISH packets received.";
    publishes_sent: Counter, "PUBLISH packets put into output buffers.";
    publishes_sent_at_once: Counter, "Of them, those of messages that waited for nothing: no client that was away, slow or without quota.";
    publish_bytes_received: Counter, "Payload bytes received.";
    publish_bytes_sent: Counter, "Payload bytes put into output buffers.";
    messages_unmatched: Counter, "Messages without a subscriber.";
    publishes_refused: Counter, "PUBLISH packets refused: permission, quota, unsupported feature.";
    publishes_dropped: Counter, "PUBLISH packets with QoS 0 dropped because their client published faster than limits.publish_rate or limits.publish_bytes_rate, or left while they waited for an integration or the store; they are among those refused.";
    publishes_delayed: Counter, "Times that a PUBLISH packet waited because its client published faster than limits.publish_rate or limits.publish_bytes_rate.";
    retained_refused: Counter, "Retained messages not kept because the retained store is full.";
    wills_sent: Counter, "Wills published.";
    matched: Counter, "Messages chosen for a session or share group.";
    delivered: Counter, "Messages delivered.";
    expired: Counter, "Messages that expired while they were held.";
    records_appended: Counter, "Records handed to the store.";
    routes_cached: Counter, "Publishes whose route was remembered.";
    routes_walked: Counter, "Publishes whose route was looked up.";
}

impl DropReason {
    /// Whether messages that are dropped for it are no trouble: QoS 0 messages for a client that is
    /// not there, and what ends with a connection or session.
    pub fn is_expected(self) -> bool {
        match self {
            Self::ClientAway | Self::NoMember | Self::SessionEnded | Self::ConnectionLost => true,
            Self::OutputFull
            | Self::PartBusy
            | Self::QueueFull
            | Self::PacketTooLarge
            | Self::RefusedByReceiver
            | Self::MemoryFull
            | Self::NotPermitted
            | Self::TooOld
            | Self::StoreFull
            | Self::StoreStalled
            | Self::StoreDamaged => false,
        }
    }
}

impl Counters {
    /// Counts `count` drops.
    pub fn drop_messages(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// All that was dropped: also what was dropped before it was known for whom it is.
    pub fn lost_total(&self) -> u64 {
        self.dropped_total() + self.publishes_dropped
    }

    /// Drops of all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// The equation of idea 6.
    pub fn balanced(&self) -> bool {
        self.matched == self.delivered + self.held + self.dropped_total() + self.expired
    }
}
