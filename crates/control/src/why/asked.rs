//! The question as each part of the node gets it: who was asked about, and how that client is.

use martlet_broker::{LossTimes, Realm, UnmatchedTopic};
use martlet_registry::Visibility;

use super::found::RECENT_MS;
use super::gather::permits::{GroupMissing, TopicRules};
use super::session::Session;
use super::topic::matches;
use super::{Bearing, Question, State};
use crate::authentication::Standing;
use crate::event_kind::EventKind;
use crate::explain::{Explained, Outcome};
use crate::journal::{Run, WordedRemedy};
use crate::presence::ClientPresence;
use crate::shared_registry::{Joined, TypeChange};

/// A question, and the client that it is about. Parts of the node have facts of their own; here is
/// what several of them need. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Question.
    pub(crate) question: Question,
    /// The caller sees what is of this team alone.
    pub(crate) team: Option<String>,
    /// When.
    pub(crate) now_ms: u64,

    // Who it is.
    /// The Client Identifier that the name stands for.
    pub(crate) client_id: String,
    /// The user that it comes as, as far as known.
    pub(crate) user: Option<String>,
    /// The name that it proves, or would.
    pub(crate) proved: String,
    /// The realm in which it logs in.
    pub(crate) realm: Realm,
    /// `device`, `user` or `team token`: what the tables or files have of that name.
    pub(crate) registered_as: Option<String>,
    /// Standing if it came with this name and the proof of it.
    pub(crate) standing: Option<Standing>,
    /// How it is added, if it is unknown.
    pub(crate) add: Option<WordedRemedy>,
    /// Whether it is an integration.
    pub(crate) is_integration: bool,
    /// An address was asked about.
    pub(crate) is_address: bool,
    /// Client Identifiers of the user, with this one, if it has several clients.
    pub(crate) clients: Vec<String>,
    /// A user was asked about, and its Client Identifier was last used by another user.
    pub(crate) is_of_another: bool,
    /// The tables or files have the name.
    pub(crate) is_registered: bool,
    /// Whether it is a device.
    pub(crate) is_device: bool,

    // How it is.
    /// The session; of an integration, those of its lanes as one.
    pub(crate) session: Option<Session>,
    /// When and how it was last seen, across restarts.
    pub(crate) presence: Option<ClientPresence>,
    /// When the device was last active in any way, as far as the tables have it.
    pub(crate) last_seen_ms: Option<u64>,
    /// Recent events of it, the latest last.
    pub(crate) runs: Vec<Run>,
    /// Refusals to parts of the node that publish as it, such as rules with `publish_as`,
    /// the latest last.
    pub(crate) runs_of_parts: Vec<Run>,
    /// Numbers of the last entries of those runs that a rule forbade, and none would now.
    pub(crate) permitted_now: Vec<u64>,
    /// Nothing was ever seen of a client of that name.
    pub(crate) is_unseen: bool,
    /// A client of the name is connected.
    pub(crate) is_connected: bool,
    /// The last CONNECT was refused, and would be now.
    pub(crate) refused: Option<Run>,
    /// Whether it was refused then, or it was not added; of an address: someone was refused from
    /// there.
    pub(crate) is_refused: bool,
    /// Whether it, or its user, was removed from the tables.
    pub(crate) is_deleted: bool,
    /// No client of the name is connected, and none has ended its connection by DISCONNECT.
    pub(crate) was_cut_off: bool,
    /// Groups that the device joined recently.
    pub(crate) joined: Vec<Joined>,
    /// Groups that it is not in, and whose rules permit what it lacks.
    pub(crate) groups_missing: Vec<GroupMissing>,
    /// The last change of the type of the device.
    pub(crate) type_change: Option<TypeChange>,

    // What it does with topics.
    /// Topic Filters that it is subscribed to.
    pub(crate) filters: Vec<String>,
    /// Rights to the topic in the question.
    pub(crate) rules: Option<TopicRules>,
    /// Whether it receives messages of the topic or publishes them.
    pub(crate) side: Side,
    /// The rules forbid what it does with the topic.
    pub(crate) may_not: bool,
    /// Ids of devices that the topic names.
    pub(crate) devices_in_topic: Vec<String>,
    /// Topics of its tenant with recent messages that had no subscriber, the latest last.
    pub(crate) unmatched: Vec<UnmatchedTopic>,
    /// Topic Filters of what devices publish for the node itself.
    pub(crate) received: Vec<String>,

    // What other parts have found.
    /// Objects whose names are spelt nearly so, each with its kind: "the rule hot-tank".
    pub(crate) near_of_kind: Vec<String>,
    /// Topics whose messages are kept in the tables, with the part that publishes them; none: any.
    pub(crate) kept: Vec<(String, Option<&'static str>)>,
}

impl Asked {
    /// Derives what follows from the rest.
    pub(super) fn derived(mut self) -> Self {
        self.is_registered = self.registered_as.is_some();
        self.is_device = self.registered_as.as_deref() == Some("device");
        let session = self.session.as_ref();
        let was_seen = session.is_some() || self.presence.is_some() || !self.runs.is_empty();
        self.is_unseen = !was_seen && !self.is_address;
        self.is_connected = session.is_some_and(|session| session.connected);
        let filters = session.iter().flat_map(|session| &session.subscriptions);
        self.filters = filters.map(|(filter, _)| filter.clone()).collect();
        self.side = side(&self);
        self.may_not = self
            .rules
            .as_ref()
            .is_some_and(|rules| decisive(rules, self.side).outcome == Outcome::Refused);
        self
    }

