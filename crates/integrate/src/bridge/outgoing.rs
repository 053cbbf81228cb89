//! Messages that were passed to the worker of a bridge and have no outcome yet.
//!
//! The client session keeps messages that were sent and not acknowledged, and sends them again
//! over the next connection. The sink may have stopped waiting for such a message and pass it
//! again: it is recognised by its id, and not sent twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use martlet_client::{Acknowledgement, Message, RequestError, RequestId, Session};
use martlet_codec::{ProtocolVersion, QoS, ReasonCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::outcome::Outcome;

/// Time after which a batch is answered with the outcomes so far. Below the time limit of the
/// runner.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Maximum number of outcomes that are remembered although the sink did not request them again.
const ENDS_MAX: usize = 100_000;
/// Bytes of messages in flight at which sending stops.
const BYTES_MAX: usize = 16 << 20;
/// Bytes of a message besides its topic and payload.
const OVERHEAD_BYTES: usize = 256;

/// Messages to be sent.
#[derive(Debug)]
pub(super) struct Messages {
    /// MQTT version for which they are encoded.
    version: ProtocolVersion,
    messages: Vec<Outgoing>,
    /// Encoded packets.
    encoded: Vec<u8>,
    /// Approximate maximum bytes of these packets.
    encoded_bytes: usize,
}

impl Messages {
    /// No messages yet, for this version of MQTT. With capacity for this number of messages and
    /// approximately this number of bytes.
    pub(super) fn with_room(version: ProtocolVersion, messages: usize, bytes: usize) -> Self {
        Self {
            version,
            messages: Vec::with_capacity(messages),
            encoded: Vec::new(),
            encoded_bytes: bytes,
        }
    }

    /// MQTT version for which they are encoded.
    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Outcomes of a batch: none of its messages was sent.
    pub(super) fn failed(&self, why: &str) -> Vec<Outcome> {
        vec![Outcome::Failed(why.to_owned()); self.messages.len()]
    }

    /// Adds a message of QoS 1 or 2. `id` is its id in the node.
    pub(super) fn add(&mut self, id: u64, message: Message) {
        let packet = Packet::Message(Box::new(message));
        self.messages.push(Outgoing { id, packet });
    }

    /// Adds the PUBLISH of a message of QoS 0, which `encode` appends.
    pub(super) fn add_encoded(&mut self, id: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.encoded.is_empty() {
            self.encoded.reserve(self.encoded_bytes);
        }
        let start = self.encoded.len();
        encode(&mut self.encoded);
        let packet = Packet::Encoded(start..self.encoded.len());
        self.messages.push(Outgoing { id, packet });
    }

    /// Whether there are no messages.
    pub(super) fn are_none(&self) -> bool {
        self.messages.is_empty()
    }
}

/// A message to be sent.
#[derive(Debug)]
struct Outgoing {
    /// Id of the message in the node.
    id: u64,
    packet: Packet,
}

#[derive(Debug)]
enum Packet {
    /// QoS 1 or 2: it may be sent again over another connection.
    Message(Box<Message>),
    /// QoS 0: a range in the bytes of the batch.
    Encoded(Range<usize>),
}

/// Limits of the other broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) qos_max: QoS,
    pub(super) takes_retained: bool,
}

/// Messages to send.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not yet sent, with their position in the batch.
    waiting: VecDeque<(usize, Outgoing)>,
    /// Encoded packets of these.
    encoded: Vec<u8>,
    /// Sent and not acknowledged, with their bytes.
    requests: HashMap<RequestId, (u64, usize)>,
    under_way: HashSet<u64>,
    /// Bytes of these.
    bytes: usize,
    /// Outcomes that were not reported yet.
    ended: HashMap<u64, Outcome>,
    batch: Option<SentBatch>,
}

#[derive(Debug)]
struct SentBatch {
    ids: Vec<u64>,
    /// Outcome of each message; `None`: not yet known.
    outcomes: Vec<Option<Outcome>>,
    /// Number of messages without an outcome.
    left: usize,
    /// Positions of messages that are acknowledged.
    places: HashMap<u64, usize>,
    answer: oneshot::Sender<Vec<Outcome>>,
    until: Instant,
    /// Whether a message got its outcome since the batch was passed.
    has_moved: bool,
}

