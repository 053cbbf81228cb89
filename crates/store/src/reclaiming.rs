//! Sparse segments whose live contents are being copied, and the progress.

use crate::index::live::class_bytes;
use crate::index::{Index, Location};
use crate::read::NEIGHBOUR_BYTES;
use crate::record::StateKey;

/// Sparse segments whose live contents are being copied.
#[derive(Debug)]
pub(crate) struct Reclaiming {
    pub(crate) slots: Vec<u16>,
    pub(crate) stage: Stage,
    /// The records in them with live contents; during the copying, those that are left, the next
    /// one last.
    pub(crate) places: Vec<RecordPosition>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Searches the bodies, from this chunk of the index on.
    Bodies(usize),
    /// Searches the states after this one.
    States(Option<StateKey>),
    Copying,
}

/// A record with live contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPosition {
    pub(crate) slot: u16,
    pub(crate) at: u32,
    /// Size class of its live contents.
    pub(crate) class: u8,
}

impl RecordPosition {
    /// Whether the other record follows so closely that both are read together.
    fn is_near(&self, other: &RecordPosition) -> bool {
        let between = u64::from(other.at.saturating_sub(self.at)) * 8;
        self.slot == other.slot && between <= class_bytes(self.class) + NEIGHBOUR_BYTES
    }
}

impl Reclaiming {
    /// New work on these segments; nothing has been examined yet.
    pub(crate) fn new(slots: Vec<u16>) -> Self {
        Reclaiming {
            slots,
            stage: Stage::Bodies(0),
            places: Vec::new(),
        }
    }

    /// Adds live contents of this class at this location.
    pub(crate) fn add(&mut self, location: Location, class: u8) {
        let Location { slot, at } = location;
        if self.slots.contains(&slot) {
            self.places.push(RecordPosition { slot, at, class });
        }
    }

    /// Bytes that are still to be copied.
    pub(crate) fn alive(&self, index: &Index) -> u64 {
        self.slots.iter().map(|slot| index.live.bytes(*slot)).sum()
    }

    /// Leaves out a segment that is freed.
    pub(crate) fn leave_out(&mut self, slot: u16) {
        self.slots.retain(|other| *other != slot);
        self.places.retain(|place| place.slot != slot);
    }

    /// Removes and returns the next places, about `budget_bytes` bytes.
    pub(crate) fn take(&mut self, budget_bytes: usize) -> Vec<RecordPosition> {
        let (mut count, mut bytes) = (0, 0);
        let mut last: Option<&RecordPosition> = None;
        for place in self.places.iter().rev() {
            if bytes >= budget_bytes.max(1) as u64 {
                break;
            }
            bytes += class_bytes(place.class);
            if last.is_some_and(|last| !last.is_near(place)) {
                // It is read alone.
                bytes += NEIGHBOUR_BYTES;
            }
            last = Some(place);
            count += 1;
        }
        self.places.split_off(self.places.len() - count)
    }
}