    /// Takes what is of any of the clients of a user.
    pub(super) fn take_of_all<'a>(&mut self, clients: impl Iterator<Item = &'a Self> + Clone) {
        self.is_unseen &= clients.clone().next().is_none();
        self.is_connected |= clients.clone().any(|client| client.is_connected);
        self.is_deleted |= clients.clone().any(|client| client.is_deleted);
        self.was_cut_off = clients.clone().all(|client| client.was_cut_off);
        let filters = clients.flat_map(|client| &client.filters);
        self.filters.extend(filters.cloned());
    }

    /// Visibility to the caller.
    pub(crate) fn visibility(&self) -> Visibility {
        Visibility::of(self.team.as_deref())
    }

    /// Neither the tables nor anything that was seen has the name.
    pub(crate) fn is_unknown(&self) -> bool {
        !self.is_registered && self.is_unseen
    }

    /// Something was seen of the client, or the tables have, or had, the name. Else it may be
    /// misspelt.
    pub(crate) fn is_client(&self) -> bool {
        self.is_registered || self.is_deleted || self.was_seen()
    }

    /// Something was seen of the client itself.
    pub(crate) fn was_seen(&self) -> bool {
        self.session.is_some() || self.presence.is_some() || !self.runs.is_empty()
    }

    /// How the client is.
    pub(super) fn state(&self) -> State {
        match self.is_connected {
            true => State::Connected,
            false if self.is_refused => State::Refused,
            false if self.was_seen() || self.last_seen_ms.is_some() => State::Away,
            false => State::NeverSeen,
        }
    }

    /// Whether it was a short time ago, so that it may be the cause of a present failure.
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

    /// The rules permit reading the topic in the question, as far as they are known.
    pub(crate) fn may_read(&self) -> bool {
        let rules = self.rules.as_ref();
        rules.is_none_or(|rules| rules.receive.outcome == Outcome::Permitted)
    }

    /// Whether it may publish to the topic in the question, and does not receive it.
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

    /// The client published those messages last.
    pub(crate) fn published(&self, one: &UnmatchedTopic) -> bool {
        one.client_id.as_deref() == Some(&self.client_id)
    }

    /// Topics that the client published to without a receiver, the latest last.
    pub(crate) fn published_in_vain(&self) -> impl DoubleEndedIterator<Item = &UnmatchedTopic> {
        self.unmatched.iter().filter(|one| self.published(one))
    }

    /// Whether it has subscriptions, to whatever topics.
    pub(crate) fn subscribes(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| !session.subscriptions.is_empty())
    }

    /// Whether it is subscribed to the topic in the question.
    pub(crate) fn is_subscribed(&self) -> bool {
        let asked = self.session.as_ref().zip(self.question.topic.as_deref());
        asked.is_some_and(|(session, topic)| !session.matching(topic).is_empty())
    }

    /// Whether those events are of the topic in the question.
    pub(crate) fn is_of_topic(&self, run: &Run) -> bool {
        let asked = self.question.topic.as_ref().zip(run.last.topic.as_ref());
        asked.is_some_and(|(topic, of)| topic == of || matches(of, topic))
    }
}

/// As what a client is asked about, where a topic was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client is to get what is published to the topic.
    Receiver,
    /// The client publishes to the topic.
    Publisher,
    /// Not known: it may do both.
    #[default]
    Either,
}

/// Whether a client receives messages of the topic or publishes them: by what it has done, else by
/// what its rules let it do.
fn side(asked: &Asked) -> Side {
    if asked.is_subscribed() || asked.question.is_about_filter() {
        return Side::Receiver;
    }
    let mut runs = asked.runs.iter().rev().filter(|run| asked.is_of_topic(run));
    let done = runs.find_map(|run| match run.last.what {
        EventKind::PublishRefused | EventKind::RateExceeded => Some(Side::Publisher),
        EventKind::SubscribeRefused | EventKind::Dropped | EventKind::MessagesLost => {
            Some(Side::Receiver)
        }
        _ => None,
    });
    if let Some(side) = done {
        return side;
    }
    let Some(rules) = &asked.rules else {
        return Side::Either;
    };
    let is_permitted = |explained: &Explained| explained.outcome == Outcome::Permitted;
    match (is_permitted(&rules.publish), is_permitted(&rules.receive)) {
        (true, false) => Side::Publisher,
        (false, true) => Side::Receiver,
        (true, true) => Side::Either,
        (false, false)
            if rules.own_name_publish.is_some()
                && !(rules.own_name_receive.is_some() && asked.subscribes()) =>
        {
            Side::Publisher
        }
        // It has published nothing to it, which would have been refused.
        (false, false) if asked.subscribes() => Side::Receiver,
        (false, false) => match (rules.permitted.is_empty(), rules.readable.is_empty()) {
            (true, false) => Side::Receiver,
            (false, true) => Side::Publisher,
            _ => Side::Either,
        },
    }
}

/// The decision of the rules that matters to a client on this side.
fn decisive(rules: &TopicRules, side: Side) -> &Explained {
    match side {
        Side::Receiver => &rules.receive,
        Side::Publisher | Side::Either => &rules.publish,
    }
}
