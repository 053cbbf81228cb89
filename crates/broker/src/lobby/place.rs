//! The place of a connection in the lobby, and what it holds there.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_permission::TenantId;

use crate::connect_request::{ConnectRequest, Login, Peer};
use crate::connection::{Connection, Phase};
use crate::id::ConnectionId;
use crate::lobby_memory::held::LobbyHolding;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::timer::Timer;
use crate::work::SOCKET;

impl Shard {
    pub(crate) fn enter_lobby<N: Node>(&mut self, cx: &Cx<'_, N>, peer: Peer) -> ConnectionId {
        self.work.add(SOCKET);
        let timeout_secs = match peer.listener.connect_timeout_secs {
            0 => self.settings.limits.connect_timeout_secs,
            own => own,
        };
        let connection = Connection::new(peer, cx.now.mono_ms);
        let id = self.connections.insert(connection);
        let timeout_ms = u64::from(timeout_secs) * 1000;
        let due_ms = cx.now.mono_ms + timeout_ms;
        let timer = self.timers.wheel.arm(due_ms, Timer::ConnectDeadline(id));
        self.connections.at(id.index).deadline = Some(timer);
        self.lobby.enter();
        id
    }

    /// Whether this connection has no client yet. What it has sent can wait in its socket while the
    /// turn is over, so that a flood of new connections does not delay connected clients.
    pub fn is_in_lobby(&self, id: ConnectionId) -> bool {
        let found = self.connections.get(id);
        found.is_some_and(|found| found.phase == Phase::Lobby)
    }

    /// A proxy has sent the address of the client of a connection in the lobby.
    pub fn comes_from(&mut self, id: ConnectionId, address: (IpAddr, u16)) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Lobby
        {
            connection.client_mut().address = Some(address);
        }
    }

    /// 16 random bytes of a connection in the lobby.
    pub(super) fn entropy_of(&mut self, index: u32) -> [u8; 16] {
        let state = self.connections.at(index).lobby();
        state.map_or([0; 16], |state| state.entropy)
    }

    /// Removes a connection from the lobby.
    pub(crate) fn leave_lobby(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let state = connection.take_rare(|rare| rare.lobby.take());
        self.lobby.leave(index, state);
    }

    /// Changes what a connection of the lobby holds.
    pub(crate) fn change_held(&mut self, id: ConnectionId, change: impl FnOnce(&mut LobbyHolding)) {
        let state = self.connections.at(id.index).lobby_mut();
        if let Some(state) = state {
            self.lobby.memory.change(id, &mut state.held, change);
        }
    }

    /// The client of a connection that has sent no CONNECT yet has proved to have this certificate.
    pub fn has_certificate(&mut self, id: ConnectionId, certificate: Arc<[u8]>) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Lobby
            && let Some(state) = connection.lobby_mut()
        {
            state.certificate = Some(certificate);
        }
    }

    /// Takes the CONNECT of a client that waits to be known.
    pub(crate) fn take_waiting(&mut self, index: u32) -> Option<ConnectRequest> {
        let waiting = self.connections.at(index).lobby_mut()?.waiting.take()?;
        Some(waiting.request)
    }

    /// The login of a client that needs no proof.
    pub(crate) fn claimed_login(&mut self, index: u32, request: &ConnectRequest) -> Login {
        let tenant = self.connections.at(index).listener().own;
        Login::claimed(tenant.unwrap_or(TenantId(0)), request.user_name.clone())
    }
}
