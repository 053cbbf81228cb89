//! Facts about messages for a client, or about the topic in the question.

use martlet_broker::{DropReason, GroupDetail, LossTimes, RetainedEnded, UnmatchedTopic};

use crate::journal::{Entry, WordedRemedy};
use crate::remedy::Command;
use crate::why::session::Backlog;

/// Levels of a topic that are looked up as Client Identifiers.
pub(crate) const LEVELS_MAX: usize = 8;

/// Clients that nearly have a subscription, and topics, that are named, at most.
pub(super) const TOLD: usize = 3;

/// Subscriptions of a client that are compared with topics.
pub(super) const SUBSCRIPTIONS_MAX: usize = 100;

/// Facts about messages for a client, or of the topic in the question.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicFacts {
    /// The subscribers of the topic; none: a Topic Filter was asked about.
    pub(crate) subscribers: Option<Vec<Subscriber>>,
    /// Without a topic in the question: clients whose queues were full recently, and whether they
    /// are subscribed to what this device may publish; else a gateway may have published for it.
    /// Which messages they lost is not known.
    pub(crate) lost_by: Vec<(Subscriber, bool)>,
    /// The share groups among them.
    pub(crate) groups: Vec<GroupDetail>,
    /// Clients, connected or not, whose subscriptions nearly match the topic, while it has no
    /// subscriber.
    pub(crate) near: Vec<NearSubscriber>,
    /// An integration that takes messages of all tenants takes those of the topic.
    pub(crate) taken_for_all: bool,
    /// The retained message of the topic, or of the first topic that the filter matches; else the
    /// end of the last one.
    pub(crate) retained: Option<Retained>,
    /// Facts of other tenants about it.
    pub(crate) elsewhere: Elsewhere,
    /// Client Identifiers of the publishers of unmatched topics that come as the same user.
    pub(crate) own_publishers: Vec<String>,
    /// Of the topics without subscribers, those that its rules do not let it read, though it is
    /// subscribed, or nearly so, or they have its name in them.
    pub(crate) unreadable: Vec<Unreadable>,
    /// Publishes of other clients that were refused recently, the latest last: to the topic, or to
    /// topics that the client is subscribed to.
    pub(crate) refused_publishes: Vec<Entry>,
    /// Numbers of those that no rule would forbid now.
    pub(crate) permitted_now: Vec<u64>,
    /// The longest Session Expiry Interval that the node grants, seconds.
    pub(crate) session_expiry_max_secs: u32,
    /// No message of the topic has come to the client, which is subscribed.
    pub(crate) silence: Option<TopicSilence>,
}

/// No message of a topic has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSilence {
    /// Since when, as far as known.
    pub(crate) since_ms: u64,
    /// The topic with messages that is most like it.
    pub(crate) nearest: Option<String>,
}

/// A subscriber of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) client_id: String,
    pub(crate) filter: String,
    pub(crate) qos: u8,
    pub(crate) connected: bool,
    /// Messages for it that were dropped, of whatever topic, and when.
    pub(crate) drops: Vec<(DropReason, u64, LossTimes)>,
    /// Messages wait because it does not acknowledge those that were sent to it.
    pub(crate) backlog: Option<Backlog>,
    /// The command that ends its session.
    pub(crate) end_session: Option<Command>,
}

/// A subscriber of nearly that topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearSubscriber {
    pub(crate) client_id: String,
    /// Whether it is connected now.
    pub(crate) connected: bool,
    pub(crate) filter: String,
    /// Difference, in words.
    pub(crate) words: String,
}

/// A topic that the rules forbid the client to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) topic: String,
    /// Why not.
    pub(crate) why: String,
    /// Where it would have to be permitted.
    pub(crate) worded: WordedRemedy,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    /// The message is there.
    Kept {
        topic: String,
        /// When it was published.
        at_ms: u64,
        /// The command that deletes it.
        remove: Option<Command>,
        /// Client Identifier of the client whose Will it is, if that is connected again, and since
        /// when.
        past_will: Option<(String, u64)>,
    },
    /// The message was taken away.
    Ended(RetainedEnded),
}

/// Facts of other tenants about what was asked about; nothing, if the caller sees one team alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The own tenant, in words.
    pub(crate) own: String,
    /// Other tenants, in words, and their topics with recent messages that had no subscriber, the
    /// latest last.
    pub(crate) unmatched: Vec<(String, Vec<UnmatchedTopic>)>,
    /// Subscribers of the topic, in words.
    pub(crate) subscribers: Vec<String>,
    /// The first device that the topic names, and that the own tenant does not have; and the tenant
    /// that has it, in words.
    pub(crate) device: Option<(String, String)>,
}
