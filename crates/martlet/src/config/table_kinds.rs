//! Kinds of integrations in the configuration, with their common keys; keys of one kind are
//! declared in `martlet_integrate`.

use martlet_integrate::{KINDS, Order, SOURCES, bridge};

use super::schema::Kind;

/// Name, kind and meaning of a key.
type KeyOfSink = (&'static str, Kind, &'static str);

/// A kind of integration in the configuration.
pub(crate) struct TableKind {
    /// `sinks`, `sources` or `bridges`.
    pub(crate) section: &'static str,
    /// Name in `[[SECTION.NAME]]`; `None` if the tables are `[[SECTION]]`.
    pub(crate) name: Option<&'static str>,
    /// Name of the kind of integration.
    pub(crate) kind: &'static str,
    /// All of its keys.
    pub(crate) keys: Vec<KeyOfSink>,
}

impl TableKind {
    /// Name of its tables, such as `sinks.file`.
    pub(crate) fn table(&self) -> String {
        match self.name {
            Some(name) => format!("{}.{name}", self.section),
            None => self.section.to_owned(),
        }
    }
}

/// The kinds of sinks, sources and bridges.
pub(crate) fn table_kinds() -> impl Iterator<Item = TableKind> {
    let own = |kind: &martlet_integrate::Kind| {
        let own = kind.keys.iter();
        let own = own.map(|key| (key.name, key.takes, key.meaning));
        own.collect::<Vec<KeyOfSink>>()
    };
    let sinks = KINDS.iter().map(move |kind| TableKind {
        section: "sinks",
        name: Some(kind.name),
        kind: kind.name,
        keys: {
            let own = own(kind);
            let has = |key: &KeyOfSink| own.iter().any(|one| one.0 == key.0);
            let common = COMMON_KEYS.into_iter().filter(|key| !has(key));
            let common: Vec<KeyOfSink> = common.collect();
            let all = [NAME_KEY, FILTERS_KEY].into_iter().chain(own);
            all.chain(common).collect()
        },
    });
    let sources = SOURCES.iter().map(move |(name, kind)| TableKind {
        section: "sources",
        name: Some(name),
        kind: kind.name,
        keys: {
            let all = [NAME_OF_SOURCE_KEY].into_iter().chain(own(kind));
            all.chain([TENANT_OF_SOURCE_KEY, PUBLISH_AS_KEY]).collect()
        },
    });
    let bridges = TableKind {
        section: "bridges",
        name: None,
        kind: BRIDGE,
        keys: {
            // It has separate keys for its pauses between connections.
            let common = COMMON_KEYS.into_iter();
            let common = common.filter(|key| !key.0.starts_with("retry_"));
            let common = common.map(|key| match key.0 {
                "keep_qos0" => BRIDGE_KEEP_QOS0_KEY,
                "tenant" => BRIDGE_TENANT_KEY,
                _ => key,
            });
            let all = [BRIDGE_NAME_KEY].into_iter().chain(own(&bridge::KIND));
            all.chain(common).collect()
        },
    };
    sinks.chain(sources).chain([bridges])
}

/// Name of the table of a kind of integration, such as `sinks.file` or `bridges`.
pub(super) fn section_of(kind: &str) -> String {
    let found = table_kinds().find(|known| known.kind == kind);
    found.map_or_else(|| format!("sinks.{kind}"), |known| known.table())
}

/// Kind of the tables `[[bridges]]`.
pub(super) const BRIDGE: &str = bridge::KIND.name;

const NAME_OF_SOURCE_KEY: KeyOfSink = (
    "name",
    Kind::Text,
    "Name, unique among the sources of this kind on the node: at most 64 characters, letters, digits, -, _ and . only.",
);

const TENANT_OF_SOURCE_KEY: KeyOfSink = (
    "tenant",
    Kind::Text,
    "Name or id of the team to whose tenant it publishes. If the team does not exist yet, the source waits for it. Default: the common tenant.",
);

const PUBLISH_AS_KEY: KeyOfSink = (
    "publish_as",
    Kind::Text,
    "Name of a user or device of that tenant, whose rules limit the topics to which the source publishes. While no user or device of that name may log in, the source reads nothing. Default: no rules limit it.",
);

const BRIDGE_NAME_KEY: KeyOfSink = (
    "name",
    Kind::Text,
    "Name, unique among the bridges of the configuration: at most 64 characters, letters, digits, -, _ and . only. The queue of messages belongs to the name: a renamed bridge begins with an empty queue.",
);

const BRIDGE_KEEP_QOS0_KEY: KeyOfSink = (
    "keep_qos0",
    Kind::Boolean,
    "Also queue and store QoS 0 messages, including deletions of retained messages, while the other broker cannot be reached. false: they are dropped, which costs less. Default: true.",
);

