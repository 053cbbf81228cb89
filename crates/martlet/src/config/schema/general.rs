//! `[mqtt]`, and sections with few keys.

use martlet_broker::{QueueFull, RateExceeded};
use martlet_certificates::ClientCertificates;

use super::section::{List, section};
use super::value::Secret;
use super::words::{LogFormat, StoreDurability, TlsVersion};

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
        /// What an acknowledgement promises. sync: it is on the disk, synced; nothing acknowledged
        /// is lost by a crash or a power cut. interval: it is written; a crash loses nothing, a
        /// power cut what came in the last store.interval_ms. memory: nothing is written; a restart
        /// loses all.
        durability: StoreDurability = StoreDurability::Sync;
        /// With store.durability = "interval": how often what has been written is synced,
        /// milliseconds.
        interval_ms: u64 = 1_000, in 1..=60_000;
        /// For crash tests: what has not been synced stays in memory, so that kill -9 is a power
        /// cut.
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
        /// PEM file with revocation lists of those CAs; each CA needs one then.
        client_crl: String = "";
        /// Accept client certificates of X.509 version 1 too, which openssl x509 -req makes without
        /// extensions, if a CA of client_ca itself has signed them. They do not say what they are
        /// for.
        x509_version1: bool = false;
    }
}

section! {
    /// Database of users and devices.
    Registry {
        /// Database of users, devices and the rest:
        /// postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full, or the path of a file of
        /// SQLite. Without it, martlet.db in the data directory, which is made when it is first
        /// written to. While the database is unreachable, the tables that were read last remain in
        /// force, and nothing can be changed; a start does not wait for it and fails.
        url: Secret = "";
        /// Use the database of DATABASE_URL or DATABASE_DSN, whatever is in it. Its own tables are
        /// left as they are: in PostgreSQL Martlet's tables are in the schema martlet. Without it
        /// such a database is used only if it has Martlet's tables, or next to a name that only one
        /// of the replaced systems has.
        adopt: bool = false;
        /// Devices that one user may own, at most; 0: no limit.
        max_devices_per_user: u64 = 0, in 0..=1_000_000_000;
    }
}

section! {
    /// The audit log.
    Audit {
        /// Days after which a line of the audit log is forgotten; 0: never.
        keep_days: u64 = 90, in 0..=36_500;
        /// Lines of the audit log that are kept, the newest ones; 0: no limit.
        keep_lines: u64 = 1_000_000, in 0..=1_000_000_000;
    }
}

section! {
    /// The log.
    Log {
        /// Form of the log lines on standard error: text or json.
        format: LogFormat = LogFormat::Text;
        /// error, warn, info, debug or trace, or a filter such as "info,martlet_control=warn".
        level: String = "info";
        /// A file to which the same lines are written as to standard error. SIGHUP reopens it, as
        /// log rotation needs.
        file: String = "";
        /// Size at which the file is renamed FILE.1, and FILE.1 FILE.2, and so on.
        file_bytes: u64 = 10_000_000, in 1_000..=1 << 60;
        /// Number of renamed files that are kept.
        files_kept: u32 = 5, in 0..=1_000;
        /// Log each connect, disconnect and refusal.
        connections: bool = true;
        /// Log each dropped message.
        drops: bool = false;
    }
}

section! {
    /// Messages that integrations refused.
    DeadLetters {
        /// Number of messages refused by integrations (dead letters) that are kept in the tables,
        /// of all integrations of this node together. Beyond it the oldest of the tenant that has
        /// most are dropped and counted.
        kept: u64 = 10_000, in 1..=100_000_000;
        /// Bytes of the dead letters that are kept, at most; the newest one is kept however long it
        /// is.
        kept_bytes: u64 = 67_108_864, in 65_536..=1 << 40;
    }
}

section! {
    /// What all integrations share.
    Integrations {
        /// Private networks that integrations may connect to, separated by commas, such as
        /// 10.1.0.0/16. Loopback, private, link-local and other special addresses are refused
        /// unless they are listed here. The addresses that are connected to are checked, after the
        /// name is resolved.
        allow_private: List<String> = "";
        /// Bridge with connection = true that the microservice's POST /publish, POST /subscribe and
        /// POST /unsubscribe mean where the request names no broker. Empty: the node itself.
        default_connection: String = "";
    }
}

section! {
    /// Secrets of other systems.
    Secrets {
        /// File with the key that secrets of other systems are sealed with. Nodes with the same
        /// tables need the same file. It is made with the first secret, with mode 0600; one that
        /// other users can read is refused. Empty: secrets.key in the data directory.
        key_file: String = "";
    }
}

section! {
    /// Presence of clients.
    Presence {
        /// Publish who is connected: retained, QoS 1, {"status": "online", "since": milliseconds,
        /// "reason": why not}. The retained message of the other state is taken away. Nothing is
        /// published of clients whose Client Identifier the node has assigned.
        publish: bool = false;
        /// Topic of presence, with {client_id} and {state} (online, offline) in it. Nothing is
        /// published for clients whose identifier cannot be part of a topic.
        topic: String = "iotflow/devices/{client_id}/status/{state}";
        /// Seconds after a heartbeat or telemetry over HTTP for which the routes of system 3 show a
        /// device as online. A connected device is online in any case.
        timeout_secs: u32 = 300, in 1..=86_400;
    }
}

