//! Events of clients: `[events]`.

use martlet_settings::{List, section};

use super::words::Here;

section! {
    /// Events of clients: what is kept, pushed, published and archived.
    Events {
        /// Number of the latest events that are kept for slow or reconnecting streams. A stream
        /// that falls further behind receives the number of events that it has lost. Messages and
        /// packets become events only while a stream reads them.
        kept: usize = 65_536, in 100..=10_000_000;
        /// Maximum number of bytes of the events that are kept. The limit is never more than a
        /// sixteenth of limits.memory_bytes.
        kept_bytes: usize = 33_554_432, in 65_536..=1 << 40;
        /// Events are pushed to this server, which speaks the protocol of Laravel Reverb and
        /// Pusher: ws://HOST:PORT/app/KEY or wss://HOST/app/KEY. Each is a frame with the names and
        /// fields of the MQTT Panel. Payloads are included.
        push_url: String = "";
        /// With wss://: a file of CAs (PEM) that verify the certificate of that server, instead of
        /// those of the system.
        push_ca_file: String = "";
        /// Maximum size of such a frame, bytes; the payload of a longer frame is truncated, and
        /// payload_bytes gives its full length.
        push_bytes_max: usize = 10_000, in 8_000..=1_048_576;
        /// Comma-separated kinds of events that are pushed: connected, disconnected, subscribed,
        /// unsubscribed, published, packet; empty is all.
        push_kinds: List<String> = "";
        /// Comma-separated Topic Filters: only messages and subscriptions with a matching topic are
        /// pushed; empty is all. Events without a topic are always pushed.
        push_topics: List<String> = "";
        /// Name or id of a team with a tenant of its own, of whose clients events are pushed.
        /// Empty: of the clients in the common tenant. If the team does not exist yet, the node
        /// waits for it.
        push_team: String = "";
        /// Comma-separated kinds of events of clients that are published as messages: JSON, QoS 1,
        /// on $events/KIND, such as $events/connected, for integrations and for clients with a rule
        /// for these topics. Kinds: connected, authenticated, refused, reauthentication_refused,
        /// taken_over, disconnected, session_ended, subscribed, unsubscribed, subscribe_refused,
        /// publish_refused, device_inactive, device_active, alarm_raised, alarm_changed,
        /// twin_changed. Empty: none.
        publish: List<String> = "";
        /// Comma-separated kinds of events that are written to files, for GET
        /// /api/v1/events/archive: such as connected,disconnected,refused, or published,packet for
        /// messages and packets, or all. Payloads are not included. Empty: none.
        archive_kinds: List<String> = "";
        /// Days after which archived events are deleted; 0: never.
        archive_days: u64 = 7, in 0..=36_500;
        /// Maximum number of bytes of the archived events; above it the oldest ones are deleted.
        archive_bytes: u64 = 1_073_741_824, in 1_048_576..=1 << 50;
    }
}
