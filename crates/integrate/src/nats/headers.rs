//! Headers of a message in NATS.

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use martlet_codec::PublishProperties;

use super::NatsSettings;
use crate::sink::SinkMessage;
use crate::via;

/// Header with the nodes that a message has passed.
pub(super) const VIA: &str = "Mqtt-Via";

/// Headers of a message of this node.
pub(super) fn of(message: &SinkMessage, settings: &NatsSettings, node: &str) -> HeaderMap {
    let sink = &settings.name;
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        let value = HeaderValue::from(without_controls(value));
        headers.insert(HeaderName::from_static(name), value);
    };
    // Several sinks may publish to one stream.
    add("Nats-Msg-Id", format!("{sink}-{}", message.unique_id()));
    add("Mqtt-Topic", message.topic().to_owned());
    add("Mqtt-Qos", (message.qos() as u8).to_string());
    add("Mqtt-Retain", message.retain().to_string());
    let received_at = crate::json::rfc3339(message.received_ms());
    add("Mqtt-Received-At", received_at);
    let names = [
        ("Mqtt-Client-Id", message.client_id()),
        ("Mqtt-User", message.user()),
        ("Mqtt-Device", message.device()),
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

/// A value in which control characters are replaced: line breaks would be further headers.
pub(super) fn without_controls(value: String) -> String {
    // 0xC2 begins the control characters beyond ASCII, and others.
    let may_be_one = |byte: u8| byte < 0x20 || byte == 0x7F || byte == 0xC2;
    match value.bytes().any(may_be_one) {
        true => value.replace(char::is_control, "\u{fffd}"),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
