//! Time of a runner: real or virtual.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::host_future::HostFuture;

/// The clock of a runner.
pub trait Clock: Send + Sync + 'static {
    /// Time since some moment in the past; it never goes back.
    fn now(&self) -> Duration;

    /// Waits until that time.
    fn sleep_until(&self, at: Duration) -> HostFuture<'_, ()>;
}

/// The time of the Tokio runtime.
#[derive(Debug)]
pub(super) struct RuntimeClock(Instant);

impl RuntimeClock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> HostFuture<'_, ()> {
        let at = self.0.checked_add(at);
        Box::pin(async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        })
    }
}

/// Waits for a result, with a time limit.
pub(super) async fn answered<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let answer = within(clock, limit, work).await;
    answer.unwrap_or_else(|| Err("no answer in time".to_owned()))
}

/// Runs a future with a time limit: `None` if it takes longer.
pub(super) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let until = clock.now().saturating_add(limit);
    let work = pin!(work);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep_until(until) => None,
    }
}
