//! From the tables `[[sinks.KIND]]` to integrations. They stand in the file alone, so that who may
//! write the configuration decides which files the node writes.

use std::path::{Path, PathBuf};

use martlet_broker::{OnFull, PartQueueLimits};
use martlet_codec::TopicFilter;
use martlet_control::integrations::{AllowedNetworks, ConfiguredSink, DeadLettersKept};
use martlet_integrate::file::{FileSettings, check_path};
use martlet_integrate::{OnReject, Settings};

use super::load::{ConfigError, Effective, SinkTable};
use super::schema::{Kind, Value};
use super::webhook;

/// Name, kind and meaning of a key.
type KeyOfSink = (&'static str, Kind, &'static str);

/// The keys of each kind of sink.
pub(crate) const SINK_KEYS: &[(&str, &[KeyOfSink])] =
    &[("file", FILE_KEYS), ("webhook", WEBHOOK_KEYS)];

const NAME_KEY: KeyOfSink = (
    "name",
    Kind::Text,
    "Name, which no other sink of this kind has: letters, digits, -, _ and ., 64 at most. The queue of messages belongs to it: a sink of another name begins with an empty one.",
);

const FILTERS_KEY: KeyOfSink = (
    "filters",
    Kind::Texts,
    "Topic Filters of the messages that it takes; $share/… is none.",
);

const KEEP_QOS0_KEY: KeyOfSink = (
    "keep_qos0",
    Kind::Boolean,
    "QoS 0 messages are queued and stored for it as well, so that none is lost while it cannot write; publishers wait for nothing. Default: false, they are dropped then.",
);

const MAX_BYTES_KEY: KeyOfSink = (
    "max_bytes",
    Kind::Integer {
        min: 1_000,
        max: u64::MAX >> 1,
    },
    "Bytes of the messages that may wait for it in the message store. Default: a tenth of what is free on the disk of the data directory at the start.",
);

const MAX_AGE_SECS_KEY: KeyOfSink = (
    "max_age_secs",
    Kind::NoneOrAtLeast { min: 1 },
    "Time that a message may wait, seconds; what waits longer is dropped and counted as too_old. Default: 0, for ever.",
);

const ON_FULL_KEY: KeyOfSink = (
    "on_full",
    Kind::Word(ON_FULL),
    "What happens at max_bytes. drop-oldest (default): the oldest messages are dropped and counted as queue_full. hold: the clients that publish what the sink takes wait until there is room.",
);

const TENANT_KEY: KeyOfSink = (
    "tenant",
    Kind::Text,
    "Name or id of the team whose tenant's messages it takes. A team that does not exist yet is waited for. \"*\": messages of all tenants. Default: the common tenant.",
);

const ON_REJECT_KEY: KeyOfSink = (
    "on_reject",
    Kind::Word(ON_REJECT),
    "What happens to a message that the sink refuses. dead-letter (default): it becomes a dead letter, and those behind it go on. stop: the sink stops before it until it is resumed.",
);

const FILE_KEYS: &[KeyOfSink] = &[
    NAME_KEY,
    FILTERS_KEY,
    (
        "path",
        Kind::Text,
        "File that the messages are appended to, one line of JSON for each. A path that does not begin with / begins at the data directory. The directory has to exist. A symbolic link is not followed. The file is made with mode 0640.",
    ),
    KEEP_QOS0_KEY,
    MAX_BYTES_KEY,
    MAX_AGE_SECS_KEY,
    ON_FULL_KEY,
    TENANT_KEY,
    ON_REJECT_KEY,
    (
        "file_bytes",
        Kind::NoneOrAtLeast { min: 1_000 },
        "Size at which the file is renamed PATH.1, PATH.1 PATH.2, and so on. Default: 100000000. 0: never, as where another program renames it; the next line goes into a new file then.",
    ),
    (
        "files_kept",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        "Number of renamed files that are kept; older ones are removed. Default: 10.",
    ),
];

const WEBHOOK_KEYS: &[KeyOfSink] = &[
    NAME_KEY,
    FILTERS_KEY,
    (
        "url",
        Kind::Text,
        "Address that the requests go to: http:// or https://. May contain ${secret:NAME}, and so may headers and signing_key. Redirects are not followed. Private addresses need integrations.allow_private.",
    ),
    (
        "method",
        Kind::Word(METHODS),
        "Method of the requests. Default: POST.",
    ),
    (
        "headers",
        Kind::Texts,
        "Headers of the requests: a list of texts \"Name: value\".",
    ),
    (
        "timeout_secs",
        Kind::Integer { min: 1, max: 300 },
        "Time limit of a request, from the connection to the end of the answer, seconds. Default: 10.",
    ),
    (
        "in_flight",
        Kind::Integer { min: 1, max: 1_000 },
        "Requests at once, for messages of different publishers; those of one publisher are sent one after the other. Default: 8.",
    ),
    (
        "signing_key",
        Kind::Secret,
        "Key that requests are signed with, as Standard Webhooks: HMAC-SHA-256 over id, time and body, in the headers webhook-id, webhook-timestamp and webhook-signature. whsec_ and base64, or any text of 16 bytes or more. Default: they are not signed.",
    ),
    KEEP_QOS0_KEY,
    MAX_BYTES_KEY,
    MAX_AGE_SECS_KEY,
    ON_FULL_KEY,
    TENANT_KEY,
    ON_REJECT_KEY,
];

