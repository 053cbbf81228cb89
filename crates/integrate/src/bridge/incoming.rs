//! Messages of the other broker on their way into the node.
//!
//! A message is acknowledged to the other broker when the node has confirmed that it is published,
//! and durable if required. Messages are published in order. A message that the node cannot accept
//! now is published again after a pause; later messages wait.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{NewMessage, PartPublish, Published};
use martlet_client::{Message, Session};
use martlet_codec::{PacketId, QoS, ReasonCode};
use tokio::time::Instant;
use tracing::warn;

use super::message::{Inward, inward};
use super::origin::BridgeOrigin;
use super::settings::BridgeSettings;
use crate::incoming::Incoming;
use crate::part::Part;

/// Number of messages not accepted by the node at which reading stops. A broker that respects
/// Receive Maximum sends no more of QoS 1 and 2 with MQTT 5.0, so acknowledgements can still be
/// read.
pub(super) const RECEIVE_MAXIMUM: u16 = 10_000;
const MESSAGES_MAX: usize = RECEIVE_MAXIMUM as usize;
/// Bytes of such messages at which reading stops.
const BYTES_MAX: usize = 16 << 20;
/// Number of such messages at which reading stops while acknowledgements of outgoing messages are
/// pending: they come after these messages, and the node may accept these only when the queue of
/// outgoing messages has room.
const AWAITING_MESSAGES_MAX: usize = u16::MAX as usize;
const AWAITING_BYTES_MAX: usize = 64 << 20;
/// Maximum bytes of messages that the node has and has not answered: it has a copy of each.
const GIVEN_BYTES_MAX: usize = 2 << 20;
/// Bytes of a message besides its data.
const OVERHEAD_BYTES: usize = 256;
/// Pause after the node could not accept a message.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The data needed to acknowledge a message to the other broker.
#[derive(Clone, Copy, Debug)]
struct PendingAcknowledgement {
    qos: QoS,
    packet_id: PacketId,
    /// The connection over which it came.
    connection: u64,
    hash: u64,
}

/// A message that the node has not accepted yet.
#[derive(Debug)]
struct Pending {
    publish: PartPublish,
    receipt: Option<PendingAcknowledgement>,
    bytes: usize,
}

/// A message of a closed connection. The other broker sends it again.
#[derive(Debug)]
struct Carried {
    hash: u64,
    number: u64,
    /// The answer of the node.
    answered: Option<ReasonCode>,
}

/// Messages that were dropped, for the log.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    count: u64,
    why: &'static str,
}

/// Incoming messages.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    counts: Arc<Incoming>,
    connection: u64,
    last_number: u64,
    /// Passed to the node, without an answer.
    unanswered: HashMap<u64, Pending>,
    /// Not yet passed to the node, in order.
    waiting: VecDeque<Pending>,
    /// Bytes of both.
    bytes: usize,
    /// Bytes of those passed to the node.
    given_bytes: usize,
    /// Maximum bytes.
    bytes_max: usize,
    /// Whether messages are skipped: the other broker sends them again over the next connection.
    skips: bool,
    /// Number of skipped messages.
    skipped: usize,
    /// Time until which nothing is passed to the node.
    blocked_until: Option<Instant>,
    /// The message that is tried after a pause: the others wait for its answer.
    tried: Option<u64>,
    carried: HashMap<PacketId, Carried>,
    dropped: Dropped,
}

impl Inbox {
    /// An empty inbox that counts its messages in `counts`.
    pub(super) fn new(counts: Arc<Incoming>) -> Self {
        Self {
            counts,
            bytes_max: BYTES_MAX,
            ..Self::default()
        }
    }

    /// Handles an accepted connection. Messages of a session that no longer exists are not sent
    /// again.
    pub(super) fn connected(&mut self, session_present: bool) {
        if !session_present {
            self.carried.clear();
        }
    }

    /// Handles the end of the connection.
    pub(super) fn disconnected(&mut self) {
        for pending in self.unanswered.values().chain(&self.waiting) {
            if let Some(receipt) = pending.receipt
                && receipt.connection == self.connection
            {
                let carried = Carried {
                    hash: receipt.hash,
                    number: pending.publish.number,
                    answered: None,
                };
                self.carried.insert(receipt.packet_id, carried);
            }
        }
        self.connection += 1;
        (self.skips, self.skipped) = (false, 0);
    }

