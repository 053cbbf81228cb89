//! Messages of a shard that are being screened.

use std::collections::{BTreeMap, VecDeque};

use crate::id::ConnectionId;
use crate::screening::Screened;

/// Bytes of the messages that are asked about at one time, at most; beyond that, clients wait
/// before they are asked about.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How far the screening of a client's message is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The control plane is asked about it.
    Asked,
    /// It waits until others are answered.
    Queued,
    /// The answer is there.
    Answered(Screened),
}

/// The first message of a client that is not worked off.
#[derive(Debug)]
struct Waiting {
    stage: Stage,
    /// Bytes that count.
    bytes: usize,
    /// Hash of the packet: the answer is for no other one.
    packet: u64,
}

/// Messages that are being screened, of each client one at most.
#[derive(Debug, Default)]
pub(crate) struct Screenings {
    /// A client whose messages are screened is or was here: until then nothing is looked at.
    pub(crate) is_used: bool,
    /// By the places of their connections.
    waiting: BTreeMap<u32, Waiting>,
    /// Of all of them.
    bytes: usize,
    /// Connections that are to be asked about when there is room.
    queued: VecDeque<ConnectionId>,
}

impl Screenings {
    /// Messages that are kept.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a message of this connection waits for its answer.
    #[inline]
    pub(crate) fn holds(&self, index: u32) -> bool {
        let found = self.waiting.get(&index);
        found.is_some_and(|found| !matches!(found.stage, Stage::Answered(_)))
    }

    /// How far the screening of this packet is; none: it has not begun.
    pub(super) fn stage_of(&mut self, index: u32, packet: u64) -> Option<&Stage> {
        let is_of_other = |found: &Waiting| found.packet != packet;
        if self.waiting.get(&index).is_some_and(is_of_other) {
            self.forget(index);
        }
        self.waiting.get(&index).map(|found| &found.stage)
    }

    /// A message of these bytes is to be asked about. Answers whether it is now; else it is
    /// queued.
    pub(super) fn begin(&mut self, id: ConnectionId, packet: u64, bytes: usize) -> bool {
        let is_asked = self.bytes == 0 || self.bytes + bytes <= BYTES_MAX;
        let waiting = match is_asked {
            true => Waiting {
                stage: Stage::Asked,
                bytes,
                packet,
            },
            false => {
                self.queued.push_back(id);
                Waiting {
                    stage: Stage::Queued,
                    bytes: 0,
                    packet,
                }
            }
        };
        self.bytes += waiting.bytes;
        self.waiting.insert(id.index, waiting);
        is_asked
    }

    /// The answer for a connection is there; false if nothing is asked about it.
    pub(super) fn answer(&mut self, index: u32, answer: Screened) -> bool {
        let Some(found) = self.waiting.get_mut(&index) else {
            return false;
        };
        let is_asked = matches!(found.stage, Stage::Asked);
        if is_asked {
            found.stage = Stage::Answered(answer);
        }
        is_asked
    }

    /// Takes the answer for a connection, whose message is worked off now.
    pub(super) fn take_answer(&mut self, index: u32) -> Option<Screened> {
        let found = self.waiting.get(&index)?;
        if !matches!(found.stage, Stage::Answered(_)) {
            return None;
        }
        let found = self.waiting.remove(&index)?;
        self.bytes -= found.bytes;
        match found.stage {
            Stage::Answered(answer) => Some(answer),
            Stage::Asked | Stage::Queued => None,
        }
    }

    /// Nothing of a connection is kept any more.
    pub(super) fn forget(&mut self, index: u32) {
        if let Some(found) = self.waiting.remove(&index) {
            self.bytes -= found.bytes;
        }
    }

    /// The next connection for whose message there is room now.
    pub(super) fn next_queued(&mut self) -> Option<ConnectionId> {
        while self.bytes < BYTES_MAX
            && let Some(id) = self.queued.pop_front()
        {
            let found = self.waiting.get(&id.index);
            if found.is_some_and(|found| matches!(found.stage, Stage::Queued)) {
                self.waiting.remove(&id.index);
                return Some(id);
            }
        }
        None
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
        assert!(screenings.begin(id(1), 7, 100));
        assert!(screenings.holds(1) && screenings.take_answer(1).is_none());
        assert!(screenings.answer(1, Screened::OfClient) && !screenings.holds(1));
        assert!(!screenings.answer(2, Screened::OfClient));
        assert!(screenings.stage_of(1, 8).is_none(), "another packet");
        assert!(screenings.take_answer(1).is_none());
        assert_eq!((screenings.len(), screenings.bytes), (0, 0));
    }

    #[test]
    fn clients_wait_while_too_much_is_asked_about() {
        let mut screenings = Screenings::default();
        assert!(
            screenings.begin(id(1), 1, BYTES_MAX + 1),
            "one is, however long"
        );
        assert!(!screenings.begin(id(2), 2, 10) && !screenings.begin(id(3), 3, 10));
        assert!(screenings.holds(2) && screenings.next_queued().is_none());
        screenings.forget(2);
        assert!(screenings.answer(1, Screened::OfClient));
        assert!(screenings.take_answer(1).is_some());
        assert_eq!(screenings.next_queued(), Some(id(3)), "2 has gone");
        assert!(screenings.next_queued().is_none());
        assert_eq!((screenings.len(), screenings.bytes), (0, 0));
    }
}
