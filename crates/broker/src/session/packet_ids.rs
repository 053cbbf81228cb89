//! A table keyed by Packet Identifier: a direct-mapped ring.
//!
//! Identifiers are handed out in sequence, so what is in flight lies side by side: the place of an
//! identifier is its lowest bits. Nothing in flight costs nothing; growing doubles the ring. The
//! one who hands out identifiers skips those whose place is taken, so a message that is never
//! acknowledged neither stops the others nor makes the ring grow. Identifiers that the client hands
//! out need not be in sequence: those whose place is taken in a ring that is nearly empty go to a
//! map, so that two of them do not make it grow to its full size.

use std::collections::BTreeMap;

use martlet_codec::PacketId;

/// Packet Identifier → `T`.
#[derive(Debug)]
pub(crate) struct PacketIdRing<T> {
    places: Box<[Option<(PacketId, T)>]>,
    /// What found its place taken.
    #[expect(
        clippy::box_collection,
        reason = "nearly never there, and every session has two"
    )]
    others: Option<Box<BTreeMap<PacketId, T>>>,
    /// Of both.
    len: u32,
}

const PLACES_MIN: usize = 8;
const PLACES_MAX: usize = 1 << 16;
/// A ring with more places than this for each identifier in it does not grow.
const SPARSE: usize = 8;

impl<T> Default for PacketIdRing<T> {
    fn default() -> Self {
        Self {
            places: Box::default(),
            others: None,
            len: 0,
        }
    }
}

impl<T> PacketIdRing<T> {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&T> {
        match self.places.get(self.place(id)?) {
            Some(Some((held, value))) if *held == id => Some(value),
            _ => self.others.as_ref()?.get(&id),
        }
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let place = self.place(id)?;
        match self.places.get_mut(place) {
            Some(Some((held, value))) if *held == id => Some(value),
            _ => self.others.as_mut()?.get_mut(&id),
        }
    }

    /// Puts a value under an identifier that somebody else chose; what was there is replaced.
    pub(crate) fn insert(&mut self, id: PacketId, value: T) {
        if let Some(held) = self.get_mut(id) {
            *held = value;
            return;
        }
        self.len += 1;
        loop {
            if let Some(place) = self.place(id)
                && let free @ None = &mut self.places[place]
            {
                *free = Some((id, value));
                return;
            }
            if self.places.len() > SPARSE * self.len() {
                let others = self.others.get_or_insert_default();
                others.insert(id, value);
                return;
            }
            self.grow();
        }
    }

    pub(crate) fn remove(&mut self, id: PacketId) -> Option<T> {
        let place = self.place(id)?;
        let taken = match &mut self.places[place] {
            held @ Some(_) if held.as_ref().is_some_and(|(held, _)| *held == id) => {
                held.take().map(|(_, value)| value)
            }
            _ => self.others.as_mut()?.remove(&id),
        }?;
        self.len -= 1;
        if self.others.as_ref().is_some_and(|others| others.is_empty()) {
            self.others = None;
        }
        if self.len == 0 && self.places.len() > 64 {
            self.places = Box::default();
        }
        Some(taken)
    }

    /// The next free identifier behind `after` and the place to keep it in; none when all 65,535
    /// are taken [MQTT-2.2.1-4].
    pub(crate) fn next_free(&mut self, after: u16) -> Option<PacketId> {
        if self.len() * 2 >= self.places.len() && self.places.len() < PLACES_MAX {
            self.grow();
        }
        let mut candidate = after;
        for _ in 0..=u16::MAX {
            candidate = candidate.wrapping_add(1);
            if let Some(id) = PacketId::new(candidate)
                && let Some(place) = self.place(id)
                && self.places[place].is_none()
                && self
                    .others
                    .as_ref()
                    .is_none_or(|others| !others.contains_key(&id))
            {
                return Some(id);
            }
        }
        None
    }

    /// All entries, in no useful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &T)> {
        let places = self.places.iter().flatten().map(|(id, value)| (*id, value));
        let others = self.others.iter().flat_map(|others| others.iter());
        places.chain(others.map(|(id, value)| (*id, value)))
    }

    /// Empties it.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (PacketId, T)> + use<T> {
        self.len = 0;
        let others = self.others.take().map(|others| *others).unwrap_or_default();
        let places = core::mem::take(&mut self.places)
            .into_vec()
            .into_iter()
            .flatten();
        places.chain(others)
    }

    fn place(&self, id: PacketId) -> Option<usize> {
        (!self.places.is_empty()).then(|| usize::from(id.get()) & (self.places.len() - 1))
    }

    fn grow(&mut self) {
        let count = (self.places.len() * 2).clamp(PLACES_MIN, PLACES_MAX);
        let mut places = Vec::new();
        places.resize_with(count, || None);
        for entry in core::mem::take(&mut self.places)
            .into_vec()
            .into_iter()
            .flatten()
        {
            let place = usize::from(entry.0.get()) & (count - 1);
            places[place] = Some(entry);
        }
        self.places = places.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_stuck_identifier_neither_stops_nor_grows_the_ring() {
        let mut ring = PacketIdRing::default();
        let mut last = 0;
        for round in 0..200_000 {
            let id = ring.next_free(last).unwrap();
            last = id.get();
            ring.insert(id, round);
            if round > 0 {
                ring.remove(id);
            }
        }
        assert_eq!(ring.get(PacketId::new(1).unwrap()), Some(&0));
        assert!(ring.places.len() <= 16);
    }

    #[test]
    fn identifiers_that_are_chosen_to_collide_do_not_make_the_ring_grow() {
        let mut ring = PacketIdRing::default();
        for raw in [1, 1 << 14 | 1, 1 << 15 | 1] {
            ring.insert(PacketId::new(raw).unwrap(), raw);
        }
        assert!(ring.places.len() <= 64);
        assert_eq!(ring.iter().count(), 3);
        assert_eq!(ring.remove(PacketId::new(1).unwrap()), Some(1));
        assert_eq!(
            ring.get(PacketId::new(1 << 15 | 1).unwrap()),
            Some(&(1 << 15 | 1))
        );
        assert_eq!(ring.drain().count(), 2);
        assert!(ring.is_empty());
    }

    #[test]
    fn all_identifiers_can_be_in_flight_and_none_is_used_twice() {
        let mut ring = PacketIdRing::default();
        let mut last = 0;
        for _ in 0..65_535 {
            let id = ring.next_free(last).unwrap();
            assert!(ring.get(id).is_none());
            last = id.get();
            ring.insert(id, ());
        }
        assert_eq!(ring.next_free(last), None);
        ring.remove(PacketId::new(77).unwrap());
        assert_eq!(ring.next_free(last), PacketId::new(77));
    }

    proptest! {
        #[test]
        fn the_ring_agrees_with_a_map(
            steps in prop::collection::vec((any::<bool>(), 1..=u16::MAX), 1..200),
        ) {
            let mut ring = PacketIdRing::default();
            let mut model = BTreeMap::new();
            for (insert, raw) in steps {
                // Some lie side by side, some share their lowest bits.
                let spread = if raw & 1 == 0 { 1 } else { 128 };
                let id = PacketId::new(raw % 300 * spread + 1).unwrap();
                if insert {
                    ring.insert(id, raw);
                    model.insert(id, raw);
                } else {
                    prop_assert_eq!(ring.remove(id), model.remove(&id));
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.iter().count(), model.len());
                for (id, value) in &model {
                    prop_assert_eq!(ring.get(*id), Some(value));
                }
            }
        }
    }
}
