//! State that the connections of the lobby have in common.

use crate::authenticate::authentications::Authentications;
use crate::connection::lobby_state::LobbyState;
use crate::lobby::connect_rate::ConnectRate;
use crate::lobby_memory::held::LobbyMemory;

/// State that the connections have in common that have not been accepted yet.
#[derive(Debug)]
pub(crate) struct Lobby {
    count: usize,
    /// No client is accepted any more.
    pub(crate) stopping: bool,
    /// Means by which clients are authenticated.
    pub(crate) authentications: Authentications,
    /// Memory that they hold.
    pub(crate) memory: LobbyMemory,
    /// CONNECTs of this second.
    pub(crate) connect_rate: ConnectRate,
}

impl Lobby {
    pub(crate) fn new(checks_bans: bool) -> Self {
        Self {
            count: 0,
            stopping: false,
            authentications: Authentications::new(checks_bans),
            memory: LobbyMemory::default(),
            connect_rate: ConnectRate::default(),
        }
    }

    /// A connection has come.
    pub(crate) fn enter(&mut self) {
        self.count += 1;
    }

    /// The connection at a place is accepted, refused or gone.
    pub(crate) fn leave(&mut self, index: u32, state: Option<Box<LobbyState>>) {
        self.count -= 1;
        if let Some(state) = state {
            self.memory.left(index, state.held);
        }
    }

    /// How many connections are in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
