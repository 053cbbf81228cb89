//! A body in eight bytes: where it is stored, its size class, its holds and its references.

use super::location::Location;
use crate::record::Holds;

/// Segment's slot: 16 bits, offset / 8: 23, holds: 3, size class: 6, references: 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(pub(super) u64);

/// Number of references from which on the number is stored in `many`.
pub(super) const REFS_MANY: u64 = 0xffff;

impl Packed {
    pub(super) fn location(self) -> Option<Location> {
        let slot = (self.0 >> 48) as u16;
        let at = (self.0 >> 25 & 0x7f_ffff) as u32;
        (slot != 0).then_some(Location { slot, at })
    }

    pub(super) fn holds(self) -> Holds {
        Holds::from_bits((self.0 >> 22 & 7) as u8)
    }

    pub(super) fn class(self) -> u8 {
        (self.0 >> 16 & 0x3f) as u8
    }

    pub(super) fn refs(self) -> u64 {
        self.0 & REFS_MANY
    }

    pub(super) fn put_location(&mut self, location: Location, class: u8) {
        let place = u64::from(location.slot) << 48 | u64::from(location.at & 0x7f_ffff) << 25;
        self.0 = place | u64::from(class & 0x3f) << 16 | self.0 & (7 << 22 | REFS_MANY);
    }

    pub(super) fn put_holds(&mut self, holds: Holds) {
        self.0 = self.0 & !(7 << 22) | u64::from(holds.bits()) << 22;
    }

    pub(super) fn put_refs(&mut self, refs: u64) {
        self.0 = self.0 & !REFS_MANY | refs.min(REFS_MANY);
    }

    /// Whether it exists and is not yet in all queues that should get it.
    pub(super) fn is_routed(self) -> bool {
        self.location().is_some() && self.holds().contains(Holds::ROUTING)
    }

    pub(super) fn is_dead(self) -> bool {
        self.0 & (7 << 22 | REFS_MANY) == 0
    }

    /// Empties the slot of a body that exists and is no longer needed. Returns its old location
    /// and size class.
    pub(super) fn take_if_dead(&mut self) -> Option<(Location, u8)> {
        let location = self.location().filter(|_| self.is_dead())?;
        let class = self.class();
        self.0 = 0;
        Some((location, class))
    }
}
