//! `[[sinks.nats]]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use super::mirror::Mirror;
use super::next_expiry::NextExpiry;
use super::server::{
    CA_FILE, CERTIFICATE_FILE, CREDENTIALS_FILE, KEY_FILE, NKEY, PASSWORD, ServerSettings, TOKEN,
    URL, USER,
};
use super::settings::{Bucket, NatsSettings, NewStream};
use super::stream::check_name;
use super::subject::SubjectTemplate;
use super::{BEYOND_ACK, NatsSink, bucket};
use crate::configured_sink::ConfiguredSink;
use crate::host::Host;
use crate::kind::{Key, Kind, Surroundings, Takes};
use crate::runner::{ALL_TENANTS, Handle, OnReject, Runner, Settings};
use crate::secret::SecretsReceiver;
use crate::table::Table;

/// The kind `nats`.
pub const KIND: Kind = Kind {
    name: "nats",
    keys: KEYS,
    make,
};

/// Messages of a lane in hand: those that wait for acknowledgements, and the next ones.
const IN_HAND: u16 = 2_000;

const KEYS: &[Key] = &[
    URL,
    Key::new(
        "subject",
        Takes::Text,
        "Subject of each message. {user}, {device}, {client}, {tenant}, {topic}, {content_type} and {property:NAME}, the first User Property of that name, are replaced; the levels of a topic become tokens. Characters that NATS does not accept in a name are written as %XX, a missing name as -. {topic:mqtt}: the subject that nats-server's own MQTT listener uses. Default: raw.{user}.",
    ),
    CREDENTIALS_FILE,
    NKEY,
    TOKEN,
    USER,
    PASSWORD,
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    Key::new(
        "stream",
        Takes::Text,
        "Name of the stream that is created if no stream contains the subjects. Existing streams are never changed. Default: MARTLET_ and the name of the sink.",
    ),
    Key::new(
        "create_stream",
        Takes::Boolean,
        "Whether a missing stream is created. Default: true.",
    ),
    Key::new(
        "stream_max_age_secs",
        Takes::Integer {
            min: 60,
            max: 3_153_600_000,
        },
        "Age at which a created stream drops messages, seconds. Default: 604800, 7 days.",
    ),
    Key::new(
        "stream_max_bytes",
        Takes::Integer {
            min: 1_000_000,
            max: i64::MAX as u64,
        },
        "Size at which a created stream drops its oldest messages. Default: 1073741824, 1 GiB.",
    ),
    Key::new(
        "stream_duplicates_secs",
        Takes::Integer {
            min: 1,
            max: 86_400,
        },
        "Time for which a created stream detects duplicates of a message, seconds; at most stream_max_age_secs. Default: 900.",
    ),
    Key::new(
        "timeout_secs",
        Takes::Integer { min: 1, max: 300 },
        "Time limit of an acknowledgement of JetStream, seconds. Default: 5.",
    ),
    Key::new(
        "bucket",
        Takes::Text,
        "Key-value bucket that receives the retained messages, a key for each topic, instead of subjects: messages that are not retained are not sent, and an empty one deletes its key. It is created if it does not exist, with stream_max_bytes if that is set. Implies keep_qos0. Default: none.",
    ),
    Key::new(
        "jetstream",
        Takes::Boolean,
        "false: messages are published without JetStream, and count as delivered when the server has read them. NATS clients that are not subscribed at that time do not receive them. Default: true.",
    ),
    Key::new(
        "content_type",
        Takes::Text,
        "Header Content-Type of messages that have no Content Type of MQTT 5. Default: none.",
    ),
    Key::new(
        "log_messages",
        Takes::Boolean,
        "Log a line at info for each message that NATS has accepted: at most 10 per second, then the number of the others. Default: false.",
    ),
];

const SUBJECT: &str = "raw.{user}";
const STREAM_MAX_AGE_SECS: u64 = 7 * 86_400;
const STREAM_MAX_BYTES: u64 = 1 << 30;
const STREAM_DUPLICATES_SECS: u64 = 900;