    /// Bytes of messages, with the copies in the node.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.given_bytes
    }

    /// Sets the maximum bytes of messages.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether more may be read. `awaits`: acknowledgements are pending.
    pub(super) fn has_room(&self, awaits: bool) -> bool {
        if self.skips {
            return self.messages() + self.skipped < AWAITING_MESSAGES_MAX;
        }
        let (messages_max, bytes_max) = match awaits {
            true => (AWAITING_MESSAGES_MAX, AWAITING_BYTES_MAX),
            false => (MESSAGES_MAX, BYTES_MAX),
        };
        self.messages() < messages_max && self.bytes() < bytes_max.min(self.bytes_max)
    }

    /// QoS 0 messages leave room for others: they never stop the reading.
    fn has_room_for_qos0(&self) -> bool {
        let bytes_max = BYTES_MAX.min(self.bytes_max);
        self.messages() < MESSAGES_MAX / 2 && self.bytes() < bytes_max / 2
    }

    /// Skips the remaining messages of this connection, so that acknowledgements after them are
    /// read. None of them is acknowledged: they come again, in order, over the next connection.
    pub(super) fn skip(&mut self) {
        self.skips = true;
    }

    /// Whether a new connection is needed for skipped messages, and there is room for them.
    pub(super) fn is_to_fetch_skipped(&self) -> bool {
        self.skipped > 0 && self.messages() == 0
    }

    fn messages(&self) -> usize {
        self.unanswered.len() + self.waiting.len()
    }

    /// When the next retry of publishing is due.
    pub(super) fn blocked_until(&self) -> Option<Instant> {
        self.blocked_until
    }

    /// Takes a message of the other broker.
    pub(super) fn take(
        &mut self,
        message: Message,
        settings: &BridgeSettings,
        route: &BridgeOrigin,
        remote: Option<&str>,
        session: &mut Session,
        part: Option<&Part>,
    ) {
        let receipt = message.packet_id.map(|packet_id| PendingAcknowledgement {
            qos: message.qos,
            packet_id,
            connection: self.connection,
            hash: hash(&message),
        });
        if let Some(receipt) = receipt
            && message.duplicate
            && self.is_carried(receipt, session)
        {
            return;
        }
        self.skips &= self.skipped > 0 || self.messages() > 0;
        if self.skips {
            match receipt {
                Some(_) => self.skipped += 1,
                None => self.dropped(settings, "QoS 0, and too many wait for the node"),
            }
            return;
        }
        match inward(message, settings, route, remote) {
            Inward::Publish(message) => self.publish(message, receipt, settings, part),
            Inward::Drop(why) => {
                if let Some(why) = why {
                    self.dropped(settings, why);
                }
                acknowledge(session, self.connection, receipt, ReasonCode::Success);
            }
        }
    }

    /// Whether a redelivered message was passed to the node already.
    fn is_carried(&mut self, receipt: PendingAcknowledgement, session: &mut Session) -> bool {
        let Some(carried) = self.carried.remove(&receipt.packet_id) else {
            return false;
        };
        if carried.hash != receipt.hash {
            return false;
        }
        if let Some(reason) = carried.answered {
            acknowledge(session, self.connection, Some(receipt), reason);
            return true;
        }
        let mut waiting = self.waiting.iter_mut();
        let waiting = waiting.find(|pending| pending.publish.number == carried.number);
        let pending = waiting.or_else(|| self.unanswered.get_mut(&carried.number));
        match pending {
            Some(pending) => {
                pending.receipt = Some(receipt);
                true
            }
            None => false,
        }
    }

    fn publish(
        &mut self,
        message: NewMessage,
        receipt: Option<PendingAcknowledgement>,
        settings: &BridgeSettings,
        part: Option<&Part>,
    ) {
        let is_blocked = self.blocked_until.is_some() || self.tried.is_some();
        let part = part.filter(|_| !is_blocked);
        // A QoS 0 message does not wait for anything that may take long.
        if part.is_none() && receipt.is_none() && !self.has_room_for_qos0() {
            return self.dropped(settings, "QoS 0, and too many wait for the node");
        }
        self.last_number += 1;
        let bytes = bytes_of(&message);
        self.bytes += bytes;
        let pending = Pending {
            publish: PartPublish {
                number: self.last_number,
                message,
                receipts: false,
            },
            receipt,
            bytes,
        };
        match part.filter(|_| self.waiting.is_empty() && self.may_give()) {
            Some(part) => self.give(pending, part),
            None => self.waiting.push_back(pending),
        }
    }

    /// Whether the node may get more before it has answered.
    fn may_give(&self) -> bool {
        self.unanswered.len() < MESSAGES_MAX && self.given_bytes < GIVEN_BYTES_MAX
    }

    fn give(&mut self, pending: Pending, part: &Part) {
        part.publish(pending.publish.clone());
        self.given_bytes += pending.bytes;
        self.unanswered.insert(pending.publish.number, pending);
    }

    /// Handles an answer of the node.
    pub(super) fn answered(
        &mut self,
        number: u64,
        published: &Published,
        settings: &BridgeSettings,
        session: Option<&mut Session>,
    ) {
        let Some(pending) = self.unanswered.remove(&number) else {
            return;
        };
        self.given_bytes -= pending.bytes;
        if self.tried == Some(number) {
            self.tried = None;
        }
        let reason = published.reason;
        if published.is_held || reason == ReasonCode::QuotaExceeded {
            // Answers arrive in order: messages that were passed and refused together keep their
            // order.
            let at = self.waiting.iter();
            let at = at.take_while(|one| one.publish.number < number).count();
            self.waiting.insert(at, pending);
            self.blocked_until = Some(Instant::now() + AGAIN_AFTER);
            return;
        }
        self.bytes -= pending.bytes;
        match reason.is_error() {
            true => self.dropped(settings, reason.name()),
            false => self.counts.count_taken(),
        }
        let reason = match reason.is_error() {
            true => reason,
            false => ReasonCode::Success,
        };
        if let Some(receipt) = pending.receipt
            && receipt.connection != self.connection
            && let Some(carried) = self.carried.get_mut(&receipt.packet_id)
            && carried.number == number
        {
            carried.answered = Some(reason);
        }
        if let Some(session) = session {
            acknowledge(session, self.connection, pending.receipt, reason);
        }
    }

    /// Passes waiting messages to the node, if the pause is over: first one message alone, until
    /// it is accepted.
    pub(super) fn go_on(&mut self, part: Option<&Part>) {
        let Some(part) = part.filter(|_| self.tried.is_none()) else {
            return;
        };
        if let Some(until) = self.blocked_until {
            if Instant::now() < until || !self.unanswered.is_empty() {
                return;
            }
            self.blocked_until = None;
            if let Some(first) = self.waiting.pop_front() {
                self.tried = Some(first.publish.number);
                self.give(first, part);
            }
            return;
        }
        while self.may_give()
            && let Some(next) = self.waiting.pop_front()
        {
            self.give(next, part);
        }
    }

    /// The node has detached the part: unanswered messages are passed again.
    pub(super) fn detached(&mut self) {
        let mut all: Vec<Pending> = self.unanswered.drain().map(|(_, one)| one).collect();
        all.extend(self.waiting.drain(..));
        all.sort_by_key(|one| one.publish.number);
        self.waiting = all.into();
        (self.blocked_until, self.tried) = (None, None);
        self.given_bytes = 0;
    }

    fn dropped(&mut self, settings: &BridgeSettings, why: &'static str) {
        self.counts.count_dropped();
        self.dropped.count += 1;
        // Logs the first of each reason, then at growing intervals.
        if self.dropped.why != why || self.dropped.count.is_power_of_two() {
            self.dropped.why = why;
            let (bridge, messages) = (&*settings.name, self.dropped.count);
            warn!(
                bridge,
                messages, why, "a message of the other broker was dropped"
            );
        }
    }
}

/// Approximate memory of a message.
fn bytes_of(message: &NewMessage) -> usize {
    let properties = message.user_properties.iter();
    let properties = properties.map(|(name, value)| name.len() + value.len() + 2 * 16);
    let texts = [&message.content_type, &message.response_topic];
    let texts = texts.into_iter().flatten().map(|text| text.len());
    let correlation = message.correlation_data.as_ref().map_or(0, |one| one.len());
    let sent = message.topic.len() + message.payload.len() + correlation;
    OVERHEAD_BYTES + sent + properties.chain(texts).sum::<usize>()
}

/// Acknowledges a message over the current connection.
fn acknowledge(
    session: &mut Session,
    connection: u64,
    receipt: Option<PendingAcknowledgement>,
    reason: ReasonCode,
) {
    if let Some(receipt) = receipt.filter(|one| one.connection == connection) {
        let allowed = match reason {
            ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::Success => reason,
            _ => ReasonCode::UnspecifiedError,
        };
        session.acknowledge(receipt.qos, receipt.packet_id, allowed);
    }
}

fn hash(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    hasher.finish()
}
