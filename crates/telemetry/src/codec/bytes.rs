//! Numbers of variable length.

/// The bytes are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// Appends a number, 7 bits per byte, the lowest first.
pub(crate) fn put_unsigned(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Appends a signed number. Numbers near 0 are short, regardless of their sign.
pub(crate) fn put_signed(to: &mut Vec<u8>, number: i64) {
    put_unsigned(to, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Reads encoded values.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.rest.split_first().ok_or(Broken("it is too short"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let split = self.rest.split_at_checked(count);
        let (taken, rest) = split.ok_or(Broken("it is too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, Broken> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken("a number is too long"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Broken> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// How many items follow; each takes at least `bits` bits, so that damaged bytes do not make
    /// memory be reserved for more.
    pub(crate) fn count(&mut self, bits: usize) -> Result<usize, Broken> {
        let number = self.unsigned()?;
        let most = self.rest.len().saturating_mul(8) / bits.max(1);
        match usize::try_from(number) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(Broken("a count is too large")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Broken> {
        let count = self.count(8)?;
        str::from_utf8(self.bytes(count)?).map_err(|_| Broken("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(
            unsigned: u64, signed: i64,
        ) {
            let mut bytes = Vec::new();
            put_unsigned(&mut bytes, unsigned);
            put_signed(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.unsigned(), Ok(unsigned));
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert!(reader.is_at_end());
        }
    }
}
