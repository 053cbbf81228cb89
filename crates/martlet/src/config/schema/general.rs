//! `[mqtt]`, and sections with few keys.

use martlet_broker::{QueueFull, RateExceeded};
use martlet_certificates::ClientCertificates;
use martlet_settings::{List, SecretValue, section};

use super::words::{Here, LogFormat, StoreDurability, TlsVersion};

section! {
    /// The process: data directory and threads.
    Node {
        /// Directory of all data. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/martlet, else
        /// ~/.local/state/martlet.
        data_dir: String = "";
        /// Number of shards, one thread each; 0: one per core.
        threads: usize = 0, in 0..=64;
    }
}

section! {
    /// The store of sessions and messages.
    Store {
        /// Promise of an acknowledgement. sync: it is on the disk, synced; nothing acknowledged is
        /// lost by a crash or a power cut. interval: it is written, and synced later; a crash loses
        /// nothing, a power cut loses the changes of the last store.interval_ms. memory: nothing is
        /// written; a restart loses all.
        durability: StoreDurability = StoreDurability::Sync;
        /// With store.durability = "interval": how often what has been written is synced,
        /// milliseconds.
        interval_ms: u64 = 1_000, in 1..=60_000;
        /// For crash tests: data that is not synced stays in memory, so that kill -9 has the effect
        /// of a power cut.
        simulate_power_loss: bool = false;
    }
}

section! {
    /// TLS of listeners.
    Tls {
        /// For mqtts:// and wss://: PEM file with the server's certificate, then those of its CAs.
        certificate: String = "";
        /// PEM file with the certificate's private key.
        key: String = "";
        /// Oldest version of TLS that is accepted.
        version: TlsVersion = TlsVersion::V12;
        /// Whether clients have to present a certificate; a certificate that is presented has to be
        /// valid. Required where client_ca is set.
        client_certificates: ClientCertificates = ClientCertificates::Off;
        /// PEM file with the CAs whose client certificates are accepted, or a directory of such
        /// files.
        client_ca: String = "";
        /// PEM file with the revocation lists of those CAs. If it is set, each CA must have a list
        /// in it.
        client_crl: String = "";
        /// Also accept client certificates of X.509 version 1, such as openssl x509 -req makes
        /// without extensions, if a CA of client_ca itself has signed them. They do not state their
        /// purpose.
        x509_version1: bool = false;
    }
}

section! {
    /// Database of users and devices.
    Registry {
        /// Database of users, devices and rules:
        /// postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full, or the path of an SQLite
        /// file. Default: martlet.db in the data directory, which is created at the first write.
        /// While the database is unreachable, the tables that were read last remain in force, and
        /// nothing can be changed. If it is unreachable at the start, the node waits for it
        /// (registry.wait_secs).
        url: SecretValue = "";
        /// Seconds that a start waits for PostgreSQL if it does not respond yet. Then the start
        /// fails.
        wait_secs: u64 = 30, in 0..=3_600;
        /// Use the database of DATABASE_URL or DATABASE_DSN, whatever it contains. Its other tables
        /// are not changed: in PostgreSQL, Martlet's tables are in the schema martlet. If false,
        /// such a database is used only if it contains Martlet's tables, or if a variable is set
        /// that only one of the replaced systems has.
        adopt: bool = false;
        /// Maximum number of devices that one user may own; 0: no limit.
        max_devices_per_user: u64 = 0, in 0..=1_000_000_000;
        /// Days for which a deleted device, user or team can be restored. Then it is removed for
        /// good, and its name is free. 0: never.
        deleted_keep_days: u32 = 30, in 0..=36_500;
    }
}

section! {
    /// The audit log.
    Audit {
        /// Days after which a line of the audit log is deleted; 0: never.
        keep_days: u64 = 90, in 0..=36_500;
        /// Number of lines of the audit log that are kept, the newest ones; 0: no limit.
        keep_lines: u64 = 1_000_000, in 0..=1_000_000_000;
    }
}

section! {
    /// The log.
    Log {
        /// Format of the log lines on standard error: text or json.
        format: LogFormat = LogFormat::Text;
        /// error, warn, info, debug or trace, or a filter such as "info,martlet_control=warn".
        level: String = "info";
        /// File to which the same lines are written as to standard error. SIGHUP reopens it, for
        /// log rotation.
        file: String = "";
        /// Size at which the file is renamed FILE.1, and FILE.1 FILE.2, and so on.
        file_bytes: u64 = 10_000_000, in 1_000..=1 << 60;
        /// Number of renamed files that are kept.
        files_kept: u32 = 5, in 0..=1_000;
        /// Maximum number of lines of one kind per second, such as those of connects. More are
        /// counted, and reported in one line. Lines of the levels debug and trace, and those of
        /// martlet trace, have no limit. 0 is no limit.
        lines_per_second: u32 = 200, in 0..=1_000_000;
        /// Log each connect, disconnect and refusal.
        connections: bool = true;
        /// Log each dropped message.
        drops: bool = false;
    }
}

