//! Decodes packets.

use super::{Fields, Form, PROPERTIES};
use crate::script::Version;
use crate::value::Value;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
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

    pub(super) fn text(&mut self) -> Result<Vec<u8>, String> {
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

    pub(super) fn connack(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
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

    pub(super) fn publish(
        &mut self,
        packet: &mut Fields,
        first: u8,
        version: Version,
    ) -> Result<(), String> {
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

    pub(super) fn packet_id(&mut self) -> Result<u64, String> {
        match self.integer(2)? {
            0 => Err("a Packet Identifier of 0".to_owned()),
            id => Ok(id),
        }
    }

    pub(super) fn ack(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
        let id = self.packet_id()?;
        packet.put("id", id);
        if version != Version::V5 {
            return Ok(());
        }
        self.reason_and_properties(packet)
    }

    pub(super) fn acks(&mut self, packet: &mut Fields, version: Version) -> Result<(), String> {
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

    pub(super) fn reason_and_properties(&mut self, packet: &mut Fields) -> Result<(), String> {
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

    pub(super) fn properties(&mut self, packet: &mut Fields) -> Result<(), String> {
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

/// Decodes one packet from the beginning of `bytes` and returns its length; `None` if more bytes
/// are needed.
///
/// # Errors
/// The packet is not permitted from a server.
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
