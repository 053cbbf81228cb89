//! `[[bridges]]` of the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use martlet_certificates::ServerCheck;
use martlet_codec::{ProtocolVersion, TopicName};

use super::address::addresses;
use super::brokers::BrokerAddresses;
use super::configured;
use super::connection::NamedConnection;
use super::protocol::Protocol;
use super::settings::{BridgeSettings, Notifications, Start, TlsFiles};
use super::topics::{DEFAULT_QOS, TopicRule, Topics};
use crate::configured_sink::ConfiguredSink;
use crate::kind::{Key, Kind, Surroundings, Takes};
use crate::runner::{ALL_TENANTS, Backoff, OnReject, Settings};
use crate::secret::Template;
use crate::table::Table;

/// The kind of the integrations that are bridges.
pub const KIND: Kind = Kind {
    name: "bridge",
    keys: KEYS,
    make,
};

/// The key with the topics of a bridge.
pub const TOPICS: &str = "topics";
const PROTOCOLS: &[&str] = &["5.0", "3.1.1"];
/// Messages of a lane in hand for when the other broker has accepted others, if they are small.
/// QoS 0 messages beyond that are dropped, unless they are kept.
const IN_HAND: u16 = 4_000;
/// Maximum interval of two calls of a few messages, see [`Settings::called_every`].
const CALLED_EVERY: Duration = Duration::from_millis(4);
const STARTS: &[&str] = &["automatic", "lazy", "once"];

const KEYS: &[Key] = &[
    Key::new(
        "url",
        Takes::List,
        "Address of the other broker: mqtt://HOST:1883, or mqtts://HOST:8883 with TLS. Several, a list or separated by commas, are tried in turn. Private addresses need integrations.allow_private.",
    ),
    Key {
        name: TOPICS,
        takes: Takes::Topics,
        meaning: "Topics that it carries: tables { filter, direction, qos, local_prefix, remote_prefix }, or texts \"FILTER DIRECTION QOS LOCAL_PREFIX REMOTE_PREFIX\" as in a topic line of Mosquitto. direction: out (default), in or both. qos: highest QoS, default 1. A prefix is added before the filter on that side. The first entry that matches a topic applies.",
    },
    Key::new(
        "protocol",
        Takes::Word(PROTOCOLS),
        "Version of MQTT: 5.0 (default) or 3.1.1. To another Martlet node with bridges it is always 5.0. Loops of several brokers are prevented only with 5.0.",
    ),
    Key::new(
        "client_id",
        Takes::Text,
        "Client Identifier at the other broker. Default: the host name, a dot and the name of the bridge.",
    ),
    Key::new("user", Takes::Text, "User name at the other broker."),
    Key::new(
        "password",
        Takes::Secret,
        "Password of user, such as ${secret:NAME}.",
    ),
    Key::new(
        "clean_session",
        Takes::Boolean,
        "Whether the other broker discards the session when the connection ends. If true, messages that are published while the bridge is disconnected are lost. Default: false.",
    ),
    Key::new(
        "keep_alive_secs",
        Takes::Integer {
            min: 5,
            max: 65_535,
        },
        "Time without packets after which a ping is sent, seconds; without an answer within the same time the connection is lost. Default: 60.",
    ),
    Key::new(
        "ca_file",
        Takes::Text,
        "PEM file of the CAs that are trusted to sign the other broker's certificate, with mqtts://. Default: those that the system trusts.",
    ),
    Key::new(
        "ca_directory",
        Takes::Text,
        "Directory with PEM files of such CAs.",
    ),
    Key::new(
        "certificate_file",
        Takes::Text,
        "PEM file of a client certificate. Needs key_file.",
    ),
    Key::new("key_file", Takes::Text, "PEM file of its private key."),
    Key::new(
        "any_server_name",
        Takes::Boolean,
        "Accept a certificate of the other broker for another host name. Default: false.",
    ),
    Key::new(
        "verify",
        Takes::Boolean,
        "Whether the other broker's certificate is checked, with mqtts://. false: it is not checked, and an attacker on the network path can read and change all messages. Default: true.",
    ),
    Key::new(
        "connection",
        Takes::Boolean,
        "Whether it is a named connection, which the microservice's POST /publish and POST /subscribe can name as broker. topics is then optional. It connects at its first use, and ignores start. Default: false.",
    ),
    Key::new(
        "prefix",
        Takes::Text,
        "Prefix that is added to the topics of messages received for POST /subscribe. Default: none.",
    ),
    Key::new(
        "start",
        Takes::Word(STARTS),
        "automatic (default): connects at the start and again whenever the connection ends. lazy: connects when a message waits, and disconnects after idle_secs without one. once: connects once; when that connection ends, the bridge waits for a restart of the node.",
    ),
    Key::new(
        "idle_secs",
        Takes::Integer {
            min: 1,
            max: 86_400,
        },
        "See start. Default: 60.",
    ),
    Key::new(
        "reconnect_min_secs",
        Takes::Integer { min: 1, max: 3_600 },
        "Pause after the first failed connection, seconds. It doubles with each further one, with jitter. Default: 1.",
    ),
    Key::new(
        "reconnect_max_secs",
        Takes::Integer {
            min: 1,
            max: 86_400,
        },
        "Longest pause, seconds. Default: 120.",
    ),
    Key::new(
        "notifications",
        Takes::Boolean,
        "Whether the state of the bridge is published to notification_topic at both brokers, retained: 1 connected, 0 not. Default: true.",
    ),
    Key::new(
        "notifications_local_only",
        Takes::Boolean,
        "Whether it is published at this node only. Default: false.",
    ),
    Key::new(
        "notification_topic",
        Takes::Text,
        "Default: $SYS/broker/connection/CLIENT_ID/state.",
    ),
    Key::new(
        "try_private",
        Takes::Boolean,
        "Whether the bridge identifies itself as a bridge to the other broker with protocol 3.1.1, as Mosquitto does. The other broker then preserves RETAIN, and does not send the bridge its own messages. To a Martlet node with bridges, the bridge then uses 5.0, which prevents loops. Set it to false if the other broker rejects the connection. Default: true.",
    ),
    Key::new(
        "outgoing_retain",
        Takes::Boolean,
        "Whether outgoing messages keep their RETAIN flag. false: it is cleared. Default: true.",
    ),
    Key::new(
        "in_flight",
        Takes::Integer {
            min: 1,
            max: 65_535,
        },
        "Maximum number of QoS 1 and 2 messages that are sent and not acknowledged. Default: 100.",
    ),
];

