//! Iteration over one packet's properties, and writing of single ones.
//!
//! Checks lengths, identifiers, owners and repetition. The meaning of a value for a connection is
//! handled elsewhere. MQTT 5.0 §2.2.2.

use super::id::{Owner, PropertyId};
use super::user::UserProperties;
use crate::error::DecodeError;
use crate::primitive::{self, Reader};

/// The properties of one packet during reading.
pub(crate) struct Block<'a> {
    raw: &'a [u8],
    reader: Reader<'a>,
    owner: Owner,
    /// One bit per identifier seen so far; the highest identifier is 0x2A.
    seen: u64,
    user_count: u32,
}

impl<'a> Block<'a> {
    /// Takes the property length and the properties from a packet's body.
    #[inline]
    pub(crate) fn take(body: &mut Reader<'a>, owner: Owner) -> Result<Self, DecodeError> {
        let len = body.varint()?;
        Ok(Self::of(body.take(len as usize)?, owner))
    }

    /// The properties in these bytes, without their length.
    #[inline]
    pub(crate) fn of(raw: &'a [u8], owner: Owner) -> Self {
        Self {
            raw,
            reader: Reader::new(raw),
            owner,
            seen: 0,
            user_count: 0,
        }
    }

    /// The properties without their length.
    #[inline]
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The identifier of the next property, whose value the caller must read; User Properties are
    /// read here and skipped.
    #[inline]
    pub(crate) fn next_id(&mut self) -> Result<Option<PropertyId>, DecodeError> {
        while !self.reader.is_empty() {
            let id = self.reader.varint()?;
            let id = u8::try_from(id)
                .ok()
                .and_then(PropertyId::from_u8)
                .ok_or_else(|| DecodeError::malformed("unknown property", "MQTT-4.13.1-1"))?;
            if !id.owners().contains(self.owner) {
                return Err(Self::not_allowed());
            }
            if id == PropertyId::UserProperty {
                self.reader.string()?;
                self.reader.string()?;
                self.user_count += 1;
                continue;
            }
            let bit = 1u64 << id.value();
            let may_repeat =
                id == PropertyId::SubscriptionIdentifier && self.owner == Owner::PUBLISH;
            if self.seen & bit != 0 && !may_repeat {
                return Err(DecodeError::protocol("property occurs twice", ""));
            }
            self.seen |= bit;
            return Ok(Some(id));
        }
        Ok(None)
    }

    /// The value of the property that was returned last.
    #[inline]
    pub(crate) fn value(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }

    /// Reads a byte that is 0 or 1.
    #[inline]
    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("property is neither 0 nor 1", "")),
        }
    }

    /// The User Properties read so far.
    #[inline]
    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        if self.user_count == 0 {
            return UserProperties::default();
        }
        UserProperties::from_block(self.raw, self.user_count)
    }

    /// A property that is not allowed in the packet: Malformed, according to MQTT 5.0 §2.2.2.2.
    #[cold]
    pub(crate) fn not_allowed() -> DecodeError {
        DecodeError::malformed("property is not allowed in this packet", "")
    }
}

/// Reads the properties of a packet that has only a Reason String and User Properties.
pub(crate) fn decode_reason_properties<'a>(
    body: &mut Reader<'a>,
    owner: Owner,
) -> Result<(Option<&'a str>, UserProperties<'a>), DecodeError> {
    let mut block = Block::take(body, owner)?;
    let mut reason_string = None;
    while let Some(id) = block.next_id()? {
        match id {
            PropertyId::ReasonString => reason_string = Some(block.value().string()?),
            _ => return Err(Block::not_allowed()),
        }
    }
    Ok((reason_string, block.user_properties()))
}

/// Appends the properties of a packet that has only a Reason String and User Properties.
pub(crate) fn put_reason_properties(
    out: &mut Vec<u8>,
    reason_string: Option<&str>,
    user_properties: UserProperties<'_>,
) {
    primitive::put_with_length(out, |out| {
        put_string_property(out, PropertyId::ReasonString, reason_string);
        user_properties.encode_into(out);
    });
}

pub(crate) fn put_bool_property(out: &mut Vec<u8>, id: PropertyId, value: Option<bool>) {
    if let Some(value) = value {
        out.extend_from_slice(&[id.value(), u8::from(value)]);
    }
}

pub(crate) fn put_u16_property(out: &mut Vec<u8>, id: PropertyId, value: Option<u16>) {
    if let Some(value) = value {
        out.push(id.value());
        primitive::put_u16(out, value);
    }
}

pub(crate) fn put_u32_property(out: &mut Vec<u8>, id: PropertyId, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id.value());
        primitive::put_u32(out, value);
    }
}

pub(crate) fn put_varint_property(out: &mut Vec<u8>, id: PropertyId, value: u32) {
    out.push(id.value());
    primitive::put_varint(out, value);
}

pub(crate) fn put_string_property(out: &mut Vec<u8>, id: PropertyId, value: Option<&str>) {
    if let Some(value) = value {
        out.push(id.value());
        primitive::put_string(out, value);
    }
}

pub(crate) fn put_binary_property(out: &mut Vec<u8>, id: PropertyId, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push(id.value());
        primitive::put_binary(out, value);
    }
}
