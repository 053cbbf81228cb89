//! Retention: deletion of values by age or size.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::value::{DAY, Time, day_of};

/// Retention limits of a class of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A day (UTC) is deleted when all of it is older than this. `None`: values are kept forever.
    pub age: Option<Duration>,
    /// Maximum bytes of packed values. Above it the oldest days are deleted, but never today's.
    /// `None`: no limit.
    pub bytes: Option<u64>,
}

impl Limits {
    /// The first day that is kept by age. The day that contains the limit is kept: part of it is
    /// younger.
    fn first_day_by_age(&self, now: Time) -> i64 {
        let age = self
            .age
            .and_then(|age| Time::try_from(age.as_micros()).ok());
        age.map_or(i64::MIN, |age| day_of(now.saturating_sub(age)))
    }
}

/// Limits of all devices.
#[derive(Clone)]
pub struct Retention {
    /// The limits of each class.
    pub classes: Vec<Limits>,
    /// Index of the class of a device; `None`: its values are kept forever.
    pub class_of: Arc<dyn Fn(i64) -> Option<usize> + Send + Sync>,
}

impl fmt::Debug for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retention").field(&self.classes).finish()
    }
}

impl Retention {
    /// The first day from which on no class deletes values.
    pub(crate) fn ends(&self, now: Time) -> i64 {
        let today = day_of(now);
        let of_class = |limits: &Limits| match (limits.bytes, limits.age) {
            (Some(_), _) => today,
            (None, Some(_)) => limits.first_day_by_age(now),
            (None, None) => i64::MIN,
        };
        self.classes.iter().map(of_class).max().unwrap_or(i64::MIN)
    }

    /// Returns a retention with the same limits for all devices.
    pub fn of_all(limits: Limits) -> Self {
        Self {
            classes: vec![limits],
            class_of: Arc::new(|_| Some(0)),
        }
    }
}

/// Result of a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Number of deleted values.
    pub values: u64,
}

/// Bytes per class and day, from which the first day to keep is computed.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    bytes: HashMap<usize, BTreeMap<i64, u64>>,
}

impl Usage {
    pub(crate) fn add(&mut self, class: usize, day: i64, bytes: u64) {
        *self.bytes.entry(class).or_default().entry(day).or_default() += bytes;
    }

    /// The first day that each class keeps.
    pub(crate) fn first_days(&self, classes: &[Limits], now: Time) -> Vec<i64> {
        let today = day_of(now);
        let first_day = |(class, limits): (usize, &Limits)| {
            let by_age = limits.first_day_by_age(now);
            let by_bytes = limits.bytes.map_or(i64::MIN, |most| {
                let days = self.bytes.get(&class);
                days.map_or(i64::MIN, |days| first_that_fits(days, most))
            });
            by_age.max(by_bytes).min(today)
        };
        classes.iter().enumerate().map(first_day).collect()
    }
}

/// The first day from which on all days together have at most `most` bytes.
fn first_that_fits(days: &BTreeMap<i64, u64>, most: u64) -> i64 {
    let mut sum = 0_u64;
    for (day, bytes) in days.iter().rev() {
        sum = sum.saturating_add(*bytes);
        if sum > most {
            return day + 1;
        }
    }
    i64::MIN
}

/// The whole days in a time span: the first one, and the one after the last.
pub(crate) fn whole_days(from: Time, until: Time) -> (i64, i64) {
    let first = from.div_euclid(DAY) + i64::from(from.rem_euclid(DAY) > 0);
    let end = until.div_euclid(DAY);
    (first, end.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_day_that_is_kept_follows_from_age_and_bytes() {
        let mut usage = Usage::default();
        for day in 90..=100 {
            usage.add(0, day, 10);
            usage.add(1, day, 10);
        }
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let limits = |age, bytes| Limits { age, bytes };
        let now = 100 * DAY + DAY / 2;
        let first = |a, b| usage.first_days(&[a, b], now);
        assert_eq!(
            first(limits(days(3), None), limits(None, Some(45))),
            [97, 97]
        );
        assert_eq!(
            first(limits(days(3), Some(25)), limits(None, Some(5))),
            [99, 100]
        );
        assert_eq!(
            first(limits(None, None), limits(None, Some(1000))),
            [i64::MIN, i64::MIN]
        );
    }
}
