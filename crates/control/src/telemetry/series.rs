//! How many series there are, by tenant, as they were counted last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_telemetry::{Storage, StorageError};
use tokio::sync::Mutex;

/// Numbers of series by tenant.
pub(crate) type SeriesByTenant = Arc<BTreeMap<u32, u64>>;

/// Numbers of series as they were counted last, and when that began. They are counted for one
/// caller after the other: there may be millions.
#[derive(Debug, Default)]
pub(super) struct CountedSeries(Mutex<Option<(Instant, SeriesByTenant)>>);

impl CountedSeries {
    /// Counted this long before the call at most. Callers that waited share what was counted
    /// meanwhile.
    pub(super) async fn within(
        &self,
        age_max: Duration,
        storage: &Storage,
    ) -> Result<SeriesByTenant, StorageError> {
        let called_at = Instant::now();
        let mut counted = self.0.lock().await;
        if let Some((at, series)) = &*counted
            && called_at.saturating_duration_since(*at) <= age_max
        {
            return Ok(Arc::clone(series));
        }
        let at = Instant::now();
        let series = Arc::new(storage.series_by_tenant().await?);
        *counted = Some((at, Arc::clone(&series)));
        Ok(series)
    }
}
