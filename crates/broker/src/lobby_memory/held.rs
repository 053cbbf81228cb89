//! Memory that connections that have not logged in hold.

use core::cmp::Reverse;
use std::collections::BTreeSet;

use crate::id::ConnectionId;
use crate::node::MemoryPressure;

pub(super) type Rank = (u32, Reverse<u32>, u32);

/// The lobby's part of the node's memory, as a divisor.
const PART: usize = 8;

/// Divisor of that part while memory is short.
const PART_WHEN_SHORT: usize = 8;

/// Bytes that a shard's lobby may hold in any case, however small the node's memory is.
const BYTES_MIN: usize = 64 * 1024;

/// A class of sizes goes from 4 KiB to 64 KiB, the next one to 1 MiB.
const LOG2_PER_CLASS: u32 = 4;

/// Memory that one connection of the lobby holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LobbyHolding {
    /// Generation of the connection: later ones have higher numbers.
    generation: u32,
    /// Buffers.
    pub(crate) buffers: u32,
    /// Layers below MQTT.
    pub(crate) layers: u32,
    /// CONNECT, while its client waits to be authenticated.
    pub(crate) request: u32,
}

impl LobbyHolding {
    fn sum(self) -> u32 {
        self.buffers
            .saturating_add(self.layers)
            .saturating_add(self.request)
    }

    /// Returns its place among those that hold something: those with most are last, and of those of
    /// one class of sizes, the oldest. A client that logs in does not stay long. A class is wide: a
    /// TLS handshake holds more than what comes after it, and else those who have shaken hands and
    /// wait would stay, and each newcomer would go.
    fn rank(self, index: u32) -> Rank {
        let class = self.sum().ilog2() / LOG2_PER_CLASS;
        (class, Reverse(self.generation), index)
    }
}

/// Memory that the connections of the lobby hold.
#[derive(Debug)]
pub(crate) struct LobbyMemory {
    /// Connections that hold something: nearly all hold nothing.
    pub(crate) ranks: BTreeSet<Rank>,
    bytes: usize,
    /// Bytes of all CONNECT packets whose clients wait to be known.
    request_bytes: usize,
    bytes_max: usize,
}

impl Default for LobbyMemory {
    fn default() -> Self {
        Self {
            ranks: BTreeSet::new(),
            bytes: 0,
            request_bytes: 0,
            bytes_max: usize::MAX,
        }
    }
}

impl LobbyMemory {
    /// Changes what a connection holds.
    pub(crate) fn change(
        &mut self,
        id: ConnectionId,
        held: &mut LobbyHolding,
        change: impl FnOnce(&mut LobbyHolding),
    ) {
        let ConnectionId { index, generation } = id;
        let before = *held;
        held.generation = generation;
        change(held);
        let now = *held;
        if before.sum() > 0 {
            self.ranks.remove(&before.rank(index));
        }
        if now.sum() > 0 {
            self.ranks.insert(now.rank(index));
        }
        self.bytes = self.bytes - before.sum() as usize + now.sum() as usize;
        self.request_bytes = self.request_bytes - before.request as usize + now.request as usize;
    }

    /// The connection that held this has left the lobby.
    pub(crate) fn left(&mut self, index: u32, mut held: LobbyHolding) {
        let generation = held.generation;
        let id = ConnectionId { index, generation };
        self.change(id, &mut held, |held| *held = LobbyHolding::default());
    }

    /// Bytes of CONNECT packets whose clients wait to be known.
    pub(crate) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Whether the connections hold more than they may.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Sets the number of bytes that they may hold, from the memory of a node with `shard_count`
    /// shards.
    pub(crate) fn set_part(&mut self, pressure: &MemoryPressure, shard_count: u16) {
        let part = pressure.part(PART, PART_WHEN_SHORT, shard_count);
        self.bytes_max = part.map_or(usize::MAX, |part| part.max(BYTES_MIN));
    }

    /// Nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }
}