fn tls_files(table: &Table, data_dir: &Path) -> Result<TlsFiles, String> {
    Ok(TlsFiles {
        ca_file: table.path("ca_file", data_dir),
        ca_directory: table.path("ca_directory", data_dir),
        certificate: table.client_certificate(data_dir)?,
        check: match (
            table.flag("verify", true),
            table.flag("any_server_name", false),
        ) {
            (false, _) => ServerCheck::Nothing,
            (true, true) => ServerCheck::AnyName,
            (true, false) => ServerCheck::Full,
        },
    })
}

fn notifications(table: &Table, client_id: &str) -> Result<Option<Notifications>, String> {
    if !table.flag("notifications", true) {
        return Ok(None);
    }
    let default = format!("$SYS/broker/connection/{client_id}/state");
    let topic = table.text("notification_topic").unwrap_or(&default);
    TopicName::new(topic).map_err(|error| {
        format!(
            "the notification topic {topic:?} is not a valid Topic Name: {error}; set `client_id` \
             or `notification_topic`"
        )
    })?;
    Ok(Some(Notifications {
        topic: topic.into(),
        remote: !table.flag("notifications_local_only", false),
    }))
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    match name.is_empty() {
        true => "martlet".to_owned(),
        false => name,
    }
}

/// The topics of a table.
///
/// # Errors
/// There are none, and it is not a named connection; or one is invalid.
fn topics(table: &Table) -> Result<Topics, String> {
    let lines = table.texts(TOPICS);
    if lines.is_empty() && !table.flag("connection", false) {
        return Err(
            "`topics` is missing, expected a list such as [{ filter = \"plant/#\", direction = \
             \"out\" }]"
                .to_owned(),
        );
    }
    let rules = lines.iter().map(|line| TopicRule::parse(line, DEFAULT_QOS));
    let rules = rules.collect::<Result<Vec<_>, _>>();
    let rules = rules.map_err(|why| format!("`topics`: {why}"))?;
    Ok(rules.into_iter().collect())
}

