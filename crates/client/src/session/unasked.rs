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

#[cfg(test)]
mod tests {
    use martlet_codec::{AckKind, Packet, ProtocolVersion};

    use super::super::tests::Pair;
    use super::*;

    #[test]
    fn packets_that_nothing_asked_for_are_limited_within_a_minute() {
        type Send = fn(&mut Pair) -> Result<(), SessionError>;
        let sends: [Send; 4] = [
            |pair| pair.receive(Packet::PingResp),
            |pair| pair.receive_ack(AckKind::PubAck, 9),
            |pair| pair.receive_ack(AckKind::PubRel, 9),
            |pair| pair.receive_ack(AckKind::PubComp, 9),
        ];
        for send in sends {
            let mut pair = Pair::connected(ProtocolVersion::V5);
            // A server may send PUBREL for each Packet Identifier after a lost connection.
            for _ in 0..70_000 {
                send(&mut pair).expect("few enough");
            }
            pair.now += Duration::from_secs(60);
            let error = (0..200_000).find_map(|_| send(&mut pair).err());
            assert_eq!(error, Some(SessionError::Unasked));
        }
    }
}
