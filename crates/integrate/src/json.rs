//! A message as JSON: a line of the file sink, and the body of a webhook.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::sink_message::SinkMessage;

/// Times to the millisecond.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// The object.
#[derive(Serialize)]
struct Object<'a> {
    /// As text, because JavaScript and others have no integers above 2^53.
    id: String,
    /// The team of the message's tenant; null: the common tenant. Only for sinks of all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<Option<&'a str>>,
    topic: &'a str,
    /// The payload if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// Otherwise the payload in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    qos: u8,
    retain: bool,
    client_id: Option<&'a str>,
    user: Option<&'a str>,
    device: Option<&'a str>,
    /// The bridge through which it came; omitted if through none.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<&'a str>,
    received_at: String,
    repeated: bool,
}

/// Appends a message as a JSON object without line breaks.
///
/// # Errors
/// It cannot be encoded.
pub fn write(to: &mut Vec<u8>, message: &SinkMessage) -> serde_json::Result<()> {
    let text = std::str::from_utf8(message.payload()).ok();
    let object = Object {
        id: message.id().to_string(),
        team: message.is_of_all_tenants().then(|| message.team()),
        topic: message.topic(),
        payload: text,
        payload_base64: text.is_none().then(|| STANDARD.encode(message.payload())),
        qos: message.qos() as u8,
        retain: message.retain(),
        client_id: message.client_id(),
        user: message.user(),
        device: message.device(),
        broker: message.bridge(),
        received_at: rfc3339(message.received_ms()),
        repeated: message.repeated(),
    };
    serde_json::to_writer(to, &object)
}

/// A time in UTC, to the millisecond: RFC 3339.
pub fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok().map(Timestamp::from_millisecond);
    let time = time.and_then(Result::ok).unwrap_or(Timestamp::MAX);
    let mut text = String::with_capacity(24);
    let printed = PRINTER.print_timestamp(&time, &mut text);
    debug_assert!(printed.is_ok(), "a text takes all that is written");
    text
}
