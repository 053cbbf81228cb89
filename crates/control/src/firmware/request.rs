//! Request of a device by MQTT: a piece of a file.

use martlet_broker::{Message, NewMessage};
use martlet_codec::{PublishProperties, QoS};
use martlet_rules::hops_after;
use martlet_text_file::without_bom;
use serde_json::{Value, json};

use crate::iotflow::Catalogue;

/// Where devices of other types than `iotflow` have their topics.
const NATIVE: &str = "d";
/// Behind a device's topics: where it asks, by kind of topics.
const ASK_NATIVE: &str = "firmware/get";
const ASK_IOTFLOW: &str = "status/firmware/get";
/// The topic for pieces and errors, if the device names none.
const CHUNK: &str = "firmware/chunk";
const ERROR: &str = "firmware/error";
/// Bytes of a piece: the maximum, and the default.
pub(super) const CHUNK_MAX: u64 = 64 * 1024;
const CHUNK_USUAL: u64 = 4 * 1024;

/// A piece of a file, as a device asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkRequest {
    /// The device.
    pub(super) device: String,
    /// Beginning of its topics.
    topics: String,
    /// Name and version of the firmware.
    pub(super) name: String,
    pub(super) version: String,
    /// The first byte.
    pub(super) offset: u64,
    /// Bytes, up to [`CHUNK_MAX`].
    pub(super) length: u64,
    /// Hops of the answer: a rule may have asked.
    hops: u8,
    qos: QoS,
    response_topic: Option<String>,
    correlation: Option<Vec<u8>>,
}

/// A wrong request: its sender, and where the answer goes, also if it is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongRequest {
    pub(super) device: String,
    topics: String,
    /// Hops of the answer.
    hops: u8,
    why: String,
}

/// Topic Filter of the requests of devices of other types than `iotflow`.
pub(super) fn native_filter() -> String {
    format!("{NATIVE}/+/{ASK_NATIVE}")
}

/// Topic Filters of the requests.
pub(super) fn filters(catalogue: &Catalogue) -> Vec<String> {
    vec![
        native_filter(),
        catalogue.topic(&format!("devices/+/{ASK_IOTFLOW}")),
    ]
}

/// Reads a request. None if the topic is not one for requests.
pub(super) fn read(
    catalogue: &Catalogue,
    message: &Message,
) -> Option<Result<ChunkRequest, WrongRequest>> {
    let properties = PublishProperties::from_forwarded(message.forwarded()).ok();
    let response = properties.as_ref().and_then(|found| found.response_topic);
    let correlation = properties.as_ref().and_then(|found| found.correlation_data);
    let response = response.map(|topic| topic.to_string());
    read_parts(
        catalogue,
        message.topic(),
        message.qos(),
        message.payload(),
        hops_after(message.hops(), 1),
        response,
        correlation.map(<[u8]>::to_vec),
    )
}

fn read_parts(
    catalogue: &Catalogue,
    topic: &str,
    qos: QoS,
    payload: &[u8],
    hops: u8,
    response_topic: Option<String>,
    correlation: Option<Vec<u8>>,
) -> Option<Result<ChunkRequest, WrongRequest>> {
    let of_iotflow = || {
        let path = catalogue.path_of(topic)?.strip_prefix("devices/")?;
        let device = path.strip_suffix(ASK_IOTFLOW)?.strip_suffix('/')?;
        Some((device, catalogue.topic(&format!("devices/{device}"))))
    };
    let native = || {
        let path = topic.strip_prefix(NATIVE)?.strip_prefix('/')?;
        let device = path.strip_suffix(ASK_NATIVE)?.strip_suffix('/')?;
        Some((device, format!("{NATIVE}/{device}")))
    };
    let (device, topics) = of_iotflow().or_else(native)?;
    let wrong = |why: &str| {
        Some(Err(WrongRequest {
            device: device.to_owned(),
            topics: topics.clone(),
            hops,
            why: why.to_owned(),
        }))
    };
    let Ok(body) = serde_json::from_slice::<Value>(without_bom(payload)) else {
        return wrong("the payload is not JSON");
    };
    let (Some(name), Some(version)) = (body["name"].as_str(), body["version"].as_str()) else {
        return wrong("name and version are needed, as texts");
    };
    let number = |name: &str| match &body[name] {
        Value::Null => Ok(None),
        value => value.as_u64().map(Some).ok_or(()),
    };
    let (Ok(offset), Ok(chunk)) = (number("offset"), number("chunk")) else {
        return wrong("offset and chunk are numbers from 0");
    };
    let (Ok(length), Ok(size)) = (number("length"), number("size")) else {
        return wrong("length and size are numbers of bytes");
    };
    let length = length.or(size).unwrap_or(CHUNK_USUAL);
    if !(1..=CHUNK_MAX).contains(&length) {
        return wrong("a piece has 1 to 65536 bytes");
    }
    let offset = match (offset, chunk) {
        (Some(_), Some(_)) => return wrong("give offset or chunk, not both"),
        (Some(offset), None) => offset,
        (None, chunk) => chunk.unwrap_or(0).saturating_mul(length),
    };
    // The node may publish anywhere, the device may not: only topics of its own are answered on.
    let own = format!("{topics}/");
    let is_own = |topic: &String| topic.starts_with(&own) && !topic.contains(['+', '#', '\0']);
    if response_topic.as_ref().is_some_and(|topic| !is_own(topic)) {
        return wrong("the Response Topic must be one of the device's own");
    }
    Some(Ok(ChunkRequest {
        device: device.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        offset,
        length,
        hops,
        // An answer with QoS 2 would cost more without a use.
        qos: qos.min(QoS::AtLeastOnce),
        response_topic,
        correlation,
        topics,
    }))
}

