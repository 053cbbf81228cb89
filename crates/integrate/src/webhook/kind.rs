//! `[[sinks.webhook]]` of the configuration.

use std::time::Duration;

use hyper::header::HeaderName;

use super::format::Format;
use super::settings::WebhookSettings;
use super::{WebhookSink, check, signing_key};
use crate::configured_sink::ConfiguredSink;
use crate::kind::{Key, Kind, Surroundings, Takes};
use crate::runner::{OnReject, Settings};
use crate::secret::Template;
use crate::table::Table;

/// The kind `webhook`.
pub const KIND: Kind = Kind {
    name: "webhook",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    Key::new(
        "url",
        Takes::Text,
        "Address that the requests go to: http:// or https://. May contain ${secret:NAME}, and so may headers and signing_key. Redirects are not followed. Private addresses need integrations.allow_private.",
    ),
    Key::new(
        "method",
        Takes::Word(METHODS),
        "Method of the requests. Those other than POST, PUT and PATCH need format = \"microservice\". Default: POST.",
    ),
    Key::new(
        "headers",
        Takes::Headers,
        "Headers of the requests: a list of texts \"Name: value\".",
    ),
    Key::new(
        "timeout_secs",
        Takes::Integer { min: 1, max: 300 },
        "Time limit of a request, from the connection to the end of the answer, seconds. Default: 10.",
    ),
    Key::new(
        "in_flight",
        Takes::Integer { min: 1, max: 1_000 },
        "Maximum number of concurrent requests, for messages of different publishers, or of any with order = \"none\". Default: 8.",
    ),
    Key::new(
        "order",
        Takes::Word(&["publisher", "user", "topic", "none"]),
        "Which messages are sent one after the other, in the order in which they were published: a failed one delays those behind it. publisher: those of one client. user: those of one user or device, over all of its connections. topic: those of one topic, whoever publishes them. none: messages are sent in any order, up to in_flight at the same time. With user and topic all messages of the sink go through one core, see integrations.md. Default: publisher.",
    ),
    Key::new(
        "batch_messages",
        Takes::Integer {
            min: 1,
            max: BATCH_MAX,
        },
        "Maximum number of messages in one request. With 2 or more each body is a list, even of one message. If a list is rejected or fails, its messages are sent one by one, in lists of one. Default: 1, each body is a message.",
    ),
    Key::new(
        "format",
        Takes::Word(Format::NAMES),
        "Format of a message. json: the message with all its metadata. cloudevents: CloudEvents 1.0, structured. microservice: the format of system 1; as in system 1, a status of 400 to 499 is retried, up to max_attempts. ntfy: readable text with the headers Title, Priority and Tags of ntfy; for alarms. Default: json.",
    ),
    Key::new(
        "signing_key",
        Takes::Secret,
        "Key that signs requests, as in Standard Webhooks: HMAC-SHA-256 over id, time and body, in the headers webhook-id, webhook-timestamp and webhook-signature. whsec_ and base64, or any text of 16 bytes or more. Default: they are not signed.",
    ),
];

const TIMEOUT_SECS: u64 = 10;
const IN_FLIGHT: u64 = 8;
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
/// Maximum number of messages of one request.
const BATCH_MAX: u64 = 1_000;
/// Headers that the sink itself sets.
const OWN_HEADERS: &[&str] = &["host", "content-length", "transfer-encoding", "connection"];

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let stops = settings.on_reject == OnReject::Stop;
    let webhook = webhook_settings(table, surroundings, stops)?;
    let settings = Settings {
        deliver_within: webhook.deliver_within(),
        batch_messages: BATCH_MESSAGES.max(webhook.batch_messages as u16),
        in_hand: IN_HAND.max(webhook.batch_messages as u16),
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

fn webhook_settings(
    table: &Table,
    surroundings: &Surroundings<'_>,
    stops_at_refusal: bool,
) -> Result<WebhookSettings, String> {
    let mut headers = Vec::new();
    for (at, line) in table.texts("headers").iter().enumerate() {
        headers.push(header(line).map_err(|why| format!("line {} of `headers`: {why}", at + 1))?);
    }
    let in_flight = table.number("in_flight", IN_FLIGHT);
    let settings = WebhookSettings {
        url: table.required_template("url", "http:// or https://")?,
        method: table.text("method").unwrap_or("POST").to_owned(),
        headers,
        timeout: Duration::from_secs(table.number("timeout_secs", TIMEOUT_SECS)),
        in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
        format: Format::from_name(table.text("format").unwrap_or_default()),
        batch_messages: table.number("batch_messages", 1).clamp(1, BATCH_MAX) as usize,
        keeps_order: table.text("order") != Some("none"),
        signing_key: table.template("signing_key")?,
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
