//! Blocks: consecutive samples of a series, stored by column.

use super::columns::{
    put_bools, put_integers, put_numbers, put_texts, put_times, read_bools, read_integers,
    read_numbers, read_texts, read_times,
};
use super::{Broken, Reader, put_unsigned};
use super::{checked, put_checksum};
use crate::value::{Instant, Sample, SeriesId, Value};

/// The first byte of a block.
const VERSION: u8 = 2;
/// The first byte of a block without a checksum.
const UNCHECKED: u8 = 1;

/// Maximum bytes of a block; larger ones are split. A row of this size fits into its page of
/// SQLite (pages of 4 KiB: 1,002 bytes), so that reading a day reads consecutive pages.
const BYTES_MAX: usize = 900;
/// Maximum samples of a block, so that merging one late value stays cheap.
const SAMPLES_MAX: usize = 1_024;
/// A block with this number of bytes is full: later samples begin a new one.
pub(crate) const FULL_BYTES: usize = 700;

/// Kind of a column with different kinds: then each sample has its own.
const MIXED: u8 = 255;

fn kind(value: &Value) -> u8 {
    match value {
        Value::Integer(_) => 0,
        Value::Number(_) => 1,
        Value::Bool(_) => 2,
        Value::Text(_) => 3,
        Value::Json(_) => 4,
    }
}

/// Whether a block of this number of bytes and samples is full.
pub(crate) fn is_full(bytes: usize, samples: usize) -> bool {
    bytes >= FULL_BYTES || samples >= SAMPLES_MAX
}

/// Packs ordered, non-empty samples of a series into as few blocks as possible. Returns each with
/// its number of samples.
pub(crate) fn pack(series: SeriesId, mut samples: &[Sample]) -> Vec<(usize, Vec<u8>)> {
    let mut blocks = Vec::new();
    // Each attempt encodes twice what the last block has: of long texts very few fit.
    let mut first_attempt = SAMPLES_MAX;
    while !samples.is_empty() {
        let most = samples.len().min(SAMPLES_MAX);
        let mut count = most.min(first_attempt);
        let mut bytes = encode(&samples[..count]);
        while bytes.len() <= BYTES_MAX && count < most {
            count = most.min(2 * count);
            bytes = encode(&samples[..count]);
        }
        while bytes.len() > BYTES_MAX && count > 1 {
            // Somewhat fewer than would fit if all took the same space.
            count = (count * BYTES_MAX / bytes.len() * 15 / 16).clamp(1, count - 1);
            bytes = encode(&samples[..count]);
        }
        put_checksum(&mut bytes, &[series.0]);
        blocks.push((count, bytes));
        first_attempt = 2 * count;
        samples = &samples[count..];
    }
    blocks
}

/// The bytes of one block, without its checksum.
fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut to = Vec::with_capacity(samples.len() * 4 + 32);
    to.push(VERSION);
    put_unsigned(&mut to, samples.len() as u64);
    put_times(&mut to, samples.iter().map(|sample| sample.at.time));
    let has_origins = samples.iter().any(|sample| sample.at.origin != 0);
    to.push(u8::from(has_origins));
    if has_origins {
        put_integers(&mut to, samples.iter().map(|sample| sample.at.origin));
    }
    let first = samples.first().map_or(0, |sample| kind(&sample.value));
    let same = samples.iter().all(|sample| kind(&sample.value) == first);
    to.push(if same { first } else { MIXED });
    if !same {
        to.extend(samples.iter().map(|sample| kind(&sample.value)));
    }
    put_values(&mut to, samples);
    to
}

fn put_values(to: &mut Vec<u8>, samples: &[Sample]) {
    let mut numbers = Vec::new();
    let mut integers = Vec::new();
    let mut bools = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    for sample in samples {
        match &sample.value {
            Value::Integer(value) => integers.push(*value),
            Value::Number(value) => numbers.push(*value),
            Value::Bool(value) => bools.push(*value),
            Value::Text(value) | Value::Json(value) => texts.push(value),
        }
    }
    put_integers(to, integers.into_iter());
    if !numbers.is_empty() {
        put_numbers(to, &numbers);
    }
    put_bools(to, &bools);
    put_texts(to, &texts);
}

/// The samples of a block of a series.
pub(crate) fn decode(series: SeriesId, bytes: &[u8]) -> Result<Vec<Sample>, Broken> {
    let bytes = match bytes.first() {
        Some(&VERSION) => checked(bytes, &[series.0])?,
        Some(&UNCHECKED) => bytes,
        _ => return Err(Broken("it is of an unknown version")),
    };
    let mut from = Reader::new(bytes);
    from.byte()?;
    // A sample takes at least one byte, for its time.
    let count = from.count(8)?;
    let times = read_times(&mut from, count)?;
    let origins = match from.byte()? {
        0 => None,
        _ => Some(read_integers(&mut from, count)?),
    };
    let values = read_values(&mut from, count)?;
    if !from.is_at_end() {
        return Err(Broken("it is too long"));
    }
    let samples = times.into_iter().zip(values).enumerate();
    Ok(samples
        .map(|(index, (time, value))| Sample {
            at: Instant {
                time,
                origin: origins.as_ref().map_or(0, |origins| origins[index]),
            },
            value,
        })
        .collect())
}

