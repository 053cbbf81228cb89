//! Latency of messages inside the node: from the tick in which the publisher's bytes were read to
//! the end of the tick in which the packets were written, on any shard.
//!
//! Not included: messages that wait for a client that is offline, slow or out of quota, and QoS 2
//! messages that wait for the store. These times are not processing time. The measurement costs one
//! clock reading in a tick that sends messages.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets in microseconds. The last bucket has no bound.
pub const LATENCY_BOUNDS_US: [u64; 15] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// Histogram of latencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Messages per bucket, not cumulative. The last bucket has the longest latencies.
    pub counts: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of all latencies in microseconds.
    pub sum_us: u64,
}

impl LatencyHistogram {
    /// Number of messages.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the histogram of another shard.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.sum_us += other.sum_us;
    }
}

/// The histogram of one reactor, which is its only writer. Any thread may read it.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    counts: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latencies {
    /// Records this number of messages with a latency of `us` microseconds.
    pub(crate) fn record(&self, us: u64, messages: u64) {
        let at = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        // There is only one writer, so no update is lost and no atomic read-modify-write is needed.
        let raise = |counter: &AtomicU64, by: u64| {
            counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
        };
        raise(&self.counts[at], messages);
        raise(&self.sum_us, us.saturating_mul(messages));
    }

    pub(crate) fn read(&self) -> LatencyHistogram {
        let mut read = LatencyHistogram::default();
        for (into, from) in read.counts.iter_mut().zip(&self.counts) {
            *into = from.load(Ordering::Relaxed);
        }
        read.sum_us = self.sum_us.load(Ordering::Relaxed);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_in_the_bucket_of_its_time() {
        let latencies = Latencies::default();
        for (us, messages) in [(0, 1), (25, 2), (26, 4), (1_000_000, 8), (1_000_001, 16)] {
            latencies.record(us, messages);
        }
        let read = latencies.read();
        let last = LATENCY_BOUNDS_US.len();
        let found = [0, 1, last - 1, last].map(|at| read.counts[at]);
        assert_eq!((found, read.count()), ([3, 4, 8, 16], 31));
    }
}
