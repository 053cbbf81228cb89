//! Limits of single routes, and their use by caller.

use crate::rate::Rates;
use crate::rate_limit::RateLimit;

/// The limits, and their use by caller.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    /// All requests of a device.
    pub(super) requests: Rates,
    pub(super) registrations: Rates,
    pub(super) heartbeats: Rates,
    pub(super) telemetry: Rates,
}

impl RouteLimits {
    /// The limits, with those of all requests of a device; 0 requests are no limit, a burst of 0 is
    /// the requests of a minute.
    pub(crate) fn new(requests_per_minute: u32, burst: u32) -> Self {
        let per_second = f64::from(requests_per_minute) / 60.0;
        let burst = match burst {
            0 => requests_per_minute,
            burst => burst,
        };
        Self {
            requests: Rates::new(per_second, burst, RateLimit::Device),
            registrations: Rates::new(10.0 / 300.0, 10, RateLimit::Fixed),
            heartbeats: Rates::new(30.0 / 60.0, 30, RateLimit::Fixed),
            telemetry: Rates::new(100.0 / 60.0, 100, RateLimit::Fixed),
        }
    }

    /// Approximate number of bytes of what is kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        let all = [
            &self.requests,
            &self.registrations,
            &self.heartbeats,
            &self.telemetry,
        ];
        all.iter().map(|rates| rates.memory_bytes()).sum()
    }
}
