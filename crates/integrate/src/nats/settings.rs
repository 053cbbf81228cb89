//! `[[sinks.nats]]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use super::subject::SubjectTemplate;
use super::{BEYOND_ACK, NatsSink};
use crate::kind::{ConfiguredSink, Key, Kind, Surroundings, Table, Takes};
use crate::runner::{ALL_TENANTS, OnReject, Settings};
use crate::secret::Template;
use crate::webhook::AllowedNetworks;

/// The kind `nats`.
pub const KIND: Kind = Kind {
    name: "nats",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    Key {
        name: "url",
        takes: Takes::Text,
        meaning: "Server: nats://HOST:4222, or tls://HOST:4222. May contain ${secret:NAME}. Private addresses need integrations.allow_private.",
    },
    Key {
        name: "subject",
        takes: Takes::Text,
        meaning: "Subject of each message. {user}, {device}, {client}, {tenant} and {topic} are replaced; the levels of a topic become tokens. What NATS does not accept in a name is written as %XX, a missing name as -. {topic:mqtt}: the subject that nats-server's own MQTT listener uses. Default: raw.{user}.",
    },
    Key {
        name: "timeout_secs",
        takes: Takes::Integer { min: 1, max: 300 },
        meaning: "Time limit of an acknowledgement of JetStream, seconds. Default: 5.",
    },
];

const SUBJECT: &str = "raw.{user}";
const TIMEOUT_SECS: u64 = 5;

/// Settings of a NATS sink.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Name of the sink.
    pub name: Box<str>,
    /// The team whose messages it takes, unless it takes those of all; none: the common tenant.
    pub team: Option<Box<str>>,
    /// Address of the server.
    pub url: Template,
    /// Subjects of messages.
    pub subject: SubjectTemplate,
    /// Time limit of an acknowledgement.
    pub timeout: Duration,
    /// Whether nothing is sent after a message that was refused: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that it may connect to.
    pub allowed: AllowedNetworks,
}

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let subject = table.text("subject").unwrap_or(SUBJECT);
    let subject = SubjectTemplate::parse(subject).map_err(|why| format!("`subject`: {why}"))?;
    let is_team = !settings.tenant.is_empty() && *settings.tenant != *ALL_TENANTS;
    let nats = NatsSettings {
        name: settings.name.clone(),
        team: is_team.then(|| settings.tenant.clone()),
        url: table
            .template("url")?
            .ok_or("`url` is missing, expected nats:// or tls://")?,
        subject,
        timeout: Duration::from_secs(table.number("timeout_secs", TIMEOUT_SECS)),
        stops_at_refusal: settings.on_reject == OnReject::Stop,
        allowed: surroundings.allowed.clone(),
    };
    let settings = Settings {
        deliver_within: nats.timeout + BEYOND_ACK,
        ..settings
    };
    let names: Vec<String> = nats.url.names().map(str::to_owned).collect();
    let nats = Arc::new(nats);
    let sink = ConfiguredSink::new(settings, move |secrets| {
        NatsSink::new(Arc::clone(&nats), secrets)
    });
    Ok(sink.with_secrets(names.iter().map(String::as_str)))
}
