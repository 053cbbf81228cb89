//! Aggregates the values of one bucket.

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
    all: Option<Vec<f64>>,
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
    first: (Time, f64),
    last: (Time, f64),
}

impl Tally {
    pub(crate) fn new(keeps_all: bool) -> Self {
        Self {
            all: keeps_all.then(Vec::new),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, sample: Sample) -> Result<(), StorageError> {
        self.count += 1;
        if let Some(number) = sample.value.number() {
            let at = (sample.at.time, number);
            let (value, whole_sum) = match sample.value {
                Value::Integer(whole) => (Value::Integer(whole), Some(i128::from(whole))),
                _ => (Value::Number(number), None),
            };
            self.add_numbers(Numbers {
                count: 1,
                sum: number,
                whole_sum,
                min: value.clone(),
                max: value,
                first: at,
                last: at,
            });
            if let Some(all) = &mut self.all {
                if all.len() >= SORTED_MAX {
                    return Err(StorageError::Query(format!(
                        "a bucket has more than {SORTED_MAX} numbers, too many for a percentile; \
                         use shorter buckets"
                    )));
                }
                all.push(number);
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
            first: (sums.first_time, sums.first),
            last: (sums.last_time, sums.last),
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
    pub(crate) fn last_number(&self) -> Option<(Time, f64)> {
        self.numbers.as_ref().map(|numbers| numbers.last)
    }

    /// Result of a function; `previous` is the last number before the bucket. `None` if the result
    /// is too large for a number.
    pub(crate) fn value(&self, function: Function, previous: Option<(Time, f64)>) -> Option<Value> {
        let numbers = self.numbers.as_ref();
        let number = match function {
            Function::Count => return i64::try_from(self.count).ok().map(Value::Integer),
            Function::First => return self.first.clone(),
            Function::Last => return self.last.clone(),
            Function::Avg => numbers.map(mean),
            Function::Min => return numbers.map(|numbers| numbers.min.clone()),
            Function::Max => return numbers.map(|numbers| numbers.max.clone()),
            Function::Sum => match numbers.and_then(whole_sum) {
                Some(sum) => return Some(sum),
                None => numbers.map(|numbers| numbers.sum),
            },
            Function::P50 => self.percentile(0.5),
            Function::P95 => self.percentile(0.95),
            Function::Delta => numbers.map(|numbers| change(numbers, previous).1),
            Function::Rate => numbers.and_then(|numbers| rate(change(numbers, previous))),
        };
        number
            .filter(|number| number.is_finite())
            .map(Value::Number)
    }

    fn percentile(&self, part: f64) -> Option<f64> {
        let mut all = self.all.as_ref().filter(|all| !all.is_empty())?.clone();
        let place = (all.len() - 1) as f64 * part;
        let (_, low, above) = all.select_nth_unstable_by(place as usize, f64::total_cmp);
        let low = *low;
        let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
        Some(low + (high - low) * place.fract())
    }
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

fn mean(numbers: &Numbers) -> f64 {
    numbers.sum / numbers.count as f64
}

/// Time and amount since the previous number, or since the first one.
fn change(numbers: &Numbers, previous: Option<(Time, f64)>) -> (Time, f64) {
    let from = previous.unwrap_or(numbers.first);
    (numbers.last.0 - from.0, numbers.last.1 - from.1)
}

fn rate((time, amount): (Time, f64)) -> Option<f64> {
    (time > 0).then(|| amount / (time as f64 / SECOND as f64))
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
    fn a_sum_that_is_no_integer_any_more_is_a_number() {
        let [_, max, sum] = results([Value::Integer(i64::MAX), Value::Integer(i64::MAX)]);
        assert_eq!(max, Some(Value::Integer(i64::MAX)));
        assert_eq!(sum, Some(Value::Number(2.0 * i64::MAX as f64)));
    }
}