section! {
    /// Messages that integrations refused.
    DeadLetters {
        /// Maximum number of dead letters (messages rejected by integrations) in the tables, for
        /// all integrations of this node together. Above it the oldest ones of the tenant with the
        /// most dead letters are dropped and counted.
        kept: u64 = 10_000, in 1..=100_000_000;
        /// Maximum number of bytes of the dead letters; the newest one is always kept.
        kept_bytes: u64 = 67_108_864, in 65_536..=1 << 40;
    }
}

section! {
    /// Settings that all integrations share.
    Integrations {
        /// Comma-separated private networks that integrations may connect to, such as 10.1.0.0/16.
        /// Loopback, private, link-local and other special addresses are refused unless they are
        /// listed here. The addresses are checked after the host name is resolved.
        allow_private: List<String> = "";
        /// Bridge with connection = true that the microservice's POST /publish, POST /subscribe and
        /// POST /unsubscribe use if the request names no broker. Empty: the node itself.
        default_connection: String = "";
    }
}

section! {
    /// Secrets of other systems.
    Secrets {
        /// File with the key that encrypts secrets of other systems. Nodes with the same tables
        /// need the same file. It is created with the first secret, with mode 0600. A file that
        /// other users can read is refused. Default: secrets.key in the data directory.
        key_file: String = "";
    }
}

section! {
    /// Presence of clients.
    Presence {
        /// Publish which clients are connected: retained, QoS 1, {"status": "online", "since":
        /// milliseconds, "reason": why offline}. The retained message of the previous state is
        /// deleted. Nothing is published for clients whose Client Identifier the node has assigned.
        publish: bool = false;
        /// Topic of presence messages; it contains {client_id} and {state} (online, offline).
        /// Nothing is published for clients whose Client Identifier cannot be part of a topic.
        topic: String = "iotflow/devices/{client_id}/status/{state}";
        /// Seconds for which the routes of system 3 show a device as online after a heartbeat or
        /// telemetry over HTTP. A connected device is always online.
        timeout_secs: u32 = 300, in 1..=86_400;
    }
}

section! {
    /// The message log.
    Messages {
        /// Comma-separated Topic Filters of messages that are stored in the message log, which the
        /// routes of system 1 show (GET /messages). Messages that are published by POST /publish
        /// are always stored. Empty: only those.
        keep: List<String> = "";
        /// Maximum number of messages in the message log. Above it the tenant with the most
        /// messages loses its oldest ones. The limit is checked every ten seconds, and with each
        /// batch of messages.keep.
        kept: u64 = 100_000, in 1..=1_000_000_000;
        /// Maximum number of bytes of the message log, enforced like messages.kept.
        kept_bytes: u64 = 268_435_456, in 65_536..=1_099_511_627_776;
        /// Days after which a message of the message log is dropped; 0: never.
        kept_days: u64 = 30, in 0..=36_500;
    }
}

section! {
    /// Memory of the messages of topics.
    TopicMemory {
        /// Comma-separated Topic Filters, such as devices/+/state,sensors/#. For the topics that
        /// they match, the node remembers the last payloads, the rate and the last publisher, in
        /// memory, for GET /api/v1/topics and martlet topic. Empty: for no topics.
        filters: List<String> = "";
        /// Number of payloads that are remembered for a topic, the latest ones.
        payloads: usize = 10, in 1..=10_000;
        /// Number of bytes that are remembered of a payload; a longer one is truncated.
        payload_bytes: usize = 4_096, in 0..=1_048_576;
        /// Seconds after which a payload is forgotten, and a topic with it; 0: never.
        max_age_secs: u64 = 604_800, zero or from 1;
        /// Maximum number of remembered topics per tenant. Above it the topic that has been idle
        /// for longest is dropped and counted.
        topics: usize = 100_000, in 1..=10_000_000;
        /// Maximum number of bytes of the topic memory, never more than a sixteenth of
        /// limits.memory_bytes. Above it the tenant that uses most loses the topics that have been
        /// idle for longest.
        bytes: usize = 67_108_864, in 65_536..=1_099_511_627_776;
    }
}

section! {
    /// Topics of system 3.
    Iotflow {
        /// First level, or levels, of the topics of system 3. It applies to its catalogue and
        /// routes, the rules of the device type and the role iotflow, heartbeats and telemetry of
        /// devices, and the topics on which the node publishes its state.
        base: String = "iotflow";
        /// Comma-separated overrides of QoS and retain of topics of that catalogue:
        /// NAME:QOS:RETAIN, such as system_metrics:1:true. GET /api/v1/mqtt/topics/structure lists
        /// the names.
        topics: List<String> = "";
        /// Interval at which the node publishes its state as JSON to system/health, system/metrics,
        /// system/alerts, monitoring/broker, monitoring/clients and monitoring/traffic below
        /// iotflow.base, with the QoS and retain of the catalogue; 0: never. Of the built-in roles
        /// and device types, only the role administrator may use these topics.
        publish_secs: u64 = 0, in 0..=86_400;
        /// Maximum number of HTTP requests per minute of one device to the routes of system 3;
        /// more are refused (429). It does not apply to administrators and other routes, which
        /// have http.rate. 0: no limit.
        requests_per_minute: u32 = 0, in 0..=1_000_000;
        /// Number of these requests that are accepted at once; 0: as many as in a minute.
        requests_burst: u32 = 0, in 0..=1_000_000;
    }
}

