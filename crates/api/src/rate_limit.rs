//! Limits of requests, by what sets them.

use martlet_control::http_cause::HttpCause;

/// A limit of requests, by what sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateLimit {
    /// All requests of a caller: `http.rate`.
    Caller,
    /// Requests of a device to IoTFlow's routes: `iotflow.requests_per_minute`.
    Device,
    /// No key sets it.
    Fixed,
}

impl RateLimit {
    /// Keys of the configuration that set the limit.
    pub(crate) fn keys(self) -> Option<&'static str> {
        match self {
            Self::Caller => Some("http.burst, http.rate"),
            Self::Device => Some("iotflow.requests_burst, iotflow.requests_per_minute"),
            Self::Fixed => None,
        }
    }

    /// Cause of a refusal by this limit.
    pub(crate) fn cause(self) -> HttpCause {
        match self {
            Self::Caller => HttpCause::TooManyRequests,
            Self::Device => HttpCause::TooManyDeviceRequests,
            Self::Fixed => HttpCause::TooManyRouteRequests,
        }
    }
}
