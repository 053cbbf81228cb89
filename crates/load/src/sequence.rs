//! Checks by its numbers that every message of a publisher arrived once and in order.
//!
//! Responsible for one stream (one publisher as seen by one subscriber): counts lost, repeated and
//! reordered messages. Topics and Quality of Service are not considered here; the caller decides
//! whether a repetition is allowed.

use std::collections::BTreeSet;

/// Longer gaps are counted, but their numbers are not stored, so that a broken broker cannot
/// exhaust the load generator's memory.
const MISSING_MAX: usize = 1 << 16;

/// The effect of one number on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next number, after skipped numbers that have not arrived.
    New {
        /// Number of skipped numbers; 0 if there is no gap.
        skipped: u64,
    },
    /// A number that was overtaken by a later one, after it had been counted as skipped.
    Reordered,
    /// A number that was overtaken by a later one, and arrived for the first time.
    Overtaken,
    /// A number that had arrived before.
    Repeated,
}

/// The numbers of one stream, which begins at 0.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    next: u64,
    /// Allocated only if numbers are missing, so that many streams stay small.
    missing: Option<Box<Missing>>,
}

#[derive(Debug, Default)]
struct Missing {
    numbers: BTreeSet<u64>,
    /// Number of skipped numbers beyond `MISSING_MAX`, which cannot be recognized later.
    forgotten: u64,
}

impl Sequence {
    /// Records that `number` arrived.
    #[inline]
    pub(crate) fn record(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::New { skipped: 0 };
        }
        if number > self.next {
            return self.skip_to(number);
        }
        let missing = self.missing.as_mut();
        match missing.is_some_and(|missing| missing.numbers.remove(&number)) {
            true => Arrival::Reordered,
            false => Arrival::Repeated,
        }
    }

    /// Number of numbers below `end` that have not arrived.
    pub(crate) fn lost(&self, end: u64) -> u64 {
        let missing = self.missing.as_ref();
        let missing = missing.map_or(0, |it| it.numbers.len() as u64 + it.forgotten);
        missing + end.saturating_sub(self.next)
    }

    #[cold]
    fn skip_to(&mut self, number: u64) -> Arrival {
        let skipped = number - self.next;
        let missing = self.missing.get_or_insert_default();
        let room = MISSING_MAX.saturating_sub(missing.numbers.len()) as u64;
        let remembered = skipped.min(room);
        missing.numbers.extend(self.next..self.next + remembered);
        missing.forgotten += skipped - remembered;
        self.next = number + 1;
        Arrival::New { skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(numbers: &[u64]) -> (Sequence, Vec<Arrival>) {
        let mut sequence = Sequence::default();
        let arrivals = numbers
            .iter()
            .map(|number| sequence.record(*number))
            .collect();
        (sequence, arrivals)
    }

    #[test]
    fn a_gap_is_lost_until_its_numbers_arrive_late() {
        let (mut sequence, arrivals) = record(&[0, 3]);
        assert_eq!(arrivals[1], Arrival::New { skipped: 2 });
        assert_eq!(sequence.lost(4), 2);
        assert_eq!(sequence.record(1), Arrival::Reordered);
        assert_eq!(sequence.lost(4), 1);
    }

    #[test]
    fn a_number_seen_before_is_a_repetition() {
        let (_, arrivals) = record(&[0, 1, 1, 0]);
        assert_eq!(arrivals[2..], [Arrival::Repeated, Arrival::Repeated]);
    }

    #[test]
    fn what_never_came_at_the_end_is_lost() {
        let (sequence, _) = record(&[0, 1]);
        assert_eq!(sequence.lost(5), 3);
        assert_eq!(sequence.lost(2), 0);
    }

    #[test]
    fn a_huge_gap_is_counted_without_remembering_each_number() {
        let (sequence, _) = record(&[1 << 40]);
        assert_eq!(sequence.lost((1 << 40) + 1), 1 << 40);
        let missing = sequence.missing.expect("something is missing");
        assert!(missing.numbers.len() <= MISSING_MAX);
    }
}
