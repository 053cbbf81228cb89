//! `[[sources.nats]]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use martlet_codec::TopicFilter;

use super::server::{
    CA_FILE, CERTIFICATE_FILE, CREDENTIALS_FILE, KEY_FILE, NKEY, PASSWORD, ServerSettings, TOKEN,
    URL, USER,
};
use super::source::NatsSource;
use super::source_settings::{NatsSourceSettings, qos};
use super::stream::check_name;
use super::subject::check_filter;
use super::topic::TopicTemplate;
use crate::configured_sink::ConfiguredSink;
use crate::kind::{Key, Kind, Surroundings, Takes};
use crate::runner::{Backoff, Settings};
use crate::table::Table;

/// The kind of source `nats`.
pub const SOURCE_KIND: Kind = Kind {
    name: "nats-source",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    URL,
    Key::new(
        "stream",
        Takes::Text,
        "Name of the stream. It is not created.",
    ),
    Key::new(
        "durable",
        Takes::Text,
        "Name of the durable consumer, which is created if it does not exist. Default: martlet- and the name of the source.",
    ),
    Key::new(
        "filter_subject",
        Takes::Text,
        "Subjects of the stream that it reads, such as cmd.>. Default: all.",
    ),
    Key::new(
        "deliver",
        Takes::Word(&["all", "new"]),
        "Where a new consumer begins: all (default) at the beginning of the stream, new at the current end.",
    ),
    Key::new(
        "topic",
        Takes::Text,
        "Topic of each message. {subject} is the subject with a level for each token, {2} its second token, {2..} its tokens from the second on, {topic} the topic in the header Mqtt-Topic that a sink writes, {subject:mqtt} the topic that nats-server's own MQTT listener has for the subject. Default: {subject}.",
    ),
    Key::new(
        "allow",
        Takes::Texts,
        "Topic Filters that it may publish to. Default: all topics that do not begin with $.",
    ),
    Key::new(
        "qos",
        Takes::Integer { min: 0, max: 2 },
        "QoS of the messages. Default: 1.",
    ),
    Key::new(
        "retain",
        Takes::Boolean,
        "Whether they are retained. Default: false.",
    ),
    Key::new(
        "in_hand",
        Takes::Integer {
            min: 1,
            max: 10_000,
        },
        "Maximum number of messages that are published and not yet acknowledged. Default: 500.",
    ),
    Key::new(
        "ack_wait_secs",
        Takes::Integer { min: 1, max: 3_600 },
        "Time after which a created consumer delivers an unacknowledged message again, such as after a crash of the node, seconds. Default: 30.",
    ),
    CREDENTIALS_FILE,
    NKEY,
    TOKEN,
    USER,
    PASSWORD,
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
];

/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let name_of = |key, default: &str| {
        let name = table.text(key).unwrap_or(default);
        check_name(key, name).map(|()| name.into())
    };
    let topic = TopicTemplate::parse(table.text("topic").unwrap_or("{subject}"));
    let allow = table.texts("allow").to_vec();
    if table.has("allow") && allow.is_empty() {
        return Err(
            "`allow` is empty: name the Topic Filters to which messages may be published, or \
             leave it out to permit all topics"
                .to_owned(),
        );
    }
    if let Some(bad) = allow.iter().find(|one| TopicFilter::new(one).is_err()) {
        return Err(format!(
            "`allow` has {bad:?}, which is not a valid Topic Filter"
        ));
    }
    if &*settings.tenant == crate::ALL_TENANTS {
        return Err("`tenant` is \"*\": a source publishes to one tenant".to_owned());
    }
    let filter_subject = table.text("filter_subject");
    if let Some(filter) = filter_subject {
        check_filter(filter).map_err(|why| format!("`filter_subject` is {filter:?}: {why}"))?;
    }
    let in_hand = table.number("in_hand", 500);
    let nats = Arc::new(NatsSourceSettings {
        server: ServerSettings::of(table, surroundings)?,
        stream: name_of("stream", "")?,
        durable: name_of(
            "durable",
            &format!("martlet-{}", settings.name).replace('.', "-"),
        )?,
        filter_subject: filter_subject.map(Into::into),
        only_new: table.text("deliver") == Some("new"),
        topic: topic.map_err(|why| format!("`topic`: {why}"))?,
        allow,
        qos: qos(table),
        ack_wait: Duration::from_secs(table.number("ack_wait_secs", 30)),
        retain: table.flag("retain", false),
        in_hand: usize::try_from(in_hand).unwrap_or(1),
    });
    let settings = Settings {
        batch_messages: u16::try_from(in_hand).unwrap_or(u16::MAX),
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
