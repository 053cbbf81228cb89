//! Checks that every message of a topic arrived once at any of several receivers.
//!
//! Responsible for one stream whose numbers arrive in any order, as in a share group. Stores one
//! bit for each number between the lowest missing one and the highest received one. Has no topics
//! and no receivers. MQTT 5.0 §4.8.2.

use std::collections::VecDeque;

const BLOCK: u64 = u64::BITS as u64;

/// The numbers of one stream, which begins at 0.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Number of complete blocks before the first one in `blocks`.
    full: u64,
    blocks: VecDeque<u64>,
    count: u64,
}

impl Gathering {
    /// Records that `number` arrived. Returns false if it had arrived before. The memory grows with
    /// the highest number, so the caller must pass only numbers that were sent.
    pub(super) fn record(&mut self, number: u64) -> bool {
        let Some(place) = (number / BLOCK).checked_sub(self.full) else {
            return false;
        };
        let place = place as usize;
        if place >= self.blocks.len() {
            self.blocks.resize(place + 1, 0);
        }
        let bit = 1 << (number % BLOCK);
        let block = &mut self.blocks[place];
        if *block & bit != 0 {
            return false;
        }
        *block |= bit;
        self.count += 1;
        while self.blocks.front() == Some(&u64::MAX) {
            self.blocks.pop_front();
            self.full += 1;
        }
        true
    }

    /// Number of numbers below `end` that have not arrived, provided that none above has.
    pub(super) fn lost(&self, end: u64) -> u64 {
        end.saturating_sub(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_are_each_counted_once() {
        let mut gathering = Gathering::default();
        let backwards = (0..1000).rev().chain(1000..1100);
        assert!(backwards.clone().all(|number| gathering.record(number)));
        assert!(!backwards.clone().any(|number| gathering.record(number)));
        assert_eq!(gathering.lost(1100), 0);
        assert_eq!(gathering.lost(1103), 3);
    }

    #[test]
    fn what_has_all_arrived_takes_no_memory() {
        let mut gathering = Gathering::default();
        (0..100_000).for_each(|number| {
            gathering.record(number ^ 1);
        });
        assert!(gathering.blocks.len() <= 1);
    }
}
