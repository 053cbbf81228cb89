//! How many bytes of each segment are alive: what reclaim decides by.
//!
//! Sizes are kept in six bits, in steps of half an octave, and always added and taken away as those steps,
//! so that the sums do not drift.

use crate::record::Lsn;

/// The class of a size: 0 to 63. Halves of octaves: 8, 12, 16, 24, 32 …
pub(crate) fn class_of(bytes: u64) -> u8 {
    let mut class = 0;
    while class < 63 && class_bytes(class) < bytes {
        class += 1;
    }
    class
}

/// The size that a class stands for: no smaller than what is in it.
pub(crate) fn class_bytes(class: u8) -> u64 {
    (2 + u64::from(class & 1)) << (2 + (class >> 1))
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    /// By slot of the segment.
    slots: Vec<Slot>,
    now: Lsn,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    bytes: u64,
    /// The record that last took something away.
    changed: Lsn,
}

impl Live {
    /// The record being applied.
    pub(crate) fn now(&mut self, lsn: Lsn) {
        self.now = lsn;
    }

    pub(crate) fn add(&mut self, slot: u16, class: u8) {
        let index = usize::from(slot);
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        self.slots[index].bytes += class_bytes(class);
    }

    pub(crate) fn take(&mut self, slot: u16, class: u8) {
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.bytes = slot.bytes.saturating_sub(class_bytes(class));
            slot.changed = now;
        }
    }

    /// Bytes alive in a segment.
    pub(crate) fn bytes(&self, slot: u16) -> u64 {
        self.slots.get(usize::from(slot)).map_or(0, |s| s.bytes)
    }

    /// The last record by which something in it died or moved.
    pub(crate) fn changed(&self, slot: u16) -> Lsn {
        self.slots.get(usize::from(slot)).map_or(0, |s| s.changed)
    }

    /// The slot is another segment's now.
    pub(crate) fn reset(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            *slot = Slot::default();
        }
    }

    /// One more than the highest slot there is.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len().max(1)
    }

    /// Forgets slots that are no segment's.
    pub(crate) fn keep(&mut self, is_there: impl Fn(u16) -> bool) {
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            if !is_there(slot as u16) {
                *entry = Slot::default();
            }
        }
    }

    /// Bytes alive in all.
    pub(crate) fn total(&self) -> u64 {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_no_smaller_than_its_sizes_and_at_most_half_again_as_large() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, 300 << 20]) {
            let stands_for = class_bytes(class_of(bytes));
            assert!(stands_for >= bytes, "{bytes}");
            assert!(stands_for <= bytes * 3 / 2 + 8, "{bytes}: {stands_for}");
        }
    }
}
