//! What happens to messages of the topic that was asked about, or of topics of the client.
//!
//! * `arrival`: messages did not come to it though it is subscribed, or nearly so
//! * `elsewhere`: what other tenants have
//! * `near`: Topic Filters that nearly match a topic
//! * `refused`: what the rules forbid
//! * `retained`: retained messages that it did not get
//! * `subscribers`: who receives a topic
//! * `well`: what it may do with the topic, where nothing is wrong

mod arrival;
mod elsewhere;
mod gather;
mod near;
mod refused;
mod retained;
mod subscribers;
mod well;

use martlet_broker::{DropReason, GroupDetail, LossTimes, RetainedEnded};

use super::asked::Asked;
use super::examine::{Examine, Findings};
use super::session::Backlog;
use crate::control::{Control, ControlError};
use crate::examined::ExaminedParts;
use crate::journal::{Entry, WordedRemedy};
use crate::remedy::Command;
use elsewhere::Elsewhere;
pub(crate) use near::{
    is_nearly_matched, matches, near_miss, nearest_in_words, nearly_same, shared_meant,
};
pub(super) use well::comes_twice_to_several;

/// Levels of a topic that are looked up as Client Identifiers.
pub(crate) const LEVELS_MAX: usize = 8;

/// Clients that nearly have a subscription, and topics, that are named, at most.
const TOLD: usize = 3;

/// Subscriptions of a client that are compared with topics.
const SUBSCRIPTIONS_MAX: usize = 100;

/// What happens to messages.
pub(crate) struct Topics<'a>(pub(crate) &'a ExaminedParts<'a>);

/// What is known of messages for a client, or of the topic in the question.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicFacts {
    /// The subscribers of the topic; none: a Topic Filter was asked about.
    pub(crate) subscribers: Option<Vec<Subscriber>>,
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
    /// What other tenants have of it.
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
    /// It is connected now.
    pub(crate) connected: bool,
    pub(crate) filter: String,
    /// What differs, in words.
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
    /// It is there.
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
    /// It was taken away.
    Ended(RetainedEnded),
}

impl Examine for Topics<'_> {
    type Facts = TopicFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<TopicFacts, ControlError> {
        gather::gathered(control, self.0, asked).await
    }

    fn judge(facts: &TopicFacts, asked: &Asked, findings: &mut Findings) {
        // Where anonymous clients are accepted, any name would have the rules of those.
        if !asked.is_client() {
            return;
        }
        let found = &mut findings.found;
        arrival::arrivals(asked, facts, found);
        found.extend(elsewhere::elsewhere(asked, facts));
        found.extend(retained::retained(asked, facts));
        subscribers::topic(asked, facts, found);
        if let Some(topic) = &asked.question.topic {
            findings.uses = Some(well::is_well(asked, facts, topic));
        }
    }
}
