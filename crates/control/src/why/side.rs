//! On which side of a topic a client is.

use super::asked::Asked;
use super::topic::matches;
use crate::explain::{Explained, Outcome};
use crate::journal::Run;
use martlet_broker::EventKind;

/// As what a client is asked about, where a topic was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    /// It is to get what is published to the topic.
    Receiver,
    /// It publishes to the topic.
    Publisher,
    /// It is not known which of both.
    #[default]
    Either,
}

/// Whether a client receives messages of the topic or publishes them: by what it has done, else by
/// what its rules let it do.
pub(super) fn side(asked: &Asked) -> Side {
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

impl Asked {
    /// It has subscriptions, to whatever topics.
    pub(crate) fn subscribes(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| !session.subscriptions.is_empty())
    }

    /// It is subscribed to the topic in the question.
    pub(crate) fn is_subscribed(&self) -> bool {
        let asked = self.session.as_ref().zip(self.question.topic.as_deref());
        asked.is_some_and(|(session, topic)| !session.matching(topic).is_empty())
    }

    /// Those events are of the topic in the question.
    pub(crate) fn is_of_topic(&self, run: &Run) -> bool {
        let asked = self.question.topic.as_ref().zip(run.last.topic.as_ref());
        asked.is_some_and(|(topic, of)| topic == of || matches(of, topic))
    }
}
