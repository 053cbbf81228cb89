//! How long values are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_telemetry::{Limits, Retention};

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
    /// The retention, with the types of these devices. Class 0 is for all other devices.
    pub(super) fn retention(&self, types: Vec<(i64, String)>) -> Retention {
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
    }
}
