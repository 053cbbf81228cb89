//! Outcomes of publishing changes of alarms.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use martlet_broker::TenantId;

use crate::lock::lock;
use crate::wall_clock::now_ms;

/// Outcomes of publishing changes of alarms on the alerts topic.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    published: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// The last failure, unless a later change was published.
    failure: Mutex<Option<Failure>>,
}

/// A change that could not be published.
#[derive(Debug)]
struct Failure {
    tenant: TenantId,
    alarm: String,
    at_ms: u64,
    why: String,
}

impl Notifications {
    pub(super) fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
        *lock(&self.failure) = None;
    }

    /// Returns whether the last one of this alarm has not failed too.
    pub(super) fn failed(&self, tenant: TenantId, alarm: &str, why: &str) -> bool {
        let is_first = self.last_failure(tenant, alarm).is_none();
        self.failed.fetch_add(1, Ordering::Relaxed);
        *lock(&self.failure) = Some(Failure {
            tenant,
            alarm: alarm.to_owned(),
            at_ms: now_ms(),
            why: why.to_owned(),
        });
        is_first
    }

    /// When and why the last change could not be published, if it is of this alarm.
    pub(super) fn last_failure(&self, tenant: TenantId, alarm: &str) -> Option<(u64, String)> {
        let failure = lock(&self.failure);
        let failure = failure.as_ref()?;
        let is_it = failure.tenant == tenant && failure.alarm == alarm;
        is_it.then(|| (failure.at_ms, failure.why.clone()))
    }

    pub(super) fn dropped(&self, changes: u64) {
        self.dropped.fetch_add(changes, Ordering::Relaxed);
    }

    /// Numbers by outcome.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("published", of(&self.published)),
            ("failed", of(&self.failed)),
            ("dropped", of(&self.dropped)),
        ]
    }
}
