//! The data representations of MQTT: integers, Variable Byte Integers, strings, binary data.
//!
//! [`Reader`] reads the body of one packet and never beyond its end; the `put_` functions append
//! to a buffer. Both are independent of the meaning of a field. MQTT 5.0 §1.5.

use ascii::AsciiStr;

use crate::error::DecodeError;
use crate::header::MAX_REMAINING_LEN;
use crate::packet_id::PacketId;

/// A cursor over the body of one packet (or a part of it).
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the beginning of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all bytes are read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes not yet read.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next `len` bytes.
    ///
    /// # Errors
    /// Malformed when fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(past_end());
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// Malformed at the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return Err(past_end());
        };
        self.rest = rest;
        Ok(byte)
    }

    /// Reads a Two Byte Integer.
    ///
    /// # Errors
    /// Malformed when fewer than two bytes are left.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(past_end());
        };
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    /// Reads a Four Byte Integer.
    ///
    /// # Errors
    /// Malformed when fewer than four bytes are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(past_end());
        };
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Reads a Variable Byte Integer, at most [`MAX_REMAINING_LEN`].
    ///
    /// # Errors
    /// Malformed when it has more than four bytes, more than it needs [MQTT-1.5.5-1], or ends
    /// early.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for index in 0..4u32 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                if index > 0 && byte == 0 {
                    return Err(DecodeError::malformed(
                        "Variable Byte Integer takes more bytes than needed",
                        "MQTT-1.5.5-1",
                    ));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed(
            "Variable Byte Integer of more than four bytes",
            "MQTT-1.5.5-1",
        ))
    }

    /// Reads Binary Data: a two-byte length and as many bytes.
    ///
    /// # Errors
    /// Malformed when it runs past the end.
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Reads a UTF-8 Encoded String.
    ///
    /// # Errors
    /// Malformed when it runs past the end, is not UTF-8 [MQTT-1.5.4-1] or contains U+0000
    /// [MQTT-1.5.4-2]; U+FEFF is an ordinary character [MQTT-1.5.4-3].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = utf8(self.binary()?)?;
        if holds_any(text.as_bytes(), [0]) {
            return Err(nul_in_string());
        }
        Ok(text)
    }

    /// Reads a Packet Identifier.
    ///
    /// # Errors
    /// Malformed when it is zero [MQTT-2.2.1-3] or runs past the end.
    #[inline]
    pub fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?)
            .ok_or_else(|| DecodeError::malformed("Packet Identifier 0", "MQTT-2.2.1-3"))
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Malformed when bytes follow the last field.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes follow the last field", ""))
        }
    }
}

/// `bytes` as text; `None` if they are not UTF-8. Nearly all texts are short and ASCII. The check
/// for ASCII takes a third of the instructions of a check for UTF-8.
#[inline]
pub fn text_of(bytes: &[u8]) -> Option<&str> {
    match AsciiStr::from_ascii(bytes) {
        Ok(text) => Some(text.as_str()),
        Err(_) => simdutf8::basic::from_utf8(bytes).ok(),
    }
}

/// `bytes` as text of a packet.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    text_of(bytes).ok_or_else(|| DecodeError::malformed("string is not UTF-8", "MQTT-1.5.4-1"))
}

/// Whether one of `wanted` occurs in `bytes`.
///
/// Examines eight bytes at a time without an early exit: strings are short and rarely contain one.
/// When this is inlined, the compiler's own code would examine single bytes.
#[inline]
pub(crate) fn holds_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        found |= marks_any(u64::from_le_bytes(*word), wanted);
    }
    if !rest.is_empty() {
        // The last word overlaps the one before it.
        if let Some(word) = bytes.last_chunk::<8>() {
            found |= marks_any(u64::from_le_bytes(*word), wanted);
        } else {
            found |= u64::from(rest.iter().any(|byte| wanted.contains(byte)));
        }
    }
    found != 0
}

/// The lowest and the highest bit of each of eight bytes.
pub(crate) const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
pub(crate) const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Not 0 if one of `wanted` is among the eight bytes of `word`.
#[inline]
fn marks_any<const N: usize>(word: u64, wanted: [u8; N]) -> u64 {
    wanted.iter().fold(0, |marks, byte| {
        // A wanted byte becomes 0, and only a 0 borrows into its own highest bit first.
        let zero_if_wanted = word ^ (LOW_BITS * u64::from(*byte));
        marks | (zero_if_wanted.wrapping_sub(LOW_BITS) & !zero_if_wanted & HIGH_BITS)
    })
}

#[cold]
pub(crate) fn nul_in_string() -> DecodeError {
    DecodeError::malformed("string contains U+0000", "MQTT-1.5.4-2")
}

#[cold]
fn past_end() -> DecodeError {
    DecodeError::malformed("a field runs past the end of the packet", "")
}

/// Appends a Two Byte Integer.
#[inline]
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a Four Byte Integer.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a Variable Byte Integer; a larger value is written as [`MAX_REMAINING_LEN`].
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u32) {
    debug_assert!(
        value <= MAX_REMAINING_LEN,
        "no Variable Byte Integer holds {value}"
    );
    let mut value = value.min(MAX_REMAINING_LEN);
    while value >= 0x80 {
        out.push((value as u8 & 0x7F) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a Variable Byte Integer: 1 to 4.
#[inline]
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a UTF-8 Encoded String; text above 65,535 bytes is cut before the character that
/// crosses the bound.
#[inline]
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    put_binary(out, &text.as_bytes()[..end]);
}

/// Appends Binary Data; bytes beyond 65,535 are cut off.
#[inline]
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(out, len);
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

/// Appends the output of `body`, prefixed with its length as a Variable Byte Integer.
///
/// The bytes are moved once to make room for the length. For the hot packets the length is
/// computed in advance instead.
pub(crate) fn put_with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Nearly all bodies are shorter than 128 bytes: then nothing is moved.
    out.push(0);
    body(out);
    let len = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    let extra = varint_len(len) - 1;
    if extra > 0 {
        let end = out.len();
        out.resize(end + extra, 0);
        out.copy_within(start + 1..end, start + 1 + extra);
    }
    let mut rest = len.min(MAX_REMAINING_LEN);
    for byte in &mut out[start..=start + extra] {
        *byte = (rest as u8 & 0x7F) | 0x80;
        rest >>= 7;
    }
    out[start + extra] &= 0x7F;
}

#[cfg(test)]
mod tests {
    use super::holds_any;

    #[test]
    fn a_wanted_byte_is_found_at_every_place_of_every_length() {
        for fill in [0x01, 0x22, 0x24, 0x2A, 0x2C, 0x7F, 0x80, 0xAB, 0xFF] {
            for len in 0..40 {
                let mut bytes = vec![fill; len];
                assert!(
                    !holds_any(&bytes, [0, b'+', b'#']),
                    "{len} times {fill:02X}"
                );
                for index in 0..len {
                    for wanted in [0, b'+', b'#'] {
                        bytes[index] = wanted;
                        assert!(
                            holds_any(&bytes, [0, b'+', b'#']),
                            "{wanted} at {index} of {len}"
                        );
                        assert_eq!(holds_any(&bytes, [0]), wanted == 0);
                    }
                    bytes[index] = fill;
                }
            }
        }
    }
}
