//! Retention: deletion of values by age or size.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::value::{DAY, Time, day_of};

/// Retention limits of a class of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A day (UTC) is deleted when all of it is older than this. `None`: values are kept forever.
    pub age: Option<Duration>,
    /// Maximum bytes of packed values. Above it the tenants with most lose their oldest days, but
    /// never today's. `None`: no limit.
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

    /// Whether it deletes values.
    pub(crate) fn is_limited(&self) -> bool {
        self.classes
            .iter()
            .any(|limits| *limits != Limits::default())
    }

    /// Whether a class has a limit of bytes.
    pub(crate) fn limits_bytes(&self) -> bool {
        self.classes.iter().any(|limits| limits.bytes.is_some())
    }

    /// Maximum bytes of packed values of all classes together. `None`: a class has no limit.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let mut classes = self.classes.iter();
        classes.try_fold(0_u64, |sum, limits| Some(sum.saturating_add(limits.bytes?)))
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

/// A series, its device and the tenant of that; and one of its days, with the bytes of that day.
pub(crate) type UsageRow = (i64, i64, i64, Option<i64>, Option<i64>);

/// Bytes per class, tenant and day, from which the first days to keep are computed. Devices without
/// a tenant have tenant 0.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    bytes: BTreeMap<(usize, u32), BTreeMap<i64, u64>>,
}

/// The first days that are kept.
#[derive(Debug, Default)]
pub(crate) struct FirstDays {
    /// By the age limit of each class.
    by_age: Vec<i64>,
    /// By the limit of bytes of a class, for each of its tenants.
    by_bytes: BTreeMap<(usize, u32), i64>,
}

impl Usage {
    fn add(&mut self, of: (usize, u32), day: i64, bytes: u64) {
        *self.bytes.entry(of).or_default().entry(day).or_default() += bytes;
    }

    /// Adds rows in order of their series. Returns the last series.
    pub(crate) fn add_rows(&mut self, retention: &Retention, rows: Vec<UsageRow>) -> Option<i64> {
        let last = rows.last().map(|row| row.0);
        for (_, device, tenant, day, bytes) in rows {
            let class = (retention.class_of)(device);
            if let (Some(class), Some(day), Some(bytes)) = (class, day, bytes) {
                let of = (class, tenant_of(tenant));
                self.add(of, day, u64::try_from(bytes).unwrap_or(0));
            }
        }
        last
    }

    /// The first days that are kept: of the tenants of a class that has too much, those with most
    /// lose their oldest days.
    pub(crate) fn first_days(&self, classes: &[Limits], now: Time) -> FirstDays {
        let today = day_of(now);
        let mut first_days = FirstDays::default();
        for (class, limits) in classes.iter().enumerate() {
            let by_age = limits.first_day_by_age(now).min(today);
            first_days.by_age.push(by_age);
            let Some(most) = limits.bytes else {
                continue;
            };
            let tenants = self.bytes.range((class, 0)..=(class, u32::MAX));
            let sums = tenants.clone().map(|(_, days)| sum_since(days, by_age));
            let most = most_of_each(sums.collect(), most);
            for (of, days) in tenants {
                let by_bytes = first_that_fits(days, most).min(today);
                first_days.by_bytes.insert(*of, by_bytes);
            }
        }
        first_days
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self, first_days: &FirstDays) -> u64 {
        let all = self.bytes.iter();
        all.map(|(of, days)| sum_since(days, first_days.of_class(*of)))
            .sum()
    }

    /// Bytes of each tenant of a day and of later ones.
    pub(crate) fn since(&self, day: i64) -> BTreeMap<u32, u64> {
        let mut tenants = BTreeMap::new();
        for ((_, tenant), days) in &self.bytes {
            *tenants.entry(*tenant).or_default() += sum_since(days, day);
        }
        tenants
    }
}

impl FirstDays {
    fn of_class(&self, of: (usize, u32)) -> i64 {
        let by_age = self.by_age.get(of.0).copied().unwrap_or(i64::MIN);
        by_age.max(self.by_bytes.get(&of).copied().unwrap_or(i64::MIN))
    }

    /// The first day that is kept of a device of a tenant; `None`: all are.
    pub(crate) fn of(&self, retention: &Retention, device: i64, tenant: i64) -> Option<i64> {
        let class = (retention.class_of)(device)?;
        Some(self.of_class((class, tenant_of(tenant)))).filter(|day| *day > i64::MIN)
    }
}

/// A tenant, from its column.
pub(crate) fn tenant_of(column: i64) -> u32 {
    u32::try_from(column).unwrap_or(0)
}

fn sum_since(days: &BTreeMap<i64, u64>, first: i64) -> u64 {
    days.range(first..).map(|(_, bytes)| bytes).sum()
}

/// The most that each may have, so that all have at most `most` together: those with less leave
/// the rest to the others.
fn most_of_each(mut sums: Vec<u64>, most: u64) -> u64 {
    sums.sort_unstable();
    let (mut left, mut count) = (most, sums.len() as u64);
    for sum in sums {
        let each = left / count;
        if sum > each {
            return each;
        }
        left -= sum;
        count -= 1;
    }
    u64::MAX
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

    const NOW: Time = 100 * DAY + DAY / 2;

    fn limits(age_days: Option<u64>, bytes: Option<u64>) -> Limits {
        let age = age_days.map(|days| Duration::from_secs(days * 86_400));
        Limits { age, bytes }
    }

    #[test]
    fn the_first_day_that_is_kept_follows_from_age_and_bytes() {
        let mut usage = Usage::default();
        for day in 90..=100 {
            usage.add((0, 0), day, 10);
            usage.add((1, 7), day, 10);
        }
        let first = |a, b| {
            let days = usage.first_days(&[a, b], NOW);
            [days.of_class((0, 0)), days.of_class((1, 7))]
        };
        assert_eq!(
            first(limits(Some(3), None), limits(None, Some(45))),
            [97, 97]
        );
        assert_eq!(
            first(limits(Some(3), Some(25)), limits(None, Some(5))),
            [99, 100]
        );
        assert_eq!(
            first(limits(None, None), limits(None, Some(1000))),
            [i64::MIN, i64::MIN]
        );
    }

    #[test]
    fn who_has_most_loses_the_oldest_days() {
        let mut usage = Usage::default();
        for day in 90..=100 {
            usage.add((0, 0), day, 20);
            usage.add((0, 1), day, 100);
            usage.add((0, 2), day, 10);
        }
        let first = |age, bytes| {
            let days = usage.first_days(&[limits(age, Some(bytes))], NOW);
            [0, 1, 2].map(|tenant| days.of_class((0, tenant)))
        };
        let all = i64::MIN;
        // 220 and 110 bytes of the others leave 670 of 1,000.
        assert_eq!(first(None, 1_000), [all, 95, all]);
        // 110 bytes leave 195 to each of the others.
        assert_eq!(first(None, 500), [92, 100, all]);
        // Values of today are not deleted, also of a tenant that has too much.
        assert_eq!(first(None, 1), [100, 100, 100]);
        // What is too old leaves its bytes to others.
        assert_eq!(first(Some(2), 400), [98, 98, 98]);
        let days = usage.first_days(&[limits(None, Some(500))], NOW);
        assert_eq!(usage.kept(&days), 9 * 20 + 100 + 110);
        assert_eq!(
            usage.since(100),
            BTreeMap::from([(0, 20), (1, 100), (2, 10)])
        );
    }
}
