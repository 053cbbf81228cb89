//! Limits of single routes, and their use by caller.

use crate::rate::Rates;

/// The limits, and their use by caller.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    pub(super) registrations: Rates,
    pub(super) heartbeats: Rates,
    pub(super) telemetry: Rates,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self {
            registrations: Rates::new(10.0 / 300.0, 10, None),
            heartbeats: Rates::new(30.0 / 60.0, 30, None),
            telemetry: Rates::new(100.0 / 60.0, 100, None),
        }
    }
}

impl RouteLimits {
    /// Approximate number of bytes of what is kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        let all = [&self.registrations, &self.heartbeats, &self.telemetry];
        all.iter().map(|rates| rates.memory_bytes()).sum()
    }
}
