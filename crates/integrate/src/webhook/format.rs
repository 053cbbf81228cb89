//! Request bodies, in common formats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_codec::PublishProperties;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::{self, rfc3339};
use crate::notice::Notice;
use crate::sink_message::SinkMessage;

/// Form of the bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Martlet's own format: an object with everything that the node knows about the message.
    #[default]
    Json,
    /// CloudEvents 1.0, structured.
    CloudEvents,
    /// Format of the MQTT microservice: topic, payload, QoS, time and broker.
    Microservice,
    /// Text for people, as for ntfy, with its title and priority in headers.
    Ntfy,
}

/// Prefix of `source` in CloudEvents; the topic follows.
const SOURCE: &str = "mqtt:";
/// `type` in CloudEvents.
const TYPE: &str = "dev.martlet.message";
/// Name of this node among the brokers of the microservice.
const INTERNAL: &str = "internal";

impl Format {
    /// Content-Type of the bodies; the body of a batch is a list.
    pub(super) fn content_type(self, is_list: bool) -> &'static str {
        match (self, is_list) {
            (Self::CloudEvents, false) => "application/cloudevents+json",
            (Self::CloudEvents, true) => "application/cloudevents-batch+json",
            (Self::Json | Self::Microservice, _) => "application/json",
            (Self::Ntfy, _) => "text/plain; charset=utf-8",
        }
    }

    /// User-Agent of the requests.
    pub(super) fn user_agent(self) -> &'static str {
        match self {
            Self::Microservice => "MQTT-Microservice",
            Self::Json | Self::CloudEvents | Self::Ntfy => {
                concat!("martlet/", env!("CARGO_PKG_VERSION"))
            }
        }
    }

    /// Additional headers of a request with these messages.
    pub(super) fn headers(self, messages: &[SinkMessage]) -> Vec<(&'static str, String)> {
        match (self, messages) {
            (Self::Ntfy, [message, ..]) => Notice::of(message).headers(),
            _ => Vec::new(),
        }
    }

    /// The body for these messages: a list of objects, or the object of the first message.
    ///
    /// # Errors
    /// A message cannot be encoded.
    pub(super) fn body(
        self,
        messages: &[SinkMessage],
        is_list: bool,
    ) -> serde_json::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self == Self::Ntfy {
            // Each message is shown separately.
            let notice = messages.first().map(Notice::of);
            return Ok(notice
                .map(|notice| notice.text.into_bytes())
                .unwrap_or_default());
        }
        if is_list {
            body.push(b'[');
        }
        for (at, message) in messages.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            self.write(&mut body, message)?;
        }
        if is_list {
            body.push(b']');
        }
        Ok(body)
    }

    fn write(self, to: &mut Vec<u8>, message: &SinkMessage) -> serde_json::Result<()> {
        match self {
            Self::Json => json::write(to, message),
            Self::CloudEvents => serde_json::to_writer(to, &CloudEvent::new(message)),
            Self::Microservice => serde_json::to_writer(to, &OfMicroservice::new(message)),
            Self::Ntfy => Ok(()),
        }
    }
}

/// A payload as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    /// Valid JSON, inserted unchanged.
    Json(&'a RawValue),
    Text(&'a str),
}

impl<'a> Data<'a> {
    /// `None` if the payload is not text.
    fn of(payload: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        Some(match serde_json::from_str(text) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(text),
        })
    }
}

/// An event of CloudEvents 1.0. Names of extension attributes are lower-case letters and digits.
#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    qos: u8,
    retain: bool,
    repeated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    clientid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
}

impl<'a> CloudEvent<'a> {
    fn new(message: &'a SinkMessage) -> Self {
        let data = Data::of(message.payload());
        let of_data = match &data {
            Some(Data::Json(_)) => "application/json",
            Some(Data::Text(_)) => "text/plain; charset=utf-8",
            None => "application/octet-stream",
        };
        let properties = PublishProperties::from_forwarded(message.properties()).ok();
        let own = properties.and_then(|properties| properties.content_type);
        Self {
            specversion: "1.0",
            id: message.unique_id(),
            source: format!("{SOURCE}{}", encoded(message.topic())),
            kind: TYPE,
            subject: message.topic(),
            time: rfc3339(message.received_ms()),
            datacontenttype: own.unwrap_or(of_data),
            data_base64: data.is_none().then(|| STANDARD.encode(message.payload())),
            data,
            qos: message.qos() as u8,
            retain: message.retain(),
            repeated: message.repeated(),
            clientid: message.client_id(),
            user: message.user(),
            device: message.device(),
            team: message.team(),
        }
    }
}

