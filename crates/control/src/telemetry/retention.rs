//! Deletes values that are too old, values beyond the limit of bytes, and values of devices that
//! are gone.

use std::sync::Arc;
use std::time::Duration;

use martlet_telemetry::{Selection, TIME_END, TIME_MIN};
use tracing::{info, warn};

use super::Telemetry;
use super::store::StoreError;

/// Time from the start to the first look, and between two looks.
const FIRST_AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Devices that are looked for in the tables at once.
const DEVICES: u32 = 500;

impl Telemetry {
    /// Deletes what is too old or too much, and what is of devices that were removed for good, for
    /// as long as the node runs.
    pub async fn keep_retention(self: Arc<Self>) {
        tokio::time::sleep(FIRST_AFTER).await;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.forget().await {
                Ok(0) => {}
                Ok(values) => info!(values, "telemetry is deleted by its retention"),
                Err(error) => {
                    let error = error.to_string();
                    warn!(
                        error,
                        "cannot delete telemetry that is older than its retention"
                    );
                }
            }
        }
    }

    /// Returns how many values were deleted.
    async fn forget(&self) -> Result<u64, StoreError> {
        let mut deleted = self.forget_purged().await?;
        let kept = self.kept();
        let types = kept.types.iter().map(|one| one.device_type.clone());
        let types: Vec<String> = types.collect();
        let known = match types.is_empty() {
            true => Vec::new(),
            false => {
                let read = self.tables().read(move |registry| {
                    Box::pin(async move { registry.numbers_of_types(&types).await })
                });
                read.await?
            }
        };
        let storage = self.storage().await?;
        deleted += storage.forget(kept.retention(known)).await?.values;
        self.count_forgotten(deleted);
        Ok(deleted)
    }

    /// Deletes the values of devices that are in the tables no more, not even as deleted ones.
    async fn forget_purged(&self) -> Result<u64, StoreError> {
        // Without its tables every device would seem to be gone.
        if !self.tables().are_there() {
            return Ok(0);
        }
        let storage = self.storage().await?;
        let (mut deleted, mut after) = (0, i64::MIN);
        loop {
            let numbers = storage.devices(after, DEVICES).await?;
            let Some(last) = numbers.last() else {
                return Ok(deleted);
            };
            after = *last;
            let requested = numbers.clone();
            let known = self.tables().read(move |registry| {
                Box::pin(async move { registry.existing_numbers(&requested).await })
            });
            let known = known.await?;
            let removed = numbers.into_iter().filter(|number| !known.contains(number));
            let devices: Vec<i64> = removed.collect();
            if !devices.is_empty() {
                let selection = Selection {
                    devices,
                    keys: None,
                };
                deleted += storage.delete(selection, TIME_MIN, TIME_END).await?.values;
            }
        }
    }
}