const METHODS: &[&str] = &["POST", "PUT", "PATCH"];
const ON_FULL: &[&str] = &["drop-oldest", "hold"];
const ON_REJECT: &[&str] = &["dead-letter", "stop"];

const FILE_BYTES: u64 = 100_000_000;
const FILES_KEPT: u64 = 10;
/// Messages that a webhook gets at once.
const WEBHOOK_BATCH: u16 = 200;
/// Longest name of a sink.
const NAME_BYTES_MAX: usize = 64;

/// The integrations of a node.
#[derive(Clone, Debug)]
pub(crate) struct SinksConfig {
    pub(crate) sinks: Vec<ConfiguredSink>,
    pub(crate) dead_letters: DeadLettersKept,
    /// Queues of sinks that are not configured any more are removed. Not without a file: then it is
    /// more likely that the file was forgotten.
    pub(crate) removes_others: bool,
}

/// Resolves all sinks.
///
/// # Errors
/// A key is missing or unusable, or two sinks have one name or one file.
pub(super) fn sinks(effective: &Effective, data_dir: &Path) -> Result<SinksConfig, ConfigError> {
    let allowed = allowed_networks(effective)?;
    let mut sinks: Vec<(ConfiguredSink, &str)> = Vec::new();
    for table in &effective.sinks {
        let unusable = |why: String| {
            let (place, kind) = (&table.place, &table.kind);
            ConfigError::Unusable(format!("{place}: [[sinks.{kind}]]: {why}"))
        };
        let sink = match &*table.kind {
            "webhook" => webhook_sink(table, &allowed),
            _ => file_sink(table, data_dir),
        };
        let sink = sink.map_err(unusable)?;
        for (other, place) in &sinks {
            if let Some(why) = clash(&sink, other) {
                return Err(unusable(format!("{why}, as the sink at {place}")));
            }
        }
        sinks.push((sink, &table.place));
    }
    Ok(SinksConfig {
        sinks: sinks.into_iter().map(|(sink, _)| sink).collect(),
        dead_letters: DeadLettersKept {
            letters: effective.integer("dead_letters.kept"),
            bytes: effective.integer("dead_letters.kept_bytes"),
        },
        removes_others: effective.own_file.is_some(),
    })
}

/// Sinks that could not write now, one sentence each. They do not keep a node from starting: it
/// keeps their messages until they can.
pub(crate) fn unwritable(config: &SinksConfig) -> Vec<String> {
    let all = config.sinks.iter();
    let all = all.filter_map(|sink| {
        let ConfiguredSink::File(settings, file) = sink else {
            return None;
        };
        let why = check_path(&file.path).err()?;
        let name = &settings.name;
        Some(format!(
            "the sink {name:?} could not write now, and its messages would wait: {why}"
        ))
    });
    all.collect()
}

/// `integrations.allow_private`.
fn allowed_networks(effective: &Effective) -> Result<AllowedNetworks, ConfigError> {
    let texts = effective.text("integrations.allow_private").split(',');
    let texts = texts.map(str::trim).filter(|text| !text.is_empty());
    AllowedNetworks::parse(texts).map_err(|text| {
        ConfigError::Unusable(format!(
            "integrations.allow_private has {text:?}, expected networks such as 10.1.0.0/16"
        ))
    })
}

fn webhook_sink(table: &SinkTable, allowed: &AllowedNetworks) -> Result<ConfiguredSink, String> {
    let settings = common(table)?;
    let stops = settings.on_reject == OnReject::Stop;
    let webhook = webhook::settings(table, allowed, stops)?;
    let settings = Settings {
        deliver_within: webhook.deliver_within(),
        // What is not settled yet comes twice after a crash.
        batch_messages: WEBHOOK_BATCH,
        ..settings
    };
    Ok(ConfiguredSink::Webhook(settings, webhook))
}

fn file_sink(table: &SinkTable, data_dir: &Path) -> Result<ConfiguredSink, String> {
    let settings = common(table)?;
    let path = text(table, "path").filter(|path| !path.is_empty());
    let path = path.ok_or("`path` is missing, expected the path of a file")?;
    let files_kept = number(table, "files_kept", FILES_KEPT);
    let file = FileSettings {
        path: whole_path(data_dir, path)?,
        file_bytes: number(table, "file_bytes", FILE_BYTES),
        files_kept: u32::try_from(files_kept).unwrap_or(u32::MAX),
    };
    Ok(ConfiguredSink::File(settings, file))
}

