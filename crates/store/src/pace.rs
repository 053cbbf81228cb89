//! When the next group is written: the distance of syncs by load.
//!
//! A sync costs the same however much it is for. So few records are written at once, and when many
//! come, syncs keep a distance, a longer one where few come in the shorter one. It is a rule alone:
//! it has no clock and waits for nothing.

use std::time::Duration;

/// Up to so many records in a group are few: the next group follows at once.
const FEW_RECORDS: usize = 8;
/// So many that wait are worth a sync.
const ENOUGH_RECORDS: usize = 128;
/// Distance of groups when enough come.
const SHORT: Duration = Duration::from_micros(500);
/// Distance of groups at most.
const LONG: Duration = Duration::from_millis(2);
/// After a long wait in which nothing more came, so many groups are not waited for so long: who
/// publishes waits for this very group, and would only be slowed down.
const NOT_IN_VAIN: u32 = 63;

/// Says how long to wait for more records. The times count from the beginning of the last group.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// So many groups are not waited for long.
    skip: u32,
}

impl Pace {
    /// At the beginning nothing is known of the load.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait in any case behind a group of so many records.
    pub fn least(&self, records: usize) -> Duration {
        match records > FEW_RECORDS {
            true => SHORT,
            false => Duration::ZERO,
        }
    }

    /// When that time is over and so many records wait: how many are to wait for a group, and how
    /// long they are waited for at most. `None`: write now.
    pub fn longer(&mut self, waiting: usize) -> Option<(usize, Duration)> {
        if waiting >= ENOUGH_RECORDS {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some((ENOUGH_RECORDS, LONG))
    }

    /// After the longer wait: so many waited when it began, so many wait now.
    pub fn waited(&mut self, before: usize, now: usize) {
        if before > 0 && now == before {
            self.skip = NOT_IN_VAIN;
        }
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
            assert_eq!(pace.least(100), SHORT);
            assert_eq!(pace.longer(25), Some((ENOUGH_RECORDS, LONG)));
            pace.waited(25, 100);
        }
    }

    #[test]
    fn who_waits_for_the_group_before_is_not_kept_waiting() {
        let mut pace = Pace::new();
        let mut longer = 0;
        for _ in 0..640 {
            if pace.longer(100).is_some() {
                longer += 1;
                pace.waited(100, 100);
            }
        }
        assert_eq!(longer, 10);
        // The others come back as soon as the load is another one.
        for _ in 0..64 {
            if pace.longer(25).is_some() {
                pace.waited(25, 100);
            }
        }
        assert!(pace.longer(25).is_some());
    }
}
