//! When the next group is written: the interval of syncs by load.
//!
//! A sync costs the same for any number of records. So a few records are written at once. When
//! many come, syncs keep an interval, which is longer if few records come within the short one.
//! This is a pure rule: it has no clock and waits for nothing.

use std::time::Duration;

/// Largest group that counts as small: the next group follows immediately.
const FEW_RECORDS: usize = 8;
/// Number of waiting records that justifies a sync.
const ENOUGH_RECORDS: usize = 256;
/// Interval of groups when enough records come.
const SHORT: Duration = Duration::from_micros(500);
/// Interval of groups when fewer records come.
const LONG: Duration = Duration::from_millis(2);
/// Longest interval of groups, for a steady load.
const LONGEST: Duration = Duration::from_millis(5);
/// Number of records between the short distance and the long one that counts as a steady load.
const STEADY_RECORDS: usize = 48;
/// Number of groups without a long wait after a wait in which no more records came: the publishers
/// wait for these groups, and waiting would only slow them down.
const NOT_IN_VAIN: u32 = 63;

/// Decides how long to wait for more records. Times count from the beginning of the last group.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Number of next groups without a long wait.
    skip: u32,
    /// Records that waited when the current wait began; `None` if there is no wait.
    before: Option<usize>,
    /// Whether the current wait is the last one.
    is_last: bool,
}

impl Pace {
    /// A pace without any knowledge of the load.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shortest time to wait after a group of this number of records.
    pub fn least(&mut self, records: usize) -> Duration {
        (self.before, self.is_last) = (None, false);
        match records > FEW_RECORDS {
            true => SHORT,
            false => Duration::ZERO,
        }
    }

    /// Called after that time, and after each wait that this method returned, with the number of
    /// waiting records. Returns the number of records to wait for and the longest time to wait;
    /// `None`: write now.
    pub fn longer(&mut self, waiting: usize) -> Option<(usize, Duration)> {
        let came = self
            .before
            .replace(waiting)
            .map(|before| waiting.saturating_sub(before));
        if came == Some(0) && waiting > 0 {
            self.skip = NOT_IN_VAIN;
            return None;
        }
        if waiting >= ENOUGH_RECORDS || self.is_last {
            return None;
        }
        let Some(came) = came else {
            if self.skip > 0 {
                self.skip -= 1;
                return None;
            }
            return Some((ENOUGH_RECORDS, LONG));
        };
        self.is_last = true;
        (came >= STEADY_RECORDS).then_some((ENOUGH_RECORDS, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_record_is_followed_at_once() {
        assert_eq!(Pace::new().least(1), Duration::ZERO);
    }

    #[test]
    fn when_enough_come_the_distance_is_the_short_one() {
        let mut pace = Pace::new();
        assert_eq!(pace.least(1000), SHORT);
        assert_eq!(pace.longer(1000), None);
    }

    #[test]
    fn where_few_come_in_the_short_distance_it_is_the_long_one() {
        let mut pace = Pace::new();
        for _ in 0..1000 {
            assert_eq!(pace.least(50), SHORT);
            assert_eq!(pace.longer(12), Some((ENOUGH_RECORDS, LONG)));
            assert_eq!(pace.longer(50), None);
        }
    }

    #[test]
    fn where_many_come_steadily_it_is_the_longest() {
        let mut pace = Pace::new();
        for _ in 0..1000 {
            assert_eq!(pace.least(250), SHORT);
            assert_eq!(pace.longer(25), Some((ENOUGH_RECORDS, LONG)));
            assert_eq!(pace.longer(100), Some((ENOUGH_RECORDS, LONGEST)));
            assert_eq!(pace.longer(250), None);
        }
    }

    #[test]
    fn what_came_at_once_and_no_more_is_written_after_the_long_distance() {
        let mut pace = Pace::new();
        pace.least(100);
        pace.longer(25);
        assert_eq!(pace.longer(100), Some((ENOUGH_RECORDS, LONGEST)));
        assert_eq!(pace.longer(100), None);
        // The wait was in vain: the next group is written without a wait.
        assert_eq!(pace.least(100), SHORT);
        assert_eq!(pace.longer(25), None);
    }

    #[test]
    fn who_waits_for_the_group_before_is_not_kept_waiting() {
        let mut pace = Pace::new();
        let mut longer = 0;
        for _ in 0..640 {
            pace.least(100);
            if pace.longer(100).is_some() {
                longer += 1;
                assert_eq!(pace.longer(100), None);
            }
        }
        assert_eq!(longer, 10);
        // The other waits return as soon as the load changes.
        for _ in 0..64 {
            pace.least(50);
            if pace.longer(12).is_some() {
                pace.longer(50);
            }
        }
        pace.least(50);
        assert!(pace.longer(12).is_some());
    }
}