fn read_values(from: &mut Reader<'_>, count: usize) -> Result<Vec<Value>, Broken> {
    let same = from.byte()?;
    match same {
        0 => return Ok(wrap(read_integers(from, count)?, Value::Integer)),
        1 if count > 0 => return Ok(wrap(read_numbers(from, count)?, Value::Number)),
        2 => return Ok(wrap(read_bools(from, count)?, Value::Bool)),
        3 => {
            return Ok(wrap(read_texts(from, count)?, |text| {
                Value::Text(text.into())
            }));
        }
        4 => {
            return Ok(wrap(read_texts(from, count)?, |text| {
                Value::Json(text.into())
            }));
        }
        MIXED => {}
        _ => return Err(Broken("the kind of its values is unknown")),
    }
    let kinds = from.bytes(count)?;
    let count_of = |wanted: &[u8]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
    let mut integers = read_integers(from, count_of(&[0]))?.into_iter();
    let numbers = match count_of(&[1]) {
        0 => Vec::new(),
        count => read_numbers(from, count)?,
    };
    let mut numbers = numbers.into_iter();
    let mut bools = read_bools(from, count_of(&[2]))?.into_iter();
    let mut texts = read_texts(from, count_of(&[3, 4]))?.into_iter();
    let value = |kind: &u8| match kind {
        0 => integers.next().map(Value::Integer),
        1 => numbers.next().map(Value::Number),
        2 => bools.next().map(Value::Bool),
        3 => texts.next().map(|text| Value::Text(text.into())),
        4 => texts.next().map(|text| Value::Json(text.into())),
        _ => None,
    };
    let values: Option<Vec<_>> = kinds.iter().map(value).collect();
    values.ok_or(Broken("the kind of a value is unknown"))
}

fn wrap<T>(items: Vec<T>, kind: impl Fn(T) -> Value) -> Vec<Value> {
    items.into_iter().map(kind).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            (-1000..1000_i32).prop_map(|whole| Value::Number(f64::from(whole) / 8.0)),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(Value::Number),
            any::<bool>().prop_map(Value::Bool),
            "[a-zä]{0,5}".prop_map(|text| Value::Text(text.into())),
            (0..99).prop_map(|whole| Value::Json(format!("[{whole}]").into())),
        ]
    }

    proptest! {
        #[test]
        fn blocks_give_back_what_was_packed(
            samples in prop::collection::vec(
                (any::<i64>(), prop_oneof![Just(0), any::<i64>()], value()), 1..2000,
            ),
        ) {
            let samples: Vec<_> = samples.into_iter().map(|(time, origin, value)| Sample {
                at: Instant { time, origin }, value,
            }).collect();
            let mut read = Vec::new();
            for (count, bytes) in pack(SeriesId(7), &samples) {
                let block = decode(SeriesId(7), &bytes).unwrap();
                prop_assert_eq!(block.len(), count);
                prop_assert!(bytes.len() <= BYTES_MAX + 4 || count == 1);
                // Also those of the version without checksums are read.
                let mut unchecked = bytes[..bytes.len() - 4].to_vec();
                unchecked[0] = UNCHECKED;
                prop_assert_eq!(&decode(SeriesId(8), &unchecked).unwrap(), &block);
                read.extend(block);
            }
            prop_assert_eq!(read, samples);
        }

        #[test]
        fn damaged_blocks_without_checksums_are_errors_or_other_samples(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut whole = vec![UNCHECKED];
            whole.extend(bytes);
            let _ = decode(SeriesId(7), &whole);
        }
    }

    #[test]
    fn blocks_of_numbers_are_as_full_behind_long_texts() {
        let sample = |(time, value)| Sample {
            at: Instant { time, origin: 0 },
            value,
        };
        let texts = (0..20).map(|time| (time, Value::Text(format!("{time:03000}").into())));
        let texts: Vec<_> = texts.map(sample).collect();
        let numbers = (20..5_000).map(|time| (time, Value::Integer(time % 7)));
        let numbers: Vec<_> = numbers.map(sample).collect();
        let count = |samples: &[Sample]| pack(SeriesId(7), samples).len();
        assert_eq!(count(&texts), 20);
        let both = count(&[texts, numbers.clone()].concat());
        assert!(both <= 20 + count(&numbers) + 1, "{both}");
    }

    #[test]
    fn each_flipped_bit_of_a_block_is_found() {
        let sample = |at: i64| Sample {
            at: Instant {
                time: at * 1_000_000,
                origin: 0,
            },
            value: Value::Number(20.5 + (at % 3) as f64),
        };
        let samples: Vec<Sample> = (0..50).map(sample).collect();
        let (_, bytes) = pack(SeriesId(7), &samples).remove(0);
        assert!(decode(SeriesId(8), &bytes).is_err(), "of another series");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(SeriesId(7), &flipped).is_err(), "bit {bit}");
        }
    }
}
