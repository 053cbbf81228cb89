//! Messages at which the server closes the connection. They are sent alone, after those of others:
//! otherwise one of them would delay all.
//!
//! If it is unknown which message was the cause, the messages in flight are sent again in small
//! groups. Messages of the group at which the connection closes again are then sent one by one. So
//! a connection lost for another reason costs little time.

use std::collections::HashSet;

use super::complaints::Limit;
use crate::sink_message::SinkMessage;

/// Maximum number of remembered messages.
const SUSPECTS_MAX: usize = 10_000;

/// A message that was in flight when the connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    pub(super) id: u64,
    /// Bytes of its subject.
    pub(super) subject: usize,
    /// Bytes of its headers and payload.
    pub(super) bytes: usize,
}

/// The message at which the connection ended, and the reason.
#[derive(Debug)]
pub(super) struct Culprit {
    pub(super) id: u64,
    pub(super) why: String,
}

/// Messages at which the server has closed the connection.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    ids: HashSet<u64>,
    /// Number of next messages that may include the cause.
    sought: usize,
    /// Number of these that are in flight at once.
    group: usize,
}

impl Suspects {
    /// Whether a message waits until those of others are answered: the server has closed the
    /// connection at it, or it is delivered behind such a message, one of `put_off`.
    pub(super) fn waits<'a>(
        &self,
        message: &SinkMessage,
        mut put_off: impl Iterator<Item = &'a SinkMessage>,
    ) -> bool {
        self.ids.contains(&message.id())
            || put_off.any(|one| one.order_key() == message.order_key())
    }

    /// Maximum number of messages in flight.
    pub(super) fn under_way_max(&self) -> usize {
        match self.sought {
            0 => usize::MAX,
            _ => self.group.max(1),
        }
    }

    /// Handles the answer to a message.
    pub(super) fn answered(&mut self, id: u64) {
        self.sought = self.sought.saturating_sub(1);
        if !self.ids.is_empty() {
            self.ids.remove(&id);
        }
    }

    /// The server is unreachable: no message was the cause.
    pub(super) fn none_was(&mut self) {
        self.sought = 0;
    }

    /// The connection ended with these messages in flight, at this limit. Returns the culprit, if
    /// known.
    pub(super) fn lost(&mut self, limit: Option<Limit>, sent: &[UnderWay]) -> Option<Culprit> {
        let (one, why) = match (limit, sent) {
            (Some(Limit::ControlLine), _) => {
                // If any message is above the limit, this one is.
                let longest = sent.iter().max_by_key(|one| one.subject)?;
                let why = format!(
                    "NATS ends the connection at it: its subject of {} bytes is longer than \
                     `max_control_line` of the server allows",
                    longest.subject
                );
                (longest, why)
            }
            (Some(Limit::Payload), _) => {
                let largest = sent.iter().max_by_key(|one| one.bytes)?;
                let why = format!(
                    "NATS ends the connection at it: its {} bytes, with headers, are more than \
                     `max_payload` of the server allows",
                    largest.bytes
                );
                (largest, why)
            }
            (None, [one]) if self.sought > 0 || self.ids.contains(&one.id) => {
                let why = "NATS has ended the connection again after this message was sent";
                (one, why.to_owned())
            }
            (None, _) => {
                self.group = match self.sought {
                    0 => sent.len().isqrt(),
                    _ => 1,
                };
                self.sought = sent.len();
                return None;
            }
        };
        self.sought = 0;
        if self.ids.len() >= SUSPECTS_MAX {
            self.ids.clear();
        }
        self.ids.insert(one.id);
        Some(Culprit { id: one.id, why })
    }

    /// Positions of the messages of a batch that are sent together, in sending order.
    pub(super) fn steps(&self, batch: &[SinkMessage]) -> Vec<Vec<usize>> {
        let (mut now, mut later): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (at, message) in batch.iter().enumerate() {
            let put_off = later.iter().filter_map(|at| batch.get(*at));
            let waits = self.waits(message, put_off);
            if waits { &mut later } else { &mut now }.push(at);
        }
        let steps = now.chunks(self.under_way_max());
        let mut steps: Vec<Vec<usize>> = steps.map(<[usize]>::to_vec).collect();
        steps.extend(later.first().map(|at| vec![*at]));
        steps.retain(|places| !places.is_empty());
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under_way(id: u64, subject: usize, bytes: usize) -> UnderWay {
        UnderWay { id, subject, bytes }
    }

    #[test]
    fn the_message_at_which_the_connection_ended_is_found() {
        let sent = [
            under_way(1, 10, 9),
            under_way(2, 30, 5),
            under_way(3, 20, 8),
        ];
        let culprit = |limit| {
            let found = Suspects::default().lost(limit, &sent);
            found.map(|culprit| culprit.id)
        };
        assert_eq!(culprit(Some(Limit::ControlLine)), Some(2));
        assert_eq!(culprit(Some(Limit::Payload)), Some(1));
        assert_eq!(culprit(None), None);
    }

    #[test]
    fn without_a_reason_messages_are_sent_one_by_one() {
        let mut suspects = Suspects::default();
        let sent = [under_way(1, 1, 1), under_way(2, 1, 1)];
        assert!(suspects.lost(None, &sent).is_none());
        assert_eq!(suspects.under_way_max(), 1);
        suspects.answered(1);
        let culprit = suspects.lost(None, &sent[1..]);
        assert_eq!(culprit.map(|culprit| culprit.id), Some(2));
        assert_eq!(suspects.under_way_max(), usize::MAX);
        // An unreachable server ends the search.
        assert!(suspects.lost(None, &sent).is_none());
        suspects.none_was();
        assert!(suspects.lost(None, &sent[..1]).is_none());
    }

    #[test]
    fn of_many_messages_groups_are_sent_before_the_messages_of_one() {
        let mut suspects = Suspects::default();
        let sent: Vec<UnderWay> = (0..1000).map(|id| under_way(id, 1, 1)).collect();
        assert!(suspects.lost(None, &sent).is_none());
        assert_eq!(suspects.under_way_max(), 31);
        (0..500).for_each(|id| suspects.answered(id));
        assert_eq!(suspects.under_way_max(), 31);
        assert!(suspects.lost(None, &sent[500..531]).is_none());
        assert_eq!(suspects.under_way_max(), 1);
        suspects.answered(500);
        let culprit = suspects.lost(None, &sent[501..502]);
        assert_eq!(culprit.map(|culprit| culprit.id), Some(501));
        // All are answered: none was the cause.
        assert!(suspects.lost(None, &sent).is_none());
        (0..1000).for_each(|id| suspects.answered(id));
        assert_eq!(suspects.under_way_max(), usize::MAX);
    }
}