/// The named connection that a table configures.
///
/// # Errors
/// Its prefix is invalid, or it has a prefix and is not a named connection.
fn connection(table: &Table, name: &str) -> Result<Option<Arc<NamedConnection>>, String> {
    let prefix = table.text("prefix");
    match (table.flag("connection", false), prefix) {
        (true, _) => Ok(Some(Arc::new(NamedConnection::new(
            name,
            prefix.unwrap_or_default(),
        )?))),
        (false, Some(_)) => Err("`prefix` needs `connection = true`".to_owned()),
        (false, None) => Ok(None),
    }
}

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    if *settings.tenant == *ALL_TENANTS {
        return Err("`tenant` is \"*\": a bridge carries the messages of one tenant".to_owned());
    }
    let secs = |key, default| Duration::from_secs(table.number(key, default));
    let default_id = format!("{}.{}", host_name(), settings.name.replace('/', "."));
    let client_id = table.text("client_id").unwrap_or(&default_id);
    let pauses = (
        secs("reconnect_min_secs", 1),
        secs("reconnect_max_secs", 120),
    );
    if pauses.0 > pauses.1 {
        return Err("`reconnect_min_secs` is more than `reconnect_max_secs`".to_owned());
    }
    let password = table.template("password")?;
    let user: Option<Box<str>> = table.text("user").map(Into::into);
    if let Some(user) = &user
        && (user.len() > usize::from(u16::MAX) || user.contains('\0'))
    {
        return Err("`user` is longer than 65,535 bytes or has a NUL".to_owned());
    }
    if password.is_some() && user.is_none() {
        return Err("`password` needs `user`".to_owned());
    }
    let addresses = addresses(table.text("url").unwrap_or_default())?;
    let connection = connection(table, &settings.name)?;
    let number = |key, default| u16::try_from(table.number(key, default)).unwrap_or(u16::MAX);
    let bridge = BridgeSettings {
        name: settings.name.clone(),
        tenant: settings.tenant.clone(),
        broker: BrokerAddresses::new(&addresses, connection.is_some()),
        addresses,
        topics: topics(table)?,
        connection,
        protocol: Protocol::new(match table.text("protocol") {
            Some("3.1.1") => ProtocolVersion::V311,
            _ => ProtocolVersion::V5,
        }),
        client_id: client_id.into(),
        user,
        password,
        clean_session: table.flag("clean_session", false),
        keep_alive_secs: number("keep_alive_secs", 60),
        tls: tls_files(table, surroundings.data_dir)?,
        start: match table.text("start") {
            _ if table.flag("connection", false) => Start::OnUse,
            Some("lazy") => Start::Lazy(secs("idle_secs", 60)),
            Some("once") => Start::Once,
            _ => Start::Automatic,
        },
        pauses,
        notifications: notifications(table, client_id)?,
        try_private: table.flag("try_private", true),
        outgoing_retain: table.flag("outgoing_retain", true),
        in_flight: number("in_flight", 100),
        stops_at_refusal: settings.on_reject == OnReject::Stop,
        allowed: surroundings.allowed.clone(),
    };
    let mut filters = bridge.topics.local_filters();
    filters.extend(bridge.connection.as_ref().map(|one| one.filter()));
    let settings = Settings {
        filters,
        brings: bridge.topics.brought(),
        sends: bridge.topics.sent(),
        // Otherwise a retained QoS 0 message, or its deletion, would be lost while the other
        // broker cannot be reached.
        keeps_qos0: table.flag("keep_qos0", true),
        in_hand: IN_HAND,
        called_every: CALLED_EVERY,
        // The pauses between connections are the bridge's own: a batch waits for the next
        // connection.
        backoff: Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
        },
        ..settings
    };
    let names: Vec<String> = bridge
        .password
        .iter()
        .flat_map(Template::names)
        .map(str::to_owned)
        .collect();
    let files = bridge.tls.files();
    let sink = configured(settings, Arc::new(bridge));
    Ok(sink.with_secrets(names).reading(files))
}