/// The settings that all kinds of sinks have.
fn common(table: &SinkTable) -> Result<Settings, String> {
    let kinds = SINK_KEYS.iter().map(|(kind, _)| *kind);
    let kind = kinds.into_iter().find(|kind| **kind == *table.kind);
    let kind = kind.ok_or("there is no such kind of sink")?;
    let name = text(table, "name").unwrap_or_default();
    if !is_name(name) {
        return Err(format!(
            "`name` is {name:?}, expected letters, digits, -, _ and ., {NAME_BYTES_MAX} at most"
        ));
    }
    let filters = match value(table, "filters") {
        Some(Value::Texts(filters)) if !filters.is_empty() => filters,
        _ => return Err("`filters` is missing, expected a list such as [\"plant/#\"]".to_owned()),
    };
    for (at, filter) in filters.iter().enumerate() {
        check_filter(filter)?;
        if filters[..at].contains(filter) {
            return Err(format!("`filters` has {filter:?} twice; name it once"));
        }
    }
    let on_full = match text(table, "on_full") {
        Some("hold") => OnFull::Hold,
        _ => OnFull::DropOldest,
    };
    let filters = filters.iter().map(|filter| filter.as_str().into());
    Ok(Settings {
        tenant: text(table, "tenant").unwrap_or_default().into(),
        keeps_qos0: matches!(value(table, "keep_qos0"), Some(Value::Boolean(true))),
        on_reject: match text(table, "on_reject") {
            Some("stop") => OnReject::Stop,
            _ => OnReject::DeadLetter,
        },
        queue: PartQueueLimits {
            // 0: the start finds out what is free.
            bytes_max: number(table, "max_bytes", 0),
            age_max_secs: u32::try_from(number(table, "max_age_secs", 0)).unwrap_or(u32::MAX),
            on_full,
        },
        ..Settings::new(kind, name, filters.collect())
    })
}

pub(super) fn value<'t>(table: &'t SinkTable, key: &str) -> Option<&'t Value> {
    table.keys.get(key).map(|found| &found.value)
}

pub(super) fn text<'t>(table: &'t SinkTable, key: &str) -> Option<&'t str> {
    match value(table, key) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

pub(super) fn number(table: &SinkTable, key: &str, default: u64) -> u64 {
    match value(table, key) {
        Some(Value::Integer(number)) => *number,
        _ => default,
    }
}

/// Names stand in Client Identifiers, paths of the API and metrics.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}

fn check_filter(filter: &str) -> Result<(), String> {
    if filter == "$share" || filter.starts_with("$share/") {
        return Err(format!(
            "`filters` has {filter:?}: a sink joins no share group; leave out $share and the group"
        ));
    }
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "`filters` has {filter:?}, which is no Topic Filter: {error}"
        )),
    }
}

/// The path from the root, without anything that only makes it look like another.
fn whole_path(data_dir: &Path, path: &str) -> Result<PathBuf, String> {
    let joined = data_dir.join(path);
    let whole = std::path::absolute(&joined);
    let whole = whole.map_err(|error| format!("`path` is {path:?}: {error}"))?;
    let goes_up = Path::new(path)
        .components()
        .any(|part| matches!(part, std::path::Component::ParentDir));
    match whole.file_name() {
        None => Err(format!("`path` is {path:?}, expected the path of a file")),
        Some(_) if goes_up => Err(format!(
            "`path` is {path:?}: leave out `..`, so that two sinks cannot mean one file"
        )),
        Some(_) => Ok(whole),
    }
}

/// Why two sinks cannot be there together.
fn clash(one: &ConfiguredSink, other: &ConfiguredSink) -> Option<String> {
    let (own, others) = (one.settings(), other.settings());
    if (own.kind, &own.name) == (others.kind, &others.name) {
        return Some(format!("it has the name {:?}", own.name));
    }
    let (ConfiguredSink::File(_, file), ConfiguredSink::File(_, its)) = (one, other) else {
        return None;
    };
    let is_same = file.path == its.path
        || is_rotated(&file.path, &its.path)
        || is_rotated(&its.path, &file.path);
    is_same.then(|| format!("it writes the file {}", file.path.display()))
}

/// Whether a file could become the other one when it is renamed.
fn is_rotated(path: &Path, other: &Path) -> bool {
    let (path, other) = (
        path.as_os_str().as_encoded_bytes(),
        other.as_os_str().as_encoded_bytes(),
    );
    let number = other
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
#[path = "sinks_tests.rs"]
mod tests;
