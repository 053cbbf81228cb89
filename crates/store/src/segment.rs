//! The table of segments: which files there are, what lies in them, which one is written to. A
//! segment has a number, never used again, and a slot, the short name that the index knows it by.

use crate::record::{FileKey, Lsn};
use std::sync::Arc;

/// The largest segment that holds more than one record: offsets have 23 bits, in eights.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// A file of the log. Shared with readers; while one has it, it is not used again.
#[derive(Debug)]
pub(crate) struct SegmentFile<F> {
    pub(crate) number: u64,
    pub(crate) file: F,
    pub(crate) key: FileKey,
}

#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) file: Arc<SegmentFile<F>>,
    /// Length of the file; it never changes.
    pub(crate) len: u64,
    /// Where its records end.
    pub(crate) end: u64,
    /// Its first record, and the one behind its last.
    pub(crate) first: Lsn,
    pub(crate) next: Lsn,
    /// What older segments hold from this record on is void; what this one begins with before it
    /// are copies.
    pub(crate) void_from: Lsn,
    /// Something in it that is alive could not be read: it stays as it is.
    pub(crate) stuck: bool,
}

impl<F> Segment<F> {
    pub(crate) fn number(&self) -> u64 {
        self.file.number
    }

    pub(crate) fn name(&self) -> String {
        name(self.file.number)
    }
}

/// The file's name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number of a segment from its file's name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let is_number = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Segments by slot; slot 0 is never used.
#[derive(Debug)]
pub(crate) struct Segments<F> {
    slots: Vec<Option<Segment<F>>>,
    count: usize,
    bytes: u64,
}

impl<F> Default for Segments<F> {
    fn default() -> Self {
        Segments {
            slots: vec![None],
            count: 0,
            bytes: 0,
        }
    }
}

impl<F> Segments<F> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Length of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, slot: u16) -> Option<&Segment<F>> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Segment<F>> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// `None`: all 65,535 slots are taken.
    pub(crate) fn add(&mut self, segment: Segment<F>) -> Option<u16> {
        let free = self.slots.iter().skip(1).position(Option::is_none);
        let slot = u16::try_from(free.map_or(self.slots.len(), |index| index + 1)).ok()?;
        self.put(slot, segment);
        Some(slot)
    }

    /// Into a slot from `slots` on and behind all others: recovery leaves those of missing segments
    /// alone.
    pub(crate) fn add_above(&mut self, slots: usize, segment: Segment<F>) -> Option<u16> {
        let slot = u16::try_from(slots.max(self.slots.len())).ok()?;
        self.put(slot, segment);
        Some(slot)
    }

    /// Into a certain slot, for recovery.
    pub(crate) fn put(&mut self, slot: u16, segment: Segment<F>) {
        let index = usize::from(slot);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.count += 1;
        self.bytes += segment.len;
        if let Some(old) = self.slots[index].replace(segment) {
            self.count -= 1;
            self.bytes -= old.len;
        }
    }

    pub(crate) fn take(&mut self, slot: u16) -> Option<Segment<F>> {
        let taken = self.slots.get_mut(usize::from(slot))?.take()?;
        self.count -= 1;
        self.bytes -= taken.len;
        Some(taken)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Segment<F>)> + Clone {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, segment)| Some((slot as u16, segment.as_ref()?)))
    }

    /// Slots by number of the segment.
    pub(crate) fn in_order(&self) -> Vec<u16> {
        let mut slots: Vec<(u64, u16)> = self.iter().map(|(s, seg)| (seg.number(), s)).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    pub(crate) fn slot_of(&self, number: u64) -> Option<u16> {
        let found = self.iter().find(|(_, segment)| segment.number() == number);
        found.map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number_of(&name(7)), Some(7));
        assert_eq!(number_of(&name(1_234_567_890)), Some(1_234_567_890));
        for other in [
            "7.log",
            "spare.log",
            "0000000a.log",
            "00000007.log.tmp",
            "+0000007.log",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