impl SentBatch {
    fn end(&mut self, place: usize, outcome: Outcome) {
        if let Some(of_message) = self.outcomes.get_mut(place)
            && of_message.replace(outcome).is_none()
        {
            self.left -= 1;
            self.has_moved = true;
        }
    }
}

impl Outbox {
    /// Replaces the previous batch, for which the sink no longer waits.
    pub(super) fn take(&mut self, given: Messages, answer: oneshot::Sender<Vec<Outcome>>) {
        if self.ended.len() > ENDS_MAX {
            self.ended.clear();
        }
        let Messages {
            messages, encoded, ..
        } = given;
        self.waiting.clear();
        self.encoded = encoded;
        let mut batch = SentBatch {
            ids: messages.iter().map(|one| one.id).collect(),
            outcomes: vec![None; messages.len()],
            left: messages.len(),
            places: HashMap::new(),
            answer,
            until: Instant::now() + ANSWERED_WITHIN,
            has_moved: false,
        };
        for (place, one) in messages.into_iter().enumerate() {
            // The lookup costs a hash of each message, so an empty map is skipped.
            if !self.ended.is_empty()
                && let Some(outcome) = self.ended.remove(&one.id)
            {
                batch.end(place, outcome);
                continue;
            }
            if matches!(one.packet, Packet::Message(_)) {
                batch.places.insert(one.id, place);
                if self.under_way.contains(&one.id) {
                    continue;
                }
            }
            self.waiting.push_back((place, one));
        }
        self.batch = Some(batch);
    }

    /// Whether messages wait for a connection.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty()
    }

    /// Approximate bytes of copies that are kept until they are acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.encoded.capacity()
    }

    /// When the batch is answered at the latest; `None` if there is none.
    pub(super) fn until(&self) -> Option<Instant> {
        self.batch.as_ref().map(|batch| batch.until)
    }

    /// Passes waiting messages to the connected session.
    pub(super) fn send(&mut self, session: &mut Session, server: Server, now: Duration) {
        while self.bytes < BYTES_MAX
            && let Some((place, Outgoing { id, packet })) = self.waiting.pop_front()
        {
            let mut message = match packet {
                Packet::Message(message) => message,
                Packet::Encoded(range) => {
                    let packet = self.encoded.get(range).unwrap_or_default();
                    let sent = session.publish_encoded(packet, server.takes_retained, now);
                    let outcome = sent.map_or_else(refused, |()| Outcome::Done);
                    if let Some(batch) = &mut self.batch {
                        batch.end(place, outcome);
                    }
                    continue;
                }
            };
            message.qos = message.qos.min(server.qos_max);
            message.retain &= server.takes_retained;
            let bytes = OVERHEAD_BYTES + message.topic.len() + message.payload.len();
            match session.publish(*message, now) {
                Ok(request) => {
                    self.bytes += bytes;
                    self.requests.insert(request, (id, bytes));
                    self.under_way.insert(id);
                }
                Err(error) => self.end(id, refused(error)),
            }
        }
    }

    /// Handles the end of a request of the session.
    pub(super) fn completed(&mut self, request: RequestId, how: Acknowledgement) {
        let Some((id, bytes)) = self.requests.remove(&request) else {
            return;
        };
        self.bytes -= bytes;
        self.under_way.remove(&id);
        let Acknowledgement::Published {
            reason,
            reason_string,
        } = how
        else {
            return;
        };
        self.end(id, outcome(reason, reason_string.as_deref()));
    }

    fn end(&mut self, id: u64, outcome: Outcome) {
        let batch = self.batch.as_mut();
        let place = batch.and_then(|batch| Some((batch.places.remove(&id)?, batch)));
        match place {
            Some((place, batch)) => batch.end(place, outcome),
            None => {
                self.ended.insert(id, outcome);
            }
        }
    }

    /// Answers the batch if all of it has outcomes.
    pub(super) fn answer_if_done(&mut self) {
        if self.batch.as_ref().is_some_and(|batch| batch.left == 0) {
            self.answer(None);
        }
    }

    /// Answers the batch with the outcomes so far. `trouble`: why there is no connection.
    pub(super) fn answer(&mut self, trouble: Option<&str>) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let silent = || {
            Outcome::Failed(
                "the other broker is connected and does not acknowledge messages".to_owned(),
            )
        };
        let rest = match trouble {
            Some(why) => Outcome::Failed(why.to_owned()),
            None if batch.has_moved => Outcome::NotTried,
            None => silent(),
        };
        let outcomes = batch.outcomes.into_iter();
        let outcomes = outcomes.map(|outcome| outcome.unwrap_or_else(|| rest.clone()));
        // An outcome is reported once: if the sink no longer waits, it passes the message again.
        if let Err(outcomes) = batch.answer.send(outcomes.collect()) {
            let ends = batch.ids.into_iter().zip(outcomes);
            self.ended
                .extend(ends.filter(|(_, outcome)| *outcome == Outcome::Done));
        }
        self.waiting.clear();
    }
}

