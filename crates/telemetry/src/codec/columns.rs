//! Columns of numbers, each compressed by the similarity of neighbours.

use super::{Broken, Reader, put_signed, put_unsigned};

/// Integers: the first one, then differences.
pub(crate) fn put_integers(to: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let mut previous = 0;
    for number in numbers {
        put_signed(to, number.wrapping_sub(previous));
        previous = number;
    }
}

pub(crate) fn read_integers(from: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Broken> {
    let mut numbers = Vec::with_capacity(count);
    let mut previous = 0_i64;
    for _ in 0..count {
        previous = previous.wrapping_add(from.signed()?);
        numbers.push(previous);
    }
    Ok(numbers)
}

/// Units of times: whole seconds or milliseconds are stored in that unit.
const UNITS: [i64; 3] = [1_000_000, 1_000, 1];

/// Times: their unit, the first one, and the difference of each step from the one before. Steps of
/// a regular sensor take one byte.
pub(crate) fn put_times(to: &mut Vec<u8>, times: impl Iterator<Item = i64> + Clone) {
    let fits = |unit: &&i64| times.clone().all(|time| time % **unit == 0);
    let unit = *UNITS.iter().find(fits).unwrap_or(&1);
    to.push(match unit {
        1_000_000 => 0,
        1_000 => 1,
        _ => 2,
    });
    let (mut previous, mut step) = (0_i64, 0_i64);
    for (index, time) in times.enumerate() {
        let time = time / unit;
        let new = time.wrapping_sub(previous);
        put_signed(to, new.wrapping_sub(step));
        // The first time has no step.
        step = if index == 0 { 0 } else { new };
        previous = time;
    }
}

pub(crate) fn read_times(from: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Broken> {
    let unit = UNITS.get(usize::from(from.byte()?));
    let unit = *unit.ok_or(Broken("the unit of its times is unknown"))?;
    let mut times = Vec::with_capacity(count);
    let (mut previous, mut step) = (0_i64, 0_i64);
    for index in 0..count {
        let new = from.signed()?.wrapping_add(step);
        previous = previous.wrapping_add(new);
        step = if index == 0 { 0 } else { new };
        times.push(previous.wrapping_mul(unit));
    }
    Ok(times)
}

/// Numbers are stored as XOR of neighbours.
const XOR: u8 = 255;
/// Factors of the decimal places that are tried.
const DECIMALS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Integers up to here are exact as floating point numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The number scaled by a power of ten, if the conversion is exact to the last bit.
fn scaled(number: f64, factor: f64) -> Option<i64> {
    let scaled = (number * factor).round();
    if scaled.abs() >= EXACT {
        return None;
    }
    let whole = scaled as i64;
    ((whole as f64 / factor).to_bits() == number.to_bits()).then_some(whole)
}

/// Floating point numbers, lossless. Numbers of sensors usually have few decimal places and are
/// stored as integers. Others are stored as XOR with the one before, without its zero bytes.
pub(crate) fn put_numbers(to: &mut Vec<u8>, numbers: &[f64]) {
    let begin = to.len();
    let mut from = 0;
    for (decimals, factor) in DECIMALS.iter().enumerate() {
        // Numbers that fit fewer places nearly always fit more places too: the check begins at the
        // first number that did not fit.
        let fits = |number: &f64| scaled(*number, *factor).is_some();
        match numbers[from..].iter().position(|number| !fits(number)) {
            Some(at) => from += at,
            None if numbers.iter().all(fits) => {
                to.push(u8::try_from(decimals).unwrap_or(XOR));
                let whole = numbers.iter().filter_map(|number| scaled(*number, *factor));
                put_integers(to, whole);
                return;
            }
            None => break,
        }
    }
    to.truncate(begin);
    to.push(XOR);
    let mut previous = 0_u64;
    for number in numbers {
        let bits = number.to_bits();
        let changed = bits ^ previous;
        previous = bits;
        put_changed(to, changed);
    }
}

/// One byte with the number of zero bytes at each end, then the other bytes.
fn put_changed(to: &mut Vec<u8>, changed: u64) {
    let high = changed.leading_zeros() / 8;
    let low = if changed == 0 {
        0
    } else {
        changed.trailing_zeros() / 8
    };
    to.push(u8::try_from(high << 4 | low).unwrap_or(0));
    let bytes = changed.to_be_bytes();
    to.extend_from_slice(&bytes[high as usize..8 - low as usize]);
}

pub(crate) fn read_numbers(from: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Broken> {
    let mode = from.byte()?;
    if mode == XOR {
        return read_changed(from, count);
    }
    let factor = DECIMALS.get(usize::from(mode));
    let factor = *factor.ok_or(Broken("the form of its numbers is unknown"))?;
    let whole = read_integers(from, count)?;
    Ok(whole
        .into_iter()
        .map(|whole| whole as f64 / factor)
        .collect())
}

fn read_changed(from: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Broken> {
    let mut numbers = Vec::with_capacity(count);
    let mut previous = 0_u64;
    for _ in 0..count {
        let zeros = from.byte()?;
        let (high, low) = (usize::from(zeros >> 4), usize::from(zeros & 0xf));
        let length = 8_usize.checked_sub(high + low);
        let given = from.bytes(length.ok_or(Broken("a number is too long"))?)?;
        let mut bytes = [0; 8];
        bytes[high..8 - low].copy_from_slice(given);
        previous ^= u64::from_be_bytes(bytes);
        numbers.push(f64::from_bits(previous));
    }
    Ok(numbers)
}

/// Booleans, eight per byte.
pub(crate) fn put_bools(to: &mut Vec<u8>, bools: &[bool]) {
    for eight in bools.chunks(8) {
        let byte = eight.iter().rev();
        to.push(byte.fold(0, |byte, truth| byte << 1 | u8::from(*truth)));
    }
}

pub(crate) fn read_bools(from: &mut Reader<'_>, count: usize) -> Result<Vec<bool>, Broken> {
    let bytes = from.bytes(count.div_ceil(8))?;
    let truth = |index: usize| bytes[index / 8] >> (index % 8) & 1 == 1;
    Ok((0..count).map(truth).collect())
}

/// Texts: their length plus one and their bytes; 0 means the same as before.
pub(crate) fn put_texts(to: &mut Vec<u8>, texts: &[&str]) {
    let mut previous = None;
    for text in texts {
        if previous == Some(text) {
            to.push(0);
            continue;
        }
        put_unsigned(to, text.len() as u64 + 1);
        to.extend_from_slice(text.as_bytes());
        previous = Some(text);
    }
}

pub(crate) fn read_texts<'a>(from: &mut Reader<'a>, count: usize) -> Result<Vec<&'a str>, Broken> {
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        let text = match from.unsigned()?.checked_sub(1) {
            None => *texts.last().ok_or(Broken("its first text is missing"))?,
            Some(length) => {
                let length = usize::try_from(length).map_err(|_| Broken("a text is too long"))?;
                let bytes = from.bytes(length)?;
                str::from_utf8(bytes).map_err(|_| Broken("a text is not UTF-8"))?
            }
        };
        texts.push(text);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        let decimal = (-1_000_000_i32..1_000_000, 0..9_i32)
            .prop_map(|(whole, places)| f64::from(whole) / 10_f64.powi(places));
        prop_oneof![
            decimal,
            any::<f64>().prop_filter("finite", |number| number.is_finite()),
            Just(-0.0),
            Just(f64::MAX),
        ]
    }

    proptest! {
        #[test]
        fn numbers_come_back_to_the_last_bit(
            numbers in prop::collection::vec(number(), 0..50),
        ) {
            let mut bytes = Vec::new();
            put_numbers(&mut bytes, &numbers);
            let read = read_numbers(&mut Reader::new(&bytes), numbers.len()).unwrap();
            let bits = |numbers: &[f64]| -> Vec<u64> {
                numbers.iter().map(|number| number.to_bits()).collect()
            };
            prop_assert_eq!(bits(&read), bits(&numbers));
        }

        #[test]
        fn times_and_integers_come_back(numbers in prop::collection::vec(any::<i64>(), 0..50)) {
            let mut bytes = Vec::new();
            put_integers(&mut bytes, numbers.iter().copied());
            put_times(&mut bytes, numbers.iter().copied());
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(&read_integers(&mut reader, numbers.len()).unwrap(), &numbers);
            prop_assert_eq!(&read_times(&mut reader, numbers.len()).unwrap(), &numbers);
            prop_assert!(reader.is_at_end());
        }
    }

    #[test]
    fn a_steady_sensor_takes_two_or_three_bytes_per_value() {
        let times = (0..100).map(|second| 1_700_000_000_000_000 + second * 1_000_000);
        let numbers: Vec<_> = (0..100).map(|n| f64::from(2150 + n % 7) / 100.0).collect();
        let mut bytes = Vec::new();
        put_times(&mut bytes, times);
        put_numbers(&mut bytes, &numbers);
        assert!(bytes.len() < 250, "{}", bytes.len());
    }
}
