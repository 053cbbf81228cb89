//! Encoding and decoding of integers, texts and byte strings in bodies and states.
//!
//! Numbers are little-endian or of variable length; lengths precede their data. Each layout begins
//! with its version. Decoding accepts arbitrary bytes and never panics.

use martlet_broker::RECORD_VERSION;
use martlet_codec::QoS;
use smallvec::SmallVec;

/// Buffer for data before it is copied into a record; longer data allocates.
pub(crate) type Scratch = SmallVec<[u8; 64]>;

/// Why stored bytes are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer program wrote it.
    #[error("record version {0} is newer than this program")]
    Newer(u8),
    /// The data are malformed.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Begins a layout.
pub(crate) fn versioned() -> Scratch {
    let mut out = Scratch::new();
    out.push(RECORD_VERSION);
    out
}

/// Appends a variable-length integer: seven bits per byte, lowest first.
pub(crate) fn put_number(out: &mut Scratch, value: u64) {
    each_byte(value, |byte| out.push(byte));
}

fn each_byte(mut value: u64, mut put: impl FnMut(u8)) {
    while value >= 0x80 {
        put(value as u8 | 0x80);
        value >>= 7;
    }
    put(value as u8);
}

/// A layout of a few numbers under construction, beginning with its version. It is built for every
/// message, so it uses no vector.
#[derive(Debug)]
pub(crate) struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

/// Maximum length: version, flags, a mark and ten numbers.
const HEAD_BYTES_MAX: usize = 112;

impl Head {
    pub(crate) fn new(version: u8) -> Self {
        let mut head = Self {
            bytes: [0; HEAD_BYTES_MAX],
            len: 0,
        };
        head.put(version);
        head
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends a byte.
    pub(crate) fn put(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// As [`put_number`].
    pub(crate) fn put_number(&mut self, value: u64) {
        each_byte(value, |byte| self.put(byte));
    }

    /// Appends a number of 4 bytes.
    pub(crate) fn put_mark(&mut self, value: u32) {
        self.bytes[self.len..self.len + 4].copy_from_slice(&value.to_le_bytes());
        self.len += 4;
    }

    /// As [`put_name`].
    pub(crate) fn put_name(&mut self, value: u64) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&value.to_le_bytes());
        self.len += 8;
    }
}

/// Appends a number whose upper bits are nearly random.
pub(crate) fn put_name(out: &mut Scratch, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The unread rest of a layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts after the version, if it is supported.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (_, reader) = Self::of_versions(bytes, RECORD_VERSION)?;
        Ok(reader)
    }

    /// The version, from the first to `newest`, and a reader after it.
    pub(crate) fn of_versions(bytes: &'a [u8], newest: u8) -> Result<(u8, Self), DecodeError> {
        match bytes.split_first() {
            Some((&version, _)) if version > newest => Err(DecodeError::Newer(version)),
            Some((&version, rest)) if version >= RECORD_VERSION => Ok((version, Self { rest })),
            _ => Err(DecodeError::Malformed("version")),
        }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            if part << shift >> shift != part {
                return Err(DecodeError::Malformed("number too long"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("number too long"))
    }

    pub(crate) fn number32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Malformed("number too large"))
    }

    pub(crate) fn mark(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.rest.first_chunk().ok_or(SHORT)?;
        self.rest = &self.rest[4..];
        Ok(u32::from_le_bytes(*bytes))
    }

    pub(crate) fn name(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.rest.first_chunk().ok_or(SHORT)?;
        self.rest = &self.rest[8..];
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A length whose bytes follow later.
    pub(crate) fn len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.number()?).map_err(|_| SHORT)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, len: usize) -> Result<&'a str, DecodeError> {
        core::str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::Malformed("UTF-8"))
    }

    /// A text of at most 65,535 bytes, the limit of MQTT.
    pub(crate) fn mqtt_text(&mut self, len: usize) -> Result<&'a str, DecodeError> {
        match len {
            0..=0xFFFF => self.text(len),
            _ => Err(DecodeError::Malformed("text too long")),
        }
    }

    /// The remaining bytes.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing remains.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(DecodeError::Malformed("bytes behind the end")),
        }
    }
}

const SHORT: DecodeError = DecodeError::Malformed("cut short");

/// A QoS from the lower two bits of flags.
pub(crate) fn qos_of(flags: u8) -> Result<QoS, DecodeError> {
    match flags & 3 {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(DecodeError::Malformed("QoS")),
    }
}

/// The flag's bit, if `set`.
pub(crate) fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_comes_back(value: u64) {
            let mut out = versioned();
            put_number(&mut out, value);
            let mut reader = Reader::new(&out).unwrap();
            prop_assert_eq!(reader.number(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_newer_version_is_named_and_not_taken_for_damage() {
        let newer = RECORD_VERSION + 1;
        assert_eq!(
            Reader::new(&[newer, 1]).unwrap_err(),
            DecodeError::Newer(newer)
        );
        assert_eq!(
            Reader::new(&[0, 1]).unwrap_err(),
            DecodeError::Malformed("version")
        );
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = vec![RECORD_VERSION];
        bytes.extend([0xFF; 9]);
        bytes.push(2);
        assert!(Reader::new(&bytes).unwrap().number().is_err());
    }
}
