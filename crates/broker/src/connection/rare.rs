//! State that few connections have, or have for a short time.

use std::sync::Arc;

use martlet_permission::RefusalCause;

use crate::connect_request::WaitingConnect;
use crate::connection::topic_aliases::TopicAliases;
use crate::exchange::state::Exchange;
use crate::lobby_memory::held::LobbyHolding;
use crate::rate::spent::Spent;
use crate::screen::screenings::PendingScreening;
use crate::subscribe::half_done::HalfDone;

/// State that few connections have, or have for a short time. A connection that has nothing of it
/// takes no memory for it.
#[derive(Debug, Default)]
pub(crate) struct RareState {
    /// Not in a box of their own: they are used with each message.
    pub(crate) aliases: Option<TopicAliases>,
    /// While the connection is in the lobby.
    pub(crate) lobby: Option<Box<LobbyState>>,
    /// If the CONNECT named an Authentication Method.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// Amount that it has published of what it may, if the rate has a limit.
    pub(crate) spent: Option<Box<Spent>>,
    /// A SUBSCRIBE or UNSUBSCRIBE packet. Some of its filters are done.
    pub(crate) half_done: Option<Box<HalfDone>>,
    /// A message of it that the control plane looks at.
    pub(crate) screening: Option<Box<PendingScreening>>,
    /// Bytes of encoded answers that wait for the store or for share groups. Acknowledgements have
    /// none: how many wait is counted with the connection.
    pub(crate) answer_bytes: usize,
    /// How the transport ended, if otherwise than by the peer's end of stream, while input is still
    /// to be worked off.
    pub(crate) transport_end: Option<RefusalCause>,
}

impl RareState {
    /// There is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        let has_answers = self.answer_bytes > 0 || self.half_done.is_some();
        let is_in_lobby = self.lobby.is_some() || self.exchange.is_some();
        let publishes = self.aliases.is_some() || self.spent.is_some() || self.screening.is_some();
        !(has_answers || is_in_lobby || publishes || self.transport_end.is_some())
    }

    /// Bytes of memory that it takes. In the lobby it counts as a part of the connection, which has
    /// no session yet.
    pub(crate) fn bytes(&self) -> usize {
        if self.lobby.is_some() {
            return 0;
        }
        let aliases = self.aliases.as_ref().map_or(0, TopicAliases::bytes);
        size_of::<Self>()
            + aliases
            + bytes_of(&self.exchange)
            + bytes_of(&self.spent)
            + bytes_of(&self.half_done)
            + bytes_of(&self.screening)
    }
}

fn bytes_of<T>(boxed: &Option<Box<T>>) -> usize {
    boxed.as_ref().map_or(0, |_| size_of::<T>())
}

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
