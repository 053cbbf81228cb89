//! Roll-ups: sums of the values of a minute, an hour or a day.

use crate::bucket::Level;
use crate::codec::columns::{put_integers, put_numbers, read_integers, read_numbers};
use crate::codec::{Broken, Reader, put_unsigned};
use crate::codec::{checked, put_checksum};
use crate::value::{DAY, Sample, Time, Value, day_of};

/// A level is stored if its entries have at least this number of values each, on average.
/// Otherwise reading the values costs as little, and the entries would be larger than the values.
const SAMPLES_PER_ENTRY: usize = 8;

/// Integers up to here are exact as floating point numbers.
const EXACT: u64 = 1 << 53;

/// Sums of the numbers of a span. All are of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpanSums {
    /// Start of the span.
    pub(crate) start: Time,
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) first_time: Time,
    pub(crate) first: f64,
    pub(crate) last_time: Time,
    pub(crate) last: f64,
}

/// Kind of the numbers of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberKind {
    Integer,
    Number,
    Bool,
}

impl NumberKind {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) if number.unsigned_abs() <= EXACT => Some(Self::Integer),
            Value::Number(_) => Some(Self::Number),
            Value::Bool(_) => Some(Self::Bool),
            Value::Integer(_) | Value::Text(_) | Value::Json(_) => None,
        }
    }

    /// The original value of a number.
    pub(crate) fn value(self, number: f64) -> Value {
        match self {
            Self::Integer => Value::Integer(number as i64),
            Self::Number => Value::Number(number),
            Self::Bool => Value::Bool(number != 0.0),
        }
    }
}

impl SpanSums {
    fn new(start: Time, time: Time, number: f64) -> Self {
        Self {
            start,
            count: 0,
            sum: 0.0,
            min: number,
            max: number,
            first_time: time,
            first: number,
            last_time: time,
            last: number,
        }
    }

    fn add(&mut self, time: Time, number: f64) {
        self.count += 1;
        self.sum += number;
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self.last_time = time;
        self.last = number;
    }
}

/// Builds the roll-ups of a day, one sample after the other.
#[derive(Debug, Default)]
pub(crate) struct DayRoller {
    kind: Option<NumberKind>,
    has_others: bool,
    samples: usize,
    levels: [Vec<SpanSums>; 3],
}

impl DayRoller {
    pub(crate) fn add(&mut self, sample: &Sample) {
        let (Some(kind), Some(number)) = (NumberKind::of(&sample.value), sample.value.number())
        else {
            self.has_others = true;
            return;
        };
        self.has_others |= *self.kind.get_or_insert(kind) != kind;
        self.samples += 1;
        let time = sample.at.time;
        for level in Level::ALL {
            let start = time.div_euclid(level.length()) * level.length();
            let entries = &mut self.levels[level as usize];
            if entries.last().is_none_or(|last| last.start != start) {
                entries.push(SpanSums::new(start, time, number));
            }
            if let Some(last) = entries.last_mut() {
                last.add(time, number);
            }
        }
    }

    /// The bytes of each worthwhile level. None if the values are not numbers of one kind, or if
    /// their sum is too large for a number.
    pub(crate) fn end(self) -> Vec<(Level, Vec<u8>)> {
        let Some(kind) = self.kind.filter(|_| !self.has_others) else {
            return Vec::new();
        };
        let is_finite = |entry: &SpanSums| entry.sum.is_finite();
        if !self.levels[Level::Day as usize].iter().all(is_finite) {
            return Vec::new();
        }
        let levels = Level::ALL.into_iter().zip(self.levels);
        let samples = self.samples;
        levels
            .filter(|(level, entries)| {
                *level == Level::Day || samples >= entries.len() * SAMPLES_PER_ENTRY
            })
            .map(|(level, entries)| (level, encode(kind, level, &entries)))
            .collect()
    }
}

/// In the first byte: there is a checksum at the end.
const CHECKED: u8 = 0x10;

