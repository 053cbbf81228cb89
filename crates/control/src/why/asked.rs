//! The question as each part of the node gets it: who was asked about, and how that client is.

use martlet_broker::{LossTimes, UnmatchedTopic};
use martlet_registry::Visibility;

use super::facts::{Joined, Session};
use super::found::RECENT_MS;
use super::near::matches;
use super::side::Side;
use super::{Bearing, Question};
use crate::remedy::Command;

/// A question, and the client that it is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// What was asked.
    pub(crate) question: Question,
    /// The caller sees what is of this team alone.
    pub(crate) team: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// The Client Identifier that the name stands for.
    pub(crate) client_id: String,
    /// The user that it comes as, as far as known.
    pub(crate) user: Option<String>,
    /// The tables or files have the name.
    pub(crate) is_registered: bool,
    /// It is a device.
    pub(crate) is_device: bool,
    /// Nothing was ever seen of a client of that name.
    pub(crate) is_unseen: bool,
    /// A client of the name is connected.
    pub(crate) is_connected: bool,
    /// No client of the name is connected, and none has ended its connection by DISCONNECT.
    pub(crate) was_cut_off: bool,
    /// Whether it receives messages of the topic or publishes them.
    pub(crate) side: Side,
    /// Its session; of an integration, those of its lanes as one.
    pub(crate) session: Option<Session>,
    /// It is an integration.
    pub(crate) is_integration: bool,
    /// The rules forbid what it does with the topic.
    pub(crate) may_not: bool,
    /// Topic Filters that it is subscribed to.
    pub(crate) filters: Vec<String>,
    /// Groups that the device joined recently.
    pub(crate) joined: Vec<Joined>,
    /// Topics of its tenant with recent messages that had no subscriber, the latest last.
    pub(crate) unmatched: Vec<UnmatchedTopic>,
    /// Ids of devices that the topic names.
    pub(crate) devices_in_topic: Vec<String>,
    /// Topic Filters of what devices publish for the node itself.
    pub(crate) received: Vec<String>,
    /// The command that adds a device or user of that name, if it is unknown.
    pub(crate) adding: Option<Command>,
}

impl Asked {
    /// What the caller may see.
    pub(crate) fn visibility(&self) -> Visibility {
        Visibility::of(self.team.as_deref())
    }

    /// Neither the tables nor anything that was seen has the name.
    pub(crate) fn is_unknown(&self) -> bool {
        !self.is_registered && self.is_unseen
    }

    /// It was a short time ago, so that it may be the cause of a present failure.
    pub(crate) fn is_recent(&self, at_ms: u64) -> bool {
        self.now_ms.saturating_sub(at_ms) <= RECENT_MS
    }

    /// How messages that were lost then bear on the question.
    pub(crate) fn bearing_of_loss(&self, at: LossTimes) -> Bearing {
        match self.is_recent(at.last_ms) {
            true => Bearing::Happened,
            false => Bearing::Over,
        }
    }

    /// It may publish to the topic in the question, and does not receive it.
    pub(crate) fn publishes_there(&self) -> bool {
        let mut filters = self.filters.iter();
        let mut receives = |topic| filters.any(|filter| matches(filter, topic));
        let is_receiver = self.side == Side::Receiver;
        self.topic_name()
            .is_some_and(|topic| !is_receiver && !self.may_not && !receives(topic))
    }

    /// The topic in the question, if it is a Topic Name.
    pub(crate) fn topic_name(&self) -> Option<&str> {
        let topic = self.question.topic.as_deref();
        topic.filter(|_| !self.question.is_about_filter())
    }

    /// Whether the question names no topic, or one of these.
    pub(crate) fn concerns_one_of(&self, topics: [&str; 2]) -> bool {
        self.question.topic.as_deref().is_none_or(|named| {
            let mut topics = topics.into_iter();
            topics.any(|topic| topic == named || matches(named, topic))
        })
    }

    /// The topic has the name of the client in it, so its messages are likely meant for it.
    pub(crate) fn is_named_in(&self, topic: &str) -> bool {
        let is_name = |level: &str| level == self.client_id || Some(level) == self.user.as_deref();
        topic.split('/').any(is_name)
    }

    /// Topics that the client published to without a receiver, the latest last.
    pub(crate) fn published_in_vain(&self) -> impl DoubleEndedIterator<Item = &UnmatchedTopic> {
        let all = self.unmatched.iter();
        all.filter(|one| one.client_id.as_deref() == Some(&self.client_id))
    }
}
