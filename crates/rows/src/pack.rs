//! Columns of integers as bytes, and back. A column that is constant or grows by one step costs two
//! or three bytes for all its rows; any other costs the differences of neighbours, or the values,
//! as variable-length integers, whichever is shorter.
//!
//! Decoding believes nothing: bytes that did not come from here give `None`, never a panic.

/// All rows have the same value.
const CONSTANT: u8 = 0;
/// Each row is the one before plus a step.
const STEP: u8 = 1;
/// Differences of neighbours.
const DIFFERENCES: u8 = 2;
/// The values themselves.
const VALUES: u8 = 3;

/// Appends a variable-length integer: seven bits a byte, lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a variable-length integer off the front of `input`; `None` if it is cut short or too long.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    match **input {
        // Most are short.
        [byte @ ..0x80, ref rest @ ..] => {
            *input = rest;
            Some(u64::from(byte))
        }
        _ => take_long_varint(input),
    }
}

fn take_long_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `to` as what it differs from `from`: short if that is little, in either direction.
pub fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    put_varint(out, zigzag(to.wrapping_sub(from)));
}

/// Reads what [`put_difference`] appended; `None` as [`take_varint`].
pub fn take_difference(input: &mut &[u8], from: u64) -> Option<u64> {
    Some(from.wrapping_add(unzigzag(take_varint(input)?)))
}

/// Differences are small in both directions: the sign goes to the lowest bit.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (((difference as i64) >> 63) as u64)
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn pack_column(out: &mut Vec<u8>, values: impl Iterator<Item = u64> + Clone) {
    let mut rest = values.clone();
    let Some(first) = rest.next() else { return };
    let mut last = first;
    let mut step = None;
    let mut even = true;
    let (mut as_differences, mut as_values) = (varint_bytes(first), varint_bytes(first));
    for value in rest {
        let difference = value.wrapping_sub(last);
        even &= *step.get_or_insert(difference) == difference;
        as_differences += varint_bytes(zigzag(difference));
        as_values += varint_bytes(value);
        last = value;
    }
    let step = step.unwrap_or(0);
    if even {
        out.push(if step == 0 { CONSTANT } else { STEP });
        put_varint(out, first);
        if step != 0 {
            put_varint(out, zigzag(step));
        }
    } else if as_differences <= as_values {
        out.push(DIFFERENCES);
        put_varint(out, first);
        let mut last = first;
        for value in values.skip(1) {
            put_varint(out, zigzag(value.wrapping_sub(last)));
            last = value;
        }
    } else {
        out.push(VALUES);
        values.for_each(|value| put_varint(out, value));
    }
}

/// Takes a column of `count` values off the front of `input`, giving each with its index until
/// `each` says stop by `false`; then the rest of `input` is undefined.
#[inline]
pub(crate) fn unpack_column(
    input: &mut &[u8],
    count: usize,
    mut each: impl FnMut(usize, u64) -> bool,
) -> Option<()> {
    let (&kind, rest) = input.split_first()?;
    *input = rest;
    let mut value = take_varint(input)?;
    let step = match kind {
        STEP => unzigzag(take_varint(input)?),
        CONSTANT | DIFFERENCES | VALUES => 0,
        _ => return None,
    };
    match kind {
        CONSTANT | STEP => {
            for index in 0..count {
                if !each(index, value) {
                    break;
                }
                value = value.wrapping_add(step);
            }
        }
        _ => {
            for index in 0..count {
                if index > 0 {
                    let next = take_varint(input)?;
                    value = match kind {
                        DIFFERENCES => value.wrapping_add(unzigzag(next)),
                        _ => next,
                    };
                }
                if !each(index, value) {
                    break;
                }
            }
        }
    }
    Some(())
}