fn refused(error: RequestError) -> Outcome {
    let why = match error {
        RequestError::PacketTooLarge => "it is larger than the other broker accepts",
        RequestError::InvalidTopic => "its topic with the remote prefix is not a valid Topic Name",
        RequestError::NotConnected => {
            return Outcome::Failed("the connection has ended".to_owned());
        }
        _ => "the other broker does not support it",
    };
    Outcome::Refused(why.to_owned())
}

fn outcome(reason: ReasonCode, text: Option<&str>) -> Outcome {
    if !reason.is_error() {
        return Outcome::Done;
    }
    let text = text.map(|text| format!(" ({text})")).unwrap_or_default();
    let why = format!("the other broker answers {}{text}", reason.name());
    match reason {
        ReasonCode::NotAuthorized
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PacketTooLarge
        | ReasonCode::PayloadFormatInvalid => Outcome::Refused(why),
        ReasonCode::QuotaExceeded | ReasonCode::ServerBusy => Outcome::Failed(why),
        _ => Outcome::FailedAtMessage(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(outbox: &mut Outbox, ids: &[u64]) -> oneshot::Receiver<Vec<Outcome>> {
        let (answer, answered) = oneshot::channel();
        let mut all = Messages::with_room(ProtocolVersion::V5, ids.len(), 0);
        ids.iter().for_each(|id| all.add(*id, Message::default()));
        outbox.take(all, answer);
        answered
    }

    fn acknowledged(outbox: &mut Outbox, request: u64, id: u64) {
        outbox.requests.insert(RequestId(request), (id, 0));
        outbox.under_way.insert(id);
        outbox.waiting.retain(|(_, one)| one.id != id);
        let how = Acknowledgement::Published {
            reason: ReasonCode::Success,
            reason_string: None,
        };
        outbox.completed(RequestId(request), how);
    }

    #[test]
    fn a_message_that_is_given_again_is_not_sent_again() {
        let mut outbox = Outbox::default();
        drop(given(&mut outbox, &[1, 2, 3]));
        outbox.requests.insert(RequestId(9), (2, 0));
        outbox.under_way.insert(2);
        acknowledged(&mut outbox, 8, 1);
        outbox.answer(Some("lost"));
        let mut answered = given(&mut outbox, &[1, 2, 3]);
        let waiting: Vec<u64> = outbox.waiting.iter().map(|(_, one)| one.id).collect();
        assert_eq!(waiting, [3]);
        acknowledged(&mut outbox, 9, 2);
        acknowledged(&mut outbox, 10, 3);
        outbox.answer_if_done();
        assert_eq!(answered.try_recv(), Ok(vec![Outcome::Done; 3]));
        assert!(outbox.ended.is_empty() && !outbox.waits());
    }

    #[test]
    fn a_batch_is_answered_as_far_as_it_has_come() {
        let mut outbox = Outbox::default();
        let mut answered = given(&mut outbox, &[1, 2]);
        acknowledged(&mut outbox, 1, 1);
        outbox.answer_if_done();
        assert!(answered.try_recv().is_err());
        outbox.answer(None);
        assert_eq!(
            answered.try_recv(),
            Ok(vec![Outcome::Done, Outcome::NotTried])
        );
        let mut answered = given(&mut outbox, &[2]);
        outbox.answer(None);
        let outcomes = answered.try_recv().expect("an answer");
        assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.contains("acknowledge")));
    }
}
