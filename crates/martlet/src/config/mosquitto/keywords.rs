//! All keywords of the configuration files of Mosquitto 2.0 and 2.1, and their meaning here.

use crate::config::nearest::nearest_of;

use super::lines::{ConfigLine, Outcome};
use super::reading::Reading;
use crate::config::error::ConfigError;
use martlet_settings::Value;

/// Meaning of a keyword.
pub(super) enum Meaning {
    /// A number of a key; its value 0 becomes `zero`.
    Number {
        key: &'static str,
        zero: u64,
        factor: u64,
    },
    /// A boolean key.
    Switch { key: &'static str },
    /// A setting of a listener.
    Listener(KeywordScope),
    /// Begins a bridge.
    Bridge,
    /// Has no effect here and is not needed.
    NotNeeded(&'static str),
    /// Not supported; this does not reduce security.
    Unsupported(&'static str),
    /// Keyword that is not supported if its value is true; this does not reduce security.
    UnsupportedIfTrue(&'static str),
    /// Not supported; without it the node would be less secure, so this is an error.
    Refused(&'static str),
    /// Keyword that is refused if its value is true: without it the node would be less secure.
    RefusedIfTrue(&'static str),
    /// Handled by a function.
    Special(fn(&mut Reading<'_>, &ConfigLine) -> Result<(), ConfigError>),
}

/// The listeners that a line applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeywordScope {
    /// The listener above.
    Own,
    /// The listener above with `per_listener_settings true`, otherwise all listeners.
    Security,
}

/// The meaning of a keyword, if it exists.
pub(super) fn find(keyword: &str) -> Option<&'static Meaning> {
    let known = KEYWORDS.iter().find(|(known, _)| *known == keyword);
    known.map(|(_, meaning)| meaning).or_else(|| {
        let is_option = ["auth_opt_", "plugin_opt_"].iter();
        let is_option = is_option.copied().any(|prefix| keyword.starts_with(prefix));
        is_option.then_some(&PLUGIN)
    })
}

/// The keyword most similar to an unknown one, if any is similar.
pub(super) fn nearest_to(keyword: &str) -> Option<String> {
    nearest_of(KEYWORDS.iter().map(|(known, _)| *known), keyword)
}

/// Whether the keyword may occur in the section of a bridge.
pub(super) fn is_of_bridge(keyword: &str) -> bool {
    let names = [
        "address",
        "addresses",
        "topic",
        "cleansession",
        "clientid",
        "idle_timeout",
        "keepalive_interval",
        "local_cleansession",
        "local_clientid",
        "local_password",
        "local_username",
        "notification_topic",
        "notifications",
        "notifications_local_only",
        "password",
        "remote_clientid",
        "remote_password",
        "remote_username",
        "restart_timeout",
        "round_robin",
        "start_type",
        "threshold",
        "try_private",
        "username",
        "connection",
    ];
    names.contains(&keyword) || keyword.starts_with("bridge_")
}

const PLUGIN: Meaning = Meaning::Refused(
    "plugins decide which clients are accepted, but plugins are not supported; use a password file \
     and an ACL file, or keep Mosquitto for this",
);

const LOG_TIME: Meaning =
    Meaning::NotNeeded("each line of the log begins with its time, in the form of RFC 3339");
const LOG_SYSTEM: Meaning = Meaning::NotNeeded(
    "the log goes to standard error, which a service manager collects; see log.format",
);
const SYNCED: Meaning = Meaning::NotNeeded(
    "the store is not written at intervals: what is acknowledged is synced already (store.durability)",
);

const KEYWORDS: &[(&str, Meaning)] = &[
    (
        "listener",
        Meaning::Special(|reading, line| reading.begin_listener(line)),
    ),
    ("port", Meaning::Listener(KeywordScope::Own)),
    ("bind_address", Meaning::Listener(KeywordScope::Own)),
    ("socket_domain", Meaning::Listener(KeywordScope::Own)),
    ("protocol", Meaning::Listener(KeywordScope::Own)),
    ("max_connections", Meaning::Listener(KeywordScope::Own)),
    ("global_max_clients", Meaning::Special(max_connections)),
    ("global_max_connections", Meaning::Special(max_connections)),
    ("max_qos", Meaning::Listener(KeywordScope::Own)),
    ("maximum_qos", Meaning::Listener(KeywordScope::Own)),
    ("websockets_origin", Meaning::Listener(KeywordScope::Own)),
    (
        "enable_proxy_protocol",
        Meaning::Listener(KeywordScope::Own),
    ),
    (
        "proxy_protocol_v2_require_tls",
        Meaning::RefusedIfTrue("it is not checked whether clients use TLS with the proxy"),
    ),
    ("certfile", Meaning::Listener(KeywordScope::Own)),
    ("keyfile", Meaning::Listener(KeywordScope::Own)),
    ("cafile", Meaning::Listener(KeywordScope::Own)),
    ("capath", Meaning::Listener(KeywordScope::Own)),
    ("crlfile", Meaning::Listener(KeywordScope::Own)),
    ("require_certificate", Meaning::Listener(KeywordScope::Own)),
    (
        "use_identity_as_username",
        Meaning::Listener(KeywordScope::Own),
    ),
    (
        "use_subject_as_username",
        Meaning::Listener(KeywordScope::Own),
    ),
    ("tls_version", Meaning::Listener(KeywordScope::Own)),
    ("allow_anonymous", Meaning::Listener(KeywordScope::Security)),
    (
        "listener_allow_anonymous",
        Meaning::Listener(KeywordScope::Own),
    ),
    ("password_file", Meaning::Listener(KeywordScope::Security)),
    ("acl_file", Meaning::Listener(KeywordScope::Security)),
    ("per_listener_settings", Meaning::Special(per_listener)),
    (
        "bind_interface",
        Meaning::Refused("listeners are bound to addresses here: name the interface's address"),
    ),
    (
        "mount_point",
        Meaning::Refused(
            "mount points are not supported: clients would use each other's topics; separate them \
             with an ACL file",
        ),
    ),
    (
        "clientid_prefixes",
        Meaning::Refused("client identifiers are not checked: use a password file"),
    ),
    (
        "use_username_as_clientid",
        Meaning::RefusedIfTrue(
            "client identifiers are not changed; a session belongs to its user only, and %u in an \
             ACL file is replaced by the user name",
        ),
    ),
    ("psk_file", Meaning::Refused(PSK)),
    ("psk_hint", Meaning::Refused(PSK)),
    ("auth_plugin", PLUGIN),
    ("plugin", PLUGIN),
    ("global_plugin", PLUGIN),
    ("plugin_load", PLUGIN),
    ("plugin_use", PLUGIN),
    ("auth_plugin_deny_special_chars", PLUGIN),
    ("dynamic_security_config_file", PLUGIN),
    (
        "tls_engine",
        Meaning::Refused("keys are read from files here, in PEM"),
    ),
    (
        "tls_engine_kpass_sha1",
        Meaning::Refused("keys are read from files here, in PEM"),
    ),
    ("tls_keyform", Meaning::Special(keyform)),
    (
        "ciphers",
        Meaning::NotNeeded(
            "only cipher suites without known weakness are supported: TLS 1.2 and \
             1.3, AEAD",
        ),
    ),
    (
        "ciphers_tls1.3",
        Meaning::NotNeeded("only cipher suites without known weakness are supported"),
    ),
    (
        "dhparamfile",
        Meaning::NotNeeded("only key exchange over elliptic curves is supported"),
    ),
    ("max_keepalive", number(key!(limits.keep_alive_max_secs), 0)),
    ("max_packet_size", Meaning::Special(packet_size)),
    ("message_size_limit", Meaning::Special(message_size)),
    (
        "max_inflight_messages",
        number(key!(limits.in_flight), 65_535),
    ),
    (
        "max_queued_messages",
        number(key!(limits.queued_messages), u32::MAX as u64),
    ),
    (
        "max_queued_bytes",
        number(key!(limits.queued_bytes), u64::MAX),
    ),
    ("memory_limit", number(key!(limits.memory_bytes), 0)),
    (
        "max_topic_alias",
        number(key!(limits.topic_alias_maximum), 0),
    ),
    ("sys_interval", number(key!(mqtt.sys_interval_secs), 0)),
    (
        "retain_available",
        Meaning::Switch {
            key: key!(mqtt.retain_available),
        },
    ),
    ("persistence", Meaning::Special(persistence)),
    (
        "persistence_location",
        Meaning::Special(persistence_location),
    ),
    (
        "persistence_file",
        Meaning::NotNeeded("the store has files of its own, in store/ of node.data_dir"),
    ),
    (
        "persistent_client_expiration",
        Meaning::Special(client_expiration),
    ),
    ("autosave_interval", SYNCED),
    ("autosave_on_changes", SYNCED),
    ("log_dest", Meaning::Special(log_dest)),
    ("log_facility", LOG_SYSTEM),
    ("log_timestamp", LOG_TIME),
    ("log_timestamp_format", LOG_TIME),
    (
        "log_file",
        Meaning::Special(|reading, line| reading.log_file(line, &line.value)),
    ),
    (
        "websockets_log_level",
        Meaning::NotNeeded("WebSockets have no log level of their own: log.level"),
    ),
    ("log_type", Meaning::Special(log_type)),
    (
        "connection_messages",
        Meaning::Switch {
            key: key!(log.connections),
        },
    ),
    (
        "user",
        Meaning::NotNeeded("start it as that user: User= of systemd; it needs no special rights"),
    ),
    (
        "pid_file",
        Meaning::NotNeeded("martlet stop and systemd do not need it"),
    ),
    (
        "set_tcp_nodelay",
        Meaning::NotNeeded("small packets are always sent at once"),
    ),
    (
        "websockets_headers_size",
        Meaning::NotNeeded("the headers of a request may have 8 KiB"),
    ),
    (
        "check_retain_source",
        Meaning::NotNeeded("retained messages are checked when they are sent"),
    ),
    (
        "allow_duplicate_messages",
        Meaning::NotNeeded("overlapping subscriptions receive one message"),
    ),
    ("auto_id_prefix", ID_PREFIX),
    ("listener_auto_id_prefix", ID_PREFIX),
    (
        "max_inflight_bytes",
        Meaning::Unsupported("messages under way are bounded by number: limits.in_flight"),
    ),
    (
        "upgrade_outgoing_qos",
        Meaning::UnsupportedIfTrue("messages are sent with the lower QoS, as MQTT requires"),
    ),
    (
        "queue_qos0_messages",
        Meaning::UnsupportedIfTrue("QoS 0 messages are not queued for disconnected clients"),
    ),
    (
        "allow_zero_length_clientid",
        Meaning::Listener(KeywordScope::Security),
    ),
    (
        "retry_interval",
        Meaning::NotNeeded("messages are sent again only when a client reconnects"),
    ),
    (
        "http_dir",
        Meaning::Unsupported("files are not served: use a web server"),
    ),
    (
        "enable_control_api",
        Meaning::Unsupported("$CONTROL is not supported: use martlet's commands"),
    ),
    ("connection", Meaning::Bridge),
    (
        "retain_expiry_interval",
        Meaning::Unsupported("retained messages expire as their publisher requests"),
    ),
];

const ID_PREFIX: Meaning = Meaning::Unsupported(
    "assigned Client Identifiers are random and have no prefix; rules that depend on such a prefix \
     do not apply to them",
);

const PSK: &str =
    "pre-shared keys are not supported; give devices certificates, or passwords over TLS";

const fn number(key: &'static str, zero: u64) -> Meaning {
    Meaning::Number {
        key,
        zero,
        factor: 1,
    }
}

fn per_listener(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let (outcome, note) = match reading.switch(line)? {
        true => (
            Outcome::Mapped,
            "each listener has its own password_file, acl_file and allow_anonymous",
        ),
        false => (
            Outcome::Default,
            "all listeners have the same credentials and rules, the default",
        ),
    };
    reading.report(line, outcome, note);
    Ok(())
}

/// -1 means no limit.
fn max_connections(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let number: i64 = line
        .value
        .parse()
        .map_err(|_| line.error("expected a whole number, -1 for no limit"))?;
    let Ok(number @ 1..) = u64::try_from(number) else {
        let note = "no limit, the default; limits.connections is 1000000 here";
        reading.report(line, Outcome::Default, note);
        return Ok(());
    };
    reading.set(line, key!(limits.connections), Value::Integer(number))
}

/// Size of the largest possible packet.
pub(super) const LONGEST: u64 = 268_435_455;

/// The default limit of packets in Mosquitto 2.1; version 2.0 has no limit.
pub(super) const PACKET_BYTES: u64 = 2_000_000;

/// The smallest value that Mosquitto accepts.
const PACKET_BYTES_MIN: u64 = 20;

fn packet_size(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let number = reading.number(line)?;
    if number < PACKET_BYTES_MIN {
        return Err(line.error(&format!(
            "expected a whole number from {PACKET_BYTES_MIN} to {LONGEST}, as in Mosquitto"
        )));
    }
    let bytes = number.min(LONGEST);
    reading.set(line, key!(limits.packet_bytes), Value::Integer(bytes))
}

fn message_size(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let number = reading.number(line)?;
    reading.set(line, key!(limits.payload_bytes), Value::Integer(number))?;
    if number >= PACKET_BYTES
        && let Some(entry) = reading.report.last_mut()
    {
        entry.note += ": packets are limited too, by max_packet_size; without that line, to 2000000 \
                      bytes as in Mosquitto 2.1";
    }
    Ok(())
}

fn keyform(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    if line.value != "pem" {
        return Err(line.error("keys are read from files here, in PEM"));
    }
    reading.report(line, Outcome::NotNeeded, "keys are in PEM");
    Ok(())
}

fn persistence(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let mode = match reading.switch(line)? {
        true => "sync",
        false => "memory",
    };
    reading.set(line, key!(store.durability), Value::Text(mode.to_owned()))?;
    if mode == "memory"
        && let Some(entry) = reading.report.last_mut()
    {
        entry.note += ": nothing survives a restart, as in Mosquitto";
    }
    if mode == "sync"
        && let Some(entry) = reading.report.last_mut()
    {
        entry.outcome = Outcome::Changed;
        entry.note = "store.durability = \"sync\", the default: synced before it is acknowledged, \
                     not at intervals; mosquitto.db is not read, so its sessions and retained \
                     messages are not imported"
            .to_owned();
    }
    Ok(())
}

/// The database is stored in a subdirectory. Mosquitto's own database is not changed.
fn persistence_location(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let directory = std::path::Path::new(&line.value).join("martlet");
    let directory = Value::Text(directory.display().to_string());
    reading.set(line, key!(node.data_dir), directory)?;
    if let Some(entry) = reading.report.last_mut() {
        entry.outcome = Outcome::Changed;
        entry.note += ", beside mosquitto.db, which is not read";
    }
    Ok(())
}

/// A number and a unit: `2m` means two months.
fn client_expiration(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let wrong = || line.error("expected a number and h, d, w, m or y, such as 14d");
    let unit = line.value.chars().last().ok_or_else(wrong)?;
    let number: u64 = line.value[..line.value.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let secs = match unit {
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let secs = number.saturating_mul(secs).min(u64::from(u32::MAX));
    reading.set(
        line,
        key!(limits.session_expiry_max_secs),
        Value::Integer(secs),
    )
}

/// Log levels, from quiet to verbose.
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug"];

/// Each line adds to the levels of the lines above; `none` resets them.
fn log_type(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let level = match line.value.as_str() {
        "none" => 0,
        "error" => 1,
        "warning" => 2,
        "notice" | "information" => 3,
        "all" | "debug" => 4,
        "subscribe" | "unsubscribe" | "websockets" | "internal" => {
            let note = "it has no level of its own; log.level = \"debug\" includes it";
            reading.report(line, Outcome::NotNeeded, note);
            return Ok(());
        }
        _ => {
            return Err(line.error(
                "expected none, error, warning, notice, information, debug, subscribe, \
                 unsubscribe, websockets or all",
            ));
        }
    };
    let named = match level {
        0 => 0,
        level => level.max(reading.log_level.unwrap_or(0)),
    };
    reading.log_level = Some(named);
    reading.set(line, key!(log.level), Value::Text(LEVELS[named].to_owned()))
}

fn log_dest(reading: &mut Reading<'_>, line: &ConfigLine) -> Result<(), ConfigError> {
    let (to, path) = line
        .value
        .split_once([' ', '\t'])
        .unwrap_or((&line.value, ""));
    let (outcome, note) = match to {
        "file" => return reading.log_file(line, path.trim()),
        "none" => {
            reading.log_level = Some(0);
            return reading.set(line, key!(log.level), Value::Text("off".to_owned()));
        }
        "stderr" => (Outcome::Default, "the log goes to standard error anyway"),
        "stdout" => (Outcome::Changed, "the log goes to standard error"),
        "syslog" => (
            Outcome::Changed,
            "the log goes to standard error, which the service manager collects",
        ),
        "topic" => (
            Outcome::Unsupported,
            "the log is not published to a topic: use martlet logs, martlet events or log.file",
        ),
        "dlt" | "android" => (Outcome::Unsupported, "the log goes to standard error"),
        _ => {
            return Err(
                line.error("expected file PATH, stdout, stderr, syslog, topic, dlt or none")
            );
        }
    };
    reading.report(line, outcome, note);
    Ok(())
}
