//! `[[sources.nats]]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use martlet_codec::TopicFilter;
use martlet_settings::{Both, table, words};

use super::server::{ServerKeys, ServerSettings};
use super::source::NatsSource;
use super::source_settings::{NatsSourceSettings, qos};
use super::stream::check_name;
use super::subject::check_filter;
use super::topic::TopicTemplate;
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::given::given;
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::{Backoff, Settings};

/// The kind of source `nats`.
#[derive(Debug)]
pub(crate) struct NatsSourceKind;

table! {
    /// Keys of `[[sources.nats]]` beside those of the connection.
    NatsSourceKeys {
        /// Name of the stream. It is not created.
        stream: String;
        /// Name of the durable consumer, which is created if it does not exist. Default: martlet-
        /// and the name of the source.
        durable: String;
        /// Subjects of the stream that it reads, such as cmd.>. Default: all.
        filter_subject: String;
        /// Where a new consumer begins: all at the beginning of the stream, new at the current end.
        deliver: Deliver = Deliver::All;
        /// Topic of each message. {subject} is the subject with a level for each token, {2} its
        /// second token, {2..} its tokens from the second on, {topic} the topic in the header
        /// Mqtt-Topic that a sink writes, {subject:mqtt} the topic that nats-server's own MQTT
        /// listener has for the subject.
        topic: String = "{subject}";
        /// Topic Filters that it may publish to. Default: all topics that do not begin with $.
        allow: Vec<String>;
        /// QoS of the messages.
        qos: u8 = 1, in 0..=2;
        /// Whether they are retained.
        retain: bool = false;
        /// Maximum number of messages that are published and not yet acknowledged.
        in_hand: u16 = 500, in 1..=10_000;
        /// Time after which a created consumer delivers an unacknowledged message again, such as
        /// after a crash of the node, seconds.
        ack_wait_secs: u64 = 30, in 1..=3_600;
    }
}

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deliver {
    /// At the beginning of the stream.
    All,
    /// At the current end.
    New,
}

words! {
    Deliver {
        "all" => All,
        "new" => New,
    }
}

/// Time limit of an answer of the server, seconds.
const TIMEOUT_SECS: u64 = 5;
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl NatsSourceKeys {
    /// The Topic Filters that it may publish to; empty: all.
    fn allowed(&self) -> Result<Vec<String>, String> {
        let Some(allow) = &self.allow else {
            return Ok(Vec::new());
        };
        if allow.is_empty() {
            return Err(
                "`allow` is empty: name the Topic Filters to which messages may be published, or \
                 leave it out to permit all topics"
                    .to_owned(),
            );
        }
        match allow.iter().find(|one| TopicFilter::new(one).is_err()) {
            None => Ok(allow.clone()),
            Some(bad) => Err(format!(
                "`allow` has {bad:?}, which is not a valid Topic Filter"
            )),
        }
    }
}

impl MakeIntegration for NatsSourceKind {
    const NAME: &'static str = "nats-source";
    type Keys = Both<ServerKeys, NatsSourceKeys>;

    fn make(
        Both(server, keys): &Self::Keys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let name_of = |key, name: &Option<String>, default: &str| {
            let name = given(name).unwrap_or(default);
            check_name(key, name).map(|()| name.into())
        };
        let topic = TopicTemplate::parse(&keys.topic);
        let allow = keys.allowed()?;
        if &*settings.tenant == crate::ALL_TENANTS {
            return Err("`tenant` is \"*\": a source publishes to one tenant".to_owned());
        }
        let filter_subject = given(&keys.filter_subject);
        if let Some(filter) = filter_subject {
            check_filter(filter).map_err(|why| format!("`filter_subject` is {filter:?}: {why}"))?;
        }
        let durable = format!("martlet-{}", settings.name).replace('.', "-");
        let nats = Arc::new(NatsSourceSettings {
            server: ServerSettings::of(server, TIMEOUT_SECS, surroundings)?,
            stream: name_of("stream", &keys.stream, "")?,
            durable: name_of("durable", &keys.durable, &durable)?,
            filter_subject: filter_subject.map(Into::into),
            only_new: keys.deliver == Deliver::New,
            topic: topic.map_err(|why| format!("`topic`: {why}"))?,
            allow,
            qos: qos(keys.qos),
            ack_wait: Duration::from_secs(keys.ack_wait_secs),
            retain: keys.retain,
            in_hand: usize::from(keys.in_hand),
        });
        let settings = Settings {
            batch_messages: keys.in_hand,
            backoff: Backoff {
                longest: LONGEST_PAUSE,
                ..settings.backoff
            },
            ..settings
        };
        let (names, files) = (nats.server.secret_names(), nats.server.files());
        let source = ConfiguredSink::of_source(settings, move |secrets, host| {
            NatsSource::new(Arc::clone(&nats), Arc::clone(host), secrets)
        });
        Ok(source.with_secrets(names).reading(files))
    }

    fn target(Both(server, _): &Self::Keys) -> Option<String> {
        server.target()
    }
}
