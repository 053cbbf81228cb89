//! The table of segments: which files exist, what they contain, which one is active. A segment has
//! a number, never reused, and a slot, the short name in the index.

use crate::record::{FileKey, Lsn};
use std::sync::Arc;

/// The largest segment with more than one record: offsets have 23 bits, in units of 8 bytes.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// A file of the log. Shared with readers; it is not reused while a reader holds it.
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
    /// End of its records.
    pub(crate) end: u64,
    /// Number of its first record, and the number after its last.
    pub(crate) first: Lsn,
    pub(crate) next: Lsn,
    /// Records from this number on in older segments are void; records before it in this segment
    /// are copies.
    pub(crate) void_from: Lsn,
    /// Whether live contents could not be read: the segment stays as it is.
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

/// The file name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number of a segment from its file name.
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
    /// Number of segments.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Sum of the lengths of all files.
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

    /// Adds it at a slot from `slots` on and after all others: recovery must not reuse slots of
    /// missing segments.
    pub(crate) fn add_above(&mut self, slots: usize, segment: Segment<F>) -> Option<u16> {
        let slot = u16::try_from(slots.max(self.slots.len())).ok()?;
        self.put(slot, segment);
        Some(slot)
    }

    /// Sets a specific slot, for recovery.
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

    /// Slots, ordered by number of the segment.
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