fn bucket(table: &Table, settings: &Settings) -> Result<Option<Bucket>, String> {
    let Some(name) = table.text("bucket") else {
        return Ok(None);
    };
    if !bucket::is_name(name) {
        return Err(format!(
            "`bucket` is {name:?}, expected letters, digits, - and _"
        ));
    }
    if table.text("subject").is_some() || !table.flag("jetstream", true) {
        return Err("`bucket` needs JetStream, and no `subject`".to_owned());
    }
    if &*settings.tenant == ALL_TENANTS {
        return Err("`bucket` needs one tenant: topics of several would be one key".to_owned());
    }
    let max_bytes = table.number("stream_max_bytes", 0);
    Ok(Some(Bucket {
        name: name.into(),
        max_bytes: i64::try_from(max_bytes).ok().filter(|bytes| *bytes > 0),
    }))
}

fn new_stream(table: &Table, sink: &str) -> Result<Option<NewStream>, String> {
    let has_subjects = table.flag("jetstream", true) && table.text("bucket").is_none();
    if !table.flag("create_stream", true) || !has_subjects {
        return Ok(None);
    }
    let default = format!("MARTLET_{sink}");
    let name = table.text("stream").unwrap_or(&default);
    check_name("stream", name)?;
    let max_age = table.number("stream_max_age_secs", STREAM_MAX_AGE_SECS);
    let duplicates = table.number(
        "stream_duplicates_secs",
        STREAM_DUPLICATES_SECS.min(max_age),
    );
    if duplicates > max_age {
        return Err("`stream_duplicates_secs` is more than `stream_max_age_secs`".to_owned());
    }
    let max_bytes = table.number("stream_max_bytes", STREAM_MAX_BYTES);
    Ok(Some(NewStream {
        name: name.into(),
        max_age: Duration::from_secs(max_age),
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        duplicates: Duration::from_secs(duplicates),
    }))
}

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let subject = table.text("subject").unwrap_or(SUBJECT);
    let subject = SubjectTemplate::parse(subject).map_err(|why| format!("`subject`: {why}"))?;
    let nats = NatsSettings {
        name: settings.name.clone(),
        server: ServerSettings::of(table, surroundings)?,
        stream: new_stream(table, &settings.name)?,
        subject,
        bucket: bucket(table, &settings)?,
        uses_jetstream: table.flag("jetstream", true),
        content_type: table.text("content_type").map(Into::into),
        logs_messages: table.flag("log_messages", false),
        stops_at_refusal: settings.on_reject == OnReject::Stop,
    };
    let settings = Settings {
        deliver_within: nats.server.timeout + BEYOND_ACK,
        keeps_qos0: settings.keeps_qos0 || nats.bucket.is_some(),
        in_hand: IN_HAND,
        ..settings
    };
    let (names, files) = (nats.server.secret_names(), nats.server.files());
    let nats = Arc::new(nats);
    let sink = ConfiguredSink::started_by(settings, move |settings, secrets, host| {
        start(Arc::clone(&nats), settings, secrets, host)
    });
    Ok(sink.with_secrets(names).reading(files))
}

/// Starts a sink, and the task for its bucket.
fn start(
    nats: Arc<NatsSettings>,
    settings: Settings,
    secrets: SecretsReceiver,
    host: Arc<dyn Host>,
) -> Handle {
    let expiry = Arc::<NextExpiry>::default();
    let mirror = nats.bucket.as_ref().map(|bucket| Mirror {
        settings: Arc::clone(&nats),
        bucket: bucket.name.clone(),
        host: Arc::clone(&host),
        secrets: secrets.clone(),
        tenant: Arc::clone(&settings.tenant),
        filters: settings.filters.clone(),
        expiry: Arc::downgrade(&expiry),
    });
    let node = host.node().to_owned();
    let make = move || {
        let sink = NatsSink::new(Arc::clone(&nats), &node, secrets.clone());
        match nats.bucket {
            Some(_) => sink.with_expiry(Arc::clone(&expiry)),
            None => sink,
        }
    };
    let handle = Runner::start(settings, make, host);
    if let Some(mirror) = mirror {
        mirror.start(handle.activity_reader());
    }
    handle
}
