//! Requests that were sent and not yet answered, by Packet Identifier.
//!
//! Responsible for assigning Packet Identifiers cyclically and for the order of requests, which is
//! the order of resending. A ring: it grows with the number of entries and finds an entry in one
//! step. The type of the entries is generic. MQTT 5.0 §2.2.1, §4.4.

use std::collections::VecDeque;

use martlet_codec::PacketId;

/// Number of Packet Identifiers: 1 to 65,535.
const ID_COUNT: u32 = 65_535;

/// Entries in the order of their Packet Identifiers.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    /// Position (identifier minus 1) of the first slot.
    first: u32,
    /// Completed entries leave a hole, until they are first or last.
    slots: VecDeque<Option<T>>,
    len: usize,
    /// Number of identifiers that have been assigned, up to all of them.
    given: u32,
}

impl<T> InFlight<T> {
    /// An empty ring; the first identifier is 1.
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            slots: VecDeque::new(),
            len: 0,
            given: 0,
        }
    }

    /// Whether the identifier of the next `insert` has never been assigned.
    pub(super) fn next_is_first_use(&self) -> bool {
        self.given < ID_COUNT
    }

    /// Number of entries in flight.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The identifier of the next `insert`; `None` if all are in use.
    pub(super) fn next_id(&self) -> Option<PacketId> {
        let used = self.slots.len() as u32;
        (used < ID_COUNT).then(|| packet_id((self.first + used) % ID_COUNT))
    }

    /// Adds an entry under `next_id`. If all identifiers are in use, the entry is not added;
    /// callers check that first.
    pub(super) fn insert(&mut self, entry: T) {
        debug_assert!(
            self.next_id().is_some(),
            "the caller asks for next_id first"
        );
        self.slots.push_back(Some(entry));
        self.len += 1;
        self.given = (self.given + 1).min(ID_COUNT);
    }

    /// The entry with this identifier.
    pub(super) fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let index = self.index(id);
        self.slots.get_mut(index)?.as_mut()
    }

    /// Removes the entry. Its identifier becomes free when all entries before it have been removed.
    pub(super) fn remove(&mut self, id: PacketId) -> Option<T> {
        let index = self.index(id);
        let entry = self.slots.get_mut(index)?.take()?;
        self.len -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first = (self.first + 1) % ID_COUNT;
        }
        Some(entry)
    }

    /// All entries with their identifiers, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PacketId, &mut T)> {
        let first = self.first;
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(move |(index, slot)| {
                let id = packet_id((first + index as u32) % ID_COUNT);
                slot.as_mut().map(|entry| (id, entry))
            })
    }

    fn index(&self, id: PacketId) -> usize {
        let position = u32::from(id.get()) - 1;
        ((position + ID_COUNT - self.first) % ID_COUNT) as usize
    }
}

fn packet_id(position: u32) -> PacketId {
    u16::try_from(position + 1)
        .ok()
        .and_then(PacketId::new)
        .expect("a position is below 65,535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_go_round_without_zero_and_without_one_in_use() {
        let mut in_flight = InFlight::new();
        for round in 0..140_000u32 {
            let id = in_flight.next_id().unwrap();
            assert_eq!(u32::from(id.get()), round % ID_COUNT + 1);
            in_flight.insert(round);
            assert_eq!(in_flight.remove(id), Some(round));
        }
    }

    #[test]
    fn a_full_circle_has_no_next_identifier_until_the_first_entry_ends() {
        let mut in_flight = InFlight::new();
        while in_flight.next_id().is_some() {
            in_flight.insert(());
        }
        assert_eq!(in_flight.len(), 65_535);
        in_flight.remove(PacketId::new(2).unwrap());
        assert_eq!(in_flight.next_id(), None);
        in_flight.remove(PacketId::new(1).unwrap());
        assert_eq!(in_flight.next_id(), PacketId::new(1));
    }

    #[test]
    fn entries_ended_out_of_order_leave_the_others_in_place() {
        let mut in_flight = InFlight::new();
        (0..4).for_each(|value| in_flight.insert(value));
        let id = |value| PacketId::new(value).unwrap();
        assert_eq!(in_flight.remove(id(2)), Some(1));
        assert_eq!(in_flight.remove(id(2)), None);
        assert_eq!(in_flight.remove(id(9)), None);
        let left: Vec<_> = in_flight
            .iter_mut()
            .map(|(id, value)| (id.get(), *value))
            .collect();
        assert_eq!(left, [(1, 0), (3, 2), (4, 3)]);
    }
}
