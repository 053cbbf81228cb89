//! A histogram of latencies with a limited relative error and recording in constant time.
//!
//! Responsible for counting values and for percentiles. Each power of two is divided into 128 equal
//! steps, so a result exceeds the recorded value by at most 0.8 %, from 1 ns to centuries. It has
//! no clock.

/// Steps per power of two, as a power of two itself.
const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Counts of values in buckets whose width grows with the value.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    len: u64,
    sum: u128,
    max: u64,
}

impl Histogram {
    /// An empty histogram; its size is fixed (about 58 KiB).
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            len: 0,
            sum: 0,
            max: 0,
        }
    }

    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.len += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// The largest value recorded, 0 when there is none.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The arithmetic mean, 0 when there is none.
    pub(crate) fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.len.max(1))).unwrap_or(u64::MAX)
    }

    /// The value that `percentile` (0 to 100) of all values do not exceed, rounded up within the
    /// error of the histogram; 0 if there are no values.
    pub(crate) fn percentile(&self, percentile: f64) -> u64 {
        let rank = ((percentile / 100.0) * self.len as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_last(index).min(self.max);
            }
        }
        self.max
    }
}

/// The bucket that counts `value`.
fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - STEP_BITS;
    (shift as usize + 1) * STEPS + ((value >> shift) as usize - STEPS)
}

/// The largest value that bucket `index` counts.
fn bucket_last(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let shift = (index / STEPS - 1) as u32;
    let first = ((STEPS + index % STEPS) as u64) << shift;
    first + ((1u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_the_promised_error() {
        let edges = (0..64).flat_map(|bit| {
            let power = 1u64 << bit;
            [
                power - 1,
                power,
                power + power / 3,
                power.saturating_mul(2) - 1,
            ]
        });
        for value in edges.chain([u64::MAX]) {
            let last = bucket_last(bucket(value));
            assert!(last >= value, "{value}");
            assert!(
                (last - value) as f64 <= value as f64 / 127.0,
                "{value}: {last}"
            );
        }
    }

    #[test]
    fn percentiles_of_a_known_set_are_exact_to_the_error() {
        let mut histogram = Histogram::new();
        (1..=10_000u64).for_each(|value| histogram.record(value * 1000));
        for (percentile, want) in [
            (50.0, 5_000_000.0),
            (99.0, 9_900_000.0),
            (99.9, 9_990_000.0),
        ] {
            let got = histogram.percentile(percentile) as f64;
            assert!((got - want).abs() / want < 0.008, "{percentile}: {got}");
        }
        assert_eq!(histogram.percentile(100.0), 10_000_000);
        assert_eq!(histogram.max(), 10_000_000);
        assert_eq!(histogram.mean(), 5_000_500);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let histogram = Histogram::new();
        assert_eq!(
            (
                histogram.percentile(99.0),
                histogram.mean(),
                histogram.max()
            ),
            (0, 0, 0)
        );
    }
}
