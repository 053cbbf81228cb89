//! Amount that a client has spent of its rate.

use martlet_permission::Limit;

use crate::limits::Limits;

/// Amount that a connection has spent of its rate. It lies apart: few nodes limit it, and a
/// connection is kept small.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// When all is there again, in microseconds of the monotonic clock: of messages, of bytes.
    full_us: [u64; 2],
    /// A timer will look after what is held.
    pub(crate) is_awaited: bool,
    /// Messages that were dropped and are not yet reported: a timer will do that.
    pub(crate) dropped: u32,
    /// The topic of the first of them.
    pub(crate) topic: Box<str>,
    /// Messages that waited when the client disconnected, which are not yet reported either.
    pub(crate) waited: u32,
    /// The topic of the first of these.
    pub(crate) waited_topic: Box<str>,
    /// How often a message has waited since that was last reported, and when that was, in
    /// milliseconds of the monotonic clock.
    pub(crate) delayed: u32,
    pub(crate) delays_notified_ms: Option<u64>,
}

/// Time that a full bucket covers, in microseconds.
const BURST_US: u64 = 1_000_000;

impl Spent {
    /// Time of the next message, in milliseconds; none: it may come now.
    pub(crate) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let [messages, bytes] = self.full_us;
        let due_us = messages.max(bytes).saturating_sub(BURST_US);
        (due_us > now_ms * 1000).then(|| due_us.div_ceil(1000))
    }

    /// The narrower of both rates.
    pub(crate) fn limit(&self) -> Limit {
        let [messages, bytes] = self.full_us;
        match messages >= bytes {
            true => Limit::PublishRate,
            false => Limit::PublishBytesRate,
        }
    }

    pub(crate) fn spend(&mut self, now_ms: u64, limits: &Limits, bytes: usize) {
        let rates = [limits.publish_rate, limits.publish_bytes_rate];
        for ((full_us, rate), cost) in self.full_us.iter_mut().zip(rates).zip([1, bytes as u64]) {
            if rate > 0 {
                let cost_us = cost * BURST_US / u64::from(rate);
                *full_us = (*full_us).max(now_ms * 1000) + cost_us;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: u32, bytes: u32) -> Limits {
        Limits {
            publish_rate: messages,
            publish_bytes_rate: bytes,
            ..Limits::default()
        }
    }

    /// Messages that get through in `ms` when one of `bytes` is offered each millisecond.
    fn passed(limits: &Limits, bytes: usize, ms: u64) -> usize {
        let mut spent = Spent::default();
        let offered = 1_000_000..1_000_000 + ms;
        let pass = |now_ms: &u64| {
            let may = spent.due_ms(*now_ms).is_none();
            if may {
                spent.spend(*now_ms, limits, bytes);
            }
            may
        };
        offered.filter(pass).count()
    }

    #[test]
    fn so_many_pass_as_a_second_brings_and_as_many_more_at_the_beginning() {
        let around = |count: usize, expected: usize| {
            assert!(count.abs_diff(expected) <= 2, "{count}, not {expected}");
        };
        around(passed(&limits(100, 0), 10, 10_000), 1100);
        around(passed(&limits(0, 10_000), 100, 10_000), 1100);
        // The narrower of both.
        around(passed(&limits(500, 10_000), 100, 10_000), 1100);
        around(passed(&limits(1, 0), 1, 100_000), 101);
    }

    #[test]
    fn a_message_larger_than_the_bucket_passes_and_is_paid_for() {
        assert_eq!(passed(&limits(0, 1_000), 5_000, 20_000), 5);
    }
}