impl ChunkRequest {
    /// The answer: raw bytes. `size` are the bytes of the whole file.
    pub(super) fn answer(&self, size: u64, bytes: Vec<u8>) -> NewMessage {
        let Self {
            topics,
            name,
            version,
            offset,
            ..
        } = self;
        let usual = || format!("{topics}/{CHUNK}/{name}/{version}/{offset}");
        let property = |name: &str, value: String| (name.into(), value.into());
        NewMessage {
            topic: self.response_topic.clone().unwrap_or_else(usual).into(),
            payload: bytes.into(),
            qos: self.qos,
            content_type: Some("application/octet-stream".into()),
            correlation_data: self.correlation.clone().map(Into::into),
            message_expiry_secs: Some(60),
            user_properties: vec![
                property("name", name.clone()),
                property("version", version.clone()),
                property("offset", offset.to_string()),
                property("size", size.to_string()),
            ],
            hops: self.hops,
            ..NewMessage::default()
        }
    }

    /// The answer with the reason why there is no piece.
    pub(super) fn error(&self, why: &str) -> NewMessage {
        let usual = || format!("{}/{ERROR}", self.topics);
        let body = json!({
            "error": why, "name": self.name, "version": self.version, "offset": self.offset,
        });
        NewMessage {
            topic: self.response_topic.clone().unwrap_or_else(usual).into(),
            correlation_data: self.correlation.clone().map(Into::into),
            user_properties: vec![("error".into(), why.into())],
            hops: self.hops,
            ..error_message(&body)
        }
    }
}

impl WrongRequest {
    /// The answer.
    pub(super) fn error(&self) -> NewMessage {
        NewMessage {
            topic: format!("{}/{ERROR}", self.topics).into(),
            user_properties: vec![("error".into(), self.why.as_str().into())],
            hops: self.hops,
            ..error_message(&json!({ "error": self.why }))
        }
    }
}

fn error_message(body: &Value) -> NewMessage {
    NewMessage {
        payload: body.to_string().into_bytes().into(),
        qos: QoS::AtMostOnce,
        payload_is_utf8: Some(true),
        content_type: Some("application/json".into()),
        message_expiry_secs: Some(60),
        ..NewMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(topic: &str, payload: &str, response: Option<&str>) -> Result<ChunkRequest, String> {
        let catalogue = Catalogue::default();
        let (response, qos) = (response.map(str::to_owned), QoS::ExactlyOnce);
        let read = read_parts(
            &catalogue,
            topic,
            qos,
            payload.as_bytes(),
            2,
            response,
            None,
        );
        let read = read.ok_or_else(|| "not a topic of requests".to_owned())?;
        read.map_err(|wrong| wrong.why)
    }

    #[test]
    fn a_piece_is_named_by_its_offset_or_its_number() {
        let topic = "d/pump/firmware/get";
        let body = r#"{"name": "pump", "version": "1.2", "offset": 100, "length": 50}"#;
        let found = request(topic, body, None).unwrap();
        assert_eq!(
            (&*found.device, found.offset, found.length),
            ("pump", 100, 50)
        );
        assert_eq!(found.qos, QoS::AtLeastOnce);
        let answer = found.answer(1_000, vec![7; 50]);
        assert_eq!(answer.hops, 2);
        assert_eq!(&*answer.topic, "d/pump/firmware/chunk/pump/1.2/100");
        let body = r#"{"name": "pump", "version": "1.2", "chunk": 3, "size": 4096}"#;
        let topic = "iotflow/devices/pump/status/firmware/get";
        let own = "iotflow/devices/pump/status/x";
        let found = request(topic, body, Some(own)).unwrap();
        assert_eq!((found.offset, found.length), (12_288, 4_096));
        assert_eq!(&*found.answer(1, Vec::new()).topic, own);
    }

    #[test]
    fn wrong_requests_say_what_was_expected() {
        let topic = "d/pump/firmware/get";
        let with = |rest: &str| format!(r#"{{"name": "pump", "version": "1.2"{rest}}}"#);
        assert!(request("d/pump/firmware/set", "{}", None).is_err());
        assert!(request(topic, "x", None).unwrap_err().contains("JSON"));
        assert!(
            request(topic, "{}", None)
                .unwrap_err()
                .contains("name and version")
        );
        let long = request(topic, &with(r#", "length": 65537"#), None);
        assert!(long.unwrap_err().contains("65536"));
        let both = request(topic, &with(r#", "offset": 1, "chunk": 1"#), None);
        assert!(both.unwrap_err().contains("not both"));
        let negative = request(topic, &with(r#", "offset": -1"#), None);
        assert!(negative.unwrap_err().contains("numbers from 0"));
        for others in ["d/valve/x", "d/pump", "d/pumps/x", "d/pump/#"] {
            let elsewhere = request(topic, &with(""), Some(others));
            assert!(
                elsewhere.unwrap_err().contains("Response Topic"),
                "{others}"
            );
        }
    }
}
