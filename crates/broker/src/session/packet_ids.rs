//! A table keyed by Packet Identifier: a direct-mapped ring.
//!
//! Identifiers are handed out in sequence, so what is in flight lies side by side: the place of an
//! identifier is its lowest bits. Nothing in flight costs next to nothing; growing doubles the
//! ring. The allocator of identifiers skips those whose place is taken, so a message that is never
//! acknowledged neither stops the others nor makes the ring grow. Identifiers that the client hands
//! out need not be in sequence: those whose place is taken in a ring that is nearly empty go to a
//! map, so that two of them do not make it grow to its full size.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_codec::PacketId;

use crate::gauge::{CountedBytes, MemoryGauge};

/// Packet Identifier → `T`.
#[derive(Debug)]
pub(crate) struct PacketIdRing<T>(Option<Box<Ring<T>>>);

#[derive(Debug)]
struct Ring<T> {
    places: Box<[Option<(PacketId, T)>]>,
    /// Values that found their place taken.
    others: BTreeMap<PacketId, T>,
    /// Number of Packet Identifiers in both.
    len: usize,
    /// Places to begin with when there are none: many messages in flight come back in bursts.
    places_at_first: usize,
    /// Bytes of the places.
    counted: CountedBytes,
}

const PLACES_MIN: usize = 8;
const PLACES_MAX: usize = 1 << 16;
/// A ring with more places than this for each identifier in it does not grow.
const SPARSE: usize = 8;

impl<T> Default for PacketIdRing<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            places: Box::default(),
            others: BTreeMap::new(),
            len: 0,
            places_at_first: PLACES_MIN,
            counted: CountedBytes::default(),
        }
    }
}

impl<T> PacketIdRing<T> {
    /// Counts what it takes from now on, if nothing is in it.
    #[inline]
    pub(crate) fn count_by(&mut self, gauge: &Arc<MemoryGauge>) {
        if self.0.is_none() {
            self.begin(gauge);
        }
    }

