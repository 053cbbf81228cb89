//! How long values are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_telemetry::{Limits, Retention, Selection, TIME_END, TIME_MIN};
use tracing::{info, warn};

use super::Telemetry;
use super::store::StoreError;

/// Time from the start to the first look, and between two looks.
const FIRST_AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Devices that are looked for in the tables at once.
const DEVICES: u32 = 500;

/// How long values are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryKept {
    /// Age at which values are deleted, milliseconds; none: never.
    pub age_ms: Option<u64>,
    /// Bytes that values take, at most, of devices whose type is not in `types`; none: no limit.
    pub bytes: Option<u64>,
    /// Types of devices for which it differs.
    pub types: Vec<TypeKept>,
}

/// How long values of devices of a type are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeKept {
    /// The type.
    pub device_type: String,
    /// Age at which values are deleted, milliseconds; none: never.
    pub age_ms: Option<u64>,
    /// Bytes that their values take together, at most; none: no limit.
    pub bytes: Option<u64>,
}

fn limits(age_ms: Option<u64>, bytes: Option<u64>) -> Limits {
    Limits {
        age: age_ms.map(Duration::from_millis),
        bytes,
    }
}

impl TelemetryKept {
    /// Something is deleted some day.
    fn is_limited(&self) -> bool {
        let types = self.types.iter().map(|one| (one.age_ms, one.bytes));
        let mut all = types.chain([(self.age_ms, self.bytes)]);
        all.any(|limits| limits != (None, None))
    }

    /// The retention, where the types of these devices are known. Class 0 is of all others.
    fn retention(&self, types: Vec<(i64, String)>) -> Retention {
        let own = self.types.iter().map(|one| limits(one.age_ms, one.bytes));
        let classes = [limits(self.age_ms, self.bytes)].into_iter().chain(own);
        let classes: Vec<Limits> = classes.collect();
        let class = |device_type: &str| {
            let mut all = self.types.iter();
            all.position(|one| one.device_type == device_type)
                .map(|place| place + 1)
        };
        let known = types.into_iter();
        let known = known.filter_map(|(number, name)| Some((number, class(&name)?)));
        let known: HashMap<i64, usize> = known.collect();
        Retention {
            classes,
            class_of: Arc::new(move |number| Some(known.get(&number).copied().unwrap_or(0))),
        }
    }
}

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
                    warn!(error, "telemetry is not deleted by its retention");
                }
            }
        }
    }

    /// Returns how many values were deleted.
    async fn forget(&self) -> Result<u64, StoreError> {
        let mut deleted = self.forget_purged().await?;
        let kept = self.kept();
        if kept.is_limited() {
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
        }
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
            let wanted = numbers.clone();
            let known = self.tables().read(move |registry| {
                Box::pin(async move { registry.known_numbers(&wanted).await })
            });
            let known = known.await?;
            let gone = numbers.into_iter().filter(|number| !known.contains(number));
            let devices: Vec<i64> = gone.collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_retention_of_their_type() {
        let kept = TelemetryKept {
            age_ms: Some(1_000),
            bytes: None,
            types: vec![TypeKept {
                device_type: "meter".to_owned(),
                age_ms: None,
                bytes: Some(7),
            }],
        };
        let retention = kept.retention(vec![(5, "meter".to_owned()), (6, "other".to_owned())]);
        assert_eq!(
            retention.classes,
            [limits(Some(1_000), None), limits(None, Some(7))]
        );
        let class = |number| (retention.class_of)(number);
        assert_eq!((class(5), class(6), class(7)), (Some(1), Some(0), Some(0)));
        assert!(kept.is_limited() && !TelemetryKept::default().is_limited());
    }
}
