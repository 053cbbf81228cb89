//! How many bytes of each segment are live: the basis for reclaim; and of each tenant.
//!
//! Sizes are stored in six bits, in steps. They are always added and subtracted as the middle of
//! their step, so that the sums do not drift.

use crate::record::Lsn;
use std::collections::BTreeMap;

/// Size classes below this are quarters of octaves, from 16 bytes on; above, octaves from 64 KiB
/// on.
const FINE: u8 = 48;

/// The class of a size: 0 to 63.
pub(crate) fn class_of(bytes: u64) -> u8 {
    let Some(below) = bytes.checked_sub(1) else {
        return 0;
    };
    if bytes > class_bytes(FINE - 1) {
        let octave = 64 - (below >> 16).leading_zeros() as u8;
        return (FINE + octave).min(63);
    }
    if bytes <= class_bytes(0) {
        return 0;
    }
    // The two bits after the highest one give the quarter of its octave.
    let shift = below.ilog2() - 2;
    let quarter = (below >> shift) as u8 & 3;
    (shift as u8 - 2) * 4 + quarter + 1
}

/// The largest size of a class.
pub(crate) const fn class_bytes(class: u8) -> u64 {
    if class < FINE {
        (4 + (class as u64 & 3)) << (2 + (class >> 2))
    } else {
        65_536 << (class - FINE)
    }
}

/// The size that is used for each class.
const WEIGHTS: [u64; 64] = {
    let mut weights = [class_bytes(0); 64];
    let mut class = 1;
    while class < 64 {
        weights[class as usize] = (class_bytes(class - 1) + class_bytes(class)) / 2;
        class += 1;
    }
    weights
};

fn weight(class: u8) -> u64 {
    WEIGHTS[usize::from(class & 63)]
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    /// Slots of the segment.
    slots: Vec<LiveSegment>,
    /// Sum of all slots.
    total: u64,
    /// Bytes of bodies by tenant; those without a tenant are not in it.
    tenants: BTreeMap<u32, u64>,
    now: Lsn,
}

#[derive(Clone, Copy, Debug, Default)]
struct LiveSegment {
    bytes: u64,
    /// The last record that removed something from it.
    changed: Lsn,
}

impl Live {
    /// Sets the record that is being applied.
    pub(crate) fn now(&mut self, lsn: Lsn) {
        self.now = lsn;
    }

    pub(crate) fn add(&mut self, slot: u16, class: u8) {
        let index = usize::from(slot);
        if index >= self.slots.len() {
            self.slots.resize(index + 1, LiveSegment::default());
        }
        self.slots[index].bytes += weight(class);
        self.total += weight(class);
    }

    pub(crate) fn take(&mut self, slot: u16, class: u8) {
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            let bytes = weight(class).min(slot.bytes);
            slot.bytes -= bytes;
            self.total -= bytes;
            slot.changed = now;
        }
    }

    /// Counts a body for its tenant; 0: it has none.
    pub(crate) fn count(&mut self, tenant: u32, class: u8) {
        if tenant != 0 {
            *self.tenants.entry(tenant).or_default() += weight(class);
        }
    }

    /// Counts a body no longer.
    pub(crate) fn uncount(&mut self, tenant: u32, class: u8) {
        if tenant == 0 {
            return;
        }
        let left = self.tenant(tenant).saturating_sub(weight(class));
        match left {
            0 => self.tenants.remove(&tenant),
            left => self.tenants.insert(tenant, left),
        };
    }

    /// Live bytes of the bodies of a tenant.
    fn tenant(&self, tenant: u32) -> u64 {
        self.tenants.get(&tenant).copied().unwrap_or_default()
    }

    /// Tenants with live bodies, in order, and the bytes of these.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.tenants.iter().map(|(tenant, bytes)| (*tenant, *bytes))
    }

    /// Live bytes in a segment.
    pub(crate) fn bytes(&self, slot: u16) -> u64 {
        self.slots.get(usize::from(slot)).map_or(0, |s| s.bytes)
    }

    /// The last record by which something in it died or moved.
    pub(crate) fn changed(&self, slot: u16) -> Lsn {
        self.slots.get(usize::from(slot)).map_or(0, |s| s.changed)
    }

    /// Resets a slot that another segment gets.
    pub(crate) fn reset(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            self.total -= slot.bytes;
            *slot = LiveSegment::default();
        }
    }

    /// One more than the highest slot.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len().max(1)
    }

    /// Removes slots without a segment.
    pub(crate) fn keep(&mut self, is_there: impl Fn(u16) -> bool) {
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            if !is_there(slot as u16) {
                self.total -= entry.bytes;
                *entry = LiveSegment::default();
            }
        }
    }

    /// Live bytes in total.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_first_class_that_holds_it() {
        let powers = (17..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for bytes in (0..200_000).chain(powers) {
            let first = (0..63).find(|class| class_bytes(*class) >= bytes);
            assert_eq!(class_of(bytes), first.unwrap_or(63), "{bytes}");
        }
    }

    #[test]
    fn a_class_is_no_smaller_than_its_sizes_and_hardly_larger() {
        for bytes in (1..5000).chain([60_000, 1 << 20, (1 << 20) + 1, 300 << 20]) {
            let largest = class_bytes(class_of(bytes));
            assert!(largest >= bytes, "{bytes}");
            let too_much = if bytes < 57_344 { bytes / 4 } else { bytes };
            assert!(largest <= bytes + too_much + 16, "{bytes}: {largest}");
        }
    }
}