    #[cold]
    fn begin(&mut self, gauge: &Arc<MemoryGauge>) {
        let counted = CountedBytes::by(gauge);
        self.0 = Some(Box::new(Ring {
            counted,
            ..Ring::default()
        }));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ring| ring.len)
    }

    /// Bytes of its places.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |ring| ring.counted.bytes())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&T> {
        let ring = self.0.as_ref()?;
        match ring.places.get(ring.place(id)?) {
            Some(Some((held, value))) if *held == id => Some(value),
            _ => ring.others.get(&id),
        }
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let ring = self.0.as_mut()?;
        let place = ring.place(id)?;
        match ring.places.get_mut(place) {
            Some(Some((held, value))) if *held == id => Some(value),
            _ => ring.others.get_mut(&id),
        }
    }

    /// Puts a value under an identifier that the other side chose; what was there is replaced.
    // The value is made where it is to lie: copying it from where it has just been made would wait
    // for those writes.
    #[inline(always)]
    pub(crate) fn insert(&mut self, id: PacketId, value: T) {
        if let Some(ring) = &mut self.0
            && ring.others.is_empty()
            && let Some(place) = ring.place(id)
            && let free @ None = &mut ring.places[place]
        {
            *free = Some((id, value));
            ring.len += 1;
            return;
        }
        self.insert_elsewhere(id, value);
    }

    /// Puts a value under an identifier where the place is taken, or there is none yet.
    #[inline(never)]
    fn insert_elsewhere(&mut self, id: PacketId, value: T) {
        if let Some(held) = self.get_mut(id) {
            *held = value;
            return;
        }
        let ring = self.0.get_or_insert_default();
        ring.len += 1;
        loop {
            if let Some(place) = ring.place(id)
                && let free @ None = &mut ring.places[place]
            {
                *free = Some((id, value));
                return;
            }
            if ring.places.len() > SPARSE * ring.len {
                ring.others.insert(id, value);
                return;
            }
            ring.grow();
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<T> {
        let ring = self.0.as_mut()?;
        let place = ring.place(id)?;
        let taken = match ring.places.get_mut(place)? {
            held @ Some(_) if held.as_ref().is_some_and(|(held, _)| *held == id) => {
                held.take().map(|(_, value)| value)
            }
            _ => ring.others.remove(&id),
        }?;
        ring.len -= 1;
        Some(taken)
    }

    /// Drops what is under an identifier if `found` makes something of it, which is answered.
    #[inline(always)]
    pub(crate) fn drop_if<R>(
        &mut self,
        id: PacketId,
        found: impl FnOnce(&T) -> Option<R>,
    ) -> Option<R> {
        let ring = self.0.as_mut()?;
        let place = ring.place(id)?;
        let answer = match &mut ring.places[place] {
            held @ Some(_) if held.as_ref().is_some_and(|(held, _)| *held == id) => {
                let answer = held.as_ref().and_then(|(_, value)| found(value))?;
                *held = None;
                answer
            }
            _ => {
                let answer = found(ring.others.get(&id)?)?;
                ring.others.remove(&id);
                answer
            }
        };
        ring.len -= 1;
        Some(answer)
    }

    /// Gives memory back if nothing is in it, and is not expected to be soon.
    pub(crate) fn rest(&mut self) {
        if let Some(ring) = &mut self.0
            && ring.len == 0
            && ring.places.len() > 64
        {
            ring.places_at_first = ring.places.len() / 2;
            ring.places = Box::default();
            ring.counted.set(0);
        }
    }

    /// The next free identifier behind `after` and the place to keep it in; none when all 65,535
    /// are taken [MQTT-2.2.1-4].
    pub(crate) fn next_free(&mut self, after: u16) -> Option<PacketId> {
        let ring = self.0.get_or_insert_default();
        if ring.len * 2 >= ring.places.len() && ring.places.len() < PLACES_MAX {
            ring.grow();
        }
        let mut candidate = after;
        for _ in 0..=u16::MAX {
            candidate = candidate.wrapping_add(1);
            if let Some(id) = PacketId::new(candidate)
                && let Some(place) = ring.place(id)
                && ring.places[place].is_none()
                && !ring.others.contains_key(&id)
            {
                return Some(id);
            }
        }
        None
    }

    /// All entries, in no useful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &T)> {
        self.0.iter().flat_map(|ring| {
            let places = ring.places.iter().flatten().map(|(id, value)| (*id, value));
            places.chain(ring.others.iter().map(|(id, value)| (*id, value)))
        })
    }

    /// All values, in no useful order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|ring| {
            let places = ring.places.iter_mut().flatten().map(|(_, value)| value);
            places.chain(ring.others.values_mut())
        })
    }

    /// Empties it.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (PacketId, T)> + use<T> {
        let ring = self.0.take().map(|ring| *ring).unwrap_or_default();
        let places = ring.places.into_vec().into_iter().flatten();
        places.chain(ring.others)
    }
}

impl<T> Ring<T> {
    fn place(&self, id: PacketId) -> Option<usize> {
        (!self.places.is_empty()).then(|| usize::from(id.get()) & (self.places.len() - 1))
    }

    fn grow(&mut self) {
        let count = match self.places.len() {
            0 => self.places_at_first,
            count => (count * 2).min(PLACES_MAX),
        };
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
        self.counted.set(count * size_of::<Option<(PacketId, T)>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn places<T>(ring: &PacketIdRing<T>) -> usize {
        ring.0.as_ref().map_or(0, |ring| ring.places.len())
    }

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
        assert!(places(&ring) <= 16);
    }

    #[test]
    fn identifiers_that_are_chosen_to_collide_do_not_make_the_ring_grow() {
        let mut ring = PacketIdRing::default();
        for raw in [1, 1 << 14 | 1, 1 << 15 | 1] {
            ring.insert(PacketId::new(raw).unwrap(), raw);
        }
        assert!(places(&ring) <= 64);
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
