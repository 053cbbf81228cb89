//! The search for the clients and groups that hold most, step by step: no step is longer because a
//! share group has many members.

use crate::connection::Phase;
use crate::memory_use::SMALL_BYTES;
use crate::node::{Cx, Node};
use crate::pressure::relief::{Holder, HolderBytes, Stage};
use crate::shard::Shard;
use crate::work::{HOLDINGS, HOLDINGS_OF_MEMBER, NODE};

/// Bytes below which a member's part of a share group is not counted as held by it.
const PART_BYTES: usize = 256;
/// Places of members of a share group that are looked at in one step.
const MEMBERS_PER_STEP: usize = 64;
/// Members and addresses that are forgotten in one step.
const FORGOTTEN_PER_STEP: usize = 64;

impl Shard {
    pub(super) fn look_at_members(&mut self, place: usize, first: usize) -> Stage {
        if place >= self.groups.places() {
            return Stage::Sources(0);
        }
        self.work.add(HOLDINGS);
        let Some((_, bytes)) = self.groups.bytes_at(place) else {
            return Stage::Members(place + 1, 0);
        };
        if first == 0 {
            self.memory.relief.sums.groups += bytes;
        }
        let part = self.groups.part_at(place);
        if part < PART_BYTES {
            return Stage::Members(place + 1, 0);
        }
        let end = first + MEMBERS_PER_STEP;
        for member in self.groups.members_at(place, first..end) {
            *self.memory.relief.by_member.entry(member).or_default() += part;
            self.work.add(HOLDINGS_OF_MEMBER);
        }
        match end < self.groups.member_places_at(place) {
            true => Stage::Members(place, end),
            false => Stage::Members(place + 1, 0),
        }
    }

    pub(super) fn look_at_source(&mut self, place: u32) -> Stage {
        if place >= self.connections.places() {
            return Stage::Connections(0);
        }
        self.work.add(HOLDINGS);
        let connection = self.connections.look_at(place);
        let connection = connection.filter(|connection| connection.phase == Phase::Accepted);
        if let Some((address, _)) = connection.and_then(|connection| connection.address()) {
            let bytes = self.bytes_held_without_layers(place);
            self.memory.relief.sources.add(address, bytes);
        }
        Stage::Sources(place + 1)
    }

    pub(super) fn look_at_connection(&mut self, place: u32) -> Stage {
        if place >= self.connections.places() {
            return Stage::Sessions(0);
        }
        self.work.add(HOLDINGS);
        let connection = self.connections.look_at(place);
        let connection = connection.filter(|connection| connection.phase == Phase::Accepted);
        if let Some(connection) = connection {
            let id = self.connections.id_of(place);
            let address = connection.address();
            self.memory.relief.sums.input += connection.input_len();
            let bytes = self.bytes_held_by(place);
            if bytes >= SMALL_BYTES {
                let part = address.map_or(0, |(address, _)| {
                    self.memory.relief.sources.part_of(address)
                });
                let noted = HolderBytes {
                    counted: bytes.max(part),
                    ..HolderBytes::of(bytes)
                };
                self.memory.relief.note(noted, Holder::Client(id));
            }
        }
        Stage::Connections(place + 1)
    }

    pub(super) fn look_at_session(&mut self, place: u32) -> Stage {
        if place >= self.sessions.places() {
            return Stage::Groups(0, 0, 0);
        }
        self.work.add(HOLDINGS);
        let bytes = self.bytes_of_session(place);
        if bytes >= SMALL_BYTES {
            let id = self.sessions.id_of(place);
            self.memory
                .relief
                .note(HolderBytes::of(bytes), Holder::Session(id));
        }
        Stage::Sessions(place + 1)
    }

    pub(super) fn look_at_group(&mut self, place: usize, first: usize, most: usize) -> Stage {
        if place >= self.groups.places() {
            return Stage::Forgetting;
        }
        self.work.add(HOLDINGS);
        let Some((id, bytes)) = self.groups.bytes_at(place) else {
            return Stage::Groups(place + 1, 0, 0);
        };
        let (mut most, end) = (most, first + MEMBERS_PER_STEP);
        if self.groups.part_at(place) >= PART_BYTES {
            for member in self.groups.members_at(place, first..end) {
                let held = self.memory.relief.by_member.get(&member);
                most = most.max(held.copied().unwrap_or_default());
                self.work.add(HOLDINGS_OF_MEMBER);
            }
            if end < self.groups.member_places_at(place) {
                return Stage::Groups(place, end, most);
            }
        }
        let size = bytes.max(most);
        let noted = HolderBytes {
            held: bytes,
            size,
            counted: size,
        };
        self.memory.relief.note(noted, Holder::Group(id));
        Stage::Groups(place + 1, 0, 0)
    }

    /// All have been looked at. Gives back the memory of the search, and then asks what it has come
    /// to.
    pub(super) fn forget_search<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> Stage {
        for _ in 0..FORGOTTEN_PER_STEP {
            let relief = &mut self.memory.relief;
            if relief.by_member.pop_first().is_none() && !relief.sources.forget_one() {
                return self.end_search(cx);
            }
            self.work.add(NODE);
        }
        Stage::Forgetting
    }

    fn end_search<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> Stage {
        self.memory.relief.last = self.memory.relief.sums;
        cx.node.note_memory(self.id, self.memory_uses());
        let all = cx.node.memory_use();
        let is_first = !core::mem::replace(&mut self.memory.relief.is_known, true);
        let other_shards_are_asked = is_first && self.shard_count > 1 && !all.is_nearly_used();
        if other_shards_are_asked || !all.is_short() {
            self.memory.relief.to_take = 0;
            self.memory.relief.found = Default::default();
            return Stage::Resting;
        }
        self.memory.relief.to_take = all.excess_of(&self.memory.relief.sums.counted);
        let found = self.memory.relief.take_found(all.least_of_largest());
        match self.memory.relief.to_take {
            0 => Stage::Resting,
            _ => Stage::Holders(found),
        }
    }
}
