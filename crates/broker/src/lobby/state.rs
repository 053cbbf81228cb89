//! State that the connections of the lobby have in common.

use std::net::IpAddr;

use martlet_permission::RefusalCause;

use crate::authenticate::authentications::Authentications;
use crate::connection::rare::LobbyState;
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
    pub(crate) silent_ends: SilentEnds,
}

/// Connections that clients ended without a message, as reported in the last minute. Probes of a
/// load balancer end theirs in this way all day.
#[derive(Debug, Default)]
pub(crate) struct SilentEnds(Vec<(Option<IpAddr>, RefusalCause, u64)>);

/// Time in which one such end of each cause and address is reported, in milliseconds.
const SILENT_END_EVERY_MS: u64 = 60_000;
/// Maximum number of ends that are reported in that time.
const SILENT_ENDS_MAX: usize = 64;

impl SilentEnds {
    /// Notes an end. Returns whether it is to be reported.
    pub(crate) fn take(
        &mut self,
        address: Option<IpAddr>,
        cause: RefusalCause,
        now_ms: u64,
    ) -> bool {
        let recent = |told_ms: u64| now_ms.saturating_sub(told_ms) < SILENT_END_EVERY_MS;
        self.0.retain(|(_, _, told_ms)| recent(*told_ms));
        let mut told = self.0.iter();
        let is_new = !told.any(|(of, what, _)| (*of, *what) == (address, cause));
        let is_told = is_new && self.0.len() < SILENT_ENDS_MAX;
        if is_told {
            self.0.push((address, cause, now_ms));
        }
        is_told
    }
}

impl Lobby {
    pub(crate) fn new(checks_bans: bool) -> Self {
        Self {
            count: 0,
            stopping: false,
            authentications: Authentications::new(checks_bans),
            memory: LobbyMemory::default(),
            connect_rate: ConnectRate::default(),
            silent_ends: SilentEnds::default(),
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

/// CONNECTs accepted in the present second.
#[derive(Debug, Default)]
pub(crate) struct ConnectRate {
    second: u64,
    count: u32,
}

impl ConnectRate {
    /// Takes one of this second's places; `per_second` 0 has no end of them.
    pub(crate) fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        let second = now_ms / 1000;
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        per_second == 0 || self.count <= per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_end_of_an_address_is_told_of_in_a_minute() {
        let mut ends = SilentEnds::default();
        let mut take = |last: u8, cause, now_ms| {
            ends.take(Some(IpAddr::from([10, 0, 0, last])), cause, now_ms)
        };
        let (one, other) = (RefusalCause::NotMqtt, RefusalCause::TlsToMqtt);
        assert!(take(1, one, 0) && take(1, other, 0) && take(2, one, 0));
        assert!(!take(1, one, SILENT_END_EVERY_MS - 1) && take(1, one, SILENT_END_EVERY_MS));
        let told = (3..=u8::MAX).filter(|last| take(*last, one, SILENT_END_EVERY_MS));
        assert_eq!(told.count() + 1, SILENT_ENDS_MAX);
    }
}
