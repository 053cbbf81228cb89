//! Conversion of packets in scripts to and from bytes. It follows the specification independently
//! of the broker's codec, so that an error in one is not hidden by the other.
//!
//! Encoding permits nearly everything, including invalid packets. Decoding is strict and accepts
//! only packets that a server may send.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::{Encoded, encode};

use crate::script::TextPacket;
use crate::value::{Kind, Value, Variables, Word, render};

/// A packet with its fields as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `PUBLISH` and so on.
    pub name: &'static str,
    /// The fields in the order of the packet.
    pub fields: Vec<(String, Value)>,
}

impl Fields {
    /// The first field of that name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The first field of that name, as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The packet in the notation of scripts.
    pub fn render(&self) -> String {
        let mut text = self.name.to_owned();
        for (key, value) in &self.fields {
            let default = matches!(
                key.as_str(),
                "dup" | "qos" | "retain" | "session_present" | "reason"
            );
            match (key.as_str(), value) {
                (_, Value::Number(0)) if default => {}
                ("dup" | "retain", Value::Number(1)) => text.push_str(&format!(" {key}")),
                ("topic", value) => text.push_str(&format!(" {}", render(value))),
                ("code", Value::Number(code)) if *code >= 0x80 => {
                    text.push_str(&format!(" {code:#04X}"));
                }
                ("code", value) => text.push_str(&format!(" {}", render(value))),
                ("reason", Value::Number(code)) => text.push_str(&format!(" reason={code:#04X}")),
                _ => text.push_str(&format!(" {key}={}", render(value))),
            }
        }
        text.replace("0X", "0x")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Byte,
    U16,
    U32,
    Varint,
    Text,
    Pair,
}

/// Properties: identifier, name in scripts, form, and the packets in which a server may send it.
const PROPERTIES: [(u8, &str, Form, &[&str]); 27] = [
    (0x01, "payload_format", Form::Byte, &["PUBLISH"]),
    (0x02, "message_expiry", Form::U32, &["PUBLISH"]),
    (0x03, "content_type", Form::Text, &["PUBLISH"]),
    (0x08, "response_topic", Form::Text, &["PUBLISH"]),
    (0x09, "correlation_data", Form::Text, &["PUBLISH"]),
    (0x0B, "subscription_id", Form::Varint, &["PUBLISH"]),
    (0x11, "session_expiry", Form::U32, &["CONNACK"]),
    (0x12, "assigned_client_id", Form::Text, &["CONNACK"]),
    (0x13, "server_keep_alive", Form::U16, &["CONNACK"]),
    (0x15, "auth_method", Form::Text, &["CONNACK", "AUTH"]),
    (0x16, "auth_data", Form::Text, &["CONNACK", "AUTH"]),
    (0x17, "request_problem_information", Form::Byte, &[]),
    (0x18, "will_delay", Form::U32, &[]),
    (0x19, "request_response_information", Form::Byte, &[]),
    (0x1A, "response_information", Form::Text, &["CONNACK"]),
    (
        0x1C,
        "server_reference",
        Form::Text,
        &["CONNACK", "DISCONNECT"],
    ),
    (0x1F, "reason_string", Form::Text, ANSWERS),
    (0x21, "receive_maximum", Form::U16, &["CONNACK"]),
    (0x22, "topic_alias_maximum", Form::U16, &["CONNACK"]),
    (0x23, "topic_alias", Form::U16, &["PUBLISH"]),
    (0x24, "maximum_qos", Form::Byte, &["CONNACK"]),
    (0x25, "retain_available", Form::Byte, &["CONNACK"]),
    (0x26, "user_property", Form::Pair, ALL),
    (0x27, "maximum_packet_size", Form::U32, &["CONNACK"]),
    (0x28, "wildcard_available", Form::Byte, &["CONNACK"]),
    (0x29, "subscription_ids_available", Form::Byte, &["CONNACK"]),
    (0x2A, "shared_available", Form::Byte, &["CONNACK"]),
];

const ANSWERS: &[&str] = &[
    "CONNACK",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBACK",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];
const ALL: &[&str] = &[
    "PUBLISH",
    "CONNACK",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBACK",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];

/// The type of a field's value. The Client Identifier shares its key with Packet Identifiers.
fn kind(packet: &str, key: &str) -> Kind {
    if let Some((.., form, _)) = PROPERTIES.iter().find(|row| row.1 == key) {
        return match form {
            Form::Text => Kind::Bytes,
            Form::Pair => Kind::Pair,
            _ => Kind::Number,
        };
    }
    match key {
        "id" if packet == "CONNECT" => Kind::Bytes,
        "topic" | "payload" | "user" | "password" | "proto" | "property" | "trailing" => {
            Kind::Bytes
        }
        _ => Kind::Number,
    }
}

const FLAGS: [&str; 7] = [
    "dup",
    "retain",
    "nl",
    "rap",
    "bridge",
    "will.retain",
    "clean",
];

/// The key of a word without one, `position` words after the name.
fn key_of(packet: &str, position: usize, word: &Word) -> Result<String, String> {
    if !word.quoted && FLAGS.contains(&word.text.as_str()) {
        return Ok(word.text.clone());
    }
    let key = match (packet, position) {
        ("PUBLISH", 0) => "topic",
        ("CONNACK" | "DISCONNECT" | "AUTH", 0) => "reason",
        ("PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP", 0) => "id",
        ("SUBACK" | "UNSUBACK", _) => "code",
        ("SUBSCRIBE" | "UNSUBSCRIBE", _) => "filter",
        _ => return Err(format!("`{}` has no key", word.text)),
    };
    Ok(key.to_owned())
}

/// Assigns keys to the words of a text packet.
///
/// # Errors
/// A word that has no meaning at this position.
pub(crate) fn keyed(packet: &TextPacket) -> Result<Vec<(String, Word)>, String> {
    let mut position = 0;
    let mut keyed = Vec::new();
    for (key, word) in &packet.fields {
        if key.is_none() && !word.quoted && (word.text == "," || word.text == "..") {
            keyed.push((word.text.clone(), word.clone()));
            continue;
        }
        match key {
            Some(key) => keyed.push((key.clone(), word.clone())),
            None => {
                let key = key_of(&packet.name, position, word)?;
                let flag = FLAGS.contains(&key.as_str());
                keyed.push((key, if flag { Word::plain("1") } else { word.clone() }));
                position += usize::from(!flag);
            }
        }
    }
    Ok(keyed)
}

impl Fields {
    fn put(&mut self, key: &str, value: u64) {
        self.fields.push((key.to_owned(), Value::Number(value)));
    }

    /// Compares the packet with the expected one. Unbound variables are set to the values found.
    ///
    /// # Errors
    /// The first difference as text.
    pub fn matches(&self, expected: &TextPacket, variables: &mut Variables) -> Result<(), String> {
        if self.name != expected.name {
            return Err(format!("it is a {}", self.name));
        }
        let keyed = keyed(expected)?;
        let mut bound = variables.clone();
        let mut seen: Vec<&str> = Vec::new();
        for (key, _) in keyed.iter().filter(|(key, _)| key != "..") {
            if seen.contains(&key.as_str()) {
                continue;
            }
            seen.push(key);
            let words: Vec<_> = keyed
                .iter()
                .filter(|(name, _)| name == key)
                .map(|(_, word)| word)
                .collect();
            self.field_matches(key, &words, &mut bound)?;
        }
        if !keyed.iter().any(|(key, _)| key == "..") {
            self.defaults_match(&seen)?;
        }
        *variables = bound;
        Ok(())
    }

    fn field_matches(
        &self,
        key: &str,
        words: &[&Word],
        variables: &mut Variables,
    ) -> Result<(), String> {
        let actual: Vec<_> = self
            .fields
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value)
            .collect();
        let difference = |why: String| format!("{key} {why}");
        if words.len() == 1 && actual.len() <= 1 {
            return words[0]
                .matches(actual.first().copied(), variables)
                .map_err(difference);
        }
        if words.len() != actual.len() {
            let found: Vec<_> = actual.iter().map(|value| render(value)).collect();
            return Err(difference(format!(
                "is there {} times: {found:?}",
                actual.len()
            )));
        }
        if key == "subscription_id" {
            // Their order is not significant.
            let mut left = actual;
            for word in words {
                let place = left
                    .iter()
                    .position(|value| word.matches(Some(value), &mut variables.clone()).is_ok());
                let place = place.ok_or_else(|| difference(format!("has no {}", word.text)))?;
                left.remove(place);
            }
            return Ok(());
        }
        for (word, value) in words.iter().zip(actual) {
            word.matches(Some(value), variables).map_err(difference)?;
        }
        Ok(())
    }

    /// Fields that are not named must be 0: DUP, QoS, RETAIN, Session Present and reason codes. In
    /// an acknowledgement, any success code is accepted.
    fn defaults_match(&self, named: &[&str]) -> Result<(), String> {
        for (key, value) in &self.fields {
            let Value::Number(value) = value else {
                continue;
            };
            let success = matches!(self.name, "PUBACK" | "PUBREC" | "SUBACK" | "UNSUBACK");
            let fits = match key.as_str() {
                "dup" | "qos" | "retain" | "session_present" => *value == 0,
                "reason" | "code" if success => *value < 0x80,
                "reason" => *value == 0,
                _ => true,
            };
            if !fits && !named.contains(&key.as_str()) {
                return Err(format!("{key} is {value:#x}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Act, Outgoing, Script, Version};

    fn text(line: &str) -> TextPacket {
        let script = Script::parse("x/y", &format!("A: {line}")).unwrap();
        let Act::Send { parts, .. } = &script.steps[0].act else {
            panic!("not a send")
        };
        let Outgoing::Packet(packet) = &parts[0].what else {
            panic!("not a packet")
        };
        packet.clone()
    }

    #[test]
    fn packets_are_encoded_as_the_specification_says() {
        let bytes = |line, version| {
            encode(&text(line), version, 7, 'A', &Variables::new())
                .unwrap()
                .bytes
        };
        assert_eq!(
            bytes(
                "CONNECT id=a keep_alive=10 will.topic=w will.payload=x",
                Version::V311
            ),
            b"\x10\x13\x00\x04MQTT\x04\x06\x00\x0a\x00\x01a\x00\x01w\x00\x01x"
        );
        assert_eq!(
            bytes("PUBLISH t qos=1 payload=hi topic_alias=2", Version::V5),
            b"\x32\x0b\x00\x01t\x00\x07\x03\x23\x00\x02hi"
        );
        assert_eq!(
            bytes("SUBSCRIBE a qos=1, b nl rh=2", Version::V5),
            b"\x82\x0b\x00\x07\x00\x00\x01a\x01\x00\x01b\x24"
        );
        assert_eq!(bytes("DISCONNECT", Version::V5), b"\xe0\x00");
    }

    #[test]
    fn what_is_not_named_is_not_compared_but_flags_are() {
        let (packet, used) = decode(b"\x33\x07\x00\x01t\x00\x05\x00x", Version::V5)
            .unwrap()
            .unwrap();
        assert_eq!(used, 9);
        let matches = |line| packet.matches(&text(line), &mut Variables::new());
        assert_eq!(matches("PUBLISH t qos=1 retain"), Ok(()));
        assert_eq!(matches("PUBLISH t .."), Ok(()));
        assert_eq!(matches("PUBLISH t qos=1"), Err("retain is 0x1".to_owned()));
        assert_eq!(
            matches("PUBLISH t payload=y .."),
            Err("payload is x".to_owned())
        );
        assert_eq!(
            matches("PUBLISH t content_type=y .."),
            Err("content_type is absent".into())
        );
    }
}
