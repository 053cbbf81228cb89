//! `[[sinks.nats]]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use martlet_settings::{Both, table};

use super::mirror::Mirror;
use super::next_expiry::NextExpiry;
use super::server::{ServerKeys, ServerSettings};
use super::settings::{Bucket, NatsSettings, NewStream};
use super::stream::check_name;
use super::subject::SubjectTemplate;
use super::{BEYOND_ACK, NatsSink, bucket};
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::given::given;
use crate::host::Host;
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::{ALL_TENANTS, Handle, OnReject, Runner, Settings};
use crate::secret::SecretsReceiver;

/// The kind `nats`.
#[derive(Debug)]
pub(crate) struct NatsKind;

/// Messages of a lane in hand: those that wait for acknowledgements, and the next ones.
const IN_HAND: u16 = 2_000;
const SUBJECT: &str = "raw.{user}";
const STREAM_MAX_BYTES: u64 = 1 << 30;
const STREAM_DUPLICATES_SECS: u64 = 900;

table! {
    /// Keys of `[[sinks.nats]]` beside those of the connection.
    NatsKeys {
        /// Subject of each message. {user}, {device}, {client}, {tenant}, {topic}, {content_type}
        /// and {property:NAME}, the first User Property of that name, are replaced; the levels of a
        /// topic become tokens. Characters that NATS does not accept in a name are written as %XX,
        /// a missing name as -. {topic:mqtt}: the subject that nats-server's own MQTT listener
        /// uses. Default: raw.{user}.
        subject: String;
        /// Name of the stream that is created if no stream contains the subjects. Existing streams
        /// are never changed. Default: MARTLET_ and the name of the sink.
        stream: String;
        /// Whether a missing stream is created.
        create_stream: bool = true;
        /// Age at which a created stream drops messages, seconds.
        stream_max_age_secs: u64 = 7 * 86_400, in 60..=3_153_600_000;
        /// Size at which a created stream drops its oldest messages. Default: 1073741824, 1 GiB; of
        /// a bucket no limit.
        stream_max_bytes: u64, in 1_000_000..=i64::MAX as u64;
        /// Time for which a created stream detects duplicates of a message, seconds; at most
        /// stream_max_age_secs. Default: 900, or stream_max_age_secs if that is less.
        stream_duplicates_secs: u64, in 1..=86_400;
        /// Time limit of an acknowledgement of JetStream, seconds.
        timeout_secs: u64 = 5, in 1..=300;
        /// Key-value bucket that receives the retained messages, a key for each topic, instead of
        /// subjects: messages that are not retained are not sent, and an empty one deletes its key.
        /// It is created if it does not exist, with stream_max_bytes if that is set. Implies
        /// keep_qos0. Default: none.
        bucket: String;
        /// false: messages are published without JetStream, and count as delivered when the server
        /// has read them. NATS clients that are not subscribed at that time do not receive them.
        jetstream: bool = true;
        /// Header Content-Type of messages that have no Content Type of MQTT 5. Default: none.
        content_type: String;
        /// Log a line at info for each message that NATS has accepted: at most 10 per second, then
        /// the number of the others.
        log_messages: bool = false;
    }
}

impl NatsKeys {
    fn bucket(&self, settings: &Settings) -> Result<Option<Bucket>, String> {
        let Some(name) = given(&self.bucket) else {
            return Ok(None);
        };
        if !bucket::is_name(name) {
            return Err(format!(
                "`bucket` is {name:?}, expected letters, digits, - and _"
            ));
        }
        if given(&self.subject).is_some() || !self.jetstream {
            return Err("`bucket` needs JetStream, and no `subject`".to_owned());
        }
        if &*settings.tenant == ALL_TENANTS {
            return Err("`bucket` needs one tenant: topics of several would be one key".to_owned());
        }
        let max_bytes = self.stream_max_bytes;
        Ok(Some(Bucket {
            name: name.into(),
            max_bytes: max_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        }))
    }

    fn new_stream(&self, sink: &str) -> Result<Option<NewStream>, String> {
        let has_subjects = self.jetstream && given(&self.bucket).is_none();
        if !self.create_stream || !has_subjects {
            return Ok(None);
        }
        let default = format!("MARTLET_{sink}");
        let name = given(&self.stream).unwrap_or(&default);
        check_name("stream", name)?;
        let max_age = self.stream_max_age_secs;
        let duplicates = self.stream_duplicates_secs;
        let duplicates = duplicates.unwrap_or(STREAM_DUPLICATES_SECS.min(max_age));
        if duplicates > max_age {
            return Err("`stream_duplicates_secs` is more than `stream_max_age_secs`".to_owned());
        }
        let max_bytes = self.stream_max_bytes.unwrap_or(STREAM_MAX_BYTES);
        Ok(Some(NewStream {
            name: name.into(),
            max_age: Duration::from_secs(max_age),
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            duplicates: Duration::from_secs(duplicates),
        }))
    }
}

impl MakeIntegration for NatsKind {
    const NAME: &'static str = "nats";
    type Keys = Both<ServerKeys, NatsKeys>;

    fn make(
        Both(server, keys): &Self::Keys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let subject = given(&keys.subject).unwrap_or(SUBJECT);
        let subject = SubjectTemplate::parse(subject).map_err(|why| format!("`subject`: {why}"))?;
        let nats = NatsSettings {
            name: settings.name.clone(),
            server: ServerSettings::of(server, keys.timeout_secs, surroundings)?,
            stream: keys.new_stream(&settings.name)?,
            subject,
            bucket: keys.bucket(&settings)?,
            uses_jetstream: keys.jetstream,
            content_type: given(&keys.content_type).map(Into::into),
            logs_messages: keys.log_messages,
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

    fn target(Both(server, _): &Self::Keys) -> Option<String> {
        server.target()
    }
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
