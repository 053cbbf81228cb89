//! State that a connection has only before its CONNECT is accepted.

use std::sync::Arc;

use crate::connect_request::WaitingConnect;
use crate::lobby_memory::held::LobbyHolding;

/// State that a connection has only before its CONNECT is accepted.
#[derive(Debug)]
pub(crate) struct LobbyState {
    /// 16 random bytes, from which a Client Identifier may be made.
    pub(crate) entropy: [u8; 16],
    /// The certificate that its client has proved to have.
    pub(crate) certificate: Option<Arc<[u8]>>,
    /// Memory that it holds.
    pub(crate) held: LobbyHolding,
    /// CONNECT, while the authenticator checks its client.
    pub(crate) waiting: Option<Box<WaitingConnect>>,
}

impl LobbyState {
    pub(crate) fn new(entropy: [u8; 16]) -> Self {
        Self {
            entropy,
            certificate: None,
            held: LobbyHolding::default(),
            waiting: None,
        }
    }
}
