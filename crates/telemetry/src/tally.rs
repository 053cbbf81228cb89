//! Aggregates the values of one bucket.

use std::cmp::Ordering;

use crate::StorageError;
use crate::function::Function;
use crate::rollup::{NumberKind, SpanSums};
use crate::value::{SECOND, Sample, Time, Value};

/// Maximum numbers of a bucket that are sorted for a percentile.
const SORTED_MAX: usize = 1_000_000;

/// Aggregates the values of one bucket. They must be added in order of time.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    first: Option<Value>,
    last: Option<Value>,
    numbers: Option<Numbers>,
    /// All numbers, if a function needs them.
    all: Option<AllNumbers>,
}

/// All numbers of a bucket.
#[derive(Debug)]
enum AllNumbers {
    /// Each is an integer.
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

#[derive(Debug)]
struct Numbers {
    count: u64,
    sum: f64,
    /// The exact sum, while all of them are integers.
    whole_sum: Option<i128>,
    /// As it was sent: not each integer is exact as a floating point number.
    min: Value,
    max: Value,
    first: (Time, Value),
    last: (Time, Value),
}

impl Tally {
    pub(crate) fn new(keeps_all: bool) -> Self {
        Self {
            all: keeps_all.then(|| AllNumbers::Whole(Vec::new())),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, sample: Sample) -> Result<(), StorageError> {
        self.count += 1;
        if let Some(number) = sample.value.number() {
            let (value, whole_sum) = match sample.value {
                Value::Integer(whole) => (Value::Integer(whole), Some(i128::from(whole))),
                _ => (Value::Number(number), None),
            };
            self.add_numbers(Numbers {
                count: 1,
                sum: number,
                whole_sum,
                min: value.clone(),
                max: value.clone(),
                first: (sample.at.time, value.clone()),
                last: (sample.at.time, value.clone()),
            });
            if let Some(all) = &mut self.all {
                if all.len() >= SORTED_MAX {
                    return Err(StorageError::Query(format!(
                        "a bucket has more than {SORTED_MAX} numbers, too many for a percentile; \
                         use shorter buckets"
                    )));
                }
                all.push(&value, number);
            }
        }
        if self.first.is_none() {
            self.first = Some(sample.value.clone());
        }
        self.last = Some(sample.value);
        Ok(())
    }

    /// Adds a roll-up entry. It is entirely in this bucket.
    pub(crate) fn add_sums(&mut self, kind: NumberKind, sums: &SpanSums) {
        self.count += sums.count;
        let value = |number| match kind {
            NumberKind::Integer => kind.value(number),
            NumberKind::Number | NumberKind::Bool => Value::Number(number),
        };
        let is_exact = kind == NumberKind::Integer && sums.sum.abs() <= EXACT_MAX;
        self.add_numbers(Numbers {
            count: sums.count,
            sum: sums.sum,
            whole_sum: is_exact.then_some(sums.sum as i128),
            min: value(sums.min),
            max: value(sums.max),
            first: (sums.first_time, value(sums.first)),
            last: (sums.last_time, value(sums.last)),
        });
        if self.first.is_none() {
            self.first = Some(kind.value(sums.first));
        }
        self.last = Some(kind.value(sums.last));
    }

    fn add_numbers(&mut self, others: Numbers) {
        match &mut self.numbers {
            Some(numbers) => {
                numbers.count += others.count;
                numbers.sum += others.sum;
                let sums = numbers.whole_sum.zip(others.whole_sum);
                numbers.whole_sum = sums.map(|(sum, other)| sum.saturating_add(other));
                if is_less(&others.min, &numbers.min) {
                    numbers.min = others.min;
                }
                if is_less(&numbers.max, &others.max) {
                    numbers.max = others.max;
                }
                numbers.last = others.last;
            }
            None => self.numbers = Some(others),
        }
    }

    /// The last number and its time.
    pub(crate) fn last_number(&self) -> Option<(Time, Value)> {
        self.numbers.as_ref().map(|numbers| numbers.last.clone())
    }

    /// Result of a function; `previous` is the last number before the bucket. `None` if the result
    /// is too large for a number.
    pub(crate) fn value(
        &self,
        function: Function,
        previous: Option<&(Time, Value)>,
    ) -> Option<Value> {
        let numbers = self.numbers.as_ref();
        let number = match function {
            Function::Count => return i64::try_from(self.count).ok().map(Value::Integer),
            Function::First => return self.first.clone(),
            Function::Last => return self.last.clone(),
            Function::Avg => return mean(numbers?),
            Function::Min => return numbers.map(|numbers| numbers.min.clone()),
            Function::Max => return numbers.map(|numbers| numbers.max.clone()),
            Function::Sum => match numbers.and_then(whole_sum) {
                Some(sum) => return Some(sum),
                None => numbers.map(|numbers| numbers.sum),
            },
            Function::P50 => return self.all.as_ref()?.percentile(0.5),
            Function::P95 => return self.all.as_ref()?.percentile(0.95),
            Function::Delta => return change(numbers?, previous).1,
            Function::Rate => numbers.and_then(|numbers| rate(&change(numbers, previous))),
        };
        number
            .filter(|number| number.is_finite())
            .map(Value::Number)
    }
}

impl AllNumbers {
    fn len(&self) -> usize {
        match self {
            Self::Whole(all) => all.len(),
            Self::Real(all) => all.len(),
        }
    }

