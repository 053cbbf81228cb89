//! Encodes packets of scripts.

use super::{Form, PROPERTIES, keyed, kind};
use crate::script::{TextPacket, Version};
use crate::value::{Kind, Value, Variables, Word, number};

/// An encoded packet, and the values needed to check its answer.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Packet Identifier; 0 if it has none.
    pub packet_id: u64,
    /// QoS of a PUBLISH.
    pub qos: u64,
    /// The requested QoS of each filter, or 0 for each filter of UNSUBSCRIBE.
    pub asked: Vec<u64>,
    /// The version in a CONNECT.
    pub version: Option<Version>,
}

struct Encoder<'a> {
    name: &'a str,
    version: Version,
    keyed: &'a [(String, Word)],
    variables: &'a Variables,
    /// Keys that have been used.
    known: Vec<String>,
}

impl Encoder<'_> {
    pub(super) fn value(&mut self, key: &str) -> Result<Option<Value>, String> {
        self.known.push(key.to_owned());
        let found = self.keyed.iter().find(|(name, _)| name == key);
        found
            .map(|(_, word)| {
                let plain = key.strip_prefix("will.").unwrap_or(key);
                word.value(kind(self.name, plain), self.variables)
            })
            .transpose()
            .map_err(|why| format!("{key}: {why}"))
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>, String> {
        Ok(match self.value(key)? {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        })
    }

    pub(super) fn bytes(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(match self.value(key)? {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        })
    }

    fn all_known(&self) -> Result<(), String> {
        let unknown = self.keyed.iter().find(|(key, _)| {
            !self.known.contains(key) && !PROPERTIES.iter().any(|row| row.1 == key)
        });
        match unknown {
            Some((key, _)) => Err(format!("{} has no `{key}`", self.name)),
            None => Ok(()),
        }
    }

    /// The properties whose keys begin with `prefix`, preceded by their length.
    pub(super) fn properties(&mut self, prefix: &str) -> Result<Vec<u8>, String> {
        let mut block = Vec::new();
        for (key, word) in self.keyed {
            let Some(name) = key.strip_prefix(prefix) else {
                continue;
            };
            if prefix.is_empty() && name.starts_with("will.") {
                continue;
            }
            if name == "property" {
                if let Value::Bytes(bytes) = word.value(Kind::Bytes, self.variables)? {
                    block.extend(bytes);
                }
                self.known.push(key.clone());
            }
            let Some((id, name, form, _)) = PROPERTIES.iter().find(|row| row.1 == name) else {
                continue;
            };
            self.known.push(key.clone());
            block.push(*id);
            match word.value(kind("", name), self.variables)? {
                Value::Number(number) => match form {
                    Form::Byte => block.push(number as u8),
                    Form::U16 => block.extend((number as u16).to_be_bytes()),
                    Form::U32 => block.extend((number as u32).to_be_bytes()),
                    _ => put_varint(&mut block, number),
                },
                Value::Bytes(bytes) => put_text(&mut block, &bytes),
                Value::Pair(name, value) => {
                    put_text(&mut block, &name);
                    put_text(&mut block, &value);
                }
            }
        }
        let mut out = Vec::new();
        if self.version == Version::V5 {
            put_varint(&mut out, block.len() as u64);
            out.extend(block);
        }
        Ok(out)
    }

    fn connect(&mut self, letter: char, encoded: &mut Encoded) -> Result<Vec<u8>, String> {
        self.known.push("v".to_owned());
        if let Some((_, word)) = self.keyed.iter().find(|(key, _)| key == "v") {
            self.version = Version::from_name(&word.text).ok_or("no such version")?;
        }
        encoded.version = Some(self.version);
        let (proto, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        let has_will = self.keyed.iter().any(|(key, _)| key.starts_with("will."));
        let user = self.bytes("user")?;
        let password = self.bytes("password")?;
        let mut flags = 0;
        flags |= u8::from(self.number("clean")?.unwrap_or(1) != 0) << 1;
        flags |= u8::from(has_will) << 2;
        flags |= (self.number("will.qos")?.unwrap_or(0) as u8) << 3;
        flags |= (self.number("will.retain")?.unwrap_or(0) as u8) << 5;
        flags |= u8::from(password.is_some()) << 6;
        flags |= u8::from(user.is_some()) << 7;
        let mut out = Vec::new();
        put_text(&mut out, &self.bytes("proto")?.unwrap_or(proto.into()));
        let bridge = self.number("bridge")?.unwrap_or(0) as u8;
        out.push(self.number("level")?.unwrap_or(level) as u8 | (bridge << 7));
        out.push(
            self.number("connect_flags")?
                .map_or(flags, |flags| flags as u8),
        );
        let keep_alive = self.number("keep_alive")?.unwrap_or(0) as u16;
        out.extend(keep_alive.to_be_bytes());
        out.extend(self.properties("")?);
        let default = letter.to_ascii_lowercase().to_string().into_bytes();
        put_text(&mut out, &self.bytes("id")?.unwrap_or(default));
        if has_will {
            self.known.push("will.delay".to_owned());
            out.extend(self.will_properties()?);
            put_text(&mut out, &self.bytes("will.topic")?.unwrap_or_default());
            put_text(&mut out, &self.bytes("will.payload")?.unwrap_or_default());
        }
        for text in [user, password].into_iter().flatten() {
            put_text(&mut out, &text);
        }
        Ok(out)
    }

    /// The Will properties: those of a PUBLISH with the prefix `will.`, and `will.delay`.
    fn will_properties(&mut self) -> Result<Vec<u8>, String> {
        let renamed: Vec<_> = self
            .keyed
            .iter()
            .map(|(key, word)| match key.as_str() {
                "will.delay" => ("will.will_delay".to_owned(), word.clone()),
                _ => (key.clone(), word.clone()),
            })
            .collect();
        let mut inner = Encoder {
            name: self.name,
            version: self.version,
            keyed: &renamed,
            variables: self.variables,
            known: Vec::new(),
        };
        let block = inner.properties("will.")?;
        let known = core::mem::take(&mut inner.known);
        self.known.extend(known);
        Ok(block)
    }

    pub(super) fn connack(&mut self) -> Result<Vec<u8>, String> {
        let mut out = vec![self.number("session_present")?.unwrap_or(0) as u8];
        out.push(self.number("reason")?.unwrap_or(0) as u8);
        out.extend(self.properties("")?);
        Ok(out)
    }

    pub(super) fn publish(
        &mut self,
        next_id: u64,
        encoded: &mut Encoded,
    ) -> Result<(u8, Vec<u8>), String> {
        let qos = self.number("qos")?.unwrap_or(0);
        let dup = self.number("dup")?.unwrap_or(0) as u8;
        let retain = self.number("retain")?.unwrap_or(0) as u8;
        let id = self.number("id")?.unwrap_or(next_id);
        let mut out = Vec::new();
        put_text(&mut out, &self.bytes("topic")?.unwrap_or_default());
        if qos > 0 {
            out.extend((id as u16).to_be_bytes());
            encoded.packet_id = id;
        }
        encoded.qos = qos;
        out.extend(self.properties("")?);
        out.extend(self.bytes("payload")?.unwrap_or_default());
        Ok((0x30 | dup << 3 | (qos as u8) << 1 | retain, out))
    }

    pub(super) fn ack(&mut self) -> Result<Vec<u8>, String> {
        let id = self.number("id")?.unwrap_or(0) as u16;
        let mut out = id.to_be_bytes().to_vec();
        let reason = self.number("reason")?;
        let properties = self.properties("")?;
        let has_properties = properties.len() > 1;
        if reason.is_some() || has_properties {
            out.push(reason.unwrap_or(0) as u8);
        }
        if has_properties {
            out.extend(properties);
        }
        Ok(out)
    }

    fn subscribe(
        &mut self,
        next_id: u64,
        with_options: bool,
        encoded: &mut Encoded,
    ) -> Result<Vec<u8>, String> {
        let id = self.number("id")?.unwrap_or(next_id);
        encoded.packet_id = id;
        let mut out = (id as u16).to_be_bytes().to_vec();
        out.extend(self.properties("")?);
        self.known
            .extend(["filter", "qos", "nl", "rap", "rh", "options", ","].map(String::from));
        for part in self.keyed.split(|(key, _)| key == ",") {
            let find = |key: &str| {
                part.iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, word)| word)
            };
            let option = |key: &str| match find(key).map(|word| number(&word.text)) {
                Some(value) => value,
                None => Ok(0),
            };
            let Some(filter) = find("filter") else {
                continue;
            };
            let Value::Bytes(filter) = filter.value(Kind::Bytes, self.variables)? else {
                continue;
            };
            put_text(&mut out, &filter);
            let qos = option("qos")?;
            encoded.asked.push(if with_options { qos } else { 0 });
            if with_options {
                let bits = qos | option("nl")? << 2 | option("rap")? << 3 | option("rh")? << 4;
                out.push(if find("options").is_some() {
                    option("options")?
                } else {
                    bits
                } as u8);
            }
        }
        Ok(out)
    }

    pub(super) fn acks(&mut self, with_codes: bool) -> Result<Vec<u8>, String> {
        let mut out = (self.number("id")?.unwrap_or(0) as u16)
            .to_be_bytes()
            .to_vec();
        out.extend(self.properties("")?);
        self.known.push("code".to_owned());
        for (_, word) in self
            .keyed
            .iter()
            .filter(|(key, _)| key == "code" && with_codes)
        {
            out.push(number(&word.text)? as u8);
        }
        Ok(out)
    }

    pub(super) fn reason_and_properties(&mut self) -> Result<Vec<u8>, String> {
        let reason = self.number("reason")?;
        let properties = self.properties("")?;
        if self.version != Version::V5 || (reason.is_none() && properties.len() <= 1) {
            return Ok(Vec::new());
        }
        let mut out = vec![reason.unwrap_or(0) as u8];
        if properties.len() > 1 {
            out.extend(properties);
        }
        Ok(out)
    }
}

