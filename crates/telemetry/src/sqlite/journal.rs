//! Rows of the journal: values that are committed and not in blocks yet.

use crate::codec::{Broken, Reader, put_signed, put_unsigned};
use crate::codec::{checked, put_checksum};
use crate::value::{Instant, Sample, SeriesId, Value};

/// First byte of a row with a checksum. No other row begins so: each has a value.
const CHECKED: u8 = 0;

/// Encodes written values.
pub(crate) fn encode(rows: &[(SeriesId, Sample)]) -> Vec<u8> {
    let mut to = Vec::with_capacity(rows.len() * 16 + 16);
    to.push(CHECKED);
    put_unsigned(&mut to, rows.len() as u64);
    let (mut series, mut time) = (0_i64, 0_i64);
    for (number, sample) in rows {
        put_signed(&mut to, number.0.wrapping_sub(series));
        put_signed(&mut to, sample.at.time.wrapping_sub(time));
        (series, time) = (number.0, sample.at.time);
        let has_origin = u8::from(sample.at.origin != 0) << 7;
        let mut head = |kind: u8| to.push(kind | has_origin);
        match &sample.value {
            Value::Integer(_) => head(0),
            Value::Number(_) => head(1),
            Value::Bool(truth) => head(2 + u8::from(*truth)),
            Value::Text(_) => head(4),
            Value::Json(_) => head(5),
        }
        if has_origin != 0 {
            put_signed(&mut to, sample.at.origin);
        }
        match &sample.value {
            Value::Integer(number) => put_signed(&mut to, *number),
            Value::Number(number) => to.extend_from_slice(&number.to_le_bytes()),
            Value::Bool(_) => {}
            Value::Text(text) | Value::Json(text) => {
                put_unsigned(&mut to, text.len() as u64);
                to.extend_from_slice(text.as_bytes());
            }
        }
    }
    put_checksum(&mut to, &[]);
    to
}

/// The values of a row, in the order of writing.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<(SeriesId, Sample)>, Broken> {
    let bytes = match bytes.split_first() {
        Some((&CHECKED, _)) => &checked(bytes, &[])?[1..],
        _ => bytes,
    };
    let mut from = Reader::new(bytes);
    let count = from.count(24)?;
    let mut rows = Vec::with_capacity(count);
    let (mut series, mut time) = (0_i64, 0_i64);
    for _ in 0..count {
        series = series.wrapping_add(from.signed()?);
        time = time.wrapping_add(from.signed()?);
        let head = from.byte()?;
        let origin = match head & 0x80 {
            0 => 0,
            _ => from.signed()?,
        };
        let value = match head & 0x7f {
            0 => Value::Integer(from.signed()?),
            1 => {
                let bytes = from.bytes(8)?.try_into();
                Value::Number(f64::from_le_bytes(bytes.map_err(|_| Broken("a number"))?))
            }
            2 => Value::Bool(false),
            3 => Value::Bool(true),
            4 => Value::Text(from.text()?.into()),
            5 => Value::Json(from.text()?.into()),
            _ => return Err(Broken("the kind of a value is unknown")),
        };
        let at = Instant { time, origin };
        rows.push((SeriesId(series), Sample { at, value }));
    }
    match from.is_at_end() {
        true => Ok(rows),
        false => Err(Broken("it is too long")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::block::tests::value;

    proptest! {
        #[test]
        fn the_journal_gives_back_what_was_written(
            rows in prop::collection::vec(
                (any::<i64>(), any::<i64>(), any::<i64>(), value()), 0..99,
            ),
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(series, time, origin, value)| {
                (SeriesId(series), Sample { at: Instant { time, origin }, value })
            }).collect();
            let bytes = encode(&rows);
            prop_assert_eq!(&decode(&bytes).unwrap(), &rows);
            if !rows.is_empty() {
                // Also those of the version without checksums are read.
                prop_assert_eq!(decode(&bytes[1..bytes.len() - 4]).unwrap(), rows);
                for bit in 8..bytes.len() * 8 {
                    let mut flipped = bytes.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    prop_assert!(decode(&flipped).is_err(), "bit {}", bit);
                }
            }
        }
    }
}
