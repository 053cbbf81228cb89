//! Limit of packets from the server that nothing asked for.
//!
//! Such a packet carries no message and completes no request: PINGRESP, acknowledgements of unknown
//! Packet Identifiers, messages of QoS 2 that are there. Servers send some of them, such as after a
//! lost connection. One that sends nothing else would keep the client busy.

use std::time::Duration;

use super::event::SessionError;

/// Maximum number of these packets within [`PERIOD`]. After a lost connection, a server may send
/// one for each Packet Identifier.
const UNASKED_MAX: u32 = 100_000;
const PERIOD: Duration = Duration::from_secs(60);

/// Count of packets that nothing asked for.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// When the current period began.
    since: Duration,
    count: u32,
}

impl Unasked {
    /// Counts a packet.
    pub(super) fn count(&mut self, now: Duration) -> Result<(), SessionError> {
        if now.saturating_sub(self.since) >= PERIOD {
            *self = Self {
                since: now,
                count: 0,
            };
        }
        self.count += 1;
        match self.count > UNASKED_MAX {
            true => Err(SessionError::Unasked),
            false => Ok(()),
        }
    }
}
