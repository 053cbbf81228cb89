//! When the next group is written: the distance of syncs by load.
//!
//! A sync costs the same however much it is for. So few records are written at once, and when many
//! come, syncs keep a distance, a longer one where few come in the shorter one. It is a rule alone:
//! it has no clock and waits for nothing.

use std::time::Duration;

/// Up to so many records in a group are few: the next group follows at once.
const FEW_RECORDS: usize = 8;
/// So many that wait are worth a sync.
const ENOUGH_RECORDS: usize = 256;
/// Distance of groups when enough come.
const SHORT: Duration = Duration::from_micros(500);
/// Distance of groups when less come.
const LONG: Duration = Duration::from_millis(2);
/// Distance of groups at most, where records come so steadily that it pays.
const LONGEST: Duration = Duration::from_millis(5);
/// So many that come between the short distance and the long one are a steady load.
const STEADY_RECORDS: usize = 48;
/// After a wait in which nothing more came, so many groups are not waited for so long: who
/// publishes waits for this very group, and would only be slowed down.
const NOT_IN_VAIN: u32 = 63;

/// Says how long to wait for more records. The times count from the beginning of the last group.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// So many groups are not waited for long.
    skip: u32,
    /// How many records waited when the present wait began; none while nothing is waited for.
    before: Option<usize>,
    /// The present wait is the last one.
    is_last: bool,
}

impl Pace {
    /// At the beginning nothing is known of the load.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait in any case behind a group of so many records.
    pub fn least(&mut self, records: usize) -> Duration {
        (self.before, self.is_last) = (None, false);
        match records > FEW_RECORDS {
            true => SHORT,
            false => Duration::ZERO,
        }
    }

    /// When that time is over, and after each wait that this asked for: so many records wait now.
    /// How many are to wait for the group, and how long they are waited for at most; `None`: write.
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
        // It was in vain: the next group is not waited for.
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
        // The others come back as soon as the load is another one.
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
