//! Events of a part of the node, and its answers.

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

/// A message delivered to a part.
#[derive(Clone, Copy, Debug)]
pub struct PartDelivery {
    /// Attachment; the part may have abandoned it.
    pub attachment: PartId,
    /// The token for settling it, with the number of the lane in the upper bits.
    pub token: u32,
    /// The broker's id of the message.
    pub id: MessageId,
    /// The message; `None` for an empty payload, which has no message number.
    pub message: Option<MessageIndex>,
    /// Topic.
    pub topic: TopicIndex,
    /// Publisher, a client or a part; `None` if the delivery does not name it.
    pub publisher: Option<ClientIndex>,
    /// Hop count according to the node.
    pub hops: u8,
    /// Whether it may have been delivered before.
    pub dup: bool,
    /// The filters of its Subscription Identifiers.
    pub filters: FilterSet,
    /// The last durable record when it was delivered.
    pub durable: Lsn,
}

/// An event of a part of the node.
#[derive(Clone, Copy, Debug)]
pub enum PartFact {
    /// The part requests an attachment.
    Attaching {
        /// Id of this attachment.
        attachment: PartId,
        /// Filters of the part.
        filters: FilterSet,
        /// Whether it keeps QoS 0 messages.
        keeps_qos0: bool,
        /// Maximum number of unsettled deliveries.
        credit: u16,
        /// Bounds of its queue.
        queue: PartQueueLimits,
        /// Number of its lanes; 0: it is attached once.
        lanes: u16,
    },
    /// The part is attached.
    Attached {
        /// Whether its session existed already.
        present: bool,
        /// The last durable record when this was reported.
        durable: Lsn,
    },
    /// The part receives a message.
    Delivered(PartDelivery),
    /// The part settles a delivery.
    Settled {
        /// The token of the delivery.
        token: u32,
        /// The outcome.
        outcome: PartOutcome,
        /// The message delivered with that token.
        id: MessageId,
        /// The message; none for an empty payload.
        message: Option<MessageIndex>,
    },
    /// The part changes its credit: the maximum number of unsettled deliveries.
    Credit(u16),
    /// The part receives the state of its queue.
    Queue {
        /// The state.
        state: PartQueueState,
        /// Age of the first message in it, in the time of records, milliseconds; 0 is unknown.
        oldest_ms: u64,
    },
    /// The part stops settling for a while (`true`), or continues (`false`).
    Hangs(bool),
    /// The part detaches.
    Left {
        /// Whether its session must end.
        ends: bool,
    },
    /// The node has ended its attachment, or refused it.
    Ended,
    /// A message that it published with a request for receipts has this id.
    ReceiptsRequested {
        /// The message.
        message: MessageIndex,
        /// The broker's id of it.
        id: MessageId,
    },
    /// The part receives the number of receivers of a message.
    Receivers {
        /// The broker's id of the message.
        id: MessageId,
        /// Number of receivers.
        count: u64,
    },
    /// The part receives a receipt: the result of a message for one receiver.
    Receipt {
        /// The broker's id of the message.
        id: MessageId,
        /// The receiver, a client or a part; `None` if unknown.
        receiver: Option<ClientIndex>,
        /// The result.
        outcome: ReceiptOutcome,
    },
    /// The broker dropped a message for it, and reported that.
    Dropped {
        /// Topic; `None` if only the store knew it.
        topic: Option<TopicIndex>,
        /// The reason.
        reason: DropReason,
    },
}

impl PartFact {
    /// The text for the log.
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
