//! Headers of a message in NATS.

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use martlet_broker::RetainedInfo;
use martlet_codec::PublishProperties;

use super::settings::NatsSettings;
use crate::sink_message::SinkMessage;
use crate::via;

/// Header with the nodes that a message has passed.
pub(super) const VIA: &str = "Mqtt-Via";

/// Header by which JetStream drops duplicates.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Headers of a message of this node.
pub(super) fn of(message: &SinkMessage, settings: &NatsSettings, node: &str) -> HeaderMap {
    let sink = &settings.name;
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        let value = HeaderValue::from(without_controls(value));
        headers.insert(HeaderName::from_static(name), value);
    };
    // Several sinks may publish to the same stream.
    add(MESSAGE_ID, format!("{sink}-{}", message.unique_id()));
    add("Mqtt-Topic", message.topic().to_owned());
    add("Mqtt-Qos", (message.qos() as u8).to_string());
    add("Mqtt-Retain", message.retain().to_string());
    let received_at = crate::json::rfc3339(message.received_ms());
    add("Mqtt-Received-At", received_at);
    let names = [
        ("Mqtt-Client-Id", message.client_id()),
        ("Mqtt-User", message.user()),
        ("Mqtt-Device", message.device()),
        ("Mqtt-Team", message.team()),
    ];
    for (name, value) in names {
        value
            .into_iter()
            .for_each(|value| add(name, value.to_owned()));
    }
    let properties = PublishProperties::from_forwarded(message.properties());
    let properties = properties.unwrap_or_default();
    let pairs = properties.user_properties.iter();
    let passed = pairs.filter(|(name, _)| *name == via::PROPERTY);
    add(VIA, via::header(passed.map(|(_, value)| value), node));
    let kind = properties.content_type;
    if let Some(kind) = kind.or(settings.content_type.as_deref()) {
        add("Content-Type", kind.to_owned());
    }
    headers
}

/// Suffix of the identifier of a message that was written because it was retained. Without it,
/// JetStream would drop the same message from the queue as a duplicate, and keep an older one.
const RETAINED: &str = "-retained";

/// Headers of a retained message of this node, with the unique id `id`.
pub(super) fn of_retained(
    info: &RetainedInfo,
    id: &str,
    settings: &NatsSettings,
    node: &str,
) -> HeaderMap {
    let sink = &settings.name;
    let pairs = info.user_properties.iter();
    let passed = pairs.filter(|(name, _)| &**name == via::PROPERTY);
    let kind = info.content_type.as_deref();
    let kind = kind.or(settings.content_type.as_deref());
    let values = [
        (MESSAGE_ID, Some(format!("{sink}-{id}{RETAINED}"))),
        ("Mqtt-Topic", Some(info.topic.to_string())),
        ("Mqtt-Qos", Some((info.qos as u8).to_string())),
        ("Mqtt-Retain", Some(true.to_string())),
        (
            "Mqtt-Received-At",
            Some(crate::json::rfc3339(info.received_wall_ms)),
        ),
        (
            VIA,
            Some(via::header(passed.map(|(_, value)| &**value), node)),
        ),
        ("Content-Type", kind.map(str::to_owned)),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in values {
        if let Some(value) = value {
            let value = HeaderValue::from(without_controls(value));
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The message of an entry of a bucket, if this sink of this node has written it.
pub(super) fn own_id(headers: &HeaderMap, sink: &str, node: &str) -> Option<String> {
    let via = headers.get(VIA)?.as_str();
    let is_of_node = via.rsplit([',', ' ']).next() == Some(node);
    let id = headers.get(MESSAGE_ID)?.as_str();
    let id = id.strip_prefix(sink)?.strip_prefix('-')?;
    let id = id.strip_suffix(RETAINED).unwrap_or(id);
    is_of_node.then(|| id.to_owned())
}

/// Replaces control characters in a value: line breaks would start further headers. Also replaces
/// blanks at its ends, because readers trim them, which would change the name or topic.
pub(super) fn without_controls(value: String) -> String {
    // Control characters beyond ASCII begin with the byte 0xC2, as do others.
    let may_be_one = |byte: u8| byte < 0x20 || byte == 0x7F || byte == 0xC2;
    let value = match value.bytes().any(may_be_one) {
        true => value.replace(char::is_control, "\u{fffd}"),
        false => value,
    };
    let inner = value.trim();
    if inner.len() == value.len() {
        return value;
    }
    let before = value.len() - value.trim_start().len();
    let (before, after) = (&value[..before], &value[before + inner.len()..]);
    let replaced = |blanks: &str| "\u{fffd}".repeat(blanks.chars().count());
    format!("{}{inner}{}", replaced(before), replaced(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_the_ends_are_replaced() {
        let of = |value: &str| without_controls(value.to_owned());
        assert_eq!(of(" a b\u{a0} "), "\u{fffd}a b\u{fffd}\u{fffd}");
        assert_eq!(of("a b"), "a b");
        assert_eq!(of("  "), "\u{fffd}\u{fffd}");
        assert_eq!(of(""), "");
    }

    #[test]
    fn control_characters_are_replaced() {
        let all: String = (1..0x180u32).filter_map(char::from_u32).collect();
        let found = without_controls(all.clone());
        assert!(!found.contains(char::is_control));
        let kept = |c: &char| !c.is_control() && *c != '\u{fffd}';
        assert!(found.chars().filter(kept).eq(all.chars().filter(kept)));
        assert_eq!(
            without_controls("a\u{85}\r\nb".to_owned()),
            "a\u{fffd}\u{fffd}\u{fffd}b"
        );
    }
}