const BRIDGE_TENANT_KEY: KeyOfSink = (
    "tenant",
    Kind::Text,
    "Name or id of the team whose tenant's messages it carries, in both directions. If the team does not exist yet, the bridge waits for it. Default: the common tenant.",
);

const NAME_KEY: KeyOfSink = (
    "name",
    Kind::Text,
    "Name, unique among the sinks of this kind in the configuration: at most 64 characters, letters, digits, -, _ and . only. The queue of messages belongs to the name: a renamed sink begins with an empty queue.",
);

const FILTERS_KEY: KeyOfSink = (
    "filters",
    Kind::Texts,
    "Topic Filters of the messages that it forwards; $share/… is not permitted.",
);

const ORDER_KEY: KeyOfSink = (
    "order",
    Kind::Word(Order::WORDS),
    "Which messages are delivered in the order in which they were published. publisher: those of one client. user: those of one user or device, over all of its connections. topic: those of one topic, whoever publishes them. With user and topic all messages of the sink go through one core, see integrations.md. Default: publisher.",
);

const KEEP_QOS0_KEY: KeyOfSink = (
    "keep_qos0",
    Kind::Boolean,
    "Also queue and store QoS 0 messages, so that none is lost while the sink cannot write; publishers do not wait. Default: false, such messages are dropped.",
);

const MAX_BYTES_KEY: KeyOfSink = (
    "max_bytes",
    Kind::Integer {
        min: 1_000,
        max: u64::MAX >> 1,
    },
    "Maximum number of bytes of its messages in the message store. Default: a tenth of the disk space of the data directory that is free at the start or used by the message store.",
);

const MAX_AGE_SECS_KEY: KeyOfSink = (
    "max_age_secs",
    Kind::NoneOrAtLeast { min: 1 },
    "Maximum time that a message waits, seconds; older messages are dropped and counted as too_old. Default: 0, no limit.",
);

pub(super) const ON_FULL_KEY: KeyOfSink = (
    "on_full",
    Kind::Word(ON_FULL),
    "What happens at max_bytes. drop-oldest (default): the oldest messages are dropped and counted as queue_full. hold: clients that publish to its topics wait until there is room.",
);

const TENANT_KEY: KeyOfSink = (
    "tenant",
    Kind::Text,
    "Name or id of the team whose tenant's messages it forwards. If the team does not exist yet, the sink waits for it. \"*\": messages of all tenants. Default: the common tenant.",
);

pub(super) const ON_REJECT_KEY: KeyOfSink = (
    "on_reject",
    Kind::Word(ON_REJECT),
    "What happens to a message that the sink rejects. dead-letter (default): it becomes a dead letter, and delivery continues. stop: the sink stops before it until it is resumed.",
);

const MAX_ATTEMPTS_KEY: KeyOfSink = (
    "max_attempts",
    Kind::Integer {
        min: 0,
        max: 1_000_000,
    },
    "Maximum number of attempts for one message. An attempt counts if the target fails with an error of its own, such as status 500, or ends the connection without an answer. After that the message is rejected, see on_reject. Default: 10. 0: no limit. If a target cannot be reached or is busy, attempts are not limited.",
);

const RETRY_FIRST_MS_KEY: KeyOfSink = (
    "retry_first_ms",
    Kind::Integer {
        min: 10,
        max: RETRY_MAX_MS,
    },
    "Pause after the first failed attempt, milliseconds. It doubles with each further one, and up to half of it is random. Default: 500.",
);

const RETRY_LONGEST_MS_KEY: KeyOfSink = (
    "retry_longest_ms",
    Kind::Integer {
        min: 10,
        max: RETRY_MAX_MS,
    },
    "Longest such pause, milliseconds. If it is equal to retry_first_ms, all pauses have this length. Default: 60000.",
);

/// Longest configurable pause between attempts: one day.
const RETRY_MAX_MS: u64 = 86_400_000;

const COMMON_KEYS: [KeyOfSink; 10] = [
    ORDER_KEY,
    KEEP_QOS0_KEY,
    MAX_BYTES_KEY,
    MAX_AGE_SECS_KEY,
    ON_FULL_KEY,
    TENANT_KEY,
    ON_REJECT_KEY,
    MAX_ATTEMPTS_KEY,
    RETRY_FIRST_MS_KEY,
    RETRY_LONGEST_MS_KEY,
];

pub(super) const ON_FULL: &[&str] = &["drop-oldest", "hold"];
pub(super) const ON_REJECT: &[&str] = &["dead-letter", "stop"];
