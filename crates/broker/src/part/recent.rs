//! Entries at the end of a part's queue whose records may not be durable yet.
//!
//! A part gets a message of QoS 1 or 2 once it is durable. Until then its publisher may send it
//! again after a crash, and the node would take it for another message.
//!
//! An entry is recorded when it enters the queue. So it can be delivered at once when its turn
//! comes, unless it entered just now. How many have is counted in two groups, so that the count
//! takes no memory for each entry. It may be too high until the store has answered twice, and is
//! never too low.

use crate::id::RecordNumber;
use crate::record::RecordCount;

/// The last entries of a queue, as far as the store may not have them.
#[derive(Debug, Default)]
pub(crate) struct RecentEntries {
    /// Durable together with the last of them.
    first: EntryGroup,
    /// Entries that entered after that.
    then: EntryGroup,
}

#[derive(Debug, Default)]
struct EntryGroup {
    /// The record of the last one.
    last: RecordNumber,
    entries: usize,
}

impl RecentEntries {
    /// An entry has entered the queue; `last` is the last record of its shard.
    pub(super) fn entered(&mut self, last: RecordNumber, records: &RecordCount) {
        self.forget_durable(records);
        let group = match self.first.entries {
            0 => &mut self.first,
            _ => &mut self.then,
        };
        group.last = last;
        group.entries += 1;
    }

    /// Whether the first of this number of entries is durable.
    pub(super) fn is_first_durable(&mut self, queued: usize, records: &RecordCount) -> bool {
        self.forget_durable(records);
        queued > self.first.entries + self.then.entries
    }

    fn forget_durable(&mut self, records: &RecordCount) {
        for _ in 0..2 {
            if records.is_durable(self.first.last) {
                self.first = core::mem::take(&mut self.then);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_durable_in_their_order() {
        let mut records = RecordCount::default();
        let mut recent = RecentEntries::default();
        assert!(recent.is_first_durable(1, &records), "restored");
        recent.entered(records.appended(), &records);
        assert!(!recent.is_first_durable(1, &records));
        assert!(recent.is_first_durable(2, &records), "one before it");
        recent.entered(records.appended(), &records);
        recent.entered(records.appended(), &records);
        assert!(!recent.is_first_durable(3, &records));
        records.durable(RecordNumber(1));
        assert!(recent.is_first_durable(3, &records));
        assert!(!recent.is_first_durable(2, &records));
        records.durable(RecordNumber(3));
        assert!(recent.is_first_durable(1, &records));
    }
}