section! {
    /// The message log.
    Messages {
        /// Comma-separated Topic Filters of messages that are stored in the message log, which the
        /// routes of system 1 show (GET /messages). Messages that are published by POST /publish
        /// are stored in any case. Empty: no others.
        keep: String = "";
        /// Messages of the message log, at most. Beyond that the tenant that has most loses its
        /// oldest messages. This is looked at every ten seconds, and with each batch of
        /// messages.keep.
        kept: u64 = 100_000, in 1..=1_000_000_000;
        /// Bytes of the message log, at most, likewise.
        kept_bytes: u64 = 268_435_456, in 65_536..=1_099_511_627_776;
        /// Days after which a message of the message log is dropped; 0: never.
        kept_days: u64 = 30, in 0..=36_500;
    }
}

section! {
    /// What is remembered of topics.
    TopicMemory {
        /// Comma-separated Topic Filters, such as devices/+/state,sensors/#. Of the topics that
        /// they match the node remembers the last payloads, the rate and the last publisher, in
        /// memory, for GET /api/v1/topics and martlet topic; empty: of none.
        filters: String = "";
        /// Payloads that are remembered of a topic, the last ones.
        payloads: usize = 10, in 1..=10_000;
        /// Bytes that are remembered of a payload, the first ones.
        payload_bytes: usize = 4_096, in 0..=1_048_576;
        /// Seconds after which a payload is forgotten, and a topic with it; 0: never.
        max_age_secs: u64 = 604_800, zero or from 1;
        /// Topics of a tenant that are remembered, at most. Beyond that the topic on which nothing
        /// was published for longest is dropped and counted.
        topics: usize = 100_000, in 1..=10_000_000;
        /// Bytes of the topic memory, at most. A sixteenth of limits.memory_bytes is the limit too.
        /// Beyond that the tenant that holds most loses the topics on which nothing was published
        /// for longest.
        bytes: usize = 67_108_864, in 65_536..=1_099_511_627_776;
    }
}

section! {
    /// Topics of system 3.
    Iotflow {
        /// First level, or levels, of the topics of system 3: in its catalogue and routes, in the
        /// rules of the device type and the role iotflow, where heartbeats and telemetry of devices
        /// are noticed, and where the node publishes its state.
        base: String = "iotflow";
        /// Comma-separated QoS and retain of topics of that catalogue which differ from the usual
        /// ones: NAME:QOS:RETAIN, such as system_metrics:1:true. GET /api/v1/mqtt/topics/structure
        /// has the names.
        topics: String = "";
        /// Interval at which the node publishes its state as JSON to system/health, system/metrics,
        /// system/alerts, monitoring/broker, monitoring/clients and monitoring/traffic below
        /// iotflow.base, with the QoS and retain of the catalogue; 0: never. Of the roles and
        /// device types that come with the program only the role administrator may use these
        /// topics.
        publish_secs: u64 = 0, in 0..=86_400;
    }
}

section! {
    /// The sink nats/service-mqtt, which NATS_URL and ENABLE_JETSTREAM add. Sinks of the
    /// configuration have these keys of their own.
    Nats {
        /// Topic Filters of the messages that the sink takes, separated by commas. # has all topics
        /// but those that begin with $, such as $aws/#: name these as well.
        filters: List<String> = "#";
        /// One line of the log, at info, for each message that the sink has forwarded: 10 a second
        /// at most, and the number of the rest.
        log_messages: bool = true;
        /// Age at which the stream that the sink creates drops messages, seconds.
        stream_max_age_secs: u64 = 604_800, in 60..=3_153_600_000;
        /// Size at which the stream that the sink creates drops its oldest messages.
        stream_max_bytes: u64 = 1_073_741_824, in 1_000_000..=9_223_372_036_854_775_807;
    }
}

section! {
    /// What clients may do over MQTT.
    Mqtt {
        /// false: the node has no MQTT listeners. The HTTP server, admin.sock and integrations
        /// work.
        enabled: bool = true;
        /// Listeners beyond loopback accept clients without credentials. Listeners on loopback do
        /// so unless they are configured otherwise.
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
        /// Prefix of the Response Information, to which the Client Identifier is added; empty sends
        /// none (v5).
        response_information: String = "response/";
        /// What happens when a session's queue is full: drop-oldest, drop-newest or disconnect.
        queue_full: QueueFull = QueueFull::DropOldest;
        /// What happens to a PUBLISH above limits.publish_rate or limits.publish_bytes_rate. delay:
        /// it waits, and the client is read later. drop-qos0: with QoS 0 it is dropped and counted,
        /// with QoS 1 and 2 it waits. disconnect: the connection ends (v5: 0x96).
        rate_exceeded: RateExceeded = RateExceeded::Delay;
        /// Interval at which $SYS/broker/... statistics are published; 0: never.
        sys_interval_secs: u64 = 10, in 0..=86_400;
        /// Time that connections have to receive their last output when the node stops.
        shutdown_grace_secs: u64 = 5, in 0..=3_600;
    }
}
