//! Messages of a shard that are being screened.

use std::collections::VecDeque;

use crate::id::ConnectionId;
use crate::screening::Screened;

/// Bytes of the messages that are asked about at one time, at most; beyond that, clients wait
/// before they are asked about.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How far the screening of a client's message is.
#[derive(Debug)]
enum Stage {
    /// The control plane is looking at it.
    Asked,
    /// The message waits until others are answered.
    Queued,
    /// The answer is there.
    Answered(Screened),
}

/// The first message of a client that is not worked off, while it is being screened.
#[derive(Debug)]
pub(crate) struct PendingScreening {
    stage: Stage,
    /// Bytes that count.
    bytes: usize,
    /// Hash of the packet: the answer is for no other one.
    packet: u64,
}

impl PendingScreening {
    /// Whether its answer is still missing.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        !matches!(self.stage, Stage::Answered(_))
    }

    /// Whether the control plane is looking at it.
    pub(super) fn is_requested(&self) -> bool {
        matches!(self.stage, Stage::Asked)
    }

    /// Whether it waits until others are answered.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued)
    }

    /// Whether it is the screening of this packet.
    pub(super) fn is_of(&self, packet: u64) -> bool {
        self.packet == packet
    }

    /// Stores the answer; false if none was requested.
    pub(crate) fn answer(&mut self, answer: Screened) -> bool {
        let is_requested = self.is_requested();
        if is_requested {
            self.stage = Stage::Answered(answer);
        }
        is_requested
    }

    /// The answer, if it is there.
    pub(super) fn into_answer(self) -> Option<Screened> {
        match self.stage {
            Stage::Answered(answer) => Some(answer),
            Stage::Asked | Stage::Queued => None,
        }
    }
}

/// Messages that are being screened, of each client one at most: what they have in common.
#[derive(Debug, Default)]
pub(crate) struct Screenings {
    /// A client whose messages are screened is or was here: until then nothing is looked at.
    pub(crate) is_used: bool,
    /// Bytes of all messages that are asked about.
    bytes: usize,
    /// Connections that are to be asked about when there is room.
    queued: VecDeque<ConnectionId>,
}

impl Screenings {
    /// Bytes of the messages that are asked about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A message of these bytes is to be asked about: now, or when there is room.
    pub(super) fn begin(
        &mut self,
        id: ConnectionId,
        packet: u64,
        bytes: usize,
    ) -> PendingScreening {
        let has_room = self.bytes == 0 || self.bytes + bytes <= BYTES_MAX;
        let (stage, bytes) = match has_room {
            true => (Stage::Asked, bytes),
            false => {
                self.queued.push_back(id);
                (Stage::Queued, 0)
            }
        };
        self.bytes += bytes;
        PendingScreening {
            stage,
            bytes,
            packet,
        }
    }

    /// A message is worked off, or its client has gone.
    pub(super) fn ended(&mut self, pending: &PendingScreening) {
        self.bytes -= pending.bytes;
    }

    /// The next connection that may go on, if its message is still queued: there is room now.
    pub(super) fn next_queued(&mut self) -> Option<ConnectionId> {
        match self.bytes < BYTES_MAX {
            true => self.queued.pop_front(),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId {
            index,
            generation: 1,
        }
    }

    #[test]
    fn an_answer_is_for_the_packet_that_was_asked_about() {
        let mut screenings = Screenings::default();
        let mut pending = screenings.begin(id(1), 7, 100);
        assert!(pending.is_requested() && pending.waits());
        assert!(pending.answer(Screened::OfClient) && !pending.waits());
        assert!(!pending.answer(Screened::OfClient), "it is answered once");
        assert!(pending.is_of(7) && !pending.is_of(8), "another packet");
        screenings.ended(&pending);
        assert_eq!(screenings.bytes(), 0);
        assert!(pending.into_answer().is_some());
    }

    #[test]
    fn clients_wait_while_too_much_is_asked_about() {
        let mut screenings = Screenings::default();
        let first = screenings.begin(id(1), 1, BYTES_MAX + 1);
        assert!(first.is_requested(), "one is, however long");
        let mut second = screenings.begin(id(2), 2, 10);
        assert!(second.is_queued() && second.waits());
        assert!(!second.answer(Screened::OfClient), "nothing was asked");
        assert!(screenings.begin(id(3), 3, 10).is_queued());
        assert!(screenings.next_queued().is_none());
        screenings.ended(&first);
        assert_eq!(screenings.bytes(), 0);
        assert_eq!(screenings.next_queued(), Some(id(2)));
        assert_eq!(screenings.next_queued(), Some(id(3)));
        assert!(screenings.next_queued().is_none());
    }
}