/// A topic as a part of a URI.
fn encoded(topic: &str) -> String {
    let levels = topic.split('/').map(|level| {
        percent_encoding::utf8_percent_encode(level, percent_encoding::NON_ALPHANUMERIC).to_string()
    });
    levels.collect::<Vec<_>>().join("/")
}

/// The object of the MQTT microservice.
#[derive(Debug, Serialize)]
struct OfMicroservice<'a> {
    topic: &'a str,
    payload: Payload<'a>,
    qos: u8,
    timestamp: String,
    broker: &'a str,
}

/// JSON or text, else base64.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Data(Data<'a>),
    Base64(String),
}

impl<'a> OfMicroservice<'a> {
    fn new(message: &'a SinkMessage) -> Self {
        let payload = match Data::of(message.payload()) {
            Some(data) => Payload::Data(data),
            None => Payload::Base64(STANDARD.encode(message.payload())),
        };
        Self {
            topic: message.topic(),
            payload,
            qos: message.qos() as u8,
            timestamp: rfc3339(message.received_ms()),
            broker: message.bridge().unwrap_or(INTERNAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sink_message::Publisher;

    fn body(format: Format, message: &SinkMessage) -> Value {
        let body = format
            .body(std::slice::from_ref(message), false)
            .expect("JSON");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn a_cloud_event_has_what_the_specification_requires() {
        let publisher = Publisher {
            client_id: Some("c-7".to_owned()),
            ..Publisher::default()
        };
        let message = SinkMessage::example("hall/temp 7", br#"{"t": 21.50}"#);
        let event = body(Format::CloudEvents, &message.published_by(publisher));
        for name in ["id", "source", "type", "specversion"] {
            assert!(!event[name].as_str().expect("text").is_empty(), "{name}");
        }
        assert_eq!(event["source"], "mqtt:hall/temp%207");
        assert_eq!(event["subject"], "hall/temp 7");
        assert_eq!(event["clientid"], "c-7");
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["data"], json!({ "t": 21.5 }));
        let names = event.as_object().expect("an object").keys();
        let is_plain = |name: &String| {
            name == "data_base64" || name.bytes().all(|byte| byte.is_ascii_lowercase())
        };
        assert!(names.into_iter().all(is_plain));
    }

    #[test]
    fn a_payload_stands_in_a_cloud_event_as_what_it_is() {
        let of = |payload: &[u8]| body(Format::CloudEvents, &SinkMessage::example("t", payload));
        assert_eq!(of(b"on")["data"], "on");
        assert_eq!(of(b"on")["datacontenttype"], "text/plain; charset=utf-8");
        assert_eq!(of(b"\xff")["data_base64"], "/w==");
        assert!(of(b"\xff").get("data").is_none());
        // Digits are not rounded.
        let message = SinkMessage::example("t", b"12345678901234567890.10");
        let text = Format::CloudEvents.body(&[message], false).expect("JSON");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("\"data\":12345678901234567890.10"), "{text}");
    }

    #[test]
    fn the_microservice_has_json_as_json_and_text_as_text() {
        let of = |payload: &[u8]| body(Format::Microservice, &SinkMessage::example("a", payload));
        assert_eq!(of(b"{\"x\":1}")["payload"], json!({ "x": 1 }));
        assert_eq!(of(b"plain")["payload"], "plain");
        assert_eq!(of(b"plain")["broker"], "internal");
        let all: Vec<_> = of(b"1")
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        assert_eq!(all, ["broker", "payload", "qos", "timestamp", "topic"]);
    }

    #[test]
    fn several_messages_are_a_list() {
        let messages = [
            SinkMessage::example("a", b"1"),
            SinkMessage::example("b", b"2"),
        ];
        // People read one message at a time.
        for format in [Format::Json, Format::CloudEvents, Format::Microservice] {
            let body = format.body(&messages, true).expect("JSON");
            let all: Vec<Value> = serde_json::from_slice(&body).expect("a list");
            assert_eq!(all.len(), 2, "{format:?}");
        }
    }
}
