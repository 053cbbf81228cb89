//! What connections hold before their clients are let in: unfinished CONNECT packets, what lies
//! below MQTT (TLS, the request of a WebSocket), CONNECT packets whose clients wait to be known.
//!
//! All of them together have a part of the node's memory. Beyond it the connection that holds most
//! is refused, so that clients that have not logged in take no memory from those that have.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::ReasonCode;

use crate::connection::Phase;
use crate::decision::Limit;
use crate::effect::ConnectionEffect;
use crate::id::ConnectionId;
use crate::lobby::version_of_unfinished;
use crate::node::{Cx, MemoryPressure, Node};
use crate::shard::{PacketError, Shard};
use crate::work::COMING_OR_GOING;

/// The lobby's part of the node's memory, as a divisor.
const PART: usize = 8;
/// Divisor of that part while memory is short.
const PART_WHEN_SHORT: usize = 8;
/// Bytes that a shard's lobby may hold in any case, however small the node's memory is.
const BYTES_MIN: usize = 64 * 1024;

/// Bytes of a connection below MQTT before it has received anything: they are counted like the
/// connection itself, so that a burst of new connections is not refused because of them.
const IDLE_LAYERS_BYTES: u32 = 2 * 1024;

/// What one connection of the lobby holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Generation of the connection: later ones have higher numbers.
    generation: u32,
    /// Its buffers.
    buffers: u32,
    /// What lies below MQTT.
    layers: u32,
    /// Its CONNECT, while its client waits to be authenticated.
    request: u32,
}

impl Held {
    fn sum(self) -> u32 {
        self.buffers
            .saturating_add(self.layers)
            .saturating_add(self.request)
    }

    /// Its place among those that hold something: those with most are last, and of those with about
    /// the same, who came first. Who means to log in does not stay long.
    fn rank(self, index: u32) -> Rank {
        (self.sum().ilog2(), Reverse(self.generation), index)
    }
}

type Rank = (u32, Reverse<u32>, u32);

/// What the connections of the lobby hold.
#[derive(Debug)]
pub(crate) struct LobbyMemory {
    /// By the connection's place. Nearly all hold nothing and are not in here.
    held: BTreeMap<u32, Held>,
    ranks: BTreeSet<Rank>,
    bytes: usize,
    /// Of all CONNECT packets whose clients wait to be known.
    request_bytes: usize,
    bytes_max: usize,
}

impl Default for LobbyMemory {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            ranks: BTreeSet::new(),
            bytes: 0,
            request_bytes: 0,
            bytes_max: usize::MAX,
        }
    }
}

impl LobbyMemory {
    fn change(&mut self, id: ConnectionId, change: impl FnOnce(&mut Held)) {
        let ConnectionId { index, generation } = id;
        let before = self.held.get(&index).copied().unwrap_or_default();
        let mut now = Held {
            generation,
            ..before
        };
        change(&mut now);
        if before.sum() > 0 {
            self.ranks.remove(&before.rank(index));
        }
        if now.sum() > 0 {
            self.ranks.insert(now.rank(index));
            self.held.insert(index, now);
        } else {
            self.held.remove(&index);
        }
        self.bytes = self.bytes - before.sum() as usize + now.sum() as usize;
        self.request_bytes = self.request_bytes - before.request as usize + now.request as usize;
    }

    /// Sets the bytes of a connection's buffers.
    pub(crate) fn set_buffers(&mut self, id: ConnectionId, bytes: usize) {
        if bytes > 0 || !self.held.is_empty() {
            self.change(id, |held| held.buffers = bytes as u32);
        }
    }

    /// Sets the bytes of the CONNECT of a client that waits to be authenticated.
    pub(crate) fn set_request(&mut self, id: ConnectionId, bytes: usize) {
        self.change(id, |held| held.request = bytes as u32);
    }

    /// The connection has left the lobby.
    pub(crate) fn forget(&mut self, index: u32) {
        if !self.held.is_empty() {
            let id = ConnectionId {
                index,
                generation: 0,
            };
            self.change(id, |held| *held = Held::default());
        }
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
        self.held.is_empty()
    }
}

impl Shard {
    /// Removes a connection from the lobby.
    pub(crate) fn leave_lobby(&mut self, index: u32) {
        self.lobby_count -= 1;
        self.lobby.forget(index);
    }

    /// Sets the bytes of a connection between the socket and MQTT; `before` is the value of the
    /// last call.
    pub fn charge_layers<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: u32,
        before: u32,
    ) {
        self.layer_bytes = self.layer_bytes + bytes as usize - before as usize;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let is_lobby = connection.phase.is_lobby();
        match bytes {
            0 => drop(self.layers.remove(&id.index)),
            bytes => drop(self.layers.insert(id.index, bytes)),
        }
        if is_lobby {
            let bytes = bytes.saturating_sub(IDLE_LAYERS_BYTES);
            self.lobby.change(id, |held| held.layers = bytes);
            if self.lobby.is_over() {
                self.relieve_lobby(cx);
                self.settle(cx);
            }
        }
    }

    /// Ends the charge for these bytes between a socket and MQTT: they were freed, or they move to
    /// another shard with their connection.
    pub fn discharge_layers(&mut self, bytes: u32) {
        self.layer_bytes -= bytes as usize;
    }

    /// Bytes of what lies between the socket of a connection and MQTT.
    pub(crate) fn layer_bytes_of(&self, index: u32) -> usize {
        match self.layers.is_empty() {
            true => 0,
            false => self.layers.get(&index).map_or(0, |bytes| *bytes as usize),
        }
    }

    /// Refuses those who hold most while the lobby holds more than its part: one at least, and more
    /// while the turn lasts. Answers whether there were any.
    pub(crate) fn relieve_lobby<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> bool {
        let mut any = false;
        while self.lobby.is_over()
            && !(any && self.has_done_enough())
            && let Some(&(_, _, index)) = self.lobby.ranks.last()
        {
            any = true;
            self.work.add(COMING_OR_GOING);
            self.show_out_of_lobby(cx, index);
        }
        any
    }

    fn show_out_of_lobby<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.clients_relieved += 1;
        let id = self.connections.id_of(index);
        let has_layers = self.layer_bytes_of(index) > 0;
        if has_layers {
            // What lies below MQTT would stay until its peer has taken the answer.
            cx.effects.connections.push(ConnectionEffect::Abort(id));
        }
        let connection = self.connections.at(index);
        let reason = ReasonCode::QuotaExceeded;
        match connection.phase {
            Phase::Lobby => {
                let input = connection.input.as_ref();
                let version = input.and_then(|input| version_of_unfinished(&input.bytes));
                self.refuse(cx, index, version, reason, Limit::MemoryOfLogins);
            }
            _ => self.refuse_waiting(cx, index, PacketError::of(reason, Limit::MemoryOfLogins)),
        }
        if has_layers {
            self.forget_connection(id);
        }
    }
}
