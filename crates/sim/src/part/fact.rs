//! What happened at a part of the node: what it was told, and what it answered.

use martlet_broker::{
    DropReason, MessageId, PartId, PartOutcome, PartQueueLimits, PartQueueState, ReceiptOutcome,
};

use crate::facts::{ClientIndex, MessageIndex};
use crate::ledger::Ledger;
use crate::store::Lsn;
use crate::topics::{FilterIndex, TopicIndex};

/// A set of the filters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterSet(u64);

impl FilterSet {
    /// This set with one more filter. A run has fewer than 64 filters.
    pub fn with(self, filter: FilterIndex) -> Self {
        Self(self.0 | 1 << filter)
    }

    /// Filters that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Filters that are in one of the sets or in both.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The filters, in order.
    pub fn filters(self) -> impl Iterator<Item = FilterIndex> {
        (0..64).filter(move |filter| self.0 >> filter & 1 == 1)
    }
}

/// A message that a part is told of.
#[derive(Clone, Copy, Debug)]
pub struct PartDelivery {
    /// The attachment that it is for; the part may have given that up.
    pub attachment: PartId,
    /// The token that settles it, with the number of the lane above it.
    pub token: u32,
    /// The broker's name of the message.
    pub id: MessageId,
    /// The message; none for an empty payload, which names no message.
    pub message: Option<MessageIndex>,
    /// Its topic.
    pub topic: TopicIndex,
    /// Its publisher, a client or a part; none if it is not named.
    pub publisher: Option<ClientIndex>,
    /// How often parts have passed it on, by the node's count.
    pub hops: u8,
    /// It may have been delivered before.
    pub dup: bool,
    /// The filters that its Subscription Identifiers stand for.
    pub filters: FilterSet,
    /// What was durable when it was told.
    pub durable: Lsn,
}

/// Something that happened at a part of the node.
#[derive(Clone, Copy, Debug)]
pub enum PartFact {
    /// It asks to be attached.
    Attaching {
        /// Names this attachment.
        attachment: PartId,
        /// What it subscribes to.
        filters: FilterSet,
        /// It keeps QoS 0 messages.
        keeps_qos0: bool,
        /// Deliveries that it may have and not have settled.
        credit: u16,
        /// Bounds of its queue.
        queue: PartQueueLimits,
        /// Number of its lanes; 0: it is attached once.
        lanes: u16,
    },
    /// It is attached.
    Attached {
        /// Its session was there already.
        present: bool,
        /// What was durable when it was told so.
        durable: Lsn,
    },
    /// It is told of a message.
    Delivered(PartDelivery),
    /// It answers to a delivery.
    Settled {
        /// The token, as it was told.
        token: u32,
        /// With which answer.
        outcome: PartOutcome,
        /// What was delivered by that token.
        id: MessageId,
        /// The message; none for an empty payload.
        message: Option<MessageIndex>,
    },
    /// It may have this number of deliveries that are not settled, from now on.
    Credit(u16),
    /// It is told how its queue is.
    Queue {
        /// How it is.
        state: PartQueueState,
        /// Age of the first message in it in the time of records, milliseconds; 0 is unknown.
        oldest_ms: u64,
    },
    /// It stops to settle for a while, or (false) settles again.
    Hangs(bool),
    /// It detaches.
    Left {
        /// Its session is to end.
        ends: bool,
    },
    /// The node has ended its attachment, or refused it.
    Ended,
    /// A message that it has published, and of which it asked for receipts, has this name.
    ReceiptsRequested {
        /// The message.
        message: MessageIndex,
        /// The broker's name of it.
        id: MessageId,
    },
    /// A message has this number of receivers.
    Receivers {
        /// The broker's name of the message.
        id: MessageId,
        /// Number of receivers.
        count: u64,
    },
    /// It is told how a message ended for a receiver.
    Receipt {
        /// The broker's name of the message.
        id: MessageId,
        /// The receiver, a client or a part; none if no such is known.
        receiver: Option<ClientIndex>,
        /// How it ended.
        outcome: ReceiptOutcome,
    },
    /// The broker dropped a message for it, and said so.
    Dropped {
        /// On which topic; none where only the store knew it.
        topic: Option<TopicIndex>,
        /// Why.
        reason: DropReason,
    },
}

impl PartFact {
    /// In words, for the log.
    pub fn line(&self, ledger: &Ledger) -> String {
        let topics = &ledger.topics;
        let words = |message: Option<MessageIndex>| {
            message.map_or("empty".to_owned(), |message| format!("m{message}"))
        };
        match *self {
            Self::Attaching {
                attachment,
                filters,
                keeps_qos0,
                credit,
                queue,
                lanes,
            } => {
                let filters = filters.filters().map(|filter| topics.filter(filter));
                let filters: Vec<&str> = filters.collect();
                let number = attachment.0 as u32;
                let keeps = if keeps_qos0 { ", keeps QoS 0" } else { "" };
                let bounds = match queue == PartQueueLimits::default() {
                    true => String::new(),
                    false => format!(", {queue:?}"),
                };
                let by = if lanes > 0 {
                    format!(", {lanes} lanes")
                } else {
                    String::new()
                };
                format!("-> attach as {number} to {filters:?}, credit {credit}{keeps}{bounds}{by}")
            }
            Self::Attached { present, .. } => format!("<- attached, session present: {present}"),
            Self::Delivered(told) => {
                let dup = if told.dup { " dup" } else { "" };
                let (number, token, id) = (told.attachment.0 as u32, told.token, told.id.0);
                let (what, topic) = (words(told.message), topics.name(told.topic));
                format!("<- delivery{dup} {what} {topic} ({id:x}) token {token} for {number}")
            }
            Self::Settled {
                token,
                outcome,
                message,
                ..
            } => format!("-> settle {} token {token}: {outcome:?}", words(message)),
            Self::Credit(credit) => format!("-> credit {credit}"),
            Self::Queue { state, oldest_ms } => {
                let (messages, bytes, holds) = (state.messages, state.bytes, state.holds);
                format!(
                    "<- queue: {messages} messages, {bytes} bytes, {oldest_ms} ms, holds: {holds}"
                )
            }
            Self::Hangs(on) => format!("   hangs: {on}"),
            Self::Left { ends: true } => "-> end".to_owned(),
            Self::Left { ends: false } => "-> detach".to_owned(),
            Self::Ended => "<- ended".to_owned(),
            Self::ReceiptsRequested { message, id } => {
                format!("   asks for receipts of m{message} ({:x})", id.0)
            }
            Self::Receivers { id, count } => format!("<- {:x} has {count} receivers", id.0),
            Self::Receipt {
                id,
                receiver,
                outcome,
            } => {
                let name = receiver.map_or("an unknown one", |receiver| {
                    ledger.client(receiver).name.as_str()
                });
                format!("<- receipt of {name} for {:x}: {outcome:?}", id.0)
            }
            Self::Dropped { topic, reason } => {
                let topic = topic.map_or("a topic of the store", |topic| topics.name(topic));
                format!("   the broker says: dropped on {topic}: {}", reason.name())
            }
        }
    }
}
