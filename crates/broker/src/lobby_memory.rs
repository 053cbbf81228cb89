//! Memory that connections hold before their clients are accepted: unfinished CONNECT packets, what
//! lies below MQTT (TLS, the request of a WebSocket), CONNECT packets whose clients wait to be
//! known.
//!
//! All of them together have a part of the node's memory. Beyond it the connection that holds most
//! is refused, so that clients that have not logged in take no memory from those that have.

pub(crate) mod held;

use martlet_codec::ReasonCode;
use martlet_permission::Limit;

use crate::connection::Phase;
use crate::effect::ConnectionEffect;
use crate::id::ConnectionId;
use crate::lobby::version_of_unfinished;
use crate::node::{Cx, Node};
use crate::shard::{PacketError, Shard};
use crate::work::COMING_OR_GOING;

/// Bytes of a connection below MQTT before it has received anything: they are counted like the
/// connection itself, so that a burst of new connections is not refused because of them.
const IDLE_LAYERS_BYTES: u32 = 2 * 1024;

impl Shard {
    /// Sets the bytes of a connection between the socket and MQTT; `before` is the value of the
    /// last call.
    pub fn charge_layers<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: u32,
        before: u32,
    ) {
        self.memory.layers = self.memory.layers + bytes as usize - before as usize;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.layer_bytes = bytes;
        if connection.phase.is_lobby() {
            let bytes = bytes.saturating_sub(IDLE_LAYERS_BYTES);
            self.change_held(id, |held| held.layers = bytes);
            if self.lobby.memory.is_over() {
                self.relieve_lobby(cx);
                self.settle(cx);
            }
        }
    }

    /// Ends the charge for these bytes between a socket and MQTT: they were freed, or they move to
    /// another shard with their connection.
    pub fn discharge_layers(&mut self, bytes: u32) {
        self.memory.layers -= bytes as usize;
    }

    /// Refuses the clients that hold most while the lobby holds more than its part: one at least,
    /// and more while the turn lasts. Answers whether there were any.
    pub(crate) fn relieve_lobby<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> bool {
        let mut any = false;
        while self.lobby.memory.is_over()
            && !(any && self.has_done_enough())
            && let Some(&(_, _, index)) = self.lobby.memory.ranks.last()
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
        let has_layers = self.connections.at(index).layer_bytes > 0;
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