/// Encodes a packet for a connection of `version`. `next_id` is used if the packet has no
/// identifier.
///
/// # Errors
/// Unknown keys, and invalid values.
pub fn encode(
    packet: &TextPacket,
    version: Version,
    next_id: u64,
    letter: char,
    variables: &Variables,
) -> Result<Encoded, String> {
    let keyed = keyed(packet)?;
    let mut encoder = Encoder {
        name: &packet.name,
        version,
        keyed: &keyed,
        variables,
        known: vec!["flags".into(), "trailing".into(), "property".into()],
    };
    let mut encoded = Encoded::default();
    let (first, mut body) = match packet.name.as_str() {
        "CONNECT" => (0x10, encoder.connect(letter, &mut encoded)?),
        "CONNACK" => (0x20, encoder.connack()?),
        "PUBLISH" => encoder.publish(next_id, &mut encoded)?,
        "PUBACK" => (0x40, encoder.ack()?),
        "PUBREC" => (0x50, encoder.ack()?),
        "PUBREL" => (0x62, encoder.ack()?),
        "PUBCOMP" => (0x70, encoder.ack()?),
        "SUBSCRIBE" => (0x82, encoder.subscribe(next_id, true, &mut encoded)?),
        "SUBACK" => (0x90, encoder.acks(true)?),
        "UNSUBSCRIBE" => (0xA2, encoder.subscribe(next_id, false, &mut encoded)?),
        "UNSUBACK" => (0xB0, encoder.acks(version == Version::V5)?),
        "PINGREQ" => (0xC0, Vec::new()),
        "PINGRESP" => (0xD0, Vec::new()),
        "DISCONNECT" => (0xE0, encoder.reason_and_properties()?),
        _ => (0xF0, encoder.reason_and_properties()?),
    };
    encoder.all_known()?;
    if let Some(trailing) = encoder.bytes("trailing")? {
        body.extend(trailing);
    }
    let first = match encoder.number("flags")? {
        Some(flags) => (first & 0xF0) | flags as u8,
        None => first,
    };
    encoded.bytes.push(first);
    put_varint(&mut encoded.bytes, body.len() as u64);
    encoded.bytes.extend(body);
    Ok(encoded)
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}