section! {
    /// The sink nats/service-mqtt, which NATS_URL and ENABLE_JETSTREAM add. Sinks of the
    /// configuration have these keys of their own.
    Nats {
        /// Comma-separated Topic Filters of the messages that the sink forwards. # matches all
        /// topics except those that begin with $, such as $aws/#: list these too.
        filters: List<String> = "#";
        /// Log a line at info for each message that the sink has forwarded: at most 10 per second,
        /// then the number of the others.
        log_messages: bool = true;
        /// Age at which the stream that the sink creates drops messages, seconds.
        stream_max_age_secs: u64 = 604_800, in 60..=3_153_600_000;
        /// Size at which the stream that the sink creates drops its oldest messages.
        stream_max_bytes: u64 = 1_073_741_824, in 1_000_000..=9_223_372_036_854_775_807;
    }
}

section! {
    /// Rights of clients over MQTT.
    Mqtt {
        /// false: the node has no MQTT listeners. The HTTP server, admin.sock and integrations
        /// work.
        enabled: bool = true;
        /// Listeners that other machines can reach accept clients without credentials. Listeners on
        /// loopback accept them unless they are configured otherwise.
        allow_anonymous: bool = false;
        /// Clients of MQTT 3.1.1 and 5.0 may send an empty Client Identifier and are given one.
        allow_empty_client_id: bool = true;
        /// Maximum QoS of publishes and granted subscriptions.
        max_qos: u8 = 2, in 0..=2;
        /// Retained messages are permitted.
        retain_available: bool = true;
        /// Topic Filters with + and # are permitted.
        wildcard_subscriptions: bool = true;
        /// Subscription Identifiers are permitted (v5).
        subscription_identifiers: bool = true;
        /// $share/GROUP/FILTER is permitted, on 3.1.1 too.
        shared_subscriptions: bool = true;
        /// Topics, client identifiers and user names with control characters or noncharacters are
        /// refused.
        refuse_control_characters: bool = true;
        /// Prefix of the Response Information, to which the Client Identifier is appended; empty:
        /// none is sent (v5).
        response_information: String = "response/";
        /// Action when a session's queue is full: drop-oldest, drop-newest or disconnect.
        queue_full: QueueFull = QueueFull::DropOldest;
        /// Handling of a PUBLISH above limits.publish_rate or limits.publish_bytes_rate. delay: it
        /// waits, and the client is read later. drop-qos0: with QoS 0 it is dropped and counted,
        /// with QoS 1 and 2 it waits. disconnect: the connection ends (v5: 0x96).
        rate_exceeded: RateExceeded = RateExceeded::Delay;
        /// Interval in seconds at which $SYS/broker/... statistics are published; 0: never.
        sys_interval_secs: u64 = 10, in 0..=86_400;
        /// Time in seconds that connections have to receive their last output when the node stops.
        shutdown_grace_secs: u64 = 5, in 0..=3_600;
    }
}

section! {
    /// Alarms.
    Alarms {
        /// Raise alarms about inactive devices, certificates that expire within 30, 7 and 1 days,
        /// integrations that do not deliver or fall behind, and telemetry that cannot be stored;
        /// see alarms.md.
        watch_node: bool = true;
        /// Seconds without delivery after which an alarm is raised about an integration.
        integration_after_secs: u32 = 60, in 1..=86_400;
        /// Age in seconds of the oldest message in the queue of an integration at which an alarm is
        /// raised, even if the integration delivers or is paused.
        integration_lag_secs: u64 = 300, in 1..=2_592_000;
        /// Days for which cleared alarms are kept.
        kept_days: u32 = 90, in 1..=36_500;
        /// Maximum number of cleared alarms that are kept; above it the oldest ones are deleted.
        kept: u32 = 100_000, in 1..=100_000_000;
    }
}

const MIB: u64 = 1024 * 1024;

section! {
    /// Firmware for devices.
    Firmware {
        /// Maximum size of one firmware file, bytes; see firmware.md. A larger upload is rejected.
        max_bytes: u64 = 256 * MIB, in 1..=16 * 1024 * MIB;
        /// Maximum size of all firmware files in the data directory together, bytes. An upload
        /// above it is rejected.
        total_bytes: u64 = 4 * 1024 * MIB, in 1..=1024 * 1024 * MIB;
        /// Maximum number of bytes of firmware per second that are sent over MQTT, for all devices
        /// together. Further requests wait, one per device.
        mqtt_bytes_per_sec: u64 = 8 * MIB, in 1024..=1024 * MIB;
        /// Comma-separated Ed25519 public keys in Base64: firmware is accepted only with a
        /// signature over the 32 bytes of the file's SHA-256 that one of them verifies. Default:
        /// none, signatures are stored and not verified.
        public_keys: List<String> = "";
    }
}
