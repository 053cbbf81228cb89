//! `[[sinks.webhook]]` of the configuration.

use std::time::Duration;

use hyper::header::HeaderName;
use martlet_settings::{HeaderLines, SecretValue, Setting, Takes, Value, table, words};

use super::format::Format;
use super::settings::WebhookSettings;
use super::{WebhookSink, check, signing_key};
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::given::{given, required_template, template};
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::{OnReject, Settings};
use crate::secret::Template;

/// Name of the kind.
pub const NAME: &str = "webhook";

/// The kind `webhook`.
#[derive(Debug)]
pub(crate) struct WebhookKind;

table! {
    /// Keys of `[[sinks.webhook]]`.
    WebhookKeys {
        /// Address that the requests go to: http:// or https://. May contain ${secret:NAME}, and so
        /// may headers and signing_key. Redirects are not followed. Private addresses need
        /// integrations.allow_private.
        url: String;
        /// Method of the requests. Those other than POST, PUT and PATCH need format =
        /// "microservice".
        method: Method = Method("POST");
        /// Headers of the requests: a list of texts "Name: value".
        headers: HeaderLines;
        /// Time limit of a request, from the connection to the end of the answer, seconds.
        timeout_secs: u64 = 10, in 1..=300;
        /// Maximum number of concurrent requests, for messages of different publishers, or of any
        /// with order = "none".
        in_flight: usize = 8, in 1..=1_000;
        /// Which messages are sent one after the other, in the order in which they were published:
        /// a failed one delays those behind it. publisher: those of one client. user: those of one
        /// user or device, over all of its connections. topic: those of one topic, whoever
        /// publishes them. none: messages are sent in any order, up to in_flight at the same time.
        /// With user and topic all messages of the sink go through one core, see integrations.md.
        order: RequestOrder = RequestOrder::Publisher;
        /// Maximum number of messages in one request. With 2 or more each body is a list, even of
        /// one message. If a list is rejected or fails, its messages are sent one by one, in lists
        /// of one. With 1, each body is a message.
        batch_messages: u16 = 1, in 1..=1_000;
        /// Format of a message. json: the message with all its metadata. cloudevents: CloudEvents
        /// 1.0, structured. microservice: the format of system 1; as in system 1, a status of 400
        /// to 499 is retried, up to max_attempts. ntfy: readable text with the headers Title,
        /// Priority and Tags of ntfy; for alarms.
        format: Format = Format::Json;
        /// Key that signs requests, as in Standard Webhooks: HMAC-SHA-256 over id, time and body,
        /// in the headers webhook-id, webhook-timestamp and webhook-signature. whsec_ and base64,
        /// or any text of 16 bytes or more. Default: they are not signed.
        signing_key: SecretValue;
    }
}

words! {
    Format {
        "json" => Json,
        "cloudevents" => CloudEvents,
        "microservice" => Microservice,
        "ntfy" => Ntfy,
    }
}

/// Order of requests: [`Order`](crate::Order), or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOrder {
    /// Messages of one client are in order.
    Publisher,
    /// Messages of one user are in order.
    User,
    /// Messages of one topic are in order.
    Topic,
    /// Messages are in no order.
    None,
}

words! {
    RequestOrder {
        "publisher" => Publisher,
        "user" => User,
        "topic" => Topic,
        "none" => None,
    }
}

/// Method of requests, one of [`METHODS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method(&'static str);

impl Setting<Here> for Method {
    type Written = Self;
    const TAKES: Takes = Takes::Word(METHODS);

    fn of_default(written: Self) -> Self {
        written
    }

    fn of_value(value: &Value) -> Option<Self> {
        let word = value.as_text()?;
        let found = METHODS.iter().find(|known| **known == word);
        found.copied().map(Self)
    }

    fn value(&self) -> Value {
        Value::Text(self.0.to_owned())
    }
}

/// Maximum number of messages that a webhook gets at once: unsettled ones come twice after a
/// crash.
const BATCH_MESSAGES: u16 = 200;
/// Messages of a lane in hand for when the webhook has answered others. More messages have more
/// publishers, so more requests can be in flight.
const IN_HAND: u16 = 1_000;
/// Methods of requests in the microservice format.
pub const METHODS: &[&str] = &["POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS"];
/// Methods of requests in all other formats.
const METHODS_WITH_BODY: &[&str] = &["POST", "PUT", "PATCH"];
/// Headers that the sink itself sets.
const OWN_HEADERS: &[&str] = &["host", "content-length", "transfer-encoding", "connection"];

impl MakeIntegration for WebhookKind {
    const NAME: &'static str = NAME;
    type Keys = WebhookKeys;

    fn make(
        keys: &WebhookKeys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let stops = settings.on_reject == OnReject::Stop;
        let webhook = webhook_settings(keys, surroundings, stops)?;
        let settings = Settings {
            deliver_within: webhook.deliver_within(),
            batch_messages: BATCH_MESSAGES.max(keys.batch_messages),
            in_hand: IN_HAND.max(keys.batch_messages),
            ..settings
        };
        let names: Vec<String> = webhook.secret_names().map(str::to_owned).collect();
        let signing_key = webhook.signing_key.clone();
        let sink = ConfiguredSink::new(settings, move |secrets| {
            WebhookSink::new(webhook.clone(), secrets)
        });
        let sink = sink.with_secrets(names);
        Ok(match signing_key {
            Some(key) => sink.checking_secrets(move |values| signing_key::check(&key, values)),
            None => sink,
        })
    }

    fn target(keys: &WebhookKeys) -> Option<String> {
        given(&keys.url).map(str::to_owned)
    }
}

fn webhook_settings(
    keys: &WebhookKeys,
    surroundings: &Surroundings<'_>,
    stops_at_refusal: bool,
) -> Result<WebhookSettings, String> {
    let mut headers = Vec::new();
    let lines = keys.headers.iter().flat_map(|lines| &lines.0);
    for (at, line) in lines.enumerate() {
        headers.push(header(line).map_err(|why| format!("line {} of `headers`: {why}", at + 1))?);
    }
    let settings = WebhookSettings {
        url: required_template("url", &keys.url, "http:// or https://")?,
        method: keys.method.0.to_owned(),
        headers,
        timeout: Duration::from_secs(keys.timeout_secs),
        in_flight: keys.in_flight,
        format: keys.format,
        batch_messages: usize::from(keys.batch_messages),
        keeps_order: keys.order != RequestOrder::None,
        signing_key: template("signing_key", &keys.signing_key)?,
        stops_at_refusal,
        allowed: surroundings.allowed.clone(),
    };
    if settings.format == Format::Ntfy && settings.batch_messages > 1 {
        return Err("`batch_messages` must be 1 with format = \"ntfy\"".to_owned());
    }
    let is_usual = METHODS_WITH_BODY.contains(&&*settings.method);
    if !is_usual && settings.format != Format::Microservice {
        return Err(format!(
            "`method` is {}, expected POST, PUT or PATCH; others need format = \"microservice\"",
            settings.method
        ));
    }
    check(&settings)?;
    Ok(settings)
}

/// `Name: value`.
fn header(line: &str) -> Result<(String, Template), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or("expected \"Name: value\", such as \"Authorization: Bearer ${secret:token}\"")?;
    let name = name.trim();
    if OWN_HEADERS.contains(&&*name.to_ascii_lowercase()) {
        return Err(format!("{name} is set by the node"));
    }
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{name:?} is not a valid name of a header"));
    }
    Ok((name.to_owned(), Template::parse(value.trim())?))
}