    /// Adds a value, which is this number.
    fn push(&mut self, value: &Value, number: f64) {
        match (&mut *self, value) {
            (Self::Whole(all), Value::Integer(whole)) => all.push(*whole),
            (Self::Whole(all), _) => {
                let before = all.iter().map(|whole| *whole as f64);
                *self = Self::Real(before.chain([number]).collect());
            }
            (Self::Real(all), _) => all.push(number),
        }
    }

    /// The number at this part of them in order; between two numbers it is interpolated.
    fn percentile(&self, part: f64) -> Option<Value> {
        match self {
            Self::Whole(all) => {
                let (low, high, fraction) = neighbours(all, part, i64::cmp)?;
                let step = (i128::from(high) - i128::from(low)) as f64 * fraction;
                Some(match step.fract() == 0.0 {
                    true => of_whole(i128::from(low) + step as i128),
                    false => Value::Number(low as f64 + step),
                })
            }
            Self::Real(all) => {
                let (low, high, fraction) = neighbours(all, part, f64::total_cmp)?;
                let number = low + (high - low) * fraction;
                number.is_finite().then_some(Value::Number(number))
            }
        }
    }
}

/// The two numbers around this part of all, and how far from the first one it is.
fn neighbours<T: Copy>(
    all: &[T],
    part: f64,
    order: impl Fn(&T, &T) -> Ordering,
) -> Option<(T, T, f64)> {
    if all.is_empty() {
        return None;
    }
    let mut all = all.to_vec();
    let place = (all.len() - 1) as f64 * part;
    let (_, low, above) = all.select_nth_unstable_by(place as usize, &order);
    let low = *low;
    let high = above.iter().copied().min_by(&order).unwrap_or(low);
    Some((low, high, place.fract()))
}

/// Integers up to here are exact as floating point numbers.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether a number is less than another one.
fn is_less(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one < other,
        _ => one.number() < other.number(),
    }
}

/// The exact sum, if all numbers are integers and it is one too.
fn whole_sum(numbers: &Numbers) -> Option<Value> {
    let sum = i64::try_from(numbers.whole_sum?).ok()?;
    Some(Value::Integer(sum))
}

/// An integer as the result of a calculation: a floating point number where that is exact.
fn of_whole(whole: i128) -> Value {
    match i64::try_from(whole) {
        Ok(fits) if whole.unsigned_abs() > EXACT_MAX as u128 => Value::Integer(fits),
        _ => Value::Number(whole as f64),
    }
}

fn mean(numbers: &Numbers) -> Option<Value> {
    let count = i128::from(numbers.count);
    if let Some(sum) = numbers.whole_sum.filter(|sum| sum % count == 0) {
        return Some(of_whole(sum / count));
    }
    let mean = numbers.sum / numbers.count as f64;
    mean.is_finite().then_some(Value::Number(mean))
}

/// Time and amount since the previous number, or since the first one; no amount: it is too large.
fn change(numbers: &Numbers, previous: Option<&(Time, Value)>) -> (Time, Option<Value>) {
    let ((begun, from), (ended, to)) = (previous.unwrap_or(&numbers.first), &numbers.last);
    let amount = match (from, to) {
        (Value::Integer(from), Value::Integer(to)) => {
            Some(of_whole(i128::from(*to) - i128::from(*from)))
        }
        (from, to) => to
            .number()
            .zip(from.number())
            .map(|(to, from)| to - from)
            .filter(|amount| amount.is_finite())
            .map(Value::Number),
    };
    (ended - begun, amount)
}

fn rate((time, amount): &(Time, Option<Value>)) -> Option<f64> {
    let amount = amount.as_ref()?.number()?;
    (*time > 0).then(|| amount / (*time as f64 / SECOND as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Instant;

    fn results(values: impl IntoIterator<Item = Value>) -> [Option<Value>; 3] {
        let mut tally = Tally::default();
        for (time, value) in (0..).zip(values) {
            let at = Instant { time, origin: 0 };
            tally.add(Sample { at, value }).unwrap();
        }
        [Function::Min, Function::Max, Function::Sum].map(|function| tally.value(function, None))
    }

    #[test]
    fn integers_stay_as_they_were_sent() {
        let whole = |number: i64| Some(Value::Integer(number));
        let above = 9_007_199_254_740_993;
        assert_eq!(
            results([Value::Integer(above)]),
            [whole(above), whole(above), whole(above)]
        );
        let two = [Value::Integer(above), Value::Integer(-above - 1)];
        let expected = [whole(-above - 1), whole(above), whole(-1)];
        assert_eq!(results(two), expected);
        let mixed = [Value::Integer(above), Value::Number(0.5)];
        let [min, max, sum] = results(mixed);
        assert_eq!((min, max), (Some(Value::Number(0.5)), whole(above)));
        assert!(matches!(sum, Some(Value::Number(_))));
    }

    #[test]
    fn what_is_calculated_from_large_integers_is_exact() {
        let all = |values: &[i64]| {
            let mut tally = Tally::new(true);
            for (time, value) in (0..).zip(values) {
                let (at, value) = (Instant { time, origin: 0 }, Value::Integer(*value));
                tally.add(Sample { at, value }).unwrap();
            }
            let functions = [Function::P50, Function::P95, Function::Avg, Function::Delta];
            functions.map(|function| tally.value(function, None))
        };
        let whole = |number: i64| Some(Value::Integer(number));
        let number = |number: f64| Some(Value::Number(number));
        let large = 9_007_199_254_740_993;
        assert_eq!(
            all(&[large]),
            [whole(large), whole(large), whole(large), number(0.0)]
        );
        let [median, _, mean, delta] = all(&[large, large + 4]);
        assert_eq!((median, mean), (whole(large + 2), whole(large + 2)));
        assert_eq!(delta, number(4.0));
        // Smaller ones are numbers, as between two of them.
        let [median, p95, mean, delta] = all(&[1, 2, 4]);
        assert_eq!((median, delta), (number(2.0), number(3.0)));
        let between = 2.0 + 2.0 * 1.9_f64.fract();
        assert_eq!((p95, mean), (number(between), number(7.0 / 3.0)));
    }

    #[test]
    fn a_sum_that_is_no_integer_any_more_is_a_number() {
        let [_, max, sum] = results([Value::Integer(i64::MAX), Value::Integer(i64::MAX)]);
        assert_eq!(max, Some(Value::Integer(i64::MAX)));
        assert_eq!(sum, Some(Value::Number(2.0 * i64::MAX as f64)));
    }
}
