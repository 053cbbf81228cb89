//! Operations that are retried after a pause.

use std::time::Duration;

use super::super::handle::Failure;

/// An operation that is retried after a pause.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) failure: Option<Failure>,
    pub(super) at: Option<Duration>,
}

impl Retry {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

/// The retried operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum RetryTarget {
    Sink,
    Messages,
    Letters,
    Store,
    Node,
}