fn encode(kind: NumberKind, level: Level, entries: &[SpanSums]) -> Vec<u8> {
    let mut to = vec![kind as u8 | CHECKED];
    put_unsigned(&mut to, entries.len() as u64);
    let index = |entry: &SpanSums| (entry.start.rem_euclid(DAY)) / level.length();
    put_integers(&mut to, entries.iter().map(index));
    put_integers(&mut to, entries.iter().map(|entry| entry.count as i64));
    put_integers(
        &mut to,
        entries.iter().map(|entry| entry.first_time - entry.start),
    );
    put_integers(
        &mut to,
        entries.iter().map(|entry| entry.last_time - entry.start),
    );
    let columns: [fn(&SpanSums) -> f64; 5] = [
        |entry| entry.sum,
        |entry| entry.min,
        |entry| entry.max,
        |entry| entry.first,
        |entry| entry.last,
    ];
    for column in columns {
        put_numbers(&mut to, &entries.iter().map(column).collect::<Vec<_>>());
    }
    let day = entries.first().map_or(0, |entry| day_of(entry.start));
    put_checksum(&mut to, &[level.number(), day]);
    to
}

/// The entries of a day.
pub(crate) fn decode(
    bytes: &[u8],
    level: Level,
    day: i64,
) -> Result<(NumberKind, Vec<SpanSums>), Broken> {
    let bytes = match bytes.first() {
        Some(first) if first & CHECKED > 0 => checked(bytes, &[level.number(), day])?,
        _ => bytes,
    };
    let mut from = Reader::new(bytes);
    let kind = match from.byte()? & !CHECKED {
        0 => NumberKind::Integer,
        1 => NumberKind::Number,
        2 => NumberKind::Bool,
        _ => return Err(Broken("the kind of its numbers is unknown")),
    };
    let count = from.count(8)?;
    let index = read_integers(&mut from, count)?;
    let counts = read_integers(&mut from, count)?;
    let firsts = read_integers(&mut from, count)?;
    let lasts = read_integers(&mut from, count)?;
    let mut columns = [const { Vec::new() }; 5];
    for column in &mut columns {
        *column = read_numbers(&mut from, count)?;
    }
    let [sums, mins, maxs, first, last] = columns;
    let begin = day.wrapping_mul(DAY);
    let entry = |at: usize| {
        let start = begin.wrapping_add(index[at].wrapping_mul(level.length()));
        SpanSums {
            start,
            count: counts[at] as u64,
            sum: sums[at],
            min: mins[at],
            max: maxs[at],
            first_time: start.wrapping_add(firsts[at]),
            first: first[at],
            last_time: start.wrapping_add(lasts[at]),
            last: last[at],
        }
    };
    if !from.is_at_end() {
        return Err(Broken("it is too long"));
    }
    let entries: Vec<_> = (0..count).map(entry).collect();
    match entries.iter().all(|entry| day_of(entry.start) == day) {
        true => Ok((kind, entries)),
        false => Err(Broken("an entry is of another day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{HOUR, Instant, MINUTE, SECOND};

    fn sample(time: Time, value: Value) -> Sample {
        let at = Instant { time, origin: 0 };
        Sample { at, value }
    }

    #[test]
    fn a_day_is_summed_up_per_minute_hour_and_day() {
        let begin = 20_000 * DAY;
        let mut roller = DayRoller::default();
        for second in 0..7200 {
            let time = begin + HOUR + second * SECOND;
            roller.add(&sample(time, Value::Integer(second % 60)));
        }
        let levels = roller.end();
        let lengths: Vec<_> = levels
            .iter()
            .map(|(level, bytes)| {
                for bit in 0..bytes.len() * 8 {
                    let mut flipped = bytes.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    assert!(decode(&flipped, *level, 20_000).is_err(), "bit {bit}");
                }
                let (kind, entries) = decode(bytes, *level, 20_000).unwrap();
                assert_eq!(kind, NumberKind::Integer);
                let count: u64 = entries.iter().map(|entry| entry.count).sum();
                assert_eq!(count, 7200);
                let first = &entries[0];
                assert_eq!((first.min, first.max), (0.0, 59.0));
                assert_eq!(first.first_time, begin + HOUR);
                entries.len()
            })
            .collect();
        assert_eq!(lengths, [120, 2, 1]);
    }

    #[test]
    fn rare_values_have_only_the_sum_of_the_day_and_texts_have_none() {
        let mut roller = DayRoller::default();
        for minute in 0..20 {
            roller.add(&sample(minute * 7 * MINUTE, Value::Bool(minute % 2 == 0)));
        }
        let levels: Vec<_> = roller.end().into_iter().map(|(level, _)| level).collect();
        assert_eq!(levels, [Level::Day]);
        let mut roller = DayRoller::default();
        roller.add(&sample(0, Value::Number(1.5)));
        roller.add(&sample(1, Value::Text("x".into())));
        assert!(roller.end().is_empty());
    }
}
