//! Packets of scripts to and from bytes, by the specification and apart from the broker's codec, so
//! that an error in the one does not hide in the other.
//!
//! Encoding permits nearly everything, wrong packets too; decoding is strict and knows only
//! what a server may send.

use crate::script::{TextPacket, Version};
use crate::value::{Kind, Value, Variables, Word, number, render};

/// A packet with its fields as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `PUBLISH` and so on.
    pub name: &'static str,
    /// In the order of the packet.
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

    /// As a script would write it.
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

/// Properties: identifier, name in scripts, form, and the packets a server may send it in.
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

/// What kind of value a field takes; the Client Identifier shares its key with Packet Identifiers.
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

/// The key that a word without one stands for, `position` words after the name.
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

/// Keys and words of a text packet.
///
/// # Errors
/// A word that stands for nothing there.
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

/// A packet ready to be sent, and what is needed to know its answer.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Its Packet Identifier; 0 if it has none.
    pub packet_id: u64,
    /// QoS of a PUBLISH.
    pub qos: u64,
    /// The QoS asked for by each filter, or 0 for each filter of UNSUBSCRIBE.
    pub asked: Vec<u64>,
    /// The version that a CONNECT names.
    pub version: Option<Version>,
}

/// Encodes a packet for a connection of `version`; `next_id` is used where no identifier is named.
///
/// # Errors
/// Unknown keys and words that do not fit them.
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

struct Encoder<'a> {
    name: &'a str,
    version: Version,
    keyed: &'a [(String, Word)],
    variables: &'a Variables,
    /// Keys that have been looked at.
    known: Vec<String>,
}

