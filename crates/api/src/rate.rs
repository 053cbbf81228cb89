//! Rate limit of requests: a bucket of tokens for each caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use martlet_control::token_bucket::TokenBucket;

use crate::problem::{Problem, ProblemKind};
use crate::rate_limit::RateLimit;

/// Buckets that are kept; above that number new callers share a bucket with others.
const BUCKETS_MAX: usize = 10_000;

/// Bytes that a bucket takes beside its name, approximately.
const BUCKET_BYTES: usize = 100;

/// Buckets by name.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Tokens that come back in a second; 0 is no limit.
    per_second: f64,
    burst: f64,
    limit: RateLimit,
    buckets: Mutex<HashMap<String, TokenBucket>>,
}

/// The answer of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateAnswer {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Until the bucket is full again.
    pub(crate) reset: Duration,
    /// There was no token: until there is one.
    pub(crate) wait: Option<Duration>,
    /// Tokens that come back in a second.
    pub(crate) per_second: f64,
    /// The limit that this is about.
    pub(crate) of: RateLimit,
}

impl Rates {
    pub(crate) fn new(per_second: f64, burst: u32, limit: RateLimit) -> Self {
        Self {
            limit,
            per_second,
            burst: f64::from(burst.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes a token; none where there is no limit.
    pub(crate) fn take(&self, who: &str, now: Instant) -> Option<RateAnswer> {
        self.take_part(who, 1.0, now)
    }

    /// Takes a part of a token, more than 0 and at most 1; none where there is no limit.
    pub(crate) fn take_part(&self, who: &str, part: f64, now: Instant) -> Option<RateAnswer> {
        if self.per_second <= 0.0 {
            return None;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(who) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let name = match buckets.len() >= BUCKETS_MAX && !buckets.contains_key(who) {
            true => "others",
            false => who,
        };
        let new = || TokenBucket::new(self.per_second, self.burst, now);
        let bucket = buckets.entry(name.to_owned()).or_insert_with(new);
        let wait = match bucket.tokens(now) >= part {
            true => {
                bucket.take(part, now);
                None
            }
            false => Some(bucket.time_to(part, now)),
        };
        Some(RateAnswer {
            limit: self.burst as u64,
            remaining: bucket.tokens(now) as u64,
            reset: bucket.time_to(self.burst, now),
            wait,
            per_second: self.per_second,
            of: self.limit,
        })
    }

    /// Approximate number of bytes of the buckets.
    pub(crate) fn memory_bytes(&self) -> usize {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |name: &String| name.len() + BUCKET_BYTES;
        buckets.keys().map(each).sum()
    }
}

impl RateAnswer {
    /// In the names that people look for: those of the IETF's draft, and the older ones.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        const NAMES: [[&str; 2]; 3] = [
            ["ratelimit-limit", "x-ratelimit-limit"],
            ["ratelimit-remaining", "x-ratelimit-remaining"],
            ["ratelimit-reset", "x-ratelimit-reset"],
        ];
        let values = [self.limit, self.remaining, ceil(self.reset)];
        for (names, value) in NAMES.into_iter().zip(values) {
            for name in names {
                let name = HeaderName::from_static(name);
                headers.insert(name, HeaderValue::from(value));
            }
        }
    }

    /// The answer, if there was no token.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        let secs = ceil(self.wait?);
        let keys = self
            .of
            .keys()
            .map_or(String::new(), |keys| format!(" ({keys})"));
        let detail = format!(
            "too many requests: at most {} at once and {}{keys}; try again in {secs} s",
            self.limit,
            pace(self.per_second)
        );
        let problem = Problem::new(ProblemKind::RateLimited, detail)
            .by_rate_limit(self.of)
            .with_member("retry_after", secs)
            .with_member("limit", self.limit)
            .with_member(
                "window",
                (self.limit as f64 / self.per_second).ceil() as u64,
            );
        Some(problem.with_header(header::RETRY_AFTER, HeaderValue::from(secs)))
    }
}

/// A rate in words: in whole numbers for each second, or else for each minute.
fn pace(per_second: f64) -> String {
    match per_second.fract() == 0.0 {
        true => format!("{per_second} a second"),
        false => format!("{} a minute", (per_second * 60.0 * 100.0).round() / 100.0),
    }
}

/// Whether an answer has the headers of a limit.
pub(crate) fn has_limits(headers: &HeaderMap) -> bool {
    headers.contains_key("x-ratelimit-limit")
}

/// Whole seconds, after which it is so.
fn ceil(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The name under which an address is counted. Of IPv6 it is a network of 64 bits, since one client
/// may have all of its addresses.
pub(crate) fn name_of(address: Option<IpAddr>) -> String {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_by_time() {
        let (rates, now) = (Rates::new(2.0, 3, RateLimit::Fixed), Instant::now());
        for remaining in [2, 1, 0] {
            let taken = rates.take("a", now).unwrap();
            assert_eq!((taken.remaining, taken.wait), (remaining, None));
        }
        let taken = rates.take("a", now).unwrap();
        assert_eq!(taken.wait, Some(Duration::from_millis(500)));
        assert!(taken.refusal().is_some());
        assert_eq!(rates.take("b", now).unwrap().wait, None);
        let later = now + Duration::from_millis(600);
        assert_eq!(rates.take("a", later).unwrap().wait, None);
        assert!(rates.take("a", later).unwrap().wait.is_some());
    }

    #[test]
    fn rates_are_told_in_round_numbers() {
        assert_eq!(pace(50.0), "50 a second");
        assert_eq!(pace(5.0 / 60.0), "5 a minute");
        assert_eq!(pace(100.0 / 60.0), "100 a minute");
        assert_eq!(pace(0.2), "12 a minute");
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let (rates, now) = (Rates::new(1.0, 2, RateLimit::Fixed), Instant::now());
        for number in 0..BUCKETS_MAX + 10 {
            rates.take(&number.to_string(), now);
        }
        assert!(rates.buckets.lock().unwrap().len() <= BUCKETS_MAX + 1);
    }

    #[test]
    fn one_network_is_one_caller() {
        let name = |text: &str| name_of(text.parse().ok());
        assert_eq!(name("2001:db8::1"), name("2001:db8::ffff:2"));
        assert_ne!(name("2001:db8::1"), name("2001:db8:0:1::1"));
        assert_eq!(name("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
