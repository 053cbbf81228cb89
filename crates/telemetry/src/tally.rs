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
    min: f64,
    max: f64,
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
            self.add_numbers(&Numbers {
                count: 1,
                sum: number,
                min: number,
                max: number,
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
        self.add_numbers(&Numbers {
            count: sums.count,
            sum: sums.sum,
            min: sums.min,
            max: sums.max,
            first: (sums.first_time, sums.first),
            last: (sums.last_time, sums.last),
        });
        if self.first.is_none() {
            self.first = Some(kind.value(sums.first));
        }
        self.last = Some(kind.value(sums.last));
    }

    fn add_numbers(&mut self, others: &Numbers) {
        match &mut self.numbers {
            Some(numbers) => {
                numbers.count += others.count;
                numbers.sum += others.sum;
                numbers.min = numbers.min.min(others.min);
                numbers.max = numbers.max.max(others.max);
                numbers.last = others.last;
            }
            None => self.numbers = Some(Numbers { ..*others }),
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
            Function::Min => numbers.map(|numbers| numbers.min),
            Function::Max => numbers.map(|numbers| numbers.max),
            Function::Sum => numbers.map(|numbers| numbers.sum),
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