impl Encoder<'_> {
    fn value(&mut self, key: &str) -> Result<Option<Value>, String> {
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

    fn bytes(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
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

    /// The properties whose keys begin with `prefix`, with their length before them.
    fn properties(&mut self, prefix: &str) -> Result<Vec<u8>, String> {
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

    /// Will properties are those of a PUBLISH below `will.`, and `will.delay`.
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

    fn connack(&mut self) -> Result<Vec<u8>, String> {
        let mut out = vec![self.number("session_present")?.unwrap_or(0) as u8];
        out.push(self.number("reason")?.unwrap_or(0) as u8);
        out.extend(self.properties("")?);
        Ok(out)
    }

    fn publish(&mut self, next_id: u64, encoded: &mut Encoded) -> Result<(u8, Vec<u8>), String> {
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

    fn ack(&mut self) -> Result<Vec<u8>, String> {
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

    fn acks(&mut self, with_codes: bool) -> Result<Vec<u8>, String> {
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

    fn reason_and_properties(&mut self) -> Result<Vec<u8>, String> {
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

/// Takes one packet from the beginning of `bytes` and tells how long it was; `None` if more bytes
/// are needed.
///
/// # Errors
/// What the server may not send.
pub fn decode(bytes: &[u8], version: Version) -> Result<Option<(Fields, usize)>, String> {
    let mut reader = Reader { rest: bytes };
    let (Ok(first), Ok(length)) = (reader.byte(), reader.varint()) else {
        return match bytes.len() {
            0..5 => Ok(None),
            _ => Err("a Remaining Length of more than four bytes".to_owned()),
        };
    };
    let Some(body) = reader.rest.get(..length as usize) else {
        return Ok(None);
    };
    let used = bytes.len() - reader.rest.len() + body.len();
    let mut reader = Reader { rest: body };
    let fields = reader.packet(first, version)?;
    match reader.rest {
        [] => Ok(Some((fields, used))),
        rest => Err(format!("{} has {} bytes too many", fields.name, rest.len())),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or("a packet ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn integer(&mut self, count: usize) -> Result<u64, String> {
        Ok(self
            .take(count)?
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return match index > 0 && byte == 0 {
                    true => Err("a variable byte integer longer than needed".to_owned()),
                    false => Ok(value),
                };
            }
        }
        Err("a variable byte integer of more than four bytes".to_owned())
    }

    fn text(&mut self) -> Result<Vec<u8>, String> {
        let length = self.integer(2)?;
        self.take(length as usize).map(<[u8]>::to_vec)
    }

    fn packet(&mut self, first: u8, version: Version) -> Result<Fields, String> {
        let name = match first >> 4 {
            2 => "CONNACK",
            3 => "PUBLISH",
            4 => "PUBACK",
            5 => "PUBREC",
            6 => "PUBREL",
            7 => "PUBCOMP",
            9 => "SUBACK",
            11 => "UNSUBACK",
            13 => "PINGRESP",
            14 if version == Version::V5 => "DISCONNECT",
            15 if version == Version::V5 => "AUTH",
            other => return Err(format!("a server may not send packet type {other}")),
        };
        let reserved = if name == "PUBREL" { 2 } else { 0 };
        if name != "PUBLISH" && first & 0xF != reserved {
            return Err(format!("{name} has the flags {:#x}", first & 0xF));
        }
        let mut packet = Fields {
            name,
            fields: Vec::new(),
        };
        match name {
            "CONNACK" => self.connack(&mut packet, version)?,
            "PUBLISH" => self.publish(&mut packet, first, version)?,
            "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => self.ack(&mut packet, version)?,
            "SUBACK" | "UNSUBACK" => self.acks(&mut packet, version)?,
            "DISCONNECT" | "AUTH" => self.reason_and_properties(&mut packet)?,
            _ => {}
        }
        Ok(packet)
    }

    fn connack(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
        let flags = self.byte()?;
        if flags > 1 {
            return Err(format!("CONNACK has the acknowledge flags {flags:#x}"));
        }
        let reason = self.byte()?;
        packet.put("session_present", u64::from(flags));
        packet.put("reason", u64::from(reason));
        if version == Version::V5 {
            self.properties(packet)?;
        }
        Ok(())
    }

    fn publish(&mut self, packet: &mut Fields, first: u8, version: Version) -> Result<(), String> {
        let qos = u64::from(first >> 1 & 3);
        if qos == 3 || (qos == 0 && first & 8 != 0) {
            return Err(format!("PUBLISH has the flags {:#x}", first & 0xF));
        }
        let topic = self.text()?;
        packet
            .fields
            .push(("topic".to_owned(), Value::Bytes(topic)));
        packet.put("qos", qos);
        packet.put("dup", u64::from(first >> 3 & 1));
        packet.put("retain", u64::from(first & 1));
        if qos > 0 {
            let id = self.packet_id()?;
            packet.put("id", id);
        }
        if version == Version::V5 {
            self.properties(packet)?;
        }
        let payload = core::mem::take(&mut self.rest).to_vec();
        packet
            .fields
            .push(("payload".to_owned(), Value::Bytes(payload)));
        Ok(())
    }

    fn packet_id(&mut self) -> Result<u64, String> {
        match self.integer(2)? {
            0 => Err("a Packet Identifier of 0".to_owned()),
            id => Ok(id),
        }
    }

    fn ack(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
        let id = self.packet_id()?;
        packet.put("id", id);
        if version != Version::V5 {
            return Ok(());
        }
        self.reason_and_properties(packet)
    }

    fn acks(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
        let id = self.packet_id()?;
        packet.put("id", id);
        if version == Version::V5 {
            self.properties(packet)?;
        }
        for code in core::mem::take(&mut self.rest) {
            packet.put("code", u64::from(*code));
        }
        Ok(())
    }

    fn reason_and_properties(&mut self, packet: &mut Fields) -> Result<(), String> {
        let reason = if self.rest.is_empty() {
            0
        } else {
            self.byte()?
        };
        packet.put("reason", u64::from(reason));
        if self.rest.is_empty() {
            return Ok(());
        }
        self.properties(packet)
    }

    fn properties(&mut self, packet: &mut Fields) -> Result<(), String> {
        let length = self.varint()?;
        let mut block = Reader {
            rest: self.take(length as usize)?,
        };
        while !block.rest.is_empty() {
            let id = block.byte()?;
            let (_, name, form, packets) = PROPERTIES
                .iter()
                .find(|row| row.0 == id)
                .ok_or_else(|| format!("{} has the property {id:#04x}", packet.name))?;
            if !packets.contains(&packet.name) {
                return Err(format!("{} may not carry {name}", packet.name));
            }
            let repeats = matches!(*name, "user_property" | "subscription_id");
            if !repeats && packet.get(name).is_some() {
                return Err(format!("{} carries {name} twice", packet.name));
            }
            let value = match form {
                Form::Byte => Value::Number(block.integer(1)?),
                Form::U16 => Value::Number(block.integer(2)?),
                Form::U32 => Value::Number(block.integer(4)?),
                Form::Varint => Value::Number(block.varint()?),
                Form::Text => Value::Bytes(block.text()?),
                Form::Pair => Value::Pair(block.text()?, block.text()?),
            };
            packet.fields.push(((*name).to_owned(), value));
        }
        Ok(())
    }
}

impl Fields {
    fn put(&mut self, key: &str, value: u64) {
        self.fields.push((key.to_owned(), Value::Number(value)));
    }

    /// Compares the packet with what a script expects; unbound variables take the values found.
    ///
    /// # Errors
    /// The first difference, in words.
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
            // Their order means nothing.
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

    /// DUP, QoS, RETAIN, Session Present and reason codes that are not named are to be 0; an
    /// acknowledgement's may be any success.
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
    use crate::script::{Act, Outgoing, Script};

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
