//! Runs of a node, and where the names that a run gives begin.

use core::hash::BuildHasher;

use crate::hash::seeded;
use crate::id::{first_number, start_of};

/// Runs are numbered by the clock from this time on: the beginning of 2026, milliseconds since the
/// Unix epoch.
const CLOCK_FROM_MS: u64 = 1_767_225_600_000;
/// The number of a run follows the clock in steps of this length, milliseconds.
const CLOCK_STEP_MS: u64 = 600_000;
/// Runs that a wrong clock leaves uncounted. The clock reaches them in 2085.
const KEPT_FROM_CLOCK: u32 = 1 << 20;
/// Names begin at one of 2^35 places, in the lower half of the room of their run.
const PLACE_BITS: u32 = 35;

/// A run of a node, from its start to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Number, greater than those of all runs that the store knows.
    pub number: u32,
    /// Number of the last run that the store knows; 0 if there was none.
    pub last: u32,
    /// The names of messages and sessions follow this counter.
    pub first: u64,
}

impl Run {
    /// The run that follows run number `last`; none if all numbers are used up.
    ///
    /// A store that was copied, used and put back does not know the runs meanwhile, and what got
    /// its messages does. So the number follows the clock too, and names begin at a place that the
    /// random `seed` decides.
    pub fn after(last: u32, wall_ms: u64, seed: u64) -> Option<Self> {
        let number_max = start_of(u64::MAX);
        let number = last.checked_add(1).filter(|next| *next <= number_max)?;
        let of_clock = wall_ms.saturating_sub(CLOCK_FROM_MS) / CLOCK_STEP_MS;
        let of_clock = u32::try_from(of_clock).unwrap_or(u32::MAX);
        let number = match of_clock <= number_max - KEPT_FROM_CLOCK {
            true => number.max(of_clock),
            false => number,
        };
        let place = seeded(seed).hash_one(number) >> (u64::BITS - PLACE_BITS);
        Some(Self {
            number,
            last,
            first: first_number(number) + place,
        })
    }

    /// A run without a store behind run number `last`, for tests: names begin with the first.
    pub fn plain(last: u32) -> Self {
        Self {
            number: last + 1,
            last,
            first: first_number(last + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_store_that_was_put_back_gives_no_name_again() {
        let now = CLOCK_FROM_MS + 300 * DAY_MS;
        let used = Run::after(7, now, 1).unwrap();
        assert_eq!((used.last, start_of(used.first)), (7, used.number));
        // At once: another place. Later: another number.
        let at_once = Run::after(7, now + 1_000, 2).unwrap();
        assert_eq!(at_once.number, used.number);
        assert!(at_once.first.abs_diff(used.first) > 1 << 20);
        let later = Run::after(7, now + DAY_MS, 1).unwrap();
        assert!(later.number > used.number + 1);
    }

    #[test]
    fn numbers_grow_whatever_the_clock_says() {
        let run = Run::after(70_000, CLOCK_FROM_MS + DAY_MS, 1).unwrap();
        assert_eq!(run.number, 70_001);
        // A clock that was not set, and one of another century.
        for wall_ms in [0, CLOCK_FROM_MS + 100 * 365 * DAY_MS, u64::MAX] {
            assert_eq!(Run::after(0, wall_ms, 1).unwrap().number, 1, "{wall_ms}");
        }
        let last = start_of(u64::MAX);
        assert_eq!(Run::after(last - 1, 0, 1).unwrap().number, last);
        assert_eq!(Run::after(last, 0, 1), None);
    }
}
